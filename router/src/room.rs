//! Room in the streams behind the router. While one of them is nearly full no new task is admitted, so that what was
//! admitted, a paid answer above all, always finds room; tasks wait in their own streams, which refuse when they are full.

use std::time::Duration;

use tidegate_bus::{Bus, Health};
use tidegate_schemas::control::{REVIEWS_BUCKET, SESSIONS_BUCKET, STATE_DAYS};
use tidegate_schemas::subject::{EVENTS, RESULTS, STEPS, WORK_CLOUD, WORK_LOCAL};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::knowledge::Knowledge;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest look.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Share of its bytes from which on a stream closes admission, per cent.
const CLOSES_AT: u64 = 80;
/// Share below which it opens again, per cent: a little less, so that it does not flutter.
const OPENS_BELOW: u64 = 75;
/// Streams that a task may put something into.
const STREAMS: [&str; 5] = [WORK_LOCAL, WORK_CLOUD, RESULTS, EVENTS, STEPS];
/// What of the process is not ready while admission is closed.
const PART: &str = "admission";

/// Buckets that grow with what tenants do. Where one is full, no session is raised and no review decided any more.
const STATE: [&str; 2] = [SESSIONS_BUCKET, REVIEWS_BUCKET];
/// Between two looks at them.
const STATE_EVERY: Duration = Duration::from_secs(60);

/// Tells operators while a bucket of shared state is nearly full, until shutdown. Nothing is closed for it: other work needs none.
pub(crate) async fn watch_state(bus: Bus, health: Health, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(STATE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        for bucket in STATE {
            let Ok(state) = bus.bucket_info(bucket).await else { continue };
            if let Some(told) = nearly_full(bucket, share(state.bytes, state.bytes_max)) {
                tracing::error!(bucket, "A bucket of shared state is nearly full.");
                health.error(told);
            }
        }
    }
}

/// What operators are told of a bucket.
fn nearly_full(bucket: &str, share: u64) -> Option<String> {
    (share >= CLOSES_AT).then(|| format!(
        "bucket `{bucket}` is at {share} % of its bytes; once it is full tasks of sessions that hold more, and reviews, are put off until their deadlines: an entry goes {STATE_DAYS} days after it was last used, so give further tenants a cell of their own"
    ))
}

/// Looks at the streams until shutdown.
pub(crate) async fn watch(
    bus: Bus,
    known: watch::Sender<Knowledge>,
    health: Health,
    shutdown: CancellationToken,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let before = known.borrow().closed;
        // A stream that cannot be seen is as it was: publishing to it says more.
        let Ok(Some(closed)) = tokio::time::timeout(LOOK_MAX, look(&bus, before)).await else { continue };
        if closed == before {
            continue;
        }
        match closed {
            Some(stream) => {
                tracing::warn!(stream, "Closed admission: the stream is nearly full.");
                health.not_ready(PART, format!("stream {stream} is over {CLOSES_AT} % of its bytes: tasks wait until the recorder has trimmed it, or `[streams] bytes_max` in cell.toml is raised"));
            }
            None => {
                tracing::info!("Opened admission.");
                health.ready(PART);
            }
        }
        known.send_modify(|known| known.closed = closed);
    }
}

/// The fullest stream if it closes admission; nothing when none could be seen.
async fn look(bus: &Bus, before: Option<&'static str>) -> Option<Option<&'static str>> {
    let mut fullest = None;
    for stream in STREAMS {
        let state = bus.stream_info(stream).await.ok()?;
        let share = share(state.bytes, state.bytes_max);
        if fullest.is_none_or(|(most, _)| share > most) {
            fullest = Some((share, stream));
        }
    }
    let (share, stream) = fullest?;
    let limit = if before.is_some() { OPENS_BELOW } else { CLOSES_AT };
    Some((share >= limit).then_some(stream))
}

fn share(bytes: u64, bytes_max: Option<u64>) -> u64 {
    bytes_max.map_or(0, |max| bytes.saturating_mul(100) / max.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_bucket_that_is_nearly_full_is_told_before_it_is() {
        let at = |bytes| nearly_full(SESSIONS_BUCKET, share(bytes, Some(1_000)));
        assert!(at(800).is_some_and(|told| told.contains("`sessions` is at 80 %")), "{:?}", at(800));
        assert!(at(1_000).is_some());
        assert!(
            at(799).is_none() && nearly_full(SESSIONS_BUCKET, share(5, None)).is_none(),
            "negative control"
        );
    }
}
