//! The recorder's process: the record open, one feed a stream, deadlines, trimming and queries, until shutdown.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_bus::{Bus, CancellationToken, Discovery, Health};
use tidegate_schemas::metric;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::conduct::{Conductor, Feed};
use crate::config::RecorderConfig;
use crate::error::RecorderError;
use crate::feed::{Feeder, is_recorded};
use crate::shared::Shared;
use crate::writer::Writer;
use crate::{deadline, erase, guard, look, replay, retain, review, rotate, service, signing, trim};

/// Messages between feeds and conductor; what lies there is counted in the feeds' own limits.
const FEEDS_MAX: usize = 1_024;
/// Longest wait for feeds to acknowledge on shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Runs a recorder until `shutdown` is cancelled; then what is committed is acknowledged, and nothing else. While another
/// recorder holds the record this one stands by, not ready.
///
/// # Errors
/// [`RecorderError`] with what is wrong and what to do. A full disk or a failing one is no error: it is not ready then,
/// acknowledges nothing, and goes on by itself.
pub async fn run(
    bus: Bus,
    discovery: &Discovery,
    config: RecorderConfig,
    shutdown: CancellationToken,
    health: Health,
) -> Result<(), RecorderError> {
    let shared = Shared::default();
    let published = signing::published(&bus).await?;
    let writer = tokio::select! {
        started = Writer::start(&config, published, &shared, &health) => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let mut background = service::serve(discovery, &shared, &shutdown).await?;
    review::serve(discovery, &bus, &shared, &shutdown, &mut background).await?;
    look::serve(discovery, &bus, &shutdown, &mut background).await?;
    replay::serve(discovery, &bus, &shared, writer.keeper(), &shutdown, &mut background).await?;
    retain::serve(discovery, &bus, &config, &shared, writer.keeper(), &shutdown, &mut background).await?;
    erase::serve(discovery, &bus, &shared, writer.keeper(), &shutdown, &mut background).await?;
    let room = AbortOnDropHandle::new(tokio::spawn(tidegate_bus::tell_room(bus.clone(), health.clone())));
    background.spawn(rotate::watch(config.clone(), shared.clone(), writer.keeper(), shutdown.clone()));
    background.spawn(deadline::watch(bus.clone(), config.clone(), shared.clone(), shutdown.clone()));
    background.spawn(guard::watch(bus.clone(), shared.clone(), shutdown.clone()));
    background.spawn(trim::watch(bus.clone(), config.clone(), shared.clone(), shutdown.clone()));

    let (to, from) = mpsc::channel(FEEDS_MAX);
    let drained = CancellationToken::new();
    let conductor = Conductor::new(bus.clone(), &config, shared.clone(), writer);
    // Dropped with this future, so that nothing holds the record after it.
    let mut conducting = AbortOnDropHandle::new(tokio::spawn(conductor.run(from, shutdown.clone())));
    let mut feeds = Feeds {
        bus: bus.clone(),
        shared,
        health,
        to,
        shutdown: shutdown.clone(),
        drained,
        known: BTreeSet::new(),
        tasks: JoinSet::new(),
    };
    let mut look = tokio::time::interval(Duration::from_millis(config.discovery_ms.max(1)));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let outcome = loop {
        tokio::select! {
            // The conductor ends by shutdown, or because the record's writer did.
            ended = &mut conducting => break ended.unwrap_or(Err(RecorderError::WriterEnded)),
            _ = look.tick() => feeds.look().await,
        }
    };
    shutdown.cancel();
    drop(room);
    feeds.drain().await;
    while background.join_next().await.is_some() {}
    outcome
}

/// The feeds that run.
struct Feeds {
    bus: Bus,
    shared: Shared,
    health: Health,
    to: mpsc::Sender<Feed>,
    shutdown: CancellationToken,
    drained: CancellationToken,
    known: BTreeSet<String>,
    tasks: JoinSet<()>,
}

// === impl Feeds ===

impl Feeds {
    /// Looks for new streams, and how far each one is.
    async fn look(&mut self) {
        let names = match self.bus.stream_names().await {
            Ok(names) => names,
            Err(error) => {
                warn!(%error, "Streams cannot be listed.");
                return;
            }
        };
        for stream in names.into_iter().filter(|name| is_recorded(name)) {
            if self.known.insert(stream.clone()) {
                self.spawn(stream);
            } else if let Ok(state) = self.bus.stream_info(&stream).await {
                self.shared.seen(&stream, state.last);
            }
        }
        let lag: u64 = self.shared.lag().values().sum();
        // A gauge is a float; a lag that no longer fits exactly is not read to the last digit.
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(metric::RECORD_LAG).set(lag as f64);
    }

    fn spawn(&mut self, stream: String) {
        let feeder = Feeder {
            bus: self.bus.clone(),
            stream,
            shared: self.shared.clone(),
            health: self.health.clone(),
            feeds: self.to.clone(),
            shutdown: self.shutdown.clone(),
            drained: self.drained.clone(),
        };
        self.tasks.spawn(feeder.run());
    }

    /// Lets the feeds acknowledge what is committed, and ends them.
    async fn drain(mut self) {
        self.drained.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, all).await.is_err() {
            warn!(
                "Some streams did not end in time; what was not acknowledged comes again, and is known then."
            );
        }
        if let Err(error) = self.bus.flush().await {
            warn!(%error, "The last acknowledgements may come again.");
        }
    }
}
