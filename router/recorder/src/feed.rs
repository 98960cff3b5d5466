//! A feed: one stream's messages in order and without a gap, and their acknowledgement once they are recorded.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tidegate_audit::{Entry, Gap, GapReason, Item, ReadError, Reader as RecordReader, RecordKind};
use tidegate_bus::{
    ApiError, Bus, CancellationToken, CheckError, Delivery, Health, Inbound, Reader, ServeError, Stored,
    topology,
};
use tidegate_schemas::ids::Position;
use tidegate_schemas::subject::{EVENTS, RESULTS, STEPS, WORK_CLOUD, WORK_LOCAL, tenant_of_stream};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::conduct::Feed;
use crate::erase::gaps;
use crate::error::RecorderError;
use crate::shared::Shared;

/// Messages of one stream that are read and not yet recorded, at most.
const AHEAD_MAX: u64 = 4_096;
/// Messages taken from the consumer at once, at most.
const GROUP_MAX: usize = 512;
/// Direct gets on their way at once when a gap is filled.
const GETS_MAX: usize = 32;
/// Pause before a feed that failed begins again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a feed looks whether its connection is another one.
const LOOK: Duration = Duration::from_millis(500);

/// Whether a stream belongs into the record.
pub(crate) fn is_recorded(stream: &str) -> bool {
    [STEPS, WORK_LOCAL, WORK_CLOUD, RESULTS, EVENTS].contains(&stream) || tenant_of_stream(stream).is_some()
}

/// Why a feed begins again.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(
        "it holds messages up to {last}, the record up to {recorded}: it was made anew; restore it, or begin a new record"
    )]
    Younger { last: u64, recorded: u64 },
    #[error(
        "its message {recorded} is not the one that was recorded: it was made anew; restore it, or begin a new record"
    )]
    Another { recorded: u64 },
    /// The server may have been another one in between, or have lost what it held: everything is compared again.
    #[error("the connection was made anew")]
    Reconnected,
    #[error("reading the record: {0}")]
    Record(#[from] ReadError),
    #[error(transparent)]
    Ended(#[from] RecorderError),
}

/// Feeds one stream.
pub(crate) struct Feeder {
    pub(crate) bus: Bus,
    pub(crate) stream: String,
    pub(crate) shared: Shared,
    pub(crate) health: Health,
    pub(crate) feeds: mpsc::Sender<Feed>,
    /// No new message is read.
    pub(crate) shutdown: CancellationToken,
    /// The last commit is done: acknowledge and end.
    pub(crate) drained: CancellationToken,
}

/// A delivery that waits until it is recorded.
struct Held {
    delivery: Delivery,
    /// It was itself handed on. Any other is compared with the record before it is let go: what only has the sequence of a
    /// recorded message would be lost.
    handed_on: bool,
}

/// A feed that runs.
struct Session<'a> {
    feeder: &'a Feeder,
    reader: Reader,
    recorded: watch::Receiver<BTreeMap<String, u64>>,
    /// The connection over which it reads; what comes over another one is not read.
    connection: u64,
    /// The sequence that is handed on next.
    next: &'a mut u64,
    /// Deliveries that are not recorded yet, by sequence.
    held: BTreeMap<u64, Vec<Held>>,
    /// What erasures deleted, once it is needed.
    erased: Option<Vec<gaps::Range>>,
}

// === impl Feeder ===

impl Feeder {
    /// Runs until drained; begins again after a failure.
    pub(crate) async fn run(self) {
        let part = format!("stream {}", self.stream);
        let mut next = 0;
        while !self.drained.is_cancelled() {
            match self.session(&mut next, &part).await {
                Ok(()) => return,
                Err(FeedError::Reconnected) => {
                    info!(
                        stream = self.stream,
                        "The connection was made anew; comparing the stream with the record."
                    );
                    continue;
                }
                Err(error) => {
                    warn!(stream = self.stream, %error, "A stream cannot be recorded for now.");
                    let another = matches!(error, FeedError::Another { .. } | FeedError::Younger { .. });
                    self.shared.lose(&self.stream, another);
                    self.health.not_ready(&part, error.to_string());
                    self.shared.refuse(&self.stream, Some(error.to_string()));
                }
            }
            tokio::select! {
                () = self.drained.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn session(&self, next: &mut u64, part: &str) -> Result<(), FeedError> {
        let connection = self.bus.connections();
        // What was handed on before is compared like everything else, once it is recorded.
        if !self.settled(*next).await? {
            return Ok(());
        }
        let state = self.bus.stream_info(&self.stream).await?;
        self.shared.seen(&self.stream, state.last);
        let recorded = self.shared.recorded().get(&self.stream).copied().unwrap_or(0);
        if state.last < recorded {
            return Err(FeedError::Younger { last: state.last, recorded });
        }
        if recorded > 0 && state.first <= recorded {
            self.compare(recorded).await?;
        }
        if *next == 0 {
            *next = recorded + 1;
            self.feed(Feed::Open { stream: self.stream.clone(), recorded }).await?;
        }
        let spec = topology::recorder(&self.stream);
        self.bus.check(std::slice::from_ref(&spec)).await?;
        self.bus.check_streams(topology::recorded_stream(&self.stream).as_slice()).await?;
        let delivered = self.bus.consumer_info(&self.stream, topology::RECORDER).await?.delivered;
        let reader = self.bus.reader(&spec, usize::try_from(AHEAD_MAX / 2).unwrap_or(1)).await?;
        let recorded = self.shared.follow();
        let mut session =
            Session { feeder: self, reader, recorded, connection, next, held: BTreeMap::new(), erased: None };
        // What was acknowledged and is not in the record (a copy of it was restored) does not come by itself; what was
        // delivered to a recorder that died comes again only after half a minute.
        session.fill(delivered).await?;
        self.health.ready(part);
        self.shared.refuse(&self.stream, None);
        self.shared.lose(&self.stream, false);
        session.run().await
    }

    /// Waits until everything before `next` is recorded. False when the recorder ends before.
    async fn settled(&self, next: u64) -> Result<bool, FeedError> {
        let mut recorded = self.shared.follow();
        let is_recorded = |recorded: &BTreeMap<String, u64>| {
            recorded.get(&self.stream).copied().unwrap_or(0) >= next.saturating_sub(1)
        };
        tokio::select! {
            waited = recorded.wait_for(is_recorded) => {
                waited.map_err(|_| RecorderError::WriterEnded)?;
                Ok(true)
            }
            () = self.drained.cancelled() => Ok(false),
        }
    }

    /// Whether the last recorded message, where the stream still has it, is the one that was recorded. A stream that was made
    /// anew has others under the same sequences, and would be taken for the old one as soon as it is longer.
    async fn compare(&self, recorded: u64) -> Result<(), FeedError> {
        let Some(stored) = self.bus.get(&self.stream, recorded).await? else { return Ok(()) };
        self.are_recorded(vec![(recorded, stored.published)]).await
    }

    /// Whether these messages, sequence and time of each, are those that the record has under their sequences.
    async fn are_recorded(&self, messages: Vec<(u64, Timestamp)>) -> Result<(), FeedError> {
        let stream = self.stream.clone();
        let find = move |reader: &RecordReader| {
            for (sequence, published) in messages {
                let position = Position::new(stream.clone(), sequence);
                let same = match reader.at(&position)? {
                    Some(record) => record.leaf.kind != RecordKind::Gap && record.leaf.time == published,
                    None => reader.was_pruned(&position)?,
                };
                if !same {
                    return Ok(Some(sequence));
                }
            }
            Ok(None)
        };
        match self.shared.read(find).await.transpose()?.flatten() {
            Some(recorded) => Err(FeedError::Another { recorded }),
            None => Ok(()),
        }
    }

    async fn feed(&self, feed: Feed) -> Result<(), RecorderError> {
        self.feeds.send(feed).await.map_err(|_| RecorderError::WriterEnded)
    }
}

// === impl Session ===

impl Session<'_> {
    async fn run(mut self) -> Result<(), FeedError> {
        let feeder = self.feeder;
        let mut look = tokio::time::interval(LOOK);
        loop {
            let room = self.next.saturating_sub(self.durable()) <= AHEAD_MAX;
            tokio::select! {
                biased;
                () = feeder.drained.cancelled() => return self.acknowledge().await,
                _ = look.tick() => self.is_same_connection()?,
                changed = self.recorded.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.acknowledge().await?;
                }
                group = self.reader.take(GROUP_MAX), if room && !feeder.shutdown.is_cancelled() => {
                    self.take(group?).await?;
                }
            }
        }
    }

    /// The last recorded sequence.
    fn durable(&self) -> u64 {
        self.recorded.borrow().get(&self.feeder.stream).copied().unwrap_or(0)
    }

    /// Whether the server is the one whose stream was compared. The count of connections is higher before the first message of
    /// a new one comes.
    fn is_same_connection(&self) -> Result<(), FeedError> {
        let same = self.feeder.bus.connections() == self.connection;
        if same { Ok(()) } else { Err(FeedError::Reconnected) }
    }

    /// Hands on what is next, up to a sequence.
    async fn hand_on(&mut self, item: Item, to: u64) -> Result<(), FeedError> {
        self.feeder.feed(Feed::Item(item)).await?;
        *self.next = to + 1;
        Ok(())
    }

    async fn take(&mut self, mut group: Vec<Delivery>) -> Result<(), FeedError> {
        self.is_same_connection()?;
        group.sort_by_key(|delivery| delivery.message.sequence);
        for delivery in group {
            let message = &delivery.message;
            let sequence = message.sequence;
            self.feeder.shared.seen(&self.feeder.stream, sequence + message.pending);
            if sequence > *self.next {
                self.fill(sequence - 1).await?;
            }
            let handed_on = sequence == *self.next;
            if handed_on {
                self.hand_on(Item::Message(entry(message)), sequence).await?;
            }
            self.held.entry(sequence).or_default().push(Held { delivery, handed_on });
        }
        self.acknowledge().await
    }

    /// Lets go what is recorded.
    async fn acknowledge(&mut self) -> Result<(), FeedError> {
        let later = self.held.split_off(&(self.durable() + 1));
        let done: Vec<Held> = std::mem::replace(&mut self.held, later).into_values().flatten().collect();
        let again = done.iter().filter(|held| !held.handed_on).map(|held| &held.delivery.message);
        let again: Vec<_> = again.map(|message| (message.sequence, message.published)).collect();
        if !again.is_empty() {
            self.feeder.are_recorded(again).await?;
        }
        if !done.is_empty() {
            // Over another connection the same sequences may be those of other messages.
            self.is_same_connection()?;
            self.reader.done(done.into_iter().map(|held| held.delivery)).await;
        }
        Ok(())
    }

    /// Hands on everything up to `to` that the consumer did not bring: read one by one, or told as a gap.
    async fn fill(&mut self, to: u64) -> Result<(), FeedError> {
        if to < *self.next {
            return Ok(());
        }
        let feeder = self.feeder;
        self.erased = None;
        let (bus, stream) = (&feeder.bus, feeder.stream.as_str());
        let first = bus.stream_info(stream).await?.first;
        if first > *self.next {
            let reason = self.why_begun_later().await?;
            self.gap(to.min(first - 1), reason).await?;
        }
        info!(stream, from = *self.next, to, "Reading messages that the consumer did not bring.");
        let get = |sequence| async move { (sequence, bus.get(stream, sequence).await) };
        let mut found = futures::stream::iter(*self.next..=to).map(get).buffered(GETS_MAX);
        while let Some((sequence, stored)) = found.next().await {
            let Some(stored) = stored? else { continue };
            if sequence > *self.next {
                self.gap(sequence - 1, GapReason::Deleted).await?;
            }
            self.room().await?;
            self.is_same_connection()?;
            self.hand_on(Item::Message(stored_entry(stored)), sequence).await?;
        }
        if *self.next <= to {
            self.gap(to, GapReason::Deleted).await?;
        }
        Ok(())
    }

    /// Why the stream begins later than the record ends.
    async fn why_begun_later(&self) -> Result<GapReason, FeedError> {
        let (stream, nothing_ahead) = (self.feeder.stream.clone(), *self.next == self.durable() + 1);
        let silent = self.feeder.shared.read(move |reader| reader.is_silent_since_a_break(&stream)).await;
        if nothing_ahead && silent.transpose()? == Some(true) {
            return Ok(GapReason::Break);
        }
        // Only the recorder trims, and only what is recorded: no stream may begin later than the record of it ends, a new one too.
        Ok(GapReason::Unexplained)
    }

    async fn gap(&mut self, to: u64, reason: GapReason) -> Result<(), FeedError> {
        let feeder = self.feeder;
        // Of a record that was restored, or made again from its streams: what was erased meanwhile is no loss.
        if self.erased.is_none() {
            self.erased = Some(gaps::of(&feeder.bus, &feeder.stream).await?);
        }
        let parts = gaps::split((*self.next, to), reason, self.erased.as_deref().unwrap_or_default());
        for ((from, to), reason) in parts {
            warn!(stream = feeder.stream, from, to, ?reason, "Messages are missing.");
            let gap = Gap { stream: feeder.stream.clone(), from, to, reason, time: Timestamp::now() };
            self.is_same_connection()?;
            self.hand_on(Item::Gap(gap), to).await?;
        }
        Ok(())
    }

    /// Waits until the record has caught up enough for one more message.
    async fn room(&mut self) -> Result<(), FeedError> {
        let (stream, next) = (self.feeder.stream.clone(), *self.next);
        let fits = |recorded: &BTreeMap<String, u64>| {
            next.saturating_sub(recorded.get(&stream).copied().unwrap_or(0)) <= AHEAD_MAX
        };
        tokio::select! {
            waited = self.recorded.wait_for(fits) => drop(waited.map_err(|_| RecorderError::WriterEnded)?),
            () = self.feeder.drained.cancelled() => return Err(RecorderError::Closed.into()),
        }
        Ok(())
    }
}

fn entry(message: &Inbound) -> Entry {
    Entry {
        stream: message.stream.clone(),
        sequence: message.sequence,
        subject: message.subject.clone(),
        time: message.published,
        headers: message.headers.clone(),
        payload: message.payload.clone(),
    }
}

fn stored_entry(stored: Stored) -> Entry {
    Entry {
        stream: stored.stream,
        sequence: stored.sequence,
        subject: stored.subject,
        time: stored.published,
        headers: stored.headers,
        payload: stored.payload,
    }
}
