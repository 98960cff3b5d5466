//! Replay: publishes the records of a plan again, into the stream REPLAY, paced, and going on where it stopped.
//!
//! Nothing acts on what is replayed: it stands under `replay.<id>.…`, marked with where and when it came from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use tidegate_audit::plan::PlanError;
use tidegate_audit::{Body, Opened, Plan, ReadError, Reader, Record};
use tidegate_bus::{Bus, CancellationToken, Outbound, PublishError};
use tidegate_schemas::header;
use tokio::time::MissedTickBehavior;

/// Records published between two notes of how far it is.
const CHUNK: usize = 256;
/// Records on their way at once.
const IN_FLIGHT_MAX: usize = 64;
/// Fastest pace, records a second.
pub const RATE_MAX: u32 = 100_000;

/// How to run a plan.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Records a second, 1 to [`RATE_MAX`].
    pub rate: u32,
    /// File that says how far the replay is; made if need be. The same file again goes on from there.
    pub cursor_file: PathBuf,
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Records of the plan that are done, in this run and before.
    pub done: u64,
    /// Records published in this run.
    pub published: u64,
    /// Records left out in this run: their message was erased, or the key is not there.
    pub skipped: u64,
    /// Whether the plan is done; otherwise it was cancelled.
    pub complete: bool,
}

/// Why a replay stopped. Run it again: it goes on where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The cursor file is another replay's or cannot be used.
    #[error("cannot use the cursor file `{}`: {why}", path.display())]
    Cursor {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Runs a plan from where its cursor stands. `progress` is told records done and to do.
///
/// # Errors
/// [`ReplayError`].
pub async fn run(
    bus: &Bus,
    reader: &Reader,
    plan: &Plan,
    options: &ReplayOptions,
    cancel: &CancellationToken,
    mut progress: impl FnMut(u64, u64),
) -> Result<Replayed, ReplayError> {
    tokio::task::block_in_place(|| plan.check(reader))?;
    let total = plan.indices.len();
    let mut replayed = Replayed { done: done(plan, &options.cursor_file)?, ..Replayed::default() };
    let rate = options.rate.clamp(1, RATE_MAX);
    // Ticks of at least a millisecond, each good for so many records.
    let burst = (rate / 1_000).max(1);
    let mut pace = tokio::time::interval(Duration::from_secs(1) * burst / rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(rest) = usize::try_from(replayed.done).ok().and_then(|done| plan.indices.get(done..)) {
        if rest.is_empty() || cancel.is_cancelled() {
            break;
        }
        let chunk = rest.get(..CHUNK.min(rest.len())).unwrap_or_default();
        let (published, skipped) = publish(bus, reader, plan, chunk, burst, &mut pace).await?;
        replayed.done += chunk.len() as u64;
        replayed.published += published;
        replayed.skipped += skipped;
        note(plan, replayed.done, &options.cursor_file)?;
        progress(replayed.done, total as u64);
    }
    replayed.complete = replayed.done == total as u64;
    Ok(replayed)
}

/// Publishes some records; all are durable when it returns.
async fn publish(
    bus: &Bus,
    reader: &Reader,
    plan: &Plan,
    indices: &[u64],
    burst: u32,
    pace: &mut tokio::time::Interval,
) -> Result<(u64, u64), ReplayError> {
    let mut on_their_way = futures::stream::FuturesUnordered::new();
    let (mut published, mut skipped) = (0, 0);
    for (at, index) in indices.iter().enumerate() {
        if at % usize::try_from(burst).unwrap_or(1) == 0 {
            pace.tick().await;
        }
        match message(reader, plan, *index)? {
            Some(message) => on_their_way.push(bus.publish(message)),
            None => skipped += 1,
        }
        while on_their_way.len() >= IN_FLIGHT_MAX {
            if let Some(done) = on_their_way.next().await {
                done?;
                published += 1;
            }
        }
    }
    while let Some(done) = on_their_way.next().await {
        done?;
        published += 1;
    }
    Ok((published, skipped))
}

/// A record as it is published again; `None` when its message cannot be had.
fn message(reader: &Reader, plan: &Plan, index: u64) -> Result<Option<Outbound>, ReplayError> {
    let record = reader.get(index)?.ok_or(PlanError::Stale)?;
    Ok(match reader.body(&record)? {
        Opened::Body(body) => Some(outbound(plan, &record, &body)),
        Opened::Nothing | Opened::Sealed | Opened::Lost => None,
    })
}

fn outbound(plan: &Plan, record: &Record, body: &Body) -> Outbound {
    let id = plan.id;
    let headers = body
        .trusted_headers()
        .with(header::REPLAY_ID, id.to_string())
        .with(header::REPLAY_POSITION, record.leaf.position().to_string())
        .with(header::REPLAY_TIME, record.leaf.time.to_string());
    Outbound::new(format!("replay.{id}.{}", body.subject), body.payload.clone())
        .with_id(format!("replay:{id}:{}", record.leaf.index))
        .with_headers(headers)
}

/// Records of a plan that are done, by its cursor file; 0 where there is none.
///
/// # Errors
/// [`ReplayError::Cursor`] when the file is another replay's or cannot be read.
pub fn done(plan: &Plan, path: &Path) -> Result<u64, ReplayError> {
    let bad = |why: &str| ReplayError::Cursor { path: path.to_owned(), why: why.to_owned() };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(bad(&error.to_string())),
    };
    let (id, done) = text.trim().split_once(' ').ok_or_else(|| bad("it holds something else"))?;
    if id != plan.id.to_string() {
        return Err(bad("it belongs to another replay"));
    }
    done.parse()
        .ok()
        .filter(|done| *done <= plan.indices.len() as u64)
        .ok_or_else(|| bad("it holds something else"))
}

/// Notes how far it is: a whole new file in the place of the old one.
fn note(plan: &Plan, done: u64, path: &Path) -> Result<(), ReplayError> {
    let bad = |error: std::io::Error| ReplayError::Cursor { path: path.to_owned(), why: error.to_string() };
    let new = path.with_extension("new");
    let write = || {
        use std::io::Write as _;
        let mut file = std::fs::File::create(&new)?;
        writeln!(file, "{} {done}", plan.id)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(bad)
}
