//! The router's process: knowledge kept fresh, one pull loop a stream, until shutdown.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tidegate_bus::topology::{self, ROUTER};
use tidegate_bus::{
    ApiError, Bus, CancellationToken, CheckError, ConsumerSpec, Health, PullOptions, ServeError, serve,
};
use tidegate_schemas::control::{DIRECTORY_BUCKET, FLAGS_BUCKET, RELEASE_BUCKET};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::{EVENTS, RESULTS, STEPS, WORK_CLOUD, WORK_LOCAL};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::egress::Egress;
use crate::keys::{self, Secret};
use crate::knowledge::{self, Knowledge, KnowledgeError};
use crate::quota::Asking;
use crate::shell::{ControlShell, Shell};
use crate::signing::Signing;
use crate::{gates, room, wait};

/// How often it is looked whether another version is active that no notice told of.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest such look.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// How a router runs.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// The cell's name: audience of its tickets.
    pub cell: String,
    /// File with the ticket key: its id and 32 bytes as 64 hexadecimal digits, readable by its owner only. Where another key is
    /// put in its place, the router signs with that within a second.
    pub ticket_key_file: PathBuf,
    /// Messages worked on at once a stream, count.
    pub in_flight_max: usize,
    /// Whether cloud work needs a record that answers and a clock that agrees with its own. Only where a router is measured
    /// or tried without a recorder it is false: then nobody keeps what leaves.
    pub egress_needs_record: bool,
}

/// Why a router cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The ticket key cannot be read.
    #[error("the ticket key in `{file}` cannot be used: {why}; create the cell anew or restore the key")]
    Key {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Something that it must know is missing.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// The bus is not what it must be.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Notices cannot be heard.
    #[error("listening for notices: {0}")]
    Notices(#[from] ApiError),
    /// A pull loop ended.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Runs a router until `shutdown` is cancelled, then drains.
///
/// # Errors
/// [`RouterError`] with what is missing and what to do.
pub async fn run(
    bus: Bus,
    config: RouterConfig,
    shutdown: CancellationToken,
    health: Health,
) -> Result<(), RouterError> {
    let key = Secret::read(&config.ticket_key_file)?;
    let signing = Arc::new(Signing::new(key.signer(&config.ticket_key_file)?));
    let fixed =
        [ConsumerSpec::new(STEPS, ROUTER, &["step.>"]), ConsumerSpec::new(EVENTS, ROUTER, &["verdict.>"])];
    bus.check(&fixed).await?;
    let relied = [STEPS, WORK_LOCAL, WORK_CLOUD, RESULTS, EVENTS].map(topology::recorded_stream);
    bus.check_streams(&relied.into_iter().flatten().collect::<Vec<_>>()).await?;
    let mut notices = [
        bus.kv_notices(DIRECTORY_BUCKET).await?,
        bus.kv_notices(RELEASE_BUCKET).await?,
        bus.kv_notices(FLAGS_BUCKET).await?,
    ];
    let mut loaded = Knowledge::load(&bus).await?;
    if !config.egress_needs_record {
        loaded.egress = Egress::Unwatched;
    }
    let (known, watching) = watch::channel(loaded);
    // Before the first task, so that a router that was started again need not keep it from the cloud.
    let mut asking = Asking::new(bus.clone(), known.clone(), health.clone());
    asking.once().await;
    let shell = Shell {
        bus: bus.clone(),
        cell: config.cell.clone(),
        signing: signing.clone(),
        known: watching,
        admitted: Arc::default(),
        recent: Arc::default(),
    };
    let mut loops = JoinSet::new();
    let options = |consumer: ConsumerSpec| {
        PullOptions::new(consumer).with_in_flight(config.in_flight_max, config.in_flight_max)
    };
    for consumer in fixed {
        loops.spawn(serve(bus.clone(), options(consumer), shell.clone(), shutdown.clone(), health.clone()));
    }
    let control = PullOptions::new(topology::control_consumer()).with_in_flight(1, 0);
    let acts = ControlShell { shell: shell.clone() };
    loops.spawn(serve(bus.clone(), control, acts, shutdown.clone(), health.clone()));
    let mut background = JoinSet::new();
    background.spawn(wait::watch(bus.clone(), known.clone(), shutdown.clone()));
    background.spawn(gates::watch(bus.clone(), known.clone(), shutdown.clone()));
    background.spawn(asking.run(shutdown.clone()));
    background.spawn(keys::watch(config.ticket_key_file.clone(), key, signing, shutdown.clone()));
    background.spawn(room::watch(bus.clone(), known.clone(), health.clone(), shutdown.clone()));
    background.spawn(room::watch_state(bus.clone(), health.clone(), shutdown.clone()));
    let mut served = BTreeSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        for tenant in new_tenants(&known, &mut served) {
            let consumer = topology::tasks_consumer(&tenant);
            loops.spawn(serve(
                bus.clone(),
                options(consumer),
                shell.clone(),
                shutdown.clone(),
                health.clone(),
            ));
        }
        let [directory, release, flags] = &mut notices;
        let all = [DIRECTORY_BUCKET, RELEASE_BUCKET, FLAGS_BUCKET].as_slice();
        let moved = tokio::select! {
            ended = loops.join_next() => match ended {
                Some(Ok(Ok(()))) if !shutdown.is_cancelled() => continue,
                Some(Ok(Err(error))) => {
                    shutdown.cancel();
                    drain(loops, background).await;
                    return Err(error.into());
                }
                Some(Ok(Ok(()))) | Some(Err(_)) | None => {
                    shutdown.cancel();
                    drain(loops, background).await;
                    return Ok(());
                }
            },
            Some(_) = directory.next() => &all[..1],
            Some(_) = release.next() => &all[1..2],
            Some(_) = flags.next() => &all[2..],
            // A notice is lost with a connection, and with the router that was to send it.
            _ = look.tick() => all,
        };
        for bucket in moved {
            // A server that is away must not keep the drain waiting.
            let _ = tokio::time::timeout(LOOK_MAX, knowledge::refresh(&bus, &known, bucket)).await;
        }
    }
}

async fn drain(mut loops: JoinSet<Result<(), ServeError>>, mut background: JoinSet<()>) {
    while loops.join_next().await.is_some() {}
    while background.join_next().await.is_some() {}
}

fn new_tenants(known: &watch::Sender<Knowledge>, served: &mut BTreeSet<Name>) -> Vec<Name> {
    let directory = known.borrow().directory.clone();
    directory.tenants.keys().filter(|tenant| served.insert((*tenant).clone())).cloned().collect()
}
