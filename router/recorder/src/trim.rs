//! Trimming: purges what is recorded, acknowledged by every role, older than its window, and part of no open task.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tidegate_bus::{ApiError, Bus, CancellationToken};
use tidegate_schemas::subject::RESULTS;
use tracing::{info, warn};

use crate::config::RecorderConfig;
use crate::shared::Shared;

/// Consumers of readers begin so; they hold nothing back.
const READER_PREFIX: &str = "tool=";

/// Trims until shutdown.
pub(crate) async fn watch(bus: Bus, config: RecorderConfig, shared: Shared, shutdown: CancellationToken) {
    let mut round = tokio::time::interval(Duration::from_millis(config.trim_ms.max(1)));
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = round.tick() => {}
        }
        if let Err(error) = trim(&bus, &config, &shared).await {
            warn!(%error, "Streams could not be trimmed.");
        }
    }
}

async fn trim(bus: &Bus, config: &RecorderConfig, shared: &Shared) -> Result<(), ApiError> {
    let now = Timestamp::now();
    let mut gone = BTreeMap::new();
    let mut streams: Vec<String> = shared.recorded().into_keys().collect();
    // Results go last: each only after all other messages of its task.
    streams.sort_by_key(|stream| stream == RESULTS);
    for stream in streams {
        let state = match bus.stream_info(&stream).await {
            Ok(state) => state,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        gone.insert(stream.clone(), state.first);
        let window = if stream == RESULTS { config.result_window_ms } else { config.stream_window_ms };
        let older_than = before(now, window.max(config.duplicate_window_ms));
        let Some(floor) = floor(shared, &stream, older_than, gone.clone()).await else { continue };
        let floor = floor.min(acknowledged(bus, &stream, state.last).await?.saturating_add(1));
        if floor > state.first {
            let purged = bus.purge_before(&stream, floor).await?;
            gone.insert(stream.clone(), floor);
            info!(stream, before = floor, purged, "Trimmed what is recorded.");
        }
    }
    Ok(())
}

/// The first sequence that the record says must stay. `None` when it cannot be asked.
async fn floor(
    shared: &Shared,
    stream: &str,
    older_than: Timestamp,
    gone: BTreeMap<String, u64>,
) -> Option<u64> {
    let stream = stream.to_owned();
    let found = shared.read(move |reader| {
        let open = reader.open_floors()?;
        let floor = reader.trim_floor(&stream, older_than, &open)?;
        if stream == RESULTS { reader.results_floor(&stream, floor, &gone) } else { Ok(floor) }
    });
    match found.await? {
        Ok(floor) => Some(floor),
        Err(error) => {
            warn!(%error, "The record cannot say what may be trimmed.");
            None
        }
    }
}

/// The last sequence that every role has acknowledged; `last` when none has anything left.
async fn acknowledged(bus: &Bus, stream: &str, last: u64) -> Result<u64, ApiError> {
    let mut floor = last;
    for consumer in bus.consumer_names(stream).await? {
        if consumer.starts_with(READER_PREFIX) {
            continue;
        }
        let state = bus.consumer_info(stream, &consumer).await?;
        // A floor stands still while nothing matches; with nothing left it says nothing.
        if state.pending > 0 || state.ack_pending > 0 {
            floor = floor.min(state.ack_floor);
        }
    }
    Ok(floor)
}

fn before(now: Timestamp, ms: u64) -> Timestamp {
    let span = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    now.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH)
}
