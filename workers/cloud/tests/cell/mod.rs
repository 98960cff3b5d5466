//! A cell on a real nats-server with its real accounts, one provider, and a server that captures what is sent to it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_bus::accounts::{Identities, render};
use tidegate_bus::server::{NatsServer, ServerOptions, find};
use tidegate_bus::{
    Bus, BusConfig, CancellationToken, CellShape, Health, Identity, Outbound, Role, Stored, provision,
    topology,
};
use tidegate_cloud::{CloudConfig, ProviderConfig, RunError};
use tidegate_schemas::control::{FLAGS_BUCKET, FLAGS_KEY};
use tidegate_schemas::directory::{Agent, Directory, Tenant};
use tidegate_schemas::subject::{EVENTS, RESULTS, STEPS, WORK_CLOUD};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) mod refusals;
pub(crate) mod work;

use work::{CloudWork, name, verifier};

/// How long a test waits for an event before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the capturing server does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Answers with this.
    Say(String),
    /// Publishes this into a stream first.
    AfterPublishing(Outbound, String),
    /// Never answers.
    Hang,
}

/// What arrived at the provider.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    /// The request's body.
    pub(crate) body: Vec<u8>,
    /// The last attempt in EVENTS at the moment of the first byte.
    pub(crate) evidence: Option<Value>,
}

pub(crate) struct Cell {
    pub(crate) server: NatsServer,
    pub(crate) router: Bus,
    pub(crate) capture: SocketAddr,
    captured: Arc<Mutex<Vec<Captured>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    identities: Identities,
    _directory: TempDir,
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: JoinHandle<Result<(), RunError>>,
    pub(crate) health: Health,
}

fn directory() -> Directory {
    let mut acme = Tenant { owner: "ops@example.com".to_owned(), ..Tenant::default() };
    acme.agents.insert(name("helpdesk"), Agent::default());
    acme.quota.stream_bytes_max = 64 * 1024 * 1024;
    let mut directory = Directory::empty();
    directory.tenants.insert(name("acme"), acme);
    directory
}

impl Cell {
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        Self::start_with(answers, 64 * 1024 * 1024).await
    }

    pub(crate) async fn start_with(answers: Vec<Answer>, stream_bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory();
        let shape =
            CellShape { pools: vec![name("default")], providers: vec![name("double")], stream_bytes_max };
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
        provision(&connect(Role::Provisioner).await, &topology(&shape, &directory)).await.unwrap();
        let router = connect(Role::Router).await;
        // As a provisioned cell has them.
        router.kv_put(FLAGS_BUCKET, FLAGS_KEY, r#"{"event":0,"switches":[]}"#).await.unwrap();
        let captured = Arc::<Mutex<Vec<Captured>>>::default();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let capture = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router.clone(), captured.clone(), answers.clone()));
        Self { server, router, capture, captured, answers, identities, _directory: folder }
    }

    pub(crate) async fn bus(&self, identity: Identity) -> Bus {
        let seed = self.identities.seed_file(&identity);
        Bus::connect(BusConfig::new(self.server.url(), identity, Some(seed))).await.unwrap()
    }

    pub(crate) fn config(&self) -> CloudConfig {
        let provider: ProviderConfig = serde_json::from_value(json!({
            "name": "double",
            "protocol": "openai_chat",
            "endpoints": {
                "main": { "url": format!("http://{}/v1", self.capture), "region": "eu", "models": ["m-1"] }
            },
            "reach": "loopback",
            "price_as": "openai"
        }))
        .unwrap();
        CloudConfig::new(verifier(), vec![provider])
    }

    /// Starts a worker and waits until it pulls.
    pub(crate) async fn worker(&self) -> Running {
        self.worker_with(self.config()).await
    }

    pub(crate) async fn worker_with(&self, config: CloudConfig) -> Running {
        // As the binary does in `main`; a second worker of the same test finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (shutdown, health) = (CancellationToken::new(), Health::new(Role::Cloud));
        let bus = self.bus(Identity::Role(Role::Cloud)).await;
        let ended = tokio::spawn(tidegate_cloud::run(bus, config, shutdown.clone(), health.clone()));
        until("the worker is ready", async || {
            self.tick().await;
            health.report().ready
        })
        .await;
        Running { shutdown, ended, health }
    }

    /// Asks the server something, so that whoever waits in a loop does not spin.
    pub(crate) async fn tick(&self) {
        self.router.stream_info(WORK_CLOUD).await.unwrap();
    }

    /// Publishes work as the router does, or as somebody who has got hold of the router's place would.
    pub(crate) async fn send(&self, work: &CloudWork) {
        let outbound = Outbound::new(work.subject.clone(), work.bytes.clone())
            .with_id(format!("{}/{}", work.hop.id, work.hop.hop))
            .with_headers(work.headers());
        self.router.publish(outbound).await.unwrap();
    }

    /// Waits until everything sent so far was handled and acknowledged.
    pub(crate) async fn drained(&self) {
        until("the work is acknowledged", async || {
            let sent = self.router.stream_info(WORK_CLOUD).await.unwrap().last;
            sent > 0 && self.router.consumer_info(WORK_CLOUD, "double").await.unwrap().ack_floor == sent
        })
        .await;
    }

    pub(crate) fn captured(&self) -> Vec<Captured> {
        self.captured.lock().unwrap().clone()
    }

    pub(crate) fn answer_next(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    /// All messages of a stream, oldest first.
    pub(crate) async fn all(&self, stream: &str) -> Vec<Stored> {
        let mut messages = Vec::new();
        for sequence in 1..=self.router.stream_info(stream).await.unwrap().last {
            messages.extend(self.router.get(stream, sequence).await.unwrap());
        }
        messages
    }

    /// The phases of the attempts on record, oldest first, with their numbers.
    pub(crate) async fn attempts(&self) -> Vec<(u64, String)> {
        let events = self.all(EVENTS).await;
        let attempts = events.iter().filter(|event| event.subject.starts_with("attempt."));
        attempts
            .map(|event| {
                let value = json_of(event);
                (value["attempt"].as_u64().unwrap(), value["phase"]["phase"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    pub(crate) async fn result(&self, work: &CloudWork) -> Option<Value> {
        let subject = format!("result.acme.helpdesk.{}", work.hop.id);
        self.router.last_for_subject(RESULTS, &subject).await.unwrap().map(|stored| json_of(&stored))
    }

    pub(crate) async fn steps(&self) -> Vec<Value> {
        self.all(STEPS).await.iter().map(json_of).collect()
    }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap();
    }
}

pub(crate) fn json_of(stored: &Stored) -> Value {
    serde_json::from_slice(&stored.payload).unwrap()
}

/// Waits until `check` holds; each look holds a request, so nothing spins.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(PATIENCE, async { while !check().await {} }).await;
    assert!(looked.is_ok(), "never happened: {what}");
}

/// Reads the next message of a core subscription.
pub(crate) async fn heard(stream: &mut tidegate_bus::CoreStream) -> Value {
    let message = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
    serde_json::from_slice(&message.payload).unwrap()
}

pub(crate) fn http(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}")
}

pub(crate) fn good() -> String {
    http(
        200,
        "",
        r#"{"model":"gpt-4o-mini","choices":[{"index":0,"message":{"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000000,"completion_tokens":0}}"#,
    )
}

pub(crate) fn streamed() -> String {
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
     data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hel\"}}]}\n\n\
     data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n\
     data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
     data: [DONE]\n\n"
        .to_owned()
}

async fn serve(
    listener: TcpListener,
    router: Bus,
    captured: Arc<Mutex<Vec<Captured>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, router.clone(), captured.clone(), answers.clone()));
    }
}

async fn answer(
    mut stream: TcpStream,
    router: Bus,
    captured: Arc<Mutex<Vec<Captured>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
) {
    let mut request = vec![0; 1];
    if stream.read_exact(&mut request).await.is_err() {
        return;
    }
    // The first byte is here: what does the record hold at this moment?
    let last = router.last_for_subject(EVENTS, "attempt.cloud.acme").await.unwrap();
    let evidence = last.map(|stored| json_of(&stored));
    let mut chunk = [0; 4096];
    let body = loop {
        if let Some(body) = body_of(&request) {
            break body;
        }
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    };
    captured.lock().unwrap().push(Captured { body, evidence });
    let next = answers.lock().unwrap().pop_front();
    let text = match next {
        Some(Answer::Say(text)) => text,
        Some(Answer::AfterPublishing(outbound, text)) => {
            router.publish(outbound).await.unwrap();
            text
        }
        Some(Answer::Hang) => std::future::pending().await,
        None => return,
    };
    // A worker that has gone away is what some tests are about.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The body of a request that is whole.
fn body_of(request: &[u8]) -> Option<Vec<u8>> {
    let head = request.windows(4).position(|part| part == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
    let length: usize =
        text.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse().ok()?;
    let body = &request[head + 4..];
    (body.len() >= length).then(|| body.to_vec())
}
