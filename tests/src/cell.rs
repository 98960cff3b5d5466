//! A cell of its own: a directory, a server on a free port, one process a role.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::wait::until;

/// How long a cell may take to start; models load meanwhile.
const START: Duration = Duration::from_secs(120);
/// Variables that make a new cell use a real provider.
pub const PROVIDER_KEYS: [&str; 2] = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"];
/// How long it may take to drain and stop.
const STOP: Duration = Duration::from_secs(60);
/// How long a health door may take to answer.
const DOOR: Duration = Duration::from_secs(10);
/// How often a drop looks whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// A running cell. It is stopped when dropped.
pub struct TestCell {
    dir: TempDir,
    child: Option<Child>,
}

/// The program under test: `TIDEGATE_BIN`, else beside the test's own directory.
///
/// # Panics
/// When it was not built.
#[must_use]
#[expect(clippy::panic, reason = "a test without its subject has to say so")]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TIDEGATE_BIN") {
        return path.into();
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("tidegate")));
    match beside {
        Some(path) if path.exists() => path,
        _ => panic!("the program is not built: run ./tests/run, or cargo build, or set TIDEGATE_BIN"),
    }
}

/// The root of the project.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl TestCell {
    /// Starts a cell with these arguments to `tidegate dev` besides its own.
    ///
    /// # Errors
    /// When it is not ready in time, with the last lines of its log.
    pub async fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_by(Command::new(program()), arguments).await
    }

    /// The same, with these variables in the environment of its processes.
    ///
    /// # Errors
    /// When it is not ready in time, with the last lines of its log.
    pub async fn start_with(environment: &[(&str, &str)], arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program());
        command.envs(environment.iter().copied());
        Self::start_by(command, arguments).await
    }

    /// The same, where no file of its processes may grow beyond so many bytes. They see that as an error, as of a full disk.
    ///
    /// # Errors
    /// When it is not ready in time, with the last lines of its log.
    pub async fn start_cramped(file_bytes_max: u64, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new("sh");
        // Of POSIX: in blocks of 512 bytes. Only the soft limit, so that it can be lifted again.
        let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", file_bytes_max / 512);
        command.args(["-c", &script, "sh"]).arg(program());
        Self::start_by(command, arguments).await
    }

    async fn start_by(command: Command, arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidegate-").tempdir().context("making a directory")?;
        let child = Self::spawn(command, dir.path(), arguments)?;
        let mut cell = Self { dir, child: Some(child) };
        cell.ready().await?;
        Ok(cell)
    }

    fn spawn(mut command: Command, dir: &Path, arguments: &[&str]) -> Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(dir.join("dev.out"))?;
        // A key of whoever runs the tests must not send their prompts to a provider.
        let given: Vec<_> = command.as_std().get_envs().map(|(name, _)| name.to_owned()).collect();
        for key in PROVIDER_KEYS.into_iter().filter(|key| !given.iter().any(|name| name == key)) {
            command.env_remove(key);
        }
        command
            .current_dir(root())
            .args(["--cell", &dir.join("cell").display().to_string(), "dev", "--port", "0", "--attached"])
            .args(arguments)
            // The cell ends with this process, however that ends.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting `tidegate dev`")
    }

    async fn ready(&mut self) -> Result<()> {
        let run = self.path().join("run.json");
        let out = self.said();
        let child = self.child.as_mut().context("no cell")?;
        let mut ended = None;
        let waited = until("the cell", START, || {
            ended = child.try_wait().ok().flatten();
            let there = run.exists();
            let gone = ended;
            async move {
                if let Some(status) = gone {
                    bail!("the cell ended at its start, {status}");
                }
                Ok(there.then_some(()))
            }
        })
        .await;
        waited.with_context(|| std::fs::read_to_string(out).unwrap_or_default())
    }

    /// The cell's directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("cell")
    }

    /// The file with what `tidegate dev` has said: of the roles' ends, and how to go on.
    #[must_use]
    pub fn said(&self) -> PathBuf {
        self.dir.path().join("dev.out")
    }

    /// What runs now.
    ///
    /// # Errors
    /// When the file is not there or malformed.
    pub fn running(&self) -> Result<Value> {
        let text = std::fs::read_to_string(self.path().join("run.json")).context("reading run.json")?;
        serde_json::from_str(&text).context("reading run.json")
    }

    fn config(&self) -> Result<toml::Table> {
        let text = std::fs::read_to_string(self.path().join("cell.toml")).context("reading cell.toml")?;
        text.parse().context("reading cell.toml")
    }

    /// URL of its NATS server.
    ///
    /// # Errors
    /// When its configuration cannot be read.
    pub fn url(&self) -> Result<String> {
        Ok(self.config()?.get("url").and_then(toml::Value::as_str).context("no url")?.to_owned())
    }

    /// The authority that its server is believed by, where it speaks TLS.
    ///
    /// # Errors
    /// When its configuration cannot be read.
    pub fn ca_file(&self) -> Result<Option<PathBuf>> {
        let config = self.config()?;
        let file = config.get("tls").and_then(|tls| tls.get("ca_file")).and_then(toml::Value::as_str);
        Ok(file.map(PathBuf::from))
    }

    /// Runs `tidegate` with `--cell` and these arguments; standard output on success.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn tidegate(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments).await?;
        if !output.status.success() {
            // Some say on standard output what is not well.
            let [said, told] = [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text));
            bail!("tidegate {arguments:?}, {}: {said}{told}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, with `--json`, read.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.tidegate(&[arguments, &["--json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("tidegate {arguments:?} printed no JSON"))
    }

    /// The same, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn output(&self, arguments: &[&str]) -> Result<std::process::Output> {
        self.output_as("admin", arguments).await
    }

    /// The same, as this operator.
    ///
    /// # Errors
    /// As [`Self::output`].
    pub async fn output_as(&self, operator: &str, arguments: &[&str]) -> Result<std::process::Output> {
        Command::new(program())
            .env("TIDEGATE_OPERATOR", operator)
            .current_dir(root())
            .args(["--cell", &self.path().display().to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .context("running tidegate")
    }

    /// The screen of `tidegate status`, whatever it says: a cell that has just begun answers before all of it is well.
    ///
    /// # Errors
    /// When it prints none.
    pub async fn screen(&self) -> Result<Value> {
        let output = self.output(&["status", "--json"]).await?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!("`tidegate status` printed no JSON: {}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// Waits until the recorder is behind no stream.
    ///
    /// # Errors
    /// When it stays behind for so long.
    pub async fn recorded(&self, within: Duration) -> Result<()> {
        until("all of it on record", within, || async {
            let lag = self.screen().await?.pointer("/record/lag").and_then(Value::as_u64);
            Ok((lag == Some(0)).then_some(()))
        })
        .await
    }

    /// What a role's health door answers: the status, and the body.
    ///
    /// # Errors
    /// When no such process runs, or it does not answer.
    pub async fn door(&self, role: &str, path: &str) -> Result<(u16, String)> {
        let running = self.running()?;
        let address = running.pointer(&format!("/roles/{role}/ops")).and_then(Value::as_str);
        let host =
            address.with_context(|| format!("no door of {role}"))?.trim_start_matches("http://").to_owned();
        let asked = async {
            let mut stream = TcpStream::connect(&host).await?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(DOOR, asked).await.context("no answer in time")??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        Ok((status, body.to_owned()))
    }

    /// Process id of a role, or of `nats`.
    ///
    /// # Errors
    /// When no such process runs.
    pub fn pid(&self, role: &str) -> Result<u32> {
        let running = self.running()?;
        let pid =
            if role == "nats" { running.get("nats") } else { running.pointer(&format!("/roles/{role}/pid")) };
        let pid = pid.and_then(Value::as_u64).with_context(|| format!("no process of role {role}"))?;
        u32::try_from(pid).context("a process id")
    }

    /// Sends a signal to a role; the supervisor starts it again when it dies.
    ///
    /// # Errors
    /// When no such process runs.
    pub fn signal(&self, role: &str, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid(role)?).context("a process id")?;
        // It may have died by itself meanwhile.
        let _ = kill(Pid::from_raw(pid), signal);
        Ok(())
    }

    /// Kills a role and waits until another process of it runs.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn kill_and_wait(&self, role: &str) -> Result<()> {
        let before = self.pid(role)?;
        self.signal(role, Signal::SIGKILL)?;
        until("the role's next process", START, || async {
            Ok(self.pid(role).ok().filter(|now| *now != before).map(drop))
        })
        .await
    }

    /// Stops the cell: it drains. The directory stays until the value is dropped.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        drop(child.stdin.take());
        let ended = tokio::time::timeout(STOP, child.wait()).await;
        ended.context("the cell did not stop in time")?.context("waiting for the cell")?;
        Ok(())
    }

    /// Starts it again on what it left.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn start_again(&mut self, arguments: &[&str]) -> Result<()> {
        let _ = std::fs::remove_file(self.path().join("run.json"));
        self.child = Some(Self::spawn(Command::new(program()), self.dir.path(), arguments)?);
        self.ready().await
    }
}

impl Drop for TestCell {
    /// Stops it in order: killing the supervisor would leave the roles and the server behind.
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < STOP && matches!(child.try_wait(), Ok(None)) {
            std::thread::park_timeout(LOOK);
        }
    }
}
