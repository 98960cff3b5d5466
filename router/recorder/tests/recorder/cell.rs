//! A provisioned cell with a recorder that can be stopped and started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_audit::{Filter, Keys, Level, MasterKey, Reader, RecordKind, Signer, Status};
use tidegate_bus::accounts::{Identities, render};
use tidegate_bus::server::{NatsServer, ServerOptions, find};
use tidegate_bus::{
    Bus, BusConfig, CancellationToken, CellShape, Health, Identity, Outbound, Published, Role, provision,
    topology,
};
use tidegate_recorder::{RecorderConfig, RecorderError, run};
use tidegate_schemas::directory::{Agent, Directory, Reviewer, Tenant, Tool};
use tidegate_schemas::header;
use tidegate_schemas::ids::{Identifier, Name, Position, TaskId};
use tidegate_schemas::work::Hop;
use tokio::task::JoinHandle;

/// How long a test waits for an event before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a recorder in a process of its own is told: the server, its seed's file, the cell's directory.
const SERVER: &str = "TIDEGATE_TEST_SERVER";
const SEED: &str = "TIDEGATE_TEST_SEED";
const RECORD: &str = "TIDEGATE_TEST_RECORD";

pub(crate) struct Cell {
    pub(crate) dir: TempDir,
    pub(crate) config: RecorderConfig,
    server: NatsServer,
    identities: Identities,
}

/// A recorder that runs.
pub(crate) struct Running {
    shutdown: CancellationToken,
    pub(crate) health: Health,
    task: JoinHandle<Result<(), RecorderError>>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn shape() -> CellShape {
    CellShape {
        pools: vec![name("small")],
        providers: vec![name("openai")],
        stream_bytes_max: 256 * 1024 * 1024,
    }
}

pub(crate) fn directory() -> Directory {
    let agents = [(name("bot"), Agent::default())].into_iter().collect();
    let tools = [(name("desk"), Tool { content: true, ..Tool::default() })].into_iter().collect();
    let mut tenant = Tenant { owner: "ops@example.com".to_owned(), agents, tools, ..Tenant::default() };
    tenant.quota.stream_bytes_max = 64 * 1024 * 1024;
    let mut directory = Directory::empty();
    directory.tenants.insert(name("acme"), tenant);
    directory.operators.insert(name("olga"));
    directory
        .reviewers
        .insert(name("rita"), Reviewer { queues: [name("stakes")].into(), ..Reviewer::default() });
    directory
}

fn config(dir: &Path) -> RecorderConfig {
    RecorderConfig {
        directory: dir.join("record"),
        master_key_file: dir.join("record.key"),
        checkpoint_key_file: dir.join("checkpoint.key"),
        checkpoint_file: Some(dir.join("checkpoints")),
        // Only on the way out, where a test does not want more.
        checkpoint_ms: 600_000,
        cache_bytes: 8 * 1024 * 1024,
        discovery_ms: 100,
        deadline_ms: 50,
        deadline_grace_ms: 0,
        ..RecorderConfig::default()
    }
}

impl Cell {
    pub(crate) async fn start() -> Self {
        Self::start_with(true).await
    }

    /// The same, where what the server keeps can be read as it is.
    pub(crate) async fn start_unencrypted() -> Self {
        Self::start_with(false).await
    }

    async fn start_with(encrypted: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory();
        let mut identities = Identities::open(dir.path().join("keys")).unwrap();
        identities.ensure_all(&directory).unwrap();
        let accounts = render(&shape(), &directory, &identities).unwrap();
        let mut options = ServerOptions::new(find().unwrap(), dir.path().join("nats"));
        options.encrypted = encrypted;
        let server = NatsServer::start(options, &accounts).await.unwrap();
        let config = config(dir.path());
        MasterKey::create(&config.master_key_file).unwrap();
        Signer::create(&config.checkpoint_key_file, &config.origin).unwrap();
        let cell = Self { dir, config, server, identities };
        provision(&cell.role(Role::Provisioner).await, &topology(&shape(), &directory)).await.unwrap();
        cell
    }

    /// Ends the server by a signal, has something done to the streams that it keeps, and starts it again.
    pub(crate) async fn restart(&mut self, signal: &str, meanwhile: impl FnOnce(&Path)) {
        let pid = self.server.pid().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let begun = tokio::time::Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !self.server.has_ended() {
            look.tick().await;
            assert!(begun.elapsed() < PATIENCE, "the server does not end");
        }
        meanwhile(&self.dir.path().join("nats/streams"));
        self.server.restart().await.unwrap();
    }

    pub(crate) async fn bus(&self, identity: Identity) -> Bus {
        let seed = self.identities.seed_file(&identity);
        Bus::connect(BusConfig::new(self.server.url(), identity, Some(seed))).await.unwrap()
    }

    pub(crate) async fn role(&self, role: Role) -> Bus {
        self.bus(Identity::Role(role)).await
    }

    pub(crate) async fn agent(&self) -> Bus {
        self.bus(Identity::Agent { tenant: name("acme"), agent: name("bot") }).await
    }

    /// Starts a recorder.
    pub(crate) async fn record(&self) -> Running {
        let (bus, config) = (self.role(Role::Recorder).await, self.config.clone());
        let (shutdown, health) = (CancellationToken::new(), Health::new(Role::Recorder));
        let (stop, told) = (shutdown.clone(), health.clone());
        let task = tokio::spawn(async move {
            let discovery = bus.discovery(&told, "0.1.0").await.unwrap();
            run(bus, &discovery, config, stop, told).await
        });
        Running { shutdown, health, task }
    }

    /// What the record is written with.
    pub(crate) fn keys(&self) -> Keys {
        Keys {
            master: MasterKey::load(&self.config.master_key_file).unwrap(),
            signer: Signer::load(&self.config.checkpoint_key_file, &self.config.origin).unwrap(),
        }
    }

    /// A command that starts a recorder as a process of its own: see `standby`.
    pub(crate) fn process(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(SERVER, self.server.url())
            .env(SEED, self.identities.seed_file(&Identity::Role(Role::Recorder)))
            .env(RECORD, self.dir.path());
        command
    }

    /// The same recorder, in the process that was started so; `None` in any other.
    pub(crate) async fn told() -> Option<(Bus, RecorderConfig)> {
        let url = std::env::var(SERVER).ok()?;
        let seed = PathBuf::from(std::env::var_os(SEED)?);
        let config = config(Path::new(&std::env::var_os(RECORD)?));
        let identity = Identity::Role(Role::Recorder);
        Some((Bus::connect(BusConfig::new(url, identity, Some(seed))).await.unwrap(), config))
    }

    /// Reads the record beside the recorder.
    pub(crate) fn reader(&self) -> Reader {
        let master = MasterKey::load(&self.config.master_key_file).unwrap();
        Reader::open(&self.config.directory, Some(master)).unwrap()
    }

    /// Waits until the record is as `check` wants it.
    pub(crate) async fn until(&self, what: &str, mut check: impl FnMut(&Reader, &Status) -> bool) {
        let begun = tokio::time::Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            look.tick().await;
            if let Ok(reader) = Reader::open(&self.config.directory, None)
                && check(&reader, &reader.status().unwrap())
            {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        }
    }

    /// The record is whole, and nothing in it is odd.
    pub(crate) fn is_healthy(&self) {
        let reader = self.reader();
        let odd = Filter { anomalies: true, ..Filter::default() };
        let odd: Vec<_> = reader.query(&odd).unwrap().records.into_iter().map(|record| record.leaf).collect();
        assert_eq!(odd, [], "nothing is odd");
        let report = reader.verify(Level::Full, &mut |_, _| {}).unwrap();
        assert!(report.is_ok() && report.anomalies == 0, "{:?}", report.problems);
    }

    /// Waits for so many records, checkpoints not counted.
    pub(crate) async fn until_records(&self, records: u64) {
        self.until(&format!("{records} records"), |reader, _| counted(reader) >= records).await;
    }
}

impl Running {
    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Waits until all streams of the road stand still for this reason.
    pub(crate) async fn until_not_ready(&self, why: &str) {
        self.until_so_many_not_ready(3, why).await;
    }

    /// Waits until so many parts stand still for this reason.
    pub(crate) async fn until_so_many_not_ready(&self, parts: usize, why: &str) {
        let begun = tokio::time::Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let told = || self.health.report().not_ready.values().filter(|text| text.contains(why)).count();
        while told() < parts {
            look.tick().await;
            assert!(begun.elapsed() < PATIENCE, "never not ready: {:?}", self.health.report());
        }
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> Result<(), RecorderError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends by itself").unwrap()
    }

    /// Ends it as a crash would: nothing is awaited.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Records without checkpoints: when those are taken is a matter of time.
pub(crate) fn counted(reader: &Reader) -> u64 {
    let filter = Filter { kind: Some(RecordKind::Checkpoint), limit: Some(1_000), ..Filter::default() };
    let records = reader.status().unwrap().records;
    records.saturating_sub(reader.query(&filter).unwrap().records.len() as u64)
}

/// Task number `n`.
pub(crate) fn task_id(n: u64) -> TaskId {
    TaskId(uuid::Uuid::from_u128(0x0193_5000_0000_7000_8000_0000_0000_0000 | u128::from(n)))
}

/// A task as its agent publishes it.
pub(crate) fn task(n: u64, deadline_ms: u64) -> Outbound {
    let id = task_id(n).to_string();
    let payload = json!({
        "id": id, "labels": {"sensitivity": "public"}, "limits": {"deadline_ms": deadline_ms},
        "input": {"messages": [{"role": "user", "content": format!("question {n}")}]}
    });
    Outbound::new("task.bot.chat", payload.to_string()).with_id(id)
}

/// Local work of task number `n`, as the router publishes it.
pub(crate) fn work(n: u64, cause: &Position) -> Outbound {
    let decision = json!({
        "id": task_id(n), "outcome": "local", "determining": ["permit-local"], "scan": "recognisers",
        "labels": {"sensitivity": "public"}, "facts": {"directory": "00".repeat(32)}, "bundle": "11".repeat(32),
    });
    let mut work = hop(n, "work.local.small.interactive.acme".to_owned(), cause, "work", &json!({}));
    work.headers.set(header::DECISION, decision.to_string());
    work
}

/// The result of task number `n`.
pub(crate) fn result(n: u64, cause: &Position) -> Outbound {
    let payload = json!({
        "schema_version": 1, "task": task_id(n), "tenant": "acme", "agent": "bot", "state": "completed",
    });
    hop(n, format!("result.acme.bot.{}", task_id(n)), cause, "result", &payload)
}

pub(crate) fn hop(n: u64, subject: String, cause: &Position, step: &str, payload: &Value) -> Outbound {
    let id = task_id(n);
    let hop = Hop {
        id,
        agent: name("bot"),
        task: Position::new("TASKS_acme", n),
        deadline: Timestamp::now() + jiff::SignedDuration::from_mins(5),
        submitted: Timestamp::now(),
        hop: 0,
        data_subjects: vec![Identifier::new(format!("task:{id}")).unwrap()],
        workflow: None,
        reply: None,
        trace: None,
    };
    Outbound::new(subject, payload.to_string()).with_headers(hop.headers(cause)).with_id(hop.msg_id(
        &name("acme"),
        step,
        0,
    ))
}

/// Task, work and result of tasks `from..=to`.
pub(crate) async fn road(cell: &Cell, from: u64, to: u64) -> Published {
    let (agent, router) = (cell.agent().await, cell.role(Role::Router).await);
    let mut last = None;
    for n in from..=to {
        agent.publish(task(n, 300_000)).await.unwrap();
        let work = router.publish(work(n, &Position::new("TASKS_acme", n))).await.unwrap();
        last = Some(router.publish(result(n, &work.position())).await.unwrap());
    }
    last.unwrap()
}
