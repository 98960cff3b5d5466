//! One replay on its way.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tidegate_audit::plan::PlanError;
use tidegate_audit::{Opened, Plan, Reader, Replay};
use tidegate_bus::{Bus, CancellationToken, Outbound, PublishError};
use tidegate_schemas::header;
use tidegate_schemas::replay::{Pace, ReplayTo, prefix};
use tidegate_schemas::subject::REPLAY;
use tokio::time::Instant;

use super::message;
use super::pace::Pacer;
use crate::shared::Shared;
use crate::writer::Keeper;

/// Records published between two notes of how far it is, at most.
const CHUNK: usize = 256;
/// Bytes read ahead, about.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// How often it is noted how far it is, at most, where it is slow.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Records on their way at once.
const IN_FLIGHT_MAX: usize = 64;

/// What a replay works with.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) bus: Bus,
    pub(super) shared: Shared,
    pub(super) keeper: Keeper,
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of it is published.
    Finished,
    /// It was stopped.
    Stopped,
    /// It cannot go on now.
    Waits(String),
    /// The record no longer holds what was planned.
    Stale,
}

/// One run of a replay.
pub(super) struct Run {
    parts: Parts,
    replay: Replay,
    stop: CancellationToken,
    /// Indices that the stream holds beyond the cursor: published before a crash.
    known: BTreeSet<u64>,
}

/// A record that is to be published: its index, when it was stored, and its message.
type Made = (u64, Timestamp, Told);

/// What there is to publish of a record.
enum Told {
    /// This.
    Message(Box<Outbound>),
    /// Nothing: it was published before, or is none that can be published there.
    Nothing,
    /// Nothing any more: it was erased.
    Erased,
    /// Nothing any more: retention took it.
    Pruned,
}

// === impl Run ===

impl Run {
    pub(super) fn new(parts: Parts, replay: Replay, stop: CancellationToken) -> Self {
        Self { parts, replay, stop, known: BTreeSet::new() }
    }

    /// Publishes from where the replay stands.
    pub(super) async fn run(mut self) -> (Replay, Ended) {
        let ended = self.go().await.unwrap_or_else(|ended| ended);
        (self.replay, ended)
    }

    async fn go(&mut self) -> Result<Ended, Ended> {
        let plan = self.plan().await?;
        self.known = self.known().await?;
        let mut pacer = Pacer::new(self.replay.pace, Instant::now());
        while let Some(rest) =
            usize::try_from(self.replay.done).ok().and_then(|done| plan.indices.get(done..))
        {
            if rest.is_empty() {
                return Ok(Ended::Finished);
            }
            if self.stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            let chunk = rest.get(..rest.len().min(self.chunk())).unwrap_or_default().to_vec();
            let shared = self.parts.shared.clone();
            let _publishing = shared.publishing().await;
            let made = self.made(chunk).await?;
            self.publish(made, &mut pacer).await?;
            self.parts.keeper.keep(&self.replay).await.map_err(Ended::Waits)?;
        }
        Ok(Ended::Stale)
    }

    /// About a second's worth.
    fn chunk(&self) -> usize {
        match self.replay.pace {
            Pace::Rate { per_second } => usize::try_from(per_second).unwrap_or(CHUNK).clamp(1, CHUNK),
            Pace::Original { .. } => CHUNK / 4,
        }
    }

    async fn plan(&self) -> Result<Plan, Ended> {
        let (head, begun) = (self.replay.plan.clone(), self.replay.begun);
        match self.parts.shared.read(move |reader| Ok(Plan::again(reader, &head, begun))).await {
            Some(Ok(Ok(plan))) => Ok(plan),
            Some(Ok(Err(PlanError::Read(error))) | Err(error)) => Err(Ended::Waits(error.to_string())),
            Some(Ok(Err(_))) => Err(Ended::Stale),
            None => Err(closed()),
        }
    }

    /// What was published after the cursor was noted, whatever the age of its ids. A task that is submitted again keeps its id,
    /// by which the router knows it.
    async fn known(&mut self) -> Result<BTreeSet<u64>, Ended> {
        let mut known = BTreeSet::new();
        if self.replay.target == ReplayTo::Original {
            return Ok(known);
        }
        let filter = format!("{}.>", prefix(&self.replay.target, self.replay.plan.id));
        let mut next = self.replay.last + 1;
        while let Some(stored) = self
            .parts
            .bus
            .first_from(REPLAY, &filter, next)
            .await
            .map_err(|error| Ended::Waits(error.to_string()))?
        {
            let id = stored.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(header::MSG_ID));
            known.extend(id.and_then(|(_, id)| message::index_of(&self.replay, id)));
            next = stored.sequence + 1;
        }
        Ok(known)
    }

    /// Reads some records and makes their messages.
    async fn made(&self, indices: Vec<u64>) -> Result<Vec<Made>, Ended> {
        let (replay, known) = (self.replay.clone(), self.known.clone());
        let read = move |reader: &Reader| {
            let (mut made, mut bytes) = (Vec::with_capacity(indices.len()), 0);
            for index in indices {
                let Some(record) = reader.get(index)? else { return Ok(None) };
                let told = match known.contains(&index) {
                    true => Told::Nothing,
                    false => match reader.body(&record)? {
                        Opened::Body(body) => message::of(&replay, &record, &body)
                            .map_or(Told::Nothing, |message| Told::Message(Box::new(message))),
                        Opened::Erased { .. } => Told::Erased,
                        Opened::Pruned => Told::Pruned,
                        Opened::Nothing | Opened::Sealed | Opened::Lost => Told::Nothing,
                    },
                };
                if let Told::Message(message) = &told {
                    bytes += message.payload.len();
                }
                made.push((index, record.leaf.time, told));
                if bytes > CHUNK_BYTES {
                    break;
                }
            }
            Ok(Some(made))
        };
        match self.parts.shared.read(read).await {
            Some(Ok(Some(made))) => Ok(made),
            Some(Ok(None)) => Err(Ended::Stale),
            Some(Err(error)) => Err(Ended::Waits(error.to_string())),
            None => Err(closed()),
        }
    }

    /// Publishes some records, each when it is due. All that are counted are durable when it returns; on an error the cursor
    /// stays, and the next run finds in the stream what was published.
    async fn publish(&mut self, made: Vec<Made>, pacer: &mut Pacer) -> Result<(), Ended> {
        let bus = self.parts.bus.clone();
        let mut on_their_way = FuturesUnordered::new();
        let noted = Instant::now();
        let mut after = self.replay.clone();
        for (index, time, told) in made {
            let due = pacer.due(time, Instant::now());
            // A long pause does not keep the cursor waiting. The pause of a rate is short, and must not be counted twice.
            let pause = matches!(self.replay.pace, Pace::Original { .. }) && due > noted + NOTE_EVERY;
            let some = after.done > self.replay.done;
            if (some && (pause || noted.elapsed() >= NOTE_EVERY)) || !self.wait(due).await {
                break;
            }
            after.done += 1;
            match told {
                Told::Message(message) => on_their_way.push(bus.publish(*message)),
                Told::Nothing if self.known.remove(&index) => after.published += 1,
                Told::Nothing => after.skipped += 1,
                Told::Erased => after.erased += 1,
                Told::Pruned => after.pruned += 1,
            }
            while on_their_way.len() >= IN_FLIGHT_MAX {
                count(&mut after, on_their_way.next().await)?;
            }
        }
        while let Some(done) = on_their_way.next().await {
            count(&mut after, Some(done))?;
        }
        self.replay = after;
        self.replay.waits = None;
        Ok(())
    }

    /// Waits until then; `false` when it is to stop.
    async fn wait(&self, due: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep_until(due) => true,
        }
    }
}

fn count(
    replay: &mut Replay,
    done: Option<Result<tidegate_bus::Published, PublishError>>,
) -> Result<(), Ended> {
    match done {
        Some(Ok(published)) => {
            replay.published += 1;
            if published.stream == REPLAY {
                replay.last = replay.last.max(published.sequence);
            }
        }
        // It will never go through, as it is.
        Some(Err(PublishError::TooLarge { .. } | PublishError::BadSubject { .. })) => replay.skipped += 1,
        Some(Err(error)) => return Err(Ended::Waits(error.to_string())),
        None => {}
    }
    Ok(())
}

fn closed() -> Ended {
    Ended::Waits("the record is not open".to_owned())
}
