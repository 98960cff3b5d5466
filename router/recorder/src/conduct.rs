//! The conductor: takes what the feeds bring, puts causes first, and keeps the writer busy with batches.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tidegate_audit::Item;
use tidegate_audit::store::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX};
use tidegate_bus::{Bus, CancellationToken};
use tokio::sync::mpsc;
use tracing::warn;

use crate::config::RecorderConfig;
use crate::error::RecorderError;
use crate::feed::is_recorded;
use crate::sequencer::{Blocked, Sequencer};
use crate::shared::Shared;
use crate::signing::Signing;
use crate::writer::{Done, Work, Writer};

/// How long a batch that is not full waits for more.
const LINGER: Duration = Duration::from_millis(2);
/// How often messages that wait for a cause are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a message waits before the server is asked whether its cause can come at all.
const ASK_AFTER: Duration = Duration::from_millis(100);
/// Longest wait for a commit on shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// How long nothing must have come until the index is brought up to date: before that, it grows with what comes.
const IDLE: Duration = Duration::from_secs(1);

/// What a feed brings.
#[derive(Debug)]
pub(crate) enum Feed {
    /// A stream begins; everything up to here is recorded.
    Open {
        /// The stream.
        stream: String,
        /// Its last recorded sequence.
        recorded: u64,
    },
    /// The next message or gap of its stream.
    Item(Item),
}

/// The cause of a stream's first message will not come.
struct Hopeless {
    stream: String,
    cause: String,
}

pub(crate) struct Conductor {
    bus: Bus,
    cause_wait: Duration,
    shared: Shared,
    sequencer: Sequencer,
    writer: Writer,
    batch: Vec<Item>,
    bytes: usize,
    since: Instant,
    busy: bool,
    /// Whether the index may be behind the record.
    unindexed: bool,
    signing: Signing,
    /// Streams and causes that the server was asked about.
    asked: HashSet<(String, String)>,
}

impl Conductor {
    pub(crate) fn new(bus: Bus, config: &RecorderConfig, shared: Shared, writer: Writer) -> Self {
        Self {
            signing: Signing::new(bus.clone(), config),
            bus,
            cause_wait: Duration::from_millis(config.cause_wait_ms),
            shared,
            sequencer: Sequencer::default(),
            writer,
            batch: Vec::new(),
            bytes: 0,
            since: Instant::now(),
            busy: false,
            unindexed: true,
            asked: HashSet::new(),
        }
    }

    /// Runs until shutdown, then waits for the commit that is on its way.
    pub(crate) async fn run(
        mut self,
        mut feeds: mpsc::Receiver<Feed>,
        shutdown: CancellationToken,
    ) -> Result<(), RecorderError> {
        let (hopeless, mut verdicts) = mpsc::channel::<Hopeless>(64);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.collect();
            let linger =
                if self.is_full() { Duration::ZERO } else { LINGER.saturating_sub(self.since.elapsed()) };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                done = self.writer.done(), if self.busy => {
                    self.busy = false;
                    self.done(done?);
                }
                () = std::future::ready(()), if !self.busy && self.signing.is_due() => {
                    self.signing.begin();
                    self.writer.send(Work::Sign).await?;
                    self.busy = true;
                }
                () = tokio::time::sleep(linger), if !self.busy && !self.batch.is_empty() => {
                    let batch = std::mem::take(&mut self.batch);
                    self.bytes = 0;
                    self.signing.grow(&batch);
                    self.unindexed = true;
                    self.writer.send(Work::Record(batch)).await?;
                    self.busy = true;
                }
                Some(feed) = feeds.recv() => {
                    self.feed(feed);
                    while let Ok(feed) = feeds.try_recv() {
                        self.feed(feed);
                    }
                }
                Some(Hopeless { stream, cause }) = verdicts.recv() => self.give_up(&stream, &cause, "it does not exist"),
                _ = look.tick() => {
                    self.look(&hopeless);
                    if self.unindexed && !self.busy && self.batch.is_empty() && self.since.elapsed() >= IDLE {
                        self.writer.send(Work::Index).await?;
                        self.busy = true;
                    }
                }
            }
        }
        // A writer that waits for room on a full disk is not waited for.
        let drained = tokio::time::timeout(DRAIN_MAX, self.drain()).await;
        self.writer.close().await;
        drained.unwrap_or(Ok(()))
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Recorded(lasts) => self.shared.advance(lasts),
            Done::Signed(Some(signed)) => self.signing.publish(&signed),
            Done::Signed(None) => {}
            Done::Unsigned => self.signing.failed(),
            Done::Indexed(behind) => self.unindexed = behind,
        }
    }

    /// Waits for the commit that is on its way, signs what is recorded, and has it published.
    async fn drain(&mut self) -> Result<(), RecorderError> {
        if self.busy {
            let done = self.writer.done().await?;
            self.done(done);
        }
        if self.signing.is_behind() {
            self.writer.send(Work::Sign).await?;
            let done = self.writer.done().await?;
            self.done(done);
        }
        self.signing.end().await;
        Ok(())
    }

    fn feed(&mut self, feed: Feed) {
        match feed {
            Feed::Open { stream, recorded } => self.sequencer.open(&stream, recorded),
            Feed::Item(item) => self.sequencer.push(item),
        }
    }

    /// Whether the batch takes nothing more.
    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_ITEMS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Fills the batch with what may go now.
    fn collect(&mut self) {
        if self.is_full() || self.sequencer.waiting() == 0 {
            return;
        }
        let room = BATCH_ITEMS_MAX.saturating_sub(self.batch.len());
        let now = Instant::now();
        let more = self.sequencer.take(now, room, BATCH_BYTES_MAX - self.bytes);
        if self.batch.is_empty() {
            self.since = now;
        }
        self.bytes += more.iter().map(weight_bytes).sum::<usize>();
        self.batch.extend(more);
    }

    /// Looks at messages whose cause is missing: asks the server soon, and gives up in time.
    fn look(&mut self, hopeless: &mpsc::Sender<Hopeless>) {
        if self.is_full() && self.busy {
            // While the writer is behind, the feeds stand still, and with them every cause.
            self.sequencer.stood_still(Instant::now());
        }
        let blocked = self.sequencer.blocked();
        if blocked.is_empty() {
            self.asked.clear();
            return;
        }
        for Blocked { stream, cause, since } in blocked {
            let waited = since.elapsed();
            if waited >= self.cause_wait {
                self.give_up(&stream, &cause.to_string(), "it did not come in time");
            } else if !is_recorded(&cause.stream) || self.shared.is_lost(&cause.stream) {
                self.give_up(&stream, &cause.to_string(), "its stream is not recorded");
            } else if waited >= ASK_AFTER && self.asked.insert((stream.clone(), cause.to_string())) {
                let (bus, hopeless) = (self.bus.clone(), hopeless.clone());
                tokio::spawn(async move {
                    let beyond = match bus.stream_info(&cause.stream).await {
                        Ok(state) => state.last < cause.sequence,
                        Err(error) => error.is_not_found(),
                    };
                    if beyond {
                        // Nobody listens any more only when the recorder stops.
                        let _ = hopeless.send(Hopeless { stream, cause: cause.to_string() }).await;
                    }
                });
            }
        }
    }

    fn give_up(&mut self, stream: &str, cause: &str, why: &str) {
        let same = |blocked: &Blocked| blocked.stream == stream && blocked.cause.to_string() == cause;
        if self.sequencer.blocked().iter().any(same) {
            warn!(stream, cause, why, "A message is recorded without its cause.");
            self.sequencer.give_up(stream);
        }
    }
}

fn weight_bytes(item: &Item) -> usize {
    match item {
        Item::Message(entry) => entry.weight_bytes(),
        Item::Gap(_) => 0,
    }
}
