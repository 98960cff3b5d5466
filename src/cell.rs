//! A cell on disk: where its configuration, identities, keys, record and logs are.
//!
//! ```text
//! <dir>/cell.toml          configuration          keys/ticket.key  ticket signing key     record/   the audit store
//! <dir>/identities/*.nk    nkey seeds             keys/ticket.pub  public ones in use     logs/     one file a role
//! <dir>/nats/              server files           keys/master.key  sealing key of bodies  run.json  what runs now
//! <dir>/checkpoints        signed heads of the record; signed with keys/checkpoint.key, checked with keys/checkpoint.pub
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tidegate_audit::{KeyError, Keys, MasterKey, Retention, Signer};
use tidegate_bus::{Bus, BusConfig, ConnectError, Identity};
use tidegate_cloud::Reach;
use tidegate_schemas::header::REPLY;
use tidegate_schemas::ids::Name;

/// Directory of the dev cell where no other is named.
pub(crate) const DEFAULT_DIR: &str = ".cell";
/// Times that a refused connection is tried again, and how long after.
const REFUSED_TRIES: u32 = 4;
const REFUSED_AGAIN: Duration = Duration::from_millis(250);

/// The key over all keys of bodies.
pub(crate) const MASTER_KEY: &str = "master.key";
/// File of the vault's master key; also its name as a credential of systemd.
pub(crate) const VAULT_KEY: &str = "vault.key";
/// The key that signs tickets, and the public keys that they are checked with: two while one takes the other's place.
pub(crate) const TICKET_KEY: &str = "ticket.key";
pub(crate) const TICKET_PUBLIC: &str = "ticket.pub";
/// The key that signs the record's checkpoints, and its public half.
pub(crate) const CHECKPOINT_KEY: &str = "checkpoint.key";
pub(crate) const CHECKPOINT_PUBLIC: &str = "checkpoint.pub";

/// A cell's directory and configuration.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) dir: PathBuf,
    pub(crate) config: CellConfig,
}

/// `cell.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellConfig {
    /// Name of the cell: audience of its tickets, origin of its record.
    pub(crate) name: Name,
    /// The server.
    pub(crate) url: String,
    /// A demo made it, and the next demo there may remove it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) demo: bool,
    /// TLS to the server; absent: none, which is for loopback only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<TlsSection>,
    /// Streams.
    #[serde(default)]
    pub(crate) streams: StreamsSection,
    /// The record.
    #[serde(default)]
    pub(crate) record: RecordSection,
    /// Local worker.
    #[serde(default)]
    pub(crate) local: LocalSection,
    /// Cloud worker.
    #[serde(default)]
    pub(crate) cloud: CloudSection,
}

/// `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// The authority that every role and command believes the server by, PEM.
    pub(crate) ca_file: PathBuf,
    /// The server's certificate, PEM; needed where the server runs.
    pub(crate) cert_file: PathBuf,
    /// Its private key, PEM.
    pub(crate) key_file: PathBuf,
}

impl TlsSection {
    /// Of a directory with `ca.pem`, `server.pem` and `server.key`.
    pub(crate) fn in_directory(dir: &Path) -> Result<Self> {
        let file = |name: &str| {
            let path = std::path::absolute(dir.join(name)).with_context(|| format!("finding `{name}`"))?;
            anyhow::ensure!(
                path.is_file(),
                "`{}` is missing: --tls needs ca.pem, server.pem and server.key",
                path.display()
            );
            Ok(path)
        };
        Ok(Self { ca_file: file("ca.pem")?, cert_file: file("server.pem")?, key_file: file("server.key")? })
    }
}

/// `[streams]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StreamsSection {
    /// Most bytes that each stream of the cell may take on disk; a tenant's tasks have a quota of their own. What is raised
    /// here is raised at the next start or `tidegate provision`; streams are never made smaller.
    pub(crate) bytes_max: u64,
}

impl Default for StreamsSection {
    fn default() -> Self {
        Self { bytes_max: 8 << 30 }
    }
}

/// `[record]`: how long what is recorded is kept, and in files of what size.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RecordSection {
    /// How long bodies are kept, days.
    pub(crate) body_retention_days: u32,
    /// How long records are kept, days; their hashes stay for ever. Never shorter than bodies.
    pub(crate) record_retention_days: u32,
    /// Bytes in the live file from which the oldest records move into a segment.
    pub(crate) segment_bytes: u64,
    /// Age of the oldest record in the live file from which it moves into a segment, hours.
    pub(crate) segment_age_hours: u32,
    /// The file that each checkpoint is appended to, by its absolute path: best on a disk or host that whoever can write the
    /// record cannot change; absent: `checkpoints` in the cell's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_file: Option<PathBuf>,
}

impl Default for RecordSection {
    fn default() -> Self {
        Self {
            body_retention_days: 30,
            record_retention_days: 396,
            segment_bytes: 256 << 20,
            segment_age_hours: 24,
            checkpoint_file: None,
        }
    }
}

impl RecordSection {
    /// The same, as the record takes it.
    pub(crate) fn retention(&self) -> Retention {
        let days = |days: u32| SignedDuration::from_hours(24 * i64::from(days));
        Retention { bodies: days(self.body_retention_days), records: days(self.record_retention_days) }
    }
}

/// `[local]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LocalSection {
    /// Chat model, a GGUF file; absent: the default model in `.models/`.
    pub(crate) chat_model: Option<PathBuf>,
    /// SHA-256 that `chat_model` must have, 64 hexadecimal digits; absent: the file is taken as it is.
    pub(crate) chat_sha256: Option<String>,
    /// LoRA adapter that is merged into the chat model: a directory with `adapter_model.safetensors` and `adapter_config.json`, or the
    /// former; absent: none.
    pub(crate) chat_adapter: Option<PathBuf>,
    /// SHA-256 that `chat_adapter` must have, 64 hexadecimal digits, of `adapter_config.json` and then the weights as one text; absent:
    /// it is taken as it is.
    pub(crate) chat_adapter_sha256: Option<String>,
    /// Embedding model, a directory; absent: the default model in `.models/`.
    pub(crate) embed_model: Option<PathBuf>,
    /// Token classifier that finds personal data, a directory; absent: the default one in `.models/`, if it is there.
    pub(crate) scan_model: Option<PathBuf>,
    /// Engine threads; 0: cores − 1.
    pub(crate) threads: usize,
    /// Tasks worked on or queued in the worker at once.
    pub(crate) in_flight_max: usize,
}

impl Default for LocalSection {
    fn default() -> Self {
        Self {
            chat_model: None,
            chat_sha256: None,
            chat_adapter: None,
            chat_adapter_sha256: None,
            embed_model: None,
            scan_model: None,
            threads: 0,
            in_flight_max: 64,
        }
    }
}

/// `[cloud]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CloudSection {
    /// Providers by name.
    pub(crate) providers: BTreeMap<Name, ProviderSection>,
}

/// `[cloud.providers.<name>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderSection {
    /// `openai_chat` or `anthropic_messages`.
    pub(crate) protocol: tidegate_schemas::render::Protocol,
    /// Where it is, by the id that tickets name: the worker's own allow-list, whatever a bundle says.
    pub(crate) endpoints: BTreeMap<Name, EndpointSection>,
    /// File with the API key; absent: the provider needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// The same as `reach = "loopback"`, as cells of earlier releases have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_loopback: bool,
    /// Which addresses it may be at: `public` (https), `loopback` or `private` (this host and private networks, http too). Absent: public,
    /// or loopback where `allow_loopback` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reach: Option<Reach>,
    /// Ports beside 443 that a public provider may be at.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) other_ports: BTreeSet<u16>,
    /// Name of the API key in the service's credentials directory (systemd's `$CREDENTIALS_DIRECTORY`), in place of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key_credential: Option<String>,
    /// PEM file of the only root certificates to trust; absent: the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Id in the price list; absent: the URL says it, and an unknown URL has no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) price_as: Option<String>,
    /// Time to resolve, connect and agree on TLS, milliseconds; absent: 5,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connect_ms: Option<u64>,
    /// Time from the request to the headers of a stream, milliseconds; absent: 60,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) header_ms: Option<u64>,
    /// Longest silence inside an answer, milliseconds; absent: 30,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_ms: Option<u64>,
    /// Time of a whole attempt, milliseconds; absent: 300,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) total_ms: Option<u64>,
    /// Largest answer, bytes; absent, and at most: 2 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer_bytes_max: Option<usize>,
}

impl ProviderSection {
    /// One without a key, at these endpoints, with the usual times.
    pub(crate) fn new(
        protocol: tidegate_schemas::render::Protocol,
        endpoints: BTreeMap<Name, EndpointSection>,
    ) -> Self {
        Self {
            protocol,
            endpoints,
            api_key_file: None,
            allow_loopback: false,
            reach: None,
            other_ports: BTreeSet::new(),
            api_key_credential: None,
            ca_file: None,
            price_as: None,
            connect_ms: None,
            header_ms: None,
            idle_ms: None,
            total_ms: None,
            answer_bytes_max: None,
        }
    }
}

/// `[cloud.providers.<name>.endpoints.<id>]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointSection {
    /// Base URL up to and with the API's version.
    pub(crate) url: String,
    /// The region that it runs in.
    pub(crate) region: Name,
    /// The models that may be asked for there.
    pub(crate) models: BTreeSet<String>,
}

impl Cell {
    /// Opens a cell.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("cell.toml");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("no cell in `{}`: start one with `tidegate dev`, or name it with --cell", dir.display())
        })?;
        let config: CellConfig =
            toml::from_str(&text).with_context(|| format!("reading `{}`", path.display()))?;
        if config.record.checkpoint_file.as_ref().is_some_and(|file| !file.is_absolute()) {
            // Each role would look for it where it was started.
            bail!("`{}`: `checkpoint_file` must be an absolute path", path.display());
        }
        // The roles get it too, and a process that outlives its supervisor is known by it.
        let dir = std::path::absolute(dir).with_context(|| format!("finding `{}`", dir.display()))?;
        Ok(Self { dir, config })
    }

    /// Writes `cell.toml`.
    pub(crate) fn save(&self) -> Result<()> {
        let text = toml::to_string_pretty(&self.config).context("writing the cell's configuration")?;
        replace(&self.dir.join("cell.toml"), text.as_bytes(), 0o644)
    }

    /// Directory of nkey seeds.
    pub(crate) fn identities(&self) -> PathBuf {
        self.dir.join("identities")
    }

    /// Directory of the server's files.
    pub(crate) fn nats(&self) -> PathBuf {
        self.dir.join("nats")
    }

    /// Directory of the record.
    pub(crate) fn record(&self) -> PathBuf {
        self.dir.join("record")
    }

    /// The file that each checkpoint of the record is appended to: outside the record, so that it outlives its replacement.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.config.record.checkpoint_file.clone().unwrap_or_else(|| self.dir.join("checkpoints"))
    }

    /// Name of the record in its checkpoints.
    pub(crate) fn origin(&self) -> String {
        format!("tidegate/{}", self.config.name)
    }

    /// What the record is written with.
    pub(crate) fn record_keys(&self) -> Result<Keys, KeyError> {
        Ok(Keys {
            master: MasterKey::load(&self.master_key())?,
            signer: Signer::load(&self.key(CHECKPOINT_KEY), &self.origin())?,
        })
    }

    /// A key file.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(name)
    }

    /// File of the record's master key: systemd's credential, else in the cell's directory.
    pub(crate) fn master_key(&self) -> PathBuf {
        credential(MASTER_KEY).unwrap_or_else(|| self.key(MASTER_KEY))
    }

    /// Directory of the vault's store.
    pub(crate) fn vault(&self) -> PathBuf {
        self.dir.join("vault")
    }

    /// File of the vault's master key: systemd's credential, else in the cell's directory.
    pub(crate) fn vault_key(&self) -> PathBuf {
        credential(VAULT_KEY).unwrap_or_else(|| self.key(VAULT_KEY))
    }

    /// File of the key that signs tickets: systemd's credential, else in the cell's directory.
    pub(crate) fn ticket_key(&self) -> PathBuf {
        credential(TICKET_KEY).unwrap_or_else(|| self.key(TICKET_KEY))
    }

    /// A role's log file.
    pub(crate) fn log(&self, role: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{role}.log"))
    }

    /// Seed file of an identity: systemd's credential, else in the cell's directory.
    pub(crate) fn seed(&self, identity: &Identity) -> PathBuf {
        let name = identity.seed_file_name();
        credential(&name).unwrap_or_else(|| self.identities().join(name))
    }

    /// Beginning of a line for NATS' own command line tool. Answers come only to an identity's private inbox.
    pub(crate) fn nats_line(&self, identity: &Identity) -> String {
        let (seed, inbox) = (self.seed(identity), identity.inbox_prefix());
        let tls = self.config.tls.as_ref();
        let ca = tls.map(|tls| format!(" --tlsca {}", tls.ca_file.display())).unwrap_or_default();
        format!("nats --server {}{ca} --nkey {} --inbox-prefix {inbox}", self.config.url, seed.display())
    }

    /// A line that hears every answer to an agent.
    pub(crate) fn listen_line(&self, identity: &Identity) -> String {
        let Identity::Agent { agent, .. } = identity else { return self.nats_line(identity) };
        format!("{} sub 'reply.{agent}.>'", self.nats_line(identity))
    }

    /// A line that publishes an agent's first task. The reply token stands in a header, so that a task which cannot be read is
    /// answered as well.
    pub(crate) fn publish_line(&self, identity: &Identity, sensitivity: &str) -> String {
        let Identity::Agent { agent, .. } = identity else { return self.nats_line(identity) };
        let input = r#"{"messages":[{"role":"user","content":"Hello"}]}"#;
        format!(
            r#"{} pub task.{agent}.chat -H {REPLY}:hello '{{"labels":{{"sensitivity":"{sensitivity}"}},"input":{input}}}'"#,
            self.nats_line(identity)
        )
    }

    /// Connects as an identity.
    pub(crate) async fn connect(&self, identity: impl Into<Identity>) -> Result<Bus> {
        let identity = identity.into();
        let seed = self.seed(&identity);
        if !seed.exists() {
            bail!(
                "no seed for {} in `{}`: add it with `tidegate {}`",
                who(&identity),
                self.identities().display(),
                added_by(&identity)
            );
        }
        let mut config = BusConfig::new(self.config.url.clone(), identity, Some(seed));
        config.ca_file = self.config.tls.as_ref().map(|tls| tls.ca_file.clone());
        let mut tries = REFUSED_TRIES;
        loop {
            match Bus::connect(config.clone()).await {
                // While the server takes over new accounts it may refuse for a moment whom it knows.
                Err(ConnectError::Refused { .. }) if tries > 0 => {
                    tries -= 1;
                    tokio::time::sleep(REFUSED_AGAIN).await;
                }
                // The error names the server and says what to do.
                connected => return Ok(connected?),
            }
        }
    }

    /// What runs now, as `tidegate dev` wrote it.
    pub(crate) fn running(&self) -> Result<Running> {
        let text = match fs::read_to_string(self.dir.join("run.json")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("this cell is not running: start it with `tidegate dev`")
            }
            read => read.context("reading run.json")?,
        };
        serde_json::from_str(&text).context("reading run.json")
    }
}

impl Running {
    /// What is asked of a cell that stops would fail half-way.
    pub(crate) fn refuse_while_stopping(&self) -> Result<()> {
        if self.stopping {
            bail!(
                "this cell is stopping (process {}): its roles drain; `tidegate stop` waits until it has",
                self.supervisor
            );
        }
        Ok(())
    }
}

/// A credential that systemd gave to this process.
fn credential(name: &str) -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.is_file().then_some(path)
}

/// An identity in words.
fn who(identity: &Identity) -> String {
    match identity {
        Identity::Agent { tenant, agent } => format!("agent `{agent}` of tenant `{tenant}`"),
        Identity::Tool { tenant, tool } => format!("tool `{tool}` of tenant `{tenant}`"),
        Identity::Reviewer(name) => format!("reviewer `{name}`"),
        Identity::Operator(name) => format!("operator `{name}`"),
        other => format!("`{other}`"),
    }
}

/// The command that adds an identity.
fn added_by(identity: &Identity) -> String {
    match identity {
        Identity::Agent { tenant, agent } => format!("agent add {tenant} {agent}"),
        Identity::Tool { tenant, tool } => format!("tool add {tenant} {tool}"),
        Identity::Reviewer(name) => format!("tool reviewer {name}"),
        Identity::Operator(name) => format!("tool operator {name}"),
        _ => "dev".to_owned(),
    }
}

/// `run.json`: what runs now.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The supervisor's process.
    pub(crate) supervisor: u32,
    /// The server's process.
    pub(crate) nats: u32,
    /// Health address and process of each role.
    pub(crate) roles: BTreeMap<String, RunningRole>,
    /// Whether it was told to stop, and its roles drain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stopping: bool,
}

/// One role's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunningRole {
    /// Process id.
    pub(crate) pid: u32,
    /// Address of `/livez`, `/readyz`, `/metrics`.
    pub(crate) ops: String,
}

/// Writes a file so that a reader sees the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let parent = path.parent().context("a path with a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("creating `{}`", parent.display()))?;
    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("writing `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn who_is_missing_is_added_by_a_command_for_such() {
        let name = || Name::new("olga").unwrap();
        let rows = [
            (Identity::Operator(name()), "tool operator olga"),
            (Identity::Reviewer(name()), "tool reviewer olga"),
            (Identity::Tool { tenant: name(), tool: name() }, "tool add olga olga"),
            (tidegate_bus::Role::Provisioner.into(), "dev"),
        ];
        for (identity, command) in rows {
            assert_eq!(added_by(&identity), command);
        }
    }

    #[test]
    fn ready_lines_name_the_private_inbox() {
        let cell = "name = \"dev\"\nurl = \"nats://127.0.0.1:4222\"";
        let cell = Cell { dir: "/cell".into(), config: toml::from_str(cell).unwrap() };
        let (tenant, name) = (Name::new("acme").unwrap(), Name::new("desk").unwrap());
        let tool = Identity::Tool { tenant: tenant.clone(), tool: name.clone() };
        let agent = Identity::Agent { tenant, agent: name };
        for (line, identity) in [(cell.nats_line(&tool), tool), (cell.publish_line(&agent, "public"), agent)]
        {
            let words: Vec<&str> = line.split(' ').collect();
            let after = |flag: &str| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1]);
            assert_eq!(after("--inbox-prefix"), Some(identity.inbox_prefix().as_str()), "{line}");
            assert_eq!(after("--nkey"), cell.seed(&identity).to_str(), "{line}");
        }
    }
}
