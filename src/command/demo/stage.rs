//! The demo's cell: a `tidegate dev` of its own, on free ports, in a fresh directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use crate::cell::Cell;
use crate::command::{status, supervise};
use crate::output;

/// How long the cell may take to start: the models load meanwhile.
const START: Duration = Duration::from_secs(120);
/// How long it may take to drain.
const STOP: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Roles that must be ready before the first scene.
const ROLES: [&str; 5] = ["recorder", "vault", "local", "cloud", "router"];
/// End of the log that is quoted when the cell does not start, lines.
const TAIL: usize = 5;

/// A running cell.
pub(super) struct Stage {
    pub(super) cell: Cell,
    child: Child,
}

impl Stage {
    /// Starts a fresh cell. With `keep` it outlives this process; else it ends with it, however that ends.
    pub(super) async fn set(dir: &Path, keep: bool) -> Result<Self> {
        clear(dir).await?;
        let log = dir.with_extension("log");
        output::note(format!("starting a fresh cell in {} (its log: {})", dir.display(), log.display()));
        let mut child = spawn(dir, &log, keep)?;
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}")?);
        bar.enable_steady_tick(Duration::from_millis(100));
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = child.try_wait().context("asking for the cell's process")? {
                bail!("the cell ended at its start ({status}): {}", tail(&log));
            }
            let missing = missing(dir).await;
            if missing.is_empty() {
                break;
            }
            bar.set_message(format!("waiting for {}", missing.join(", ")));
            if Instant::now() > deadline {
                bail!(
                    "the cell is not ready after {} s: waiting for {}",
                    START.as_secs(),
                    missing.join(", ")
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bar.finish_and_clear();
        Ok(Self { cell: Cell::open(dir)?, child })
    }

    /// Where each role serves its health.
    pub(super) fn addresses(&self) -> Result<BTreeMap<String, String>> {
        let running = self.cell.running()?;
        Ok(running.roles.into_iter().map(|(role, process)| (role, process.ops)).collect())
    }

    /// Process of a role, now.
    pub(super) fn pid(&self, role: &str) -> Result<u32> {
        let running = self.cell.running()?;
        running
            .roles
            .get(role)
            .map(|process| process.pid)
            .with_context(|| format!("no process of role {role}"))
    }

    /// Stops the cell: it drains.
    pub(super) async fn strike(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let ended = tokio::time::timeout(STOP, self.child.wait()).await;
        ended
            .with_context(|| format!("the cell did not stop within {} s", STOP.as_secs()))?
            .context("stopping the cell")?;
        Ok(())
    }
}

/// Stops the cell that an earlier demo left running here. Any other cell stays as it is, and is refused.
async fn clear(dir: &Path) -> Result<()> {
    if !dir.join("cell.toml").exists() {
        return Ok(());
    }
    let cell = Cell::open(dir)?;
    if !cell.config.demo {
        bail!(
            "`{}` holds a cell that no demo made, and the demo begins with a fresh one: name another directory with --cell",
            dir.display()
        );
    }
    let Ok(running) = cell.running() else { return Ok(()) };
    let process = PathBuf::from("/proc").join(running.supervisor.to_string());
    // After a crash or a restart of the machine the number may be another process's.
    if !supervise::is_of(running.supervisor, Path::new("tidegate")) {
        return Ok(());
    }
    output::note("stopping the cell that an earlier demo left running");
    supervise::signal(Some(running.supervisor), Signal::SIGTERM);
    let deadline = Instant::now() + STOP;
    while process.exists() {
        if Instant::now() > deadline {
            bail!("process {} of an earlier demo does not end; end it and start again", running.supervisor);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn spawn(dir: &Path, log: &Path, keep: bool) -> Result<Child> {
    let out = File::create(log).with_context(|| format!("writing `{}`", log.display()))?;
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command
        .arg("--cell")
        .arg(dir)
        .args(["dev", "--port", "0", "--fresh", "--demo"])
        .stdout(out.try_clone().context("writing a log")?)
        .stderr(out)
        // A Ctrl-C in the terminal ends the demo; the cell then sees its input close, and drains.
        .process_group(0);
    if keep {
        command.stdin(Stdio::null());
    } else {
        command.arg("--attached").stdin(Stdio::piped());
    }
    command.spawn().context("starting `tidegate dev`")
}

/// Roles that are not ready yet.
async fn missing(dir: &Path) -> Vec<&'static str> {
    let Ok(running) = Cell::open(dir).and_then(|cell| cell.running()) else { return vec!["the cell"] };
    let addresses: BTreeMap<_, _> =
        running.roles.into_iter().map(|(role, process)| (role, process.ops)).collect();
    let mut missing = Vec::new();
    for role in ROLES {
        if !addresses.contains_key(role) || !status::is_ready(&addresses, role).await {
            missing.push(role);
        }
    }
    missing
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join(" | ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    #[tokio::test]
    async fn a_cell_that_no_demo_made_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cell.toml");
        super::clear(dir.path()).await.unwrap();
        fs::write(&file, "name = \"dev\"\nurl = \"nats://127.0.0.1:1\"\n").unwrap();
        let said = super::clear(dir.path()).await.unwrap_err().to_string();
        assert!(said.contains("no demo made") && said.contains("--cell"), "{said}");
        fs::write(&file, "name = \"dev\"\nurl = \"nats://127.0.0.1:1\"\ndemo = true\n").unwrap();
        super::clear(dir.path()).await.unwrap();
        fs::write(&file, "not a cell").unwrap();
        assert!(super::clear(dir.path()).await.is_err(), "what cannot be read is not taken for a demo's");
    }
}
