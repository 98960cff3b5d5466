//! What crossing an account costs: the same pulls, acknowledgements and publishes inside `APP` and from a zone, on one server.
//!
//! ```text
//! cargo run --release -p tidegate-bus --example accounts -- [messages] [sync interval]
//! ```
//! Prints a table with the ratio of across to inside.
#![expect(clippy::print_stdout, reason = "a measurement prints its table")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tidegate_bus::accounts::{Identities, render};
use tidegate_bus::server::{NatsServer, ServerOptions, find};
use tidegate_bus::{
    Bus, BusConfig, CancellationToken, CellShape, ConsumerSpec, Handler, Health, Inbound, Outbound,
    PullOptions, Role, Topology, Verdict, provision, serve, topology,
};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Payload of each message, bytes.
const PAYLOAD_BYTES: usize = 512;
/// Publishes that wait at once, count.
const WINDOW: usize = 2_048;
/// Requests of the last row, count.
const REQUESTS: usize = 5_000;

struct Cell {
    _dir: Dir,
    server: NatsServer,
    identities: Identities,
}

struct Dir(std::path::PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let messages: usize = args.next().map_or(Ok(50_000), |arg| arg.parse())?;
    let sync = args.next().unwrap_or_else(|| "always".to_owned());
    let cell = Cell::start(&sync).await?;
    println!(
        "{messages} messages of {PAYLOAD_BYTES} B, sync_interval {sync}: messages a second, and CPU of client and server\n"
    );
    println!(
        "{:<24}{:>9}{:>9}{:>7}{:>14}{:>14}{:>7}",
        "", "inside", "across", "ratio", "inside us", "across us", "ratio"
    );
    for step in [Step::Publish, Step::Pull, Step::Road, Step::Request] {
        let (inside, across) = (
            cell.measure(step, Role::Router, messages).await?,
            cell.measure(step, Role::Local, messages).await?,
        );
        println!(
            "{:<24}{:>9.0}{:>9.0}{:>7.2}{:>14}{:>14}{:>7.2}",
            step.name(),
            inside.rate,
            across.rate,
            across.rate / inside.rate,
            format!("{:.1} + {:.1}", inside.client_us, inside.server_us),
            format!("{:.1} + {:.1}", across.client_us, across.server_us),
            (inside.client_us + inside.server_us) / (across.client_us + across.server_us)
        );
    }
    cell.server.stop().await;
    Ok(())
}

/// What is measured.
#[derive(Clone, Copy)]
enum Step {
    Publish,
    Pull,
    Road,
    Request,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Pull => "pull and ack",
            Self::Road => "pull, publish, ack",
            Self::Request => "request, one in flight",
        }
    }
}

/// Messages a second, and CPU time of each process for a message, microseconds.
struct Cost {
    rate: f64,
    client_us: f64,
    server_us: f64,
}

/// CPU time of a process so far, microseconds (`/proc/<pid>/stat`, hundredths of a second).
fn cpu_us(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// Republishes what it gets, or only lets it go.
struct Forward {
    to: Option<(Bus, &'static str)>,
    left: Arc<AtomicUsize>,
    done: CancellationToken,
}

impl Handler for Forward {
    async fn handle(&self, message: &Inbound) -> Verdict {
        if let Some((bus, subject)) = &self.to {
            let copy = Outbound::new(*subject, message.payload.clone())
                .with_id(format!("{subject} {}", message.sequence));
            if bus.publish(copy).await.is_err() {
                return Verdict::Retry { after: std::time::Duration::from_millis(100) };
            }
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.cancel();
        }
        Verdict::Done
    }
}

impl Cell {
    async fn start(sync: &str) -> Result<Self> {
        let dir = Dir(std::env::temp_dir().join(format!("tidegate-accounts-{}", std::process::id())));
        let directory = Directory::empty();
        let shape = shape()?;
        let mut identities = Identities::open(dir.0.join("keys"))?;
        identities.ensure_all(&directory)?;
        let mut options = ServerOptions::new(find()?, dir.0.join("nats"));
        options.sync_interval = sync.to_owned();
        let server = NatsServer::start(options, &render(&shape, &directory, &identities)?).await?;
        let cell = Self { _dir: dir, server, identities };
        let mut topology: Topology = topology(&shape, &directory);
        // The router's own durable on local work exists for this measurement only.
        topology.consumers.push(ConsumerSpec::new("WORK_LOCAL", "router", &["work.local.>"]));
        provision(&cell.bus(Role::Provisioner).await?, &topology).await?;
        Ok(cell)
    }

    async fn bus(&self, role: Role) -> Result<Bus> {
        let seed = self.identities.seed_file(&role.into());
        Ok(Bus::connect(BusConfig::new(self.server.url(), role.into(), Some(seed))).await?)
    }

    async fn measure(&self, step: Step, role: Role, messages: usize) -> Result<Cost> {
        if let Step::Road = step {
            let bus = self.bus(Role::Router).await?;
            fill(&bus, "work.local.default.batch.t", &format!("road {role}"), messages).await?;
        }
        let pids = (std::process::id(), self.server.pid().unwrap_or_default());
        let before = (cpu_us(pids.0), cpu_us(pids.1));
        let (count, rate) = match step {
            Step::Publish => (messages, self.publish(role, messages).await?),
            Step::Pull => (messages, self.consume(role, messages, None).await?),
            Step::Road => (messages, self.road(role, messages).await?),
            Step::Request => (REQUESTS, self.request(role).await?),
        };
        let spent = |pid: u32, before: f64| (cpu_us(pid) - before) / count as f64;
        Ok(Cost { rate, client_us: spent(pids.0, before.0), server_us: spent(pids.1, before.1) })
    }

    /// Publishes in a window: results from the zone, work from the inside.
    async fn publish(&self, role: Role, messages: usize) -> Result<f64> {
        let bus = self.bus(role).await?;
        let subject = if role == Role::Router { "work.local.default.batch.t" } else { "step.local.t" };
        fill(&bus, subject, role.as_str(), messages).await
    }

    async fn road(&self, role: Role, messages: usize) -> Result<f64> {
        fill(&self.bus(Role::Router).await?, "work.local.default.batch.t", &format!("road {role}"), messages)
            .await?;
        let bus = self.bus(role).await?;
        let subject = if role == Role::Router { "review.q.t" } else { "attempt.local.t" };
        self.consume(role, messages, Some((bus, subject))).await
    }

    /// Takes `messages` from the role's durable on local work.
    async fn consume(&self, role: Role, messages: usize, to: Option<(Bus, &'static str)>) -> Result<f64> {
        let durable = if role == Role::Router { "router" } else { "default" };
        let done = CancellationToken::new();
        let handler = Forward { to, left: Arc::new(AtomicUsize::new(messages)), done: done.clone() };
        let options =
            PullOptions::new(ConsumerSpec::new("WORK_LOCAL", durable, &[])).with_in_flight(2_000, 2_000);
        let bus = self.bus(role).await?;
        let began = Instant::now();
        let running = tokio::spawn(serve(bus, options, handler, done.clone(), Health::new(role)));
        done.cancelled().await;
        let rate = messages as f64 / began.elapsed().as_secs_f64();
        running.await??;
        Ok(rate)
    }

    async fn request(&self, role: Role) -> Result<f64> {
        let bus = self.bus(role).await?;
        let began = Instant::now();
        for _ in 0..REQUESTS {
            bus.kv_get("flags", "none").await?;
        }
        Ok(REQUESTS as f64 / began.elapsed().as_secs_f64())
    }
}

async fn fill(bus: &Bus, subject: &str, id: &str, messages: usize) -> Result<f64> {
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let began = Instant::now();
    let mut under_way = FuturesUnordered::new();
    for index in 0..messages {
        if under_way.len() >= WINDOW
            && let Some(published) = under_way.next().await
        {
            let _: tidegate_bus::Published = published?;
        }
        under_way.push(bus.publish(Outbound::new(subject, payload.clone()).with_id(format!("{id} {index}"))));
    }
    while let Some(published) = under_way.next().await {
        published?;
    }
    Ok(messages as f64 / began.elapsed().as_secs_f64())
}

fn shape() -> Result<CellShape> {
    Ok(CellShape {
        pools: vec![Name::new("default")?],
        providers: vec![Name::new("openai")?],
        stream_bytes_max: 8 << 30,
    })
}
