//! A cell with a worker in it, on a real nats-server with its real accounts and the real default models.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_bus::accounts::{Identities, render};
use tidegate_bus::server::{NatsServer, ServerOptions, find};
use tidegate_bus::{
    Bus, BusConfig, CancellationToken, CellShape, CoreStream, Health, Identity, Outbound, Published, Role,
    provision, topology,
};
use tidegate_engine::{Engine, EngineConfig, EngineThread, StepHook};
use tidegate_local::{LocalConfig, RunError};
use tidegate_schemas::attempt::{Attempt, Phase};
use tidegate_schemas::dead::DeadLetter;
use tidegate_schemas::directory::{Agent, Directory, Tenant};
use tidegate_schemas::ids::TaskId;
use tidegate_schemas::result::TaskResult;
use tidegate_schemas::subject::{EVENTS, RESULTS, WORK_LOCAL};
use tokio::task::JoinHandle;

pub(crate) mod work;

use work::{Given, name};

/// How long a story waits for an event before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cell {
    pub(crate) router: Bus,
    provisioner: Bus,
    identities: Identities,
    server: NatsServer,
    _folder: TempDir,
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) health: Health,
    shutdown: CancellationToken,
    ended: JoinHandle<Result<(), RunError>>,
}

/// Stands before each step of the models: lets them go on, keeps them busy, or makes them panic.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<Door>, Condvar)>);

#[derive(Default)]
enum Door {
    #[default]
    Open,
    Shut,
    Panics(u32),
}

fn directory() -> Directory {
    let mut acme = Tenant { owner: "ops@example.com".to_owned(), ..Tenant::default() };
    acme.agents.insert(name("helpdesk"), Agent::default());
    acme.quota.stream_bytes_max = 16 * 1024 * 1024;
    let mut directory = Directory::empty();
    directory.tenants.insert(name("acme"), acme);
    directory
}

impl Cell {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory();
        let shape = CellShape {
            pools: vec![name("default"), name("embed"), name("scan")],
            providers: vec![name("double")],
            stream_bytes_max: 64 * 1024 * 1024,
        };
        let mut identities = Identities::open(folder.path().join("keys")).unwrap();
        identities.ensure_all(&directory).unwrap();
        let accounts = render(&shape, &directory, &identities).unwrap();
        let options = ServerOptions::new(find().unwrap(), folder.path().join("nats"));
        let server = NatsServer::start(options, &accounts).await.unwrap();
        let connect = async |role: Role| {
            let identity = Identity::Role(role);
            let seed = identities.seed_file(&identity);
            Bus::connect(BusConfig::new(server.url(), identity, Some(seed))).await.unwrap()
        };
        let provisioner = connect(Role::Provisioner).await;
        provision(&provisioner, &topology(&shape, &directory)).await.unwrap();
        let router = connect(Role::Router).await;
        Self { router, provisioner, identities, server, _folder: folder }
    }

    pub(crate) async fn bus(&self, identity: Identity) -> Bus {
        let seed = self.identities.seed_file(&identity);
        Bus::connect(BusConfig::new(self.server.url(), identity, Some(seed))).await.unwrap()
    }

    /// What the agent hears on a subject of its own, from now on.
    pub(crate) async fn heard_by_agent(&self, subject: &str) -> CoreStream {
        let agent = self.bus(Identity::Agent { tenant: name("acme"), agent: name("helpdesk") }).await;
        let stream = agent.subscribe_core(subject).await.unwrap();
        agent.flush().await.unwrap();
        stream
    }

    /// The pieces of a task's answer, from now on.
    pub(crate) async fn deltas(&self, given: &Given) -> CoreStream {
        self.heard_by_agent(&format!("delta.helpdesk.{}", given.id())).await
    }

    /// Starts a worker and waits until it is ready.
    pub(crate) async fn worker(&self, engine: &Engine, config: LocalConfig) -> Running {
        let bus = self.bus(Role::Local.into()).await;
        let (health, shutdown) = (Health::new(Role::Local), CancellationToken::new());
        let run = tidegate_local::run(bus, config, engine.clone(), shutdown.clone(), health.clone());
        let ended = tokio::spawn(run);
        until("the worker is ready", async || {
            assert!(!ended.is_finished(), "the worker ended");
            health.report().ready.then_some(())
        })
        .await;
        Running { health, shutdown, ended }
    }

    /// How long the server waits for an acknowledgement of work for conversations.
    pub(crate) async fn wait_for_ack(&self, wait: Duration) {
        let mut spec = topology::pool_consumer(&name("default"));
        spec.ack_wait_ns = u64::try_from(wait.as_nanos()).unwrap();
        let asked = json!({ "stream_name": WORK_LOCAL, "config": spec, "action": "update" });
        let subject = format!("$JS.API.CONSUMER.CREATE.{WORK_LOCAL}.default");
        let answer = self.provisioner.request(&subject, asked.to_string().into(), PATIENCE).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["config"]["ack_wait"], json!(spec.ack_wait_ns), "{answer}");
    }

    /// Publishes work as the router does.
    pub(crate) async fn send(&self, given: &Given) -> Published {
        let outbound = Outbound::new(given.subject(), given.payload())
            .with_id(given.hop.msg_id(&name("acme"), "hop0", 0))
            .with_headers(given.headers());
        self.router.publish(outbound).await.unwrap()
    }

    /// The task's terminal result.
    pub(crate) async fn result(&self, given: &Given) -> TaskResult {
        until("the result is there", async || self.result_now(given.id()).await).await
    }

    pub(crate) async fn result_now(&self, id: TaskId) -> Option<TaskResult> {
        let subject = format!("result.acme.helpdesk.{id}");
        let stored = self.router.last_for_subject(RESULTS, &subject).await.unwrap()?;
        Some(serde_json::from_slice(&stored.payload).unwrap())
    }

    /// The attempts of a task that are on record.
    pub(crate) async fn attempts(&self, given: &Given) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for sequence in 1..=self.router.stream_info(EVENTS).await.unwrap().last {
            let stored = self.router.get(EVENTS, sequence).await.unwrap().unwrap();
            if let Ok(attempt) = serde_json::from_slice::<Attempt>(&stored.payload)
                && attempt.task == given.id()
            {
                attempts.push(attempt);
            }
        }
        attempts
    }

    /// The record that an answer of this task came too late.
    pub(crate) async fn late(&self, given: &Given) -> Phase {
        until("the late attempt is recorded", async || {
            let attempts = self.attempts(given).await;
            attempts
                .into_iter()
                .map(|attempt| attempt.phase)
                .find(|phase| matches!(phase, Phase::Late { .. }))
        })
        .await
    }

    /// The dead letter of the message at a position.
    pub(crate) async fn letter(&self, published: &Published) -> DeadLetter {
        let position = published.position().to_string();
        until("the dead letter is there", async || {
            let stored = self.router.last_for_subject(EVENTS, "dead.local.acme").await.unwrap()?;
            let letter: DeadLetter = serde_json::from_slice(&stored.payload).unwrap();
            (letter.message.to_string() == position).then_some(letter)
        })
        .await
    }

    /// Waits until everything sent so far was handled and acknowledged.
    pub(crate) async fn drained(&self, pool: &str) {
        until("the work is acknowledged", async || {
            let state = self.router.consumer_info(WORK_LOCAL, pool).await.unwrap();
            (state.ack_pending == 0 && state.pending == 0).then_some(())
        })
        .await;
    }
}

impl Running {
    /// Tells it to stop; [`Self::ended`] waits.
    pub(crate) fn stopping(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn stop(self) {
        self.stopping();
        self.ended().await.unwrap();
    }

    /// How it ends.
    pub(crate) async fn ended(self) -> Result<(), RunError> {
        tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap()
    }
}

impl Gate {
    pub(crate) fn open(&self) {
        self.set(Door::Open);
    }

    /// The model stays busy with its next step until the gate opens.
    pub(crate) fn shut(&self) {
        self.set(Door::Shut);
    }

    /// So many steps panic, then the gate is open.
    pub(crate) fn panics(&self, steps: u32) {
        self.set(Door::Panics(steps));
    }

    fn set(&self, door: Door) {
        let (lock, changed) = &*self.0;
        *lock.lock().unwrap() = door;
        changed.notify_all();
    }

    fn pass(&self) {
        let (lock, changed) = &*self.0;
        let shut = |door: &mut Door| matches!(door, Door::Shut);
        let mut door = changed.wait_while(lock.lock().unwrap(), shut).unwrap();
        if let Door::Panics(steps) = &mut *door {
            *steps -= 1;
            if *steps == 0 {
                *door = Door::Open;
            }
            drop(door);
            panic!("the model does not survive this step");
        }
    }
}

/// Waits until `look` finds something. It looks a hundred times a second at most: the cores belong to the model.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let looked = tokio::time::timeout(PATIENCE, async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    looked.await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// Reads the next message of a core subscription.
pub(crate) async fn heard(stream: &mut CoreStream) -> Value {
    let message = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
    serde_json::from_slice(&message.payload).unwrap()
}

/// A model of the test set.
fn model(name: &str) -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.models");
    let models = std::env::var_os("TIDEGATE_MODELS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = models.join(name);
    assert!(path.exists(), "`{}` is missing: run ./tests/run, or set TIDEGATE_MODELS", path.display());
    path
}

/// Both default models behind a gate, with room for so many waiting jobs.
pub(crate) async fn engine(gate: &Gate, queue: usize) -> (Engine, EngineThread) {
    // A panic that is wanted needs no trace.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some("engine") {
            usual(info);
        }
    }));
    let gate = gate.clone();
    let config = EngineConfig {
        chat: Some(model("SmolLM2-135M-Instruct/model.gguf")),
        embed: Some(model("all-MiniLM-L6-v2")),
        queue,
        on_step: Some(StepHook::new(move || gate.pass())),
        ..EngineConfig::default()
    };
    tokio::task::spawn_blocking(|| Engine::start(config).unwrap()).await.unwrap()
}
