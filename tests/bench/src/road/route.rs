//! The full road: the real router with the default bundle's judge, and the real recorder beside it where it is on.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use tidegate_audit::{MasterKey, Reader, Signer};
use tidegate_bus::{CancellationToken, Health, Role};
use tidegate_recorder::RecorderConfig;
use tidegate_router::{RouterConfig, RouterError};
use tidegate_schemas::subject::WORK_CLOUD;
use tokio::task::JoinHandle as Task;

use super::Drain;
use super::cell::{Cell, tasks_stream};
use crate::task;

/// Messages that a router works on at once a stream, as in `tidegate router`.
const IN_FLIGHT_MAX: usize = 1_024;
/// How often the drain is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest wait for one message more.
const PATIENCE: Duration = Duration::from_secs(30);

/// A router that runs.
pub(super) struct Routing {
    shutdown: CancellationToken,
    task: Task<Result<(), RouterError>>,
}

/// A recorder that runs, on threads of its own as in its own process.
struct Recording {
    shutdown: CancellationToken,
    directory: PathBuf,
    thread: JoinHandle<Result<()>>,
}

/// Routes all tasks; with the recorder on until task and work of each are recorded.
pub(super) async fn drain(cell: &Cell, recorded: bool) -> Result<Drain> {
    cell.rewind().await?;
    let count = cell.messages(&tasks_stream()).await?;
    let recording = if recorded { Some(Recording::start(cell).await?) } else { None };
    let routing = Routing::start(cell).await?;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let first = progress(cell, None, &mut look, 1).await?;
    let (meter, begun) = (cell.meter(), Instant::now());
    progress(cell, None, &mut look, count).await?;
    if let Some(recording) = &recording {
        progress(cell, Some(recording), &mut look, 2 * count).await?;
    }
    let (seconds, us) = (begun.elapsed().as_secs_f64(), meter.us());
    routing.stop().await?;
    if let Some(recording) = recording {
        recording.stop()?;
    }
    Ok(Drain::of(count - first, seconds, us))
}

/// Records all tasks, which wait since before there was a recorder.
pub(super) async fn catch_up(cell: &Cell) -> Result<Drain> {
    let count = cell.messages(&tasks_stream()).await?;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let recording = Recording::start(cell).await?;
    let first = progress(cell, Some(&recording), &mut look, 1).await?;
    let (meter, begun) = (cell.meter(), Instant::now());
    progress(cell, Some(&recording), &mut look, count).await?;
    let (seconds, us) = (begun.elapsed().as_secs_f64(), meter.us());
    recording.stop()?;
    Ok(Drain::of(count.saturating_sub(first), seconds, us))
}

/// Waits until so much is routed, or recorded; says how much it is then.
async fn progress(
    cell: &Cell,
    recording: Option<&Recording>,
    look: &mut tokio::time::Interval,
    goal: u64,
) -> Result<u64> {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        look.tick().await;
        let now = match recording {
            Some(recording) => recording.records(),
            None => cell.messages(WORK_CLOUD).await?,
        };
        if now >= goal {
            return Ok(now);
        }
        if now > last {
            (last, moved) = (now, Instant::now());
        }
        if moved.elapsed() > PATIENCE {
            bail!("the road stands still at {now} of {goal}");
        }
    }
}

// === impl Routing ===

impl Routing {
    pub(super) async fn start(cell: &Cell) -> Result<Self> {
        let file = cell.path().join("ticket.key");
        std::fs::write(&file, format!("bench {}", hex::encode(task::key().to_bytes())))
            .context("writing the ticket key")?;
        let config = RouterConfig {
            cell: "bench".to_owned(),
            ticket_key_file: file,
            in_flight_max: IN_FLIGHT_MAX,
            // The full road is measured with the recorder and without.
            egress_needs_record: false,
        };
        let (bus, shutdown) = (cell.bus(Role::Router).await?, CancellationToken::new());
        let health = Health::new(Role::Router);
        let task = tokio::spawn(tidegate_router::run(bus, config, shutdown.clone(), health));
        Ok(Self { shutdown, task })
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        self.task.await?.context("running the router")
    }
}

// === impl Recording ===

impl Recording {
    async fn start(cell: &Cell) -> Result<Self> {
        let directory = cell.path().join("record");
        let key = cell.path().join("master.key");
        MasterKey::create(&key)?;
        let signer = cell.path().join("checkpoint.key");
        Signer::create(&signer, "tidegate/bench")?;
        let config = RecorderConfig {
            directory: directory.clone(),
            master_key_file: key,
            checkpoint_key_file: signer,
            discovery_ms: 100,
            ..RecorderConfig::default()
        };
        let (bus, shutdown) = (cell.bus(Role::Recorder).await?, CancellationToken::new());
        let stop = shutdown.clone();
        let work = async move {
            let health = Health::new(Role::Recorder);
            let discovery = bus.discovery(&health, env!("CARGO_PKG_VERSION")).await?;
            tidegate_recorder::run(bus, &discovery, config, stop, health)
                .await
                .context("running the recorder")
        };
        let runtime = tokio::runtime::Runtime::new().context("starting the recorder's runtime")?;
        let thread = std::thread::spawn(move || runtime.block_on(work));
        Ok(Self { shutdown, directory, thread })
    }

    /// Records that are durable; none while there is no record yet.
    fn records(&self) -> u64 {
        let status = Reader::open(&self.directory, None).ok().and_then(|reader| reader.status().ok());
        status.map_or(0, |status| status.records)
    }

    fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        self.thread.join().map_err(|_| anyhow!("the recorder panicked"))?
    }
}
