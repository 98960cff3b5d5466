//! Child processes of a dev cell: started, watched, started again when they die, drained at the end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::create;
use crate::cell::Running;

/// How long a role may take to drain.
const DRAIN: Duration = Duration::from_secs(12);
/// How long a role may take to say where it serves its health (models load meanwhile).
const START: Duration = Duration::from_secs(120);
/// First delay before a dead role is started again; doubles up to the last.
const RESTART_MS: u64 = 100;
/// Longest delay before a dead role is started again.
const RESTART_MS_MAX: u64 = 5_000;
/// A role that lived this long has started well.
const STEADY: Duration = Duration::from_secs(20);

/// One role's process, and how it is started.
pub(super) struct Role {
    pub(super) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    ops_file: PathBuf,
    child: Option<Child>,
    /// The process that was started last, alive or not.
    pid: Option<u32>,
    /// When it is started again, after it died.
    due: Option<Instant>,
    started: Instant,
    failures: u32,
}

impl Role {
    /// A role that is this program with other arguments. `ops_file` is where it writes its address.
    pub(super) fn new(
        name: impl Into<String>,
        arguments: Vec<String>,
        log: PathBuf,
        ops_file: PathBuf,
    ) -> Result<Self> {
        Ok(Self {
            name: name.into(),
            program: std::env::current_exe().context("finding this program")?,
            arguments,
            environment: Vec::new(),
            log,
            ops_file,
            child: None,
            pid: None,
            due: None,
            started: Instant::now(),
            failures: 0,
        })
    }

    /// The same with variables in its environment.
    pub(super) fn with_environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Starts the process.
    pub(super) fn start(&mut self) -> Result<()> {
        let _ = fs::remove_file(&self.ops_file);
        for path in [&self.log, &self.ops_file] {
            let parent = path.parent().context("a path with a parent")?;
            fs::create_dir_all(parent).with_context(|| format!("creating `{}`", parent.display()))?;
        }
        let log = File::options().create(true).append(true).open(&self.log).context("opening a log file")?;
        let mut command = Command::new(&self.program);
        // A provider's key is the cloud worker's alone, which reads it from its file.
        for variable in create::key_variables() {
            command.env_remove(variable);
        }
        let child = command
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("opening a log file")?)
            .stderr(log)
            // Its own group: a Ctrl-C in the terminal reaches the supervisor only, which drains in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        self.pid = child.id();
        self.child = Some(child);
        self.started = Instant::now();
        Ok(())
    }

    /// Process id that it had last: while it is down its place is still known.
    pub(super) fn pid_last(&self) -> Option<u32> {
        self.pid
    }

    /// The address that it serves its health on, once it is there.
    pub(super) async fn address(&mut self) -> Result<String> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(address) = self.address_now() {
                return Ok(address);
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait().context("asking for a child process")?
            {
                bail!("{} ended at its start ({status}): {}", self.name, last_line(&self.log));
            }
            if Instant::now() > deadline {
                bail!(
                    "{} did not start within {} s; see `{}`",
                    self.name,
                    START.as_secs(),
                    self.log.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it has ended, and its last words.
    pub(super) fn last_words(&mut self) -> Option<String> {
        let ended = matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(Some(_))));
        ended.then(|| last_line(&self.log))
    }

    /// The address that it serves its health on, if it is there now.
    pub(super) fn address_now(&self) -> Option<String> {
        let text = fs::read_to_string(&self.ops_file).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    }

    /// Starts it again when it has died, after a delay that grows; says when it has. To be asked often: it waits for nothing.
    pub(super) fn keep_alive(&mut self) -> bool {
        match self.due {
            Some(due) if Instant::now() < due => return false,
            Some(_) => {}
            None => {
                let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) else { return false };
                self.failures = if self.started.elapsed() > STEADY { 0 } else { self.failures + 1 };
                let delay = self.put_off();
                tracing::warn!(role = self.name, %status, delay_ms = delay, "A role ended; starting it again.");
                return false;
            }
        }
        match self.start() {
            Ok(()) => {
                self.due = None;
                true
            }
            Err(error) => {
                self.failures += 1;
                let delay = self.put_off();
                tracing::error!(role = self.name, delay_ms = delay, "A role does not start: {error:#}");
                false
            }
        }
    }

    /// Sets when it is started again; says in how many milliseconds.
    fn put_off(&mut self) -> u64 {
        let delay = RESTART_MS.saturating_mul(1 << self.failures.min(8)).min(RESTART_MS_MAX);
        self.due = Some(Instant::now() + Duration::from_millis(delay));
        delay
    }

    /// Asks it to drain, and ends it when it does not.
    pub(super) async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(child.id(), Signal::SIGTERM);
        if tokio::time::timeout(DRAIN, child.wait()).await.is_err() {
            tracing::warn!(role = self.name, "A role did not drain in time; ending it.");
            let _ = child.kill().await;
        }
    }
}

/// Ends what a supervisor that was killed left behind: the processes that it noted and whose command line still names this
/// cell. The server last, so that the roles can drain.
pub(super) async fn end_orphans(cell: &Path, running: &Running) {
    let roles: Vec<u32> = running.roles.values().map(|role| role.pid).collect();
    for group in [roles, vec![running.nats]] {
        let left = |pid: &u32| is_of(*pid, cell);
        let orphans: Vec<u32> = group.into_iter().filter(left).collect();
        orphans.iter().for_each(|pid| signal(Some(*pid), Signal::SIGTERM));
        let asked = Instant::now();
        while orphans.iter().any(left) && asked.elapsed() < DRAIN {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        orphans.iter().filter(|pid| left(pid)).for_each(|pid| signal(Some(*pid), Signal::SIGKILL));
    }
}

/// Whether a process runs whose command line holds this: a process number alone may be another process's by now.
pub(super) fn is_of(pid: u32, part: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let part = part.as_os_str().as_encoded_bytes();
    !part.is_empty() && line.windows(part.len()).any(|found| found == part)
}

/// Sends a signal to a process, where there is one.
pub(super) fn signal(pid: Option<u32>, signal: Signal) {
    if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended meanwhile, which is what was wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The last line of a log, without content by the logs' own rule.
fn last_line(log: &Path) -> String {
    fs::read_to_string(log)
        .ok()
        .and_then(|text| text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned))
        .unwrap_or_else(|| format!("see `{}`", log.display()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::{Role, end_orphans, is_of};
    use crate::cell::{Running, RunningRole};

    /// Asks as the supervisor does until it was started again.
    async fn started_again(role: &mut Role) {
        loop {
            let asked = Instant::now();
            let started = role.keep_alive();
            assert!(asked.elapsed() < Duration::from_millis(90), "the other roles wait meanwhile");
            if started {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_role_that_dies_or_does_not_start_is_tried_again_and_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let mut role = Role::new("role", Vec::new(), file("log"), file("address")).unwrap();
        role.program = "false".into();
        role.start().unwrap();
        let first = role.pid_last();
        started_again(&mut role).await;
        assert_ne!(role.pid_last(), first);
        role.program = file("nothing");
        while role.failures < 3 {
            assert!(!role.keep_alive(), "it cannot be started");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        role.program = "true".into();
        started_again(&mut role).await;
        role.stop().await;
    }

    #[tokio::test]
    async fn only_processes_that_name_the_cell_are_ended() {
        let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let start = |dir: &std::path::Path| {
            let mut waiting = Command::new("sh");
            waiting.args(["-c", "read _", "--"]).arg(dir).stdin(Stdio::piped()).spawn().unwrap()
        };
        let (mut orphan, mut stranger) = (start(ours.path()), start(others.path()));
        // A process that was only just started shows no command line yet.
        while !is_of(orphan.id(), ours.path()) || !is_of(stranger.id(), others.path()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let role = RunningRole { pid: stranger.id(), ops: String::new() };
        let roles = BTreeMap::from([("router".to_owned(), role)]);
        let running = Running { supervisor: 0, nats: orphan.id(), roles, stopping: false };
        // Held, so that it waits for input until it is ended; waited for, so that it is gone once it has.
        let _input = orphan.stdin.take();
        let waiting = std::thread::spawn(move || orphan.wait().unwrap());
        end_orphans(ours.path(), &running).await;
        assert!(!waiting.join().unwrap().success(), "ended by the signal");
        assert!(
            stranger.try_wait().unwrap().is_none(),
            "negative control: a number that another process has now"
        );
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
