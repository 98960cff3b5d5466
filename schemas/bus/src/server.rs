//! Runs a nats-server of its own for a cell: finds a binary that will do, writes the shipped configuration beside the accounts
//! file, starts, reloads and stops it. Used by `tidegate dev` and by tests on the real server.

mod find;

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

pub use self::find::{FindError, find, find_from};

/// The configuration that ships with Tidegate.
pub const CONFIG: &str = include_str!("../../../deploy/nats.conf");

/// The lines of it that have streams encrypted.
const ENCRYPTION: &str = "  cipher: aes\n  include \"encryption.conf\"\n";
/// Longest wait for the server to take connections; recovering large streams takes time.
const START_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a reload.
const RELOAD_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the server to stop by itself.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How often its state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// End of the log quoted when it fails, bytes.
const LOG_TAIL_BYTES: u64 = 600;

/// How to run a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The binary; see [`find`].
    pub binary: PathBuf,
    /// Directory for configuration, log and streams; made if need be.
    pub directory: PathBuf,
    /// Port for clients on loopback; `None` takes a free one.
    pub port: Option<u16>,
    /// Port for monitoring on loopback; `None` takes a free one.
    pub monitor_port: Option<u16>,
    /// `always`, or for measurements only a time such as `2m`.
    pub sync_interval: String,
    /// Whether streams are encrypted at rest, as in every cell. Without it a test can look for what should not be there.
    pub encrypted: bool,
    /// The server's certificate; without one it speaks no TLS, and then only loopback may lead to it.
    pub tls: Option<ServerTls>,
}

/// What a server shows to its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Its certificate and what leads to the authority, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM, for its owner only.
    pub key_file: PathBuf,
}

impl ServerOptions {
    /// A server in `directory` on free ports.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            directory: directory.into(),
            port: None,
            monitor_port: None,
            sync_interval: "always".to_owned(),
            encrypted: true,
            tls: None,
        }
    }
}

/// A server that runs. Dropping it kills the process; [`Self::stop`] ends it in order.
#[derive(Debug)]
pub struct NatsServer {
    options: ServerOptions,
    child: Child,
    url: String,
    monitor_url: String,
}

/// The server cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A file cannot be written or read.
    #[error("cannot use `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else listens where it should.
    #[error(
        "port {port} of the NATS server is taken by another program; stop it, or choose another with `--port` (0 takes a free one)"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// It ended instead of serving.
    #[error("nats-server stopped at once; its log `{}` ends: {tail}", log.display())]
    Ended {
        /// The log.
        log: PathBuf,
        /// Its end.
        tail: String,
    },
    /// It did not get ready.
    #[error("nats-server did not get ready in time; look into `{}`", log.display())]
    NotReady {
        /// The log.
        log: PathBuf,
    },
    /// It refused the new configuration and keeps the old one.
    #[error("nats-server kept its old accounts; its log `{}` ends: {tail}", log.display())]
    ReloadRefused {
        /// The log.
        log: PathBuf,
        /// Its end.
        tail: String,
    },
}

#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
    #[serde(default)]
    monitoring: Vec<String>,
}

impl NatsServer {
    /// Writes the configuration, starts the server and waits until it takes connections.
    ///
    /// # Errors
    /// [`ServerError`] with the end of its log.
    pub async fn start(mut options: ServerOptions, accounts: &str) -> Result<Self, ServerError> {
        prepare(&options, accounts)?;
        let (child, ports) = spawn(&options).await?;
        // A restart must come up where clients look for it.
        options.port = ports.nats.first().and_then(|url| port_of(url));
        options.monitor_port = ports.monitoring.first().and_then(|url| port_of(url));
        let url = format!("nats://127.0.0.1:{}", options.port.unwrap_or_default());
        let monitor_url = format!("http://127.0.0.1:{}", options.monitor_port.unwrap_or_default());
        info!(%url, directory = %options.directory.display(), "Started nats-server.");
        Ok(Self { options, child, url, monitor_url })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its counters are read.
    #[must_use]
    pub fn monitor_url(&self) -> &str {
        &self.monitor_url
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the process is gone.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// As [`reload`], of this server.
    ///
    /// # Errors
    /// [`ServerError::ReloadRefused`] when it keeps the old ones.
    pub async fn reload(&mut self, accounts: &str) -> Result<(), ServerError> {
        reload(&self.options.directory, self.child.id().unwrap_or_default(), accounts).await
    }

    /// Stops the server in order; kills it if that takes too long.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// Kills the server as a crash would.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Starts it again on the same ports and streams after [`Self::kill`].
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        let _ = self.child.kill().await;
        let (child, _) = spawn(&self.options).await?;
        self.child = child;
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(process) {
            // A process that is gone needs no signal.
            let _ = kill(pid, signal);
        }
    }
}

/// Writes new accounts for the server that runs in `directory` as process `pid`, and has it take them over without dropping
/// connections. One caller at a time.
///
/// It is told twice: up to 2.15.1 the imports of an account that is new work from the second time on.
///
/// # Errors
/// [`ServerError::ReloadRefused`] when it keeps the old ones, or does not say in time that it took them.
pub async fn reload(directory: &Path, pid: u32, accounts: &str) -> Result<(), ServerError> {
    write_private(&accounts_file(directory), accounts)?;
    reload_once(directory, pid).await?;
    reload_once(directory, pid).await
}

async fn reload_once(directory: &Path, pid: u32) -> Result<(), ServerError> {
    let log = log_file(directory);
    let from = std::fs::metadata(&log).map_or(0, |meta| meta.len());
    let told = process(pid).is_some_and(|pid| kill(pid, Signal::SIGHUP).is_ok());
    let deadline = Instant::now() + RELOAD_MAX;
    while told && Instant::now() < deadline {
        let new = read_from(&log, from);
        if new.contains("Reloaded server configuration") {
            return Ok(());
        }
        let is_gone = process(pid).is_none_or(|pid| kill(pid, None).is_err());
        if new.contains("Failed to reload") || is_gone {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    Err(ServerError::ReloadRefused { tail: tail(&log), log })
}

/// A process by its number. Number 0 would be the caller's own group.
fn process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw)
}

fn accounts_file(directory: &Path) -> PathBuf {
    directory.join("accounts.conf")
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("nats-server.log")
}

fn prepare(options: &ServerOptions, accounts: &str) -> Result<(), ServerError> {
    let directory = &options.directory;
    let io = |source| ServerError::Io { path: directory.clone(), source };
    std::fs::create_dir_all(directory.join("streams")).map_err(io)?;
    let config =
        CONFIG.replace("sync_interval: always", &format!("sync_interval: {}", options.sync_interval));
    let config = if options.encrypted { config } else { config.replace(ENCRYPTION, "") };
    write_private(&directory.join("nats.conf"), &config)?;
    write_private(&directory.join("tls.conf"), &tls(options.tls.as_ref()))?;
    // Never in the environment or an argument, which others on the host may read.
    let key = format!("key: \"{}\"\n", encryption_key(directory)?);
    write_private(&directory.join("encryption.conf"), &key)?;
    write_private(&accounts_file(directory), accounts)
}

fn tls(tls: Option<&ServerTls>) -> String {
    let Some(ServerTls { cert_file, key_file }) = tls else { return String::new() };
    let (cert, key) = (cert_file.display(), key_file.display());
    format!("tls {{\n  cert_file: \"{cert}\"\n  key_file: \"{key}\"\n  min_version: \"1.3\"\n}}\n")
}

async fn spawn(options: &ServerOptions) -> Result<(Child, Ports), ServerError> {
    let directory = &options.directory;
    let io = |path: &Path, source| ServerError::Io { path: path.to_owned(), source };
    let port = |port: Option<u16>| port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let child = Command::new(&options.binary)
        .arg("-c")
        .arg(directory.join("nats.conf"))
        .env_clear()
        .env("TIDEGATE_NATS_PORT", port(options.port))
        .env("TIDEGATE_NATS_MONITOR_PORT", format!("\"127.0.0.1:{}\"", port(options.monitor_port)))
        .env("TIDEGATE_NATS_DIR", quoted(directory))
        .env("TIDEGATE_NATS_LOG", quoted(&log_file(directory)))
        .env("TIDEGATE_NATS_STORE", quoted(&directory.join("streams")))
        .envs(std::env::var_os("GOMAXPROCS").map(|value| ("GOMAXPROCS", value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Its own group: a Ctrl-C in the terminal reaches whoever started it, who stops it after all that need it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| io(&options.binary, source))?;
    wait_ready(options, child).await
}

async fn wait_ready(options: &ServerOptions, mut child: Child) -> Result<(Child, Ports), ServerError> {
    let log = log_file(&options.directory);
    let name = options.binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = options.directory.join(format!("{name}_{}.ports", child.id().unwrap_or_default()));
    let deadline = Instant::now() + START_MAX;
    while Instant::now() < deadline {
        if let Ok(text) = std::fs::read(&file)
            && let Ok(ports) = serde_json::from_slice::<Ports>(&text)
        {
            return Ok((child, ports));
        }
        if !matches!(child.try_wait(), Ok(None)) {
            return Err(ended(options, log));
        }
        sleep(LOOK_EVERY).await;
    }
    Err(ServerError::NotReady { log })
}

/// The key of the streams at rest; made once, kept beside them for its owner only.
fn encryption_key(directory: &Path) -> Result<String, ServerError> {
    let path = directory.join("jetstream.key");
    match std::fs::read_to_string(&path) {
        Ok(key) => Ok(key.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
            write_private(&path, &key)?;
            Ok(key)
        }
        Err(source) => Err(ServerError::Io { path, source }),
    }
}

/// Writes a file for its owner only, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), ServerError> {
    let failed = |source| ServerError::Io { path: path.to_owned(), source };
    let draft = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft);
    file.and_then(|mut file| {
        std::io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all())
    })
    .and_then(|()| std::fs::rename(&draft, path))
    .map_err(failed)
}

/// Why a server ended instead of serving, by its log.
fn ended(options: &ServerOptions, log: PathBuf) -> ServerError {
    let tail = tail(&log);
    let last = tail.rsplit(" | ").next().unwrap_or_default();
    match options.port {
        Some(port) if last.contains("address already in use") && last.contains(&format!(":{port}")) => {
            ServerError::PortTaken { port }
        }
        _ => ServerError::Ended { tail, log },
    }
}

fn port_of(url: &str) -> Option<u16> {
    url.rsplit(':').next()?.trim_end_matches('/').parse().ok()
}

fn read_from(path: &Path, from: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        // A log that cannot be read counts as empty: the caller then runs into its deadline.
        let _ = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(log: &Path) -> String {
    let size = std::fs::metadata(log).map_or(0, |meta| meta.len());
    read_from(log, size.saturating_sub(LOG_TAIL_BYTES)).trim().replace('\n', " | ")
}
