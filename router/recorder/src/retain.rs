//! Segments and retention: the oldest records move into files of their own, and what is past its retention is pruned, on
//! record before it is done.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tidegate_audit::{Block, Due, Part, Retention, Sealing, SegmentError};
use tidegate_bus::{ApiError, Bus, CancellationToken, Discovery, Endpoint, Outbound, Query};
use tidegate_schemas::control::{Act, Control};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Position;
use tidegate_schemas::subject::{EVENTS, REPLAY};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::RecorderConfig;
use crate::erase::all_replayed;
use crate::service::{Refusal, encode, question};
use crate::shared::Shared;
use crate::writer::{Keeper, Tending};

/// Subject of questions about retention: a [`PruneQuestion`], answered with a [`PruneAnswer`].
pub const PRUNE: &str = "query.audit.prune";

/// Under this name the recorder says what it prunes.
const PRUNES: &str = "control.record.recorder";
/// Longest wait for an act to be recorded.
const RECORDED_MAX: Duration = Duration::from_secs(30);

/// What somebody asks about retention.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneQuestion {
    /// Only say what would go.
    #[serde(default)]
    pub plan: bool,
}

/// What is past its retention.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PruneAnswer {
    /// Parts of segments, with what keeps those that stay; the others went, or would go.
    pub due: Vec<Due>,
}

/// Looks after segments and retention.
struct Retainer {
    bus: Bus,
    shared: Shared,
    keeper: Keeper,
    sealing: Sealing,
    retention: Retention,
    shutdown: CancellationToken,
}

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
enum PruneError {
    #[error("the record is not open; ask again later")]
    Closed,
    #[error("the act is not on record yet; it is tried again")]
    NotRecorded,
    #[error(transparent)]
    Publish(#[from] tidegate_bus::PublishError),
    #[error("the streams cannot be asked: {0}")]
    Streams(#[from] ApiError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

/// Looks after segments and retention until shutdown.
pub(crate) async fn serve(
    discovery: &Discovery,
    bus: &Bus,
    config: &RecorderConfig,
    shared: &Shared,
    keeper: Keeper,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<(), ApiError> {
    let endpoint = discovery.endpoint("audit-prune", PRUNE).await?;
    let retainer = Retainer {
        bus: bus.clone(),
        shared: shared.clone(),
        keeper,
        sealing: Sealing { bytes: config.segment_bytes, age: span(config.segment_age_ms) },
        retention: Retention {
            bodies: span(config.body_retention_ms),
            records: span(config.record_retention_ms),
        },
        shutdown: shutdown.clone(),
    };
    let (look, prune) = (every(config.segment_look_ms), every(config.prune_ms));
    tasks.spawn(retainer.run(endpoint, look, prune));
    Ok(())
}

fn span(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn every(ms: u64) -> tokio::time::Interval {
    let mut every = tokio::time::interval(Duration::from_millis(ms.max(1)));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every
}

/// What the streams hold now, asked once.
#[derive(Default)]
struct Streams {
    /// Stream → its first sequence.
    firsts: BTreeMap<String, u64>,
    /// What stream REPLAY holds copies of.
    replayed: Option<Vec<Position>>,
}

// === impl Streams ===

impl Streams {
    /// A stream that holds messages of these spans, itself or as a replay's copy.
    async fn holding(
        &mut self,
        bus: &Bus,
        spans: &BTreeMap<String, (u64, u64)>,
    ) -> Result<Option<String>, ApiError> {
        for (stream, (_, last)) in spans {
            if self.first(bus, stream).await?.is_some_and(|first| first <= *last) {
                return Ok(Some(stream.clone()));
            }
        }
        if self.replayed.is_none() {
            self.replayed = Some(all_replayed(bus).await?.into_iter().map(|(_, of)| of).collect());
        }
        let within = |of: &Position| {
            spans.get(&of.stream).is_some_and(|(first, last)| (*first..=*last).contains(&of.sequence))
        };
        let copied = self.replayed.iter().flatten().any(within);
        Ok(copied.then(|| REPLAY.to_owned()))
    }

    /// A stream's first sequence; `None` where there is no such stream any more. Of an empty one it is the next.
    async fn first(&mut self, bus: &Bus, stream: &str) -> Result<Option<u64>, ApiError> {
        if let Some(first) = self.firsts.get(stream) {
            return Ok(Some(*first));
        }
        match bus.stream_info(stream).await {
            Ok(state) => {
                self.firsts.insert(stream.to_owned(), state.first);
                Ok(Some(state.first))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

// === impl Retainer ===

impl Retainer {
    async fn run(
        self,
        mut endpoint: Endpoint,
        mut look: tokio::time::Interval,
        mut prune: tokio::time::Interval,
    ) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = look.tick() => {
                    if let Err(error) = self.seal().await {
                        warn!(%error, "The oldest records could not be moved into a segment.");
                    }
                }
                _ = prune.tick() => {
                    if let Err(error) = self.prune().await {
                        warn!(%error, "What is past its retention could not be pruned.");
                    }
                }
                query = endpoint.next() => match query {
                    Some(query) => self.answer(query).await,
                    None => return,
                },
            }
        }
    }

    /// Moves the oldest records into segments while one is due, and finishes what was begun.
    async fn seal(&self) -> Result<(), PruneError> {
        self.tidy().await?;
        while !self.shutdown.is_cancelled() {
            let sealing = self.sealing;
            let sealed = self.shared.read(move |reader| Ok(reader.seal(&sealing, Timestamp::now()))).await;
            let Some(sealed) = sealed.transpose().map_err(SegmentError::from)?.transpose()?.flatten() else {
                return Ok(());
            };
            let range = sealed.range();
            self.keeper.tend(Tending::Name(sealed)).await?;
            self.tidy().await?;
            info!(first = range.start, end = range.end, "Records moved into a segment.");
        }
        Ok(())
    }

    /// Between two steps the writer records what has come.
    async fn tidy(&self) -> Result<(), SegmentError> {
        while !self.shutdown.is_cancelled() && self.shared.reader().is_some() {
            if !self.keeper.tend(Tending::Tidy).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn due(&self) -> Result<Vec<Due>, PruneError> {
        let retention = self.retention;
        let due = self.shared.read(move |reader| reader.due(&retention, Timestamp::now())).await;
        let mut due = due.ok_or(PruneError::Closed)?.map_err(SegmentError::from)?;
        let mut streams = Streams::default();
        for one in due.iter_mut().filter(|one| one.part == Part::Records && one.block.is_none()) {
            let first = one.first;
            let spans = self.shared.read(move |reader| reader.messages_of(first)).await;
            let spans = spans.ok_or(PruneError::Closed)?.map_err(SegmentError::from)?;
            one.block = streams.holding(&self.bus, &spans).await?.map(|stream| Block::Stream { stream });
        }
        Ok(due)
    }

    /// Prunes what is past its retention and nothing keeps. Returns all that is due.
    async fn prune(&self) -> Result<Vec<Due>, PruneError> {
        let mut due = self.due().await?;
        for one in &mut due {
            if one.block.is_some() || self.shutdown.is_cancelled() {
                continue;
            }
            let act = self.say(one).await?;
            let prune = Tending::Prune { part: one.part, first: one.first, act };
            match self.keeper.tend(prune).await {
                Ok(_) => {
                    let (first, records) = (one.first, one.records);
                    info!(part = ?one.part, first, records, "Pruned by retention.");
                }
                // A hold came meanwhile.
                Err(SegmentError::Blocked(block)) => one.block = Some(block),
                Err(error) => return Err(error.into()),
            }
            self.tidy().await?;
        }
        Ok(due)
    }

    /// Puts on record what is about to go. Returns the index of the record that says so.
    async fn say(&self, due: &Due) -> Result<u64, PruneError> {
        let Due { part, first, records, .. } = *due;
        let act = match part {
            Part::Bodies => Act::PruneBodies { first, records },
            Part::Records => Act::PruneRecords { first, records },
        };
        let reason = format!("past its retention: the newest is of {:.0}", due.newest);
        let control = Control { schema_version: 1, act, reason };
        // Numbers and text always serialise.
        let message = Outbound::new(PRUNES, serde_json::to_vec(&control).unwrap_or_default())
            .with_id(format!("prune:{part:?}:{first}"))
            .with_headers(Headers::new().with("content-type", "application/json"));
        let sequence = self.bus.publish(message).await?.sequence;
        let mut recorded = self.shared.follow();
        let passed = recorded.wait_for(|at| at.get(EVENTS).copied().unwrap_or(0) >= sequence);
        tokio::time::timeout(RECORDED_MAX, passed)
            .await
            .map_err(|_| PruneError::NotRecorded)?
            .map_err(|_| PruneError::Closed)?;
        let position = Position::new(EVENTS, sequence);
        let found = self.shared.read(move |reader| reader.at(&position)).await;
        let found = found.ok_or(PruneError::Closed)?.map_err(SegmentError::from)?;
        found.map(|record| record.leaf.index).ok_or(PruneError::NotRecorded)
    }

    async fn answer(&self, query: Query) {
        let answered = async {
            let asked: PruneQuestion = question(&query)?;
            // Only whole segments go, so what is due now is told, and not what was when it was last looked.
            let sealed = self.seal().await;
            let due = match sealed {
                Ok(()) if asked.plan => self.due().await,
                Ok(()) => self.prune().await,
                Err(error) => Err(error),
            };
            let due = due.map_err(|error| Refusal(503, error.to_string()))?;
            encode(&PruneAnswer { due })
        };
        match answered.await {
            Ok(payload) => query.respond(payload.into()).await,
            Err(Refusal(code, sentence)) => query.refuse(code, &sentence).await,
        }
    }
}
