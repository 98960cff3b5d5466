//! Room in the streams behind the router. While one of them is nearly full no new task is admitted, so that what was
//! admitted, a paid answer above all, always finds room; tasks wait in their own streams, which refuse when they are full.

use std::time::Duration;

use tidegate_bus::{Bus, Health};
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
