//! Running: checks, pools, watchers, drain.

use std::sync::Arc;
use std::time::Duration;

use tidegate_bus::{ApiError, Bus, CheckError, Health, KvError, ServeError, serve, topology};
use tidegate_engine::Engine;
use tidegate_schemas::control::FLAGS_BUCKET;
use tidegate_schemas::subject::{NOTICE_CANCEL_ALL, RESULTS};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::config::{LocalConfig, PoolConfig};
use crate::desk::Desk;
use crate::life::Models;
use crate::redaction::{Followers, Redactor, Restoring};
use crate::watch;
use crate::worker::Worker;

/// How often the engine's thread is looked at.
const ENGINE_EVERY: Duration = Duration::from_millis(500);

/// Why the worker ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It would pull nothing.
    #[error("no pool is named; name at least one")]
    NoPool,
    /// The bus is not as it must be.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Withdrawals or switches cannot be listened to.
    #[error("cannot listen to notices: {0}")]
    Listen(#[from] ApiError),
    /// The switches cannot be read.
    #[error("cannot read the switches: {0}")]
    Flags(#[from] KvError),
    /// A pool's loop ended.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The engine's thread has ended.
    #[error("the engine has stopped; see its log, and start the worker again")]
    EngineStopped,
    /// A pool's task died.
    #[error("a pool's loop ended by a panic; see the log, and start the worker again")]
    Panicked,
}

/// Pulls and runs the work of the configured pools until `shutdown`, then drains: what runs may end within
/// [`LocalConfig::drain_ms`], the rest is given back.
///
/// # Errors
/// [`RunError`], with what to do; what was held is given back first.
pub async fn run(
    bus: Bus,
    config: LocalConfig,
    engine: Engine,
    shutdown: CancellationToken,
    health: Health,
) -> Result<(), RunError> {
    if config.pools.is_empty() {
        return Err(RunError::NoPool);
    }
    let [redact, restore] = topology::own_pools().map(PoolConfig::own);
    let all = config.pools.iter().chain([&redact, &restore]);
    let consumers: Vec<_> = all.map(PoolConfig::consumer).collect();
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

    let worker =
        Worker { bus, engine: engine.clone(), desk, models: Arc::new(models(&engine, &config)), health };
    let mut pools = JoinSet::new();
    for pool in &config.pools {
        let span = info_span!("pool", pool = %pool.name);
        info!(pool = %pool.name, in_flight = pool.in_flight, "Pulling local work.");
        let pulling = serve(
            worker.bus.clone(),
            pool.options(config.drain_ms),
            worker.clone(),
            stop.clone(),
            worker.health.clone(),
        );
        pools.spawn(pulling.instrument(span));
    }
    let followers = Arc::new(Followers::default());
    let (bus, health, desk) = (worker.bus.clone(), worker.health.clone(), Arc::clone(&worker.desk));
    let redactor = Redactor {
        bus: bus.clone(),
        engine,
        models: Arc::clone(&worker.models),
        desk: Arc::clone(&desk),
        health: health.clone(),
        followers: Arc::clone(&followers),
    };
    let restorer = Restoring { bus: bus.clone(), desk, health: health.clone() };
    let (first, second) = (redact.options(config.drain_ms), restore.options(config.drain_ms));
    pools.spawn(serve(bus.clone(), first, redactor, stop.clone(), health.clone()));
    pools.spawn(serve(bus, second, restorer, stop.clone(), health));
    worker.health.ready("engine");
    let ended = supervise(pools, &worker, &stop).await;
    followers.stop().await;
    ended
}

/// Waits for the pools; when one ends badly, or the engine does, the others drain.
async fn supervise(
    mut pools: JoinSet<Result<(), ServeError>>,
    worker: &Worker,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let mut ended = Ok(());
    let mut keep_first = |error: RunError| {
        if ended.is_ok() {
            ended = Err(error);
        }
        stop.cancel();
    };
    loop {
        tokio::select! {
            joined = pools.join_next() => match joined {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => keep_first(error.into()),
                Some(Err(_)) => keep_first(RunError::Panicked),
            },
            () = tokio::time::sleep(ENGINE_EVERY), if !stop.is_cancelled() => {
                if !worker.engine.is_alive() {
                    worker.health.not_ready("engine", "the engine has stopped; the worker is about to end");
                    keep_first(RunError::EngineStopped);
                }
            }
        }
    }
    ended
}

fn models(engine: &Engine, config: &LocalConfig) -> Models {
    let has = |kind: &str| engine.models().iter().any(|model| model.kind == kind);
    let sha256 = |kind: &str| {
        let info = engine.models().iter().find(|info| info.kind == kind)?;
        info.sha256.parse().ok()
    };
    let chat = engine.models().iter().find(|info| info.kind == "chat");
    let adapter = chat.and_then(|info| info.adapter_sha256.as_deref()?.parse().ok());
    Models {
        chat: has("chat"),
        embed: has("embed"),
        scan: has("scan"),
        scan_sha256: sha256("scan"),
        chat_sha256: sha256("chat"),
        chat_adapter_sha256: adapter,
        embed_sha256: sha256("embed"),
        names: config.models.clone(),
    }
}
