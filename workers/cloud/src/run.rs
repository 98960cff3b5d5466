//! Running: checks, queues, watchers, drain.

use std::sync::Arc;
use std::time::Duration;

use tidegate_bus::{ApiError, Bus, CheckError, Health, KvError, ServeError, serve, topology};
use tidegate_providers::{Client, ConfigError};
use tidegate_schemas::control::FLAGS_BUCKET;
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::{NOTICE_CANCEL_ALL, RESULTS};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::config::{CloudConfig, consumer};
use crate::desk::Desk;
use crate::gate::{self, Gate};
use crate::keys;
use crate::watch;
use crate::worker::Worker;

/// Why the worker ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It would pull nothing.
    #[error("no provider is named; name at least one")]
    NoProvider,
    /// A provider's configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bus is not as it must be.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Withdrawals or switches cannot be listened to.
    #[error("cannot listen to notices: {0}")]
    Listen(#[from] ApiError),
    /// The switches cannot be read.
    #[error("cannot read the switches: {0}")]
    Flags(#[from] KvError),
    /// A queue's loop ended.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A queue's task died.
    #[error("a queue's loop ended by a panic; see the log, and start the worker again")]
    Panicked,
}

/// Pulls and performs the work of the configured providers until `shutdown`, then drains: calls under way may end within
/// [`CloudConfig::drain_ms`], the rest is given back. Needs rustls' process-wide crypto provider.
///
/// # Errors
/// [`RunError`], with what to do; what was held is given back first.
pub async fn run(
    bus: Bus,
    config: CloudConfig,
    shutdown: CancellationToken,
    health: Health,
) -> Result<(), RunError> {
    if config.providers.is_empty() {
        return Err(RunError::NoProvider);
    }
    let client = Client::new(config.providers.clone())?;
    let names: Vec<Name> = client.providers().cloned().collect();
    let consumers: Vec<_> = names.iter().map(consumer).collect();
    bus.check(&consumers).await?;
    // One result a task is the stream's promise, and the only one of a stream's that a worker relies on.
    bus.check_streams(topology::recorded_stream(RESULTS).as_slice()).await?;
    let desk = Arc::new(Desk::default());
    let stop = shutdown.child_token();
    let watchers = CancellationToken::new();
    // However this ends, the watchers end with it.
    let _guard = watchers.clone().drop_guard();
    // Listen before the first read, so that no change falls between.
    let cancels = bus.subscribe_core(NOTICE_CANCEL_ALL).await?;
    let flags = bus.kv_notices(FLAGS_BUCKET).await?;
    watch::load_flags(&bus, &desk).await?;
    let mut watching = JoinSet::new();
    watching.spawn(watch::cancels(desk.clone(), cancels, watchers.clone()));
    watching.spawn(watch::flags(bus.clone(), desk.clone(), flags, watchers.clone()));

    if let Some(file) = config.ticket_keys_file.clone() {
        watching.spawn(keys::watch(file, config.verifier.clone(), watchers.clone()));
    }
    let gate = Arc::new(Gate::new(bus.clone()));
    gate.look().await;
    watching.spawn(gate::watch(gate.clone(), watchers.clone()));
    let verifier = Arc::new(config.verifier.clone());
    let patience = Duration::from_millis(config.patience_ms);
    let worker = Worker { bus, client: Arc::new(client), verifier, desk, gate, health, patience };
    let mut queues = JoinSet::new();
    for name in &names {
        let span = info_span!("provider", provider = %name);
        info!(provider = %name, in_flight = config.in_flight, "Pulling cloud work.");
        let options = config.options(name);
        let loop_ = serve(worker.bus.clone(), options, worker.clone(), stop.clone(), worker.health.clone());
        queues.spawn(loop_.instrument(span));
    }
    supervise(queues, &stop).await
}

/// Waits for the queues; when one ends badly the others drain.
async fn supervise(
    mut queues: JoinSet<Result<(), ServeError>>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let mut ended = Ok(());
    while let Some(joined) = queues.join_next().await {
        let outcome = match joined {
            Ok(outcome) => outcome.map_err(RunError::from),
            Err(_) => Err(RunError::Panicked),
        };
        if let Err(error) = outcome {
            stop.cancel();
            if ended.is_ok() {
                ended = Err(error);
            }
        }
    }
    ended
}
