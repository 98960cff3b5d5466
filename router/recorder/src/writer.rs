//! The writer: one thread that owns the store. While it commits one batch, the next is collected.

use std::time::Duration;

use jiff::Timestamp;
use tidegate_audit::{
    AppendError, Item, OpenError, Options, Part, ReadError, Sealed, SegmentError, Signer, Store,
};
use tidegate_bus::Health;
use tidegate_schemas::metric;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::config::RecorderConfig;
use crate::error::RecorderError;
use crate::rotate;
use crate::shared::Shared;

pub(crate) use keeper::Keeper;

mod keeper;
#[cfg(test)]
mod tests;

/// The part of the process's health that says whether the record can be written.
pub(crate) const PART: &str = "record";
/// How often a writer that waits looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the writer is to do.
pub(crate) enum Work {
    /// Record these.
    Record(Vec<Item>),
    /// Sign what is recorded.
    Sign,
    /// Bring the index nearer to what is recorded.
    Index,
    /// Change what the record holds beside the log; answered when that is durable.
    Change(Box<Change>, oneshot::Sender<Result<(), String>>),
    /// Keep segments in order; answered when that is durable.
    Tend(Tending, oneshot::Sender<Result<bool, SegmentError>>),
}

/// What is to be done about segments.
pub(crate) enum Tending {
    /// Name one whose files are there.
    Name(Sealed),
    /// One step of what is not finished; whether anything was left to do.
    Tidy,
    /// Prune a part of the one that begins with a record; this record says so.
    Prune { part: Part, first: u64, act: u64 },
}

/// A change of what the record holds beside the log.
type Change = dyn FnOnce(&mut Store) -> Result<(), AppendError> + Send;

/// What the writer did; it is durable.
pub(crate) enum Done {
    /// Recorded the last sequences of a batch.
    Recorded(Vec<(String, u64)>),
    /// Signed; nothing where there is nothing yet.
    Signed(Option<Signed>),
    /// It could not be signed, and is to be tried again.
    Unsigned,
    /// The index is nearer; whether it is still behind.
    Indexed(bool),
}

/// A checkpoint.
pub(crate) struct Signed {
    pub(crate) records: u64,
    pub(crate) note: String,
}

/// Where work goes, and where it is told that it is durable.
pub(crate) struct Writer {
    work: mpsc::Sender<Work>,
    done: mpsc::Receiver<Done>,
    thread: std::thread::JoinHandle<()>,
}

/// Opens the record, waiting while another recorder holds it.
struct Opener {
    config: RecorderConfig,
    signer: Signer,
    /// The newest checkpoint that the streams held when this process began.
    published: Option<String>,
    shared: Shared,
    health: Health,
}

// === impl Writer ===

impl Writer {
    /// Opens the record and starts the thread. The store's lock is the lease: while another recorder holds it, this one
    /// stands by.
    ///
    /// # Errors
    /// [`RecorderError`] when the record is not one that can be written.
    pub(crate) async fn start(
        config: &RecorderConfig,
        published: Option<String>,
        shared: &Shared,
        health: &Health,
    ) -> Result<Self, RecorderError> {
        let signer = Signer::load(&config.checkpoint_key_file, &config.origin)?;
        let opener = Opener {
            config: config.clone(),
            signer,
            published,
            shared: shared.clone(),
            health: health.clone(),
        };
        let (work, mut from) = mpsc::channel(1);
        let (told, done) = mpsc::channel(1);
        let (opened, mut answer) = mpsc::channel(1);
        let thread = move || {
            let store = match opener.first(&opened) {
                Ok(store) => store,
                Err(error) => return drop(opened.blocking_send(Err(error))),
            };
            let _ = opened.blocking_send(Ok(()));
            opener.work(store, &mut from, &told);
            opener.shared.set_reader(None);
        };
        let builder = std::thread::Builder::new().name("record".to_owned());
        let thread = builder.spawn(thread).map_err(RecorderError::Thread)?;
        answer.recv().await.ok_or(RecorderError::WriterEnded)??;
        Ok(Self { work, done, thread })
    }

    /// Ends the thread and closes the record.
    pub(crate) async fn close(self) {
        let Self { work, done, thread } = self;
        drop((work, done));
        // A thread that panicked has said so itself.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }

    /// Hands work over. Only one is on its way at a time.
    pub(crate) async fn send(&self, work: Work) -> Result<(), RecorderError> {
        self.work.send(work).await.map_err(|_| RecorderError::WriterEnded)
    }

    /// Keeps where replays stand.
    pub(crate) fn keeper(&self) -> Keeper {
        Keeper(self.work.downgrade())
    }

    /// What was done.
    pub(crate) async fn done(&mut self) -> Result<Done, RecorderError> {
        self.done.recv().await.ok_or(RecorderError::WriterEnded)
    }
}

// === impl Opener ===

impl Opener {
    /// Opens the record for the first time; what is wrong with it then ends the process.
    fn first<T>(&self, wanted: &mpsc::Sender<T>) -> Result<Store, RecorderError> {
        loop {
            match self.open() {
                Err(OpenError::Locked { .. }) if !wanted.is_closed() => std::thread::sleep(LOOK_EVERY),
                other => return Ok(other?),
            }
        }
    }

    fn open(&self) -> Result<Store, OpenError> {
        let options = Options {
            cache_bytes: self.config.cache_bytes,
            checkpoint_file: self.config.checkpoint_file.clone(),
            published: self.published.clone(),
        };
        match rotate::open(&self.config, &self.signer, &options) {
            Ok(store) => {
                info!(records = store.records(), "The record is open.");
                let recorded = store.streams().map(|(name, next)| (name.to_owned(), next.saturating_sub(1)));
                self.shared.advance(recorded);
                self.shared.set_reader(Some(store.reader()));
                self.health.ready(PART);
                Ok(store)
            }
            Err(error) => {
                self.health.not_ready(PART, error.to_string());
                Err(error)
            }
        }
    }

    fn work(&self, store: Store, from: &mut mpsc::Receiver<Work>, told: &mpsc::Sender<Done>) {
        let mut store = Some(store);
        while let Some(work) = from.blocking_recv() {
            let done = match work {
                Work::Record(batch) => {
                    while !self.append(&mut store, &batch) {
                        if !self.wait(told) {
                            return;
                        }
                    }
                    Done::Recorded(lasts(&batch))
                }
                Work::Sign => self.sign(&mut store),
                Work::Index => Done::Indexed(self.index(&mut store)),
                Work::Change(change, kept) => {
                    // Whoever asked may have gone.
                    let _ = kept.send(self.change(&mut store, change));
                    continue;
                }
                Work::Tend(tending, done) => {
                    let _ = done.send(self.tend(&mut store, tending));
                    continue;
                }
            };
            if told.blocking_send(done).is_err() {
                return;
            }
        }
    }

    /// Changes what stands beside the log. On failure the record is opened anew before the next work.
    fn change(&self, store: &mut Option<Store>, change: Box<Change>) -> Result<(), String> {
        let open = match store.take() {
            Some(open) => Ok(open),
            None => self.open(),
        };
        let mut open = open.map_err(|error| error.to_string())?;
        match change(&mut open) {
            Ok(()) => {
                *store = Some(open);
                Ok(())
            }
            Err(error) => {
                self.health.not_ready(PART, error.to_string());
                self.shared.set_reader(None);
                Err(error.to_string())
            }
        }
    }

    /// Keeps segments in order. What could not be written has the record opened anew before the next work.
    fn tend(&self, store: &mut Option<Store>, tending: Tending) -> Result<bool, SegmentError> {
        // Opening it is the recording's part.
        let mut open = store.take().ok_or(SegmentError::Stale)?;
        let done = match tending {
            Tending::Name(sealed) => open.name(&sealed).map(|()| true),
            Tending::Tidy => open.tidy(),
            // What says so is signed first.
            Tending::Prune { part, first, act } => open
                .checkpoint()
                .map_err(SegmentError::from)
                .and_then(|_| open.prune(part, first, act, Timestamp::now()))
                .map(|()| true),
        };
        match &done {
            Err(error @ (SegmentError::Read(ReadError::Broken { .. }) | SegmentError::Write(_))) => {
                self.health.not_ready(PART, error.to_string());
                self.shared.set_reader(None);
            }
            _ => *store = Some(open),
        }
        done
    }

    /// Signs what is recorded. Where it fails the record is opened anew at once: nothing else may come for long.
    fn sign(&self, store: &mut Option<Store>) -> Done {
        let open = match store.take() {
            Some(open) => Ok(open),
            None => self.open(),
        };
        // Why it cannot be opened stands in the health.
        let Ok(mut open) = open else { return Done::Unsigned };
        let records = open.records();
        if records == 0 {
            *store = Some(open);
            return Done::Signed(None);
        }
        match open.checkpoint() {
            Ok(note) => {
                match open.thin() {
                    Ok(0) => {}
                    Ok(notes) => info!(notes, "The checkpoint file is shorter."),
                    Err(error) => warn!(%error, "The checkpoint file grows: it could not be written anew."),
                }
                *store = Some(open);
                Done::Signed(Some(Signed { records, note }))
            }
            Err(error) => {
                error!(%error, "What is recorded could not be signed.");
                self.health.error(error.to_string());
                self.health.not_ready(PART, error.to_string());
                self.shared.set_reader(None);
                drop(open);
                *store = self.open().ok();
                Done::Unsigned
            }
        }
    }

    /// Brings the index nearer; whether it is still behind. Where it fails, queries read more until there is something to record,
    /// and the record is opened anew at once: nothing else may come for long.
    fn index(&self, store: &mut Option<Store>) -> bool {
        let Some(mut open) = store.take() else { return false };
        match open.index() {
            Ok(behind) => {
                *store = Some(open);
                behind
            }
            Err(error) => {
                warn!(%error, "The index could not be written.");
                self.health.not_ready(PART, error.to_string());
                self.shared.set_reader(None);
                drop(open);
                *store = self.open().ok();
                false
            }
        }
    }

    /// Writes a batch. On failure nothing is acknowledged, and the record is opened anew before the next try.
    fn append(&self, store: &mut Option<Store>, batch: &[Item]) -> bool {
        let open = match store.take() {
            Some(open) => Ok(open),
            None => self.open(),
        };
        let mut open = match open {
            Ok(open) => open,
            Err(error) => {
                warn!(%error, "The record cannot be opened.");
                return false;
            }
        };
        match open.append(batch) {
            Ok(appended) => {
                self.shared.committed();
                metrics::counter!(metric::RECORDS).increment(appended.records);
                for (index, flag) in &appended.anomalies {
                    metrics::counter!(metric::ANOMALIES, "kind" => flag.as_str()).increment(1);
                    warn!(index, flag = flag.as_str(), "An anomaly was recorded.");
                }
                *store = Some(open);
                true
            }
            Err(error) => {
                error!(%error, "Nothing is recorded or acknowledged until the record can be written.");
                self.health.not_ready(PART, error.to_string());
                self.health.error(error.to_string());
                if matches!(error, AppendError::Gap { .. }) {
                    // A defect of the order in which items came; another try changes nothing, and says so again.
                    *store = Some(open);
                } else {
                    self.shared.set_reader(None);
                }
                false
            }
        }
    }

    /// Waits before the next try. `false` when nobody wants it any more.
    fn wait(&self, told: &mpsc::Sender<Done>) -> bool {
        let mut left = Duration::from_millis(self.config.reopen_ms);
        while !left.is_zero() {
            if told.is_closed() {
                return false;
            }
            std::thread::sleep(LOOK_EVERY.min(left));
            left = left.saturating_sub(LOOK_EVERY);
        }
        !told.is_closed()
    }
}

/// The last sequence of each stream in a batch.
fn lasts(batch: &[Item]) -> Vec<(String, u64)> {
    let mut lasts: Vec<(String, u64)> = Vec::new();
    for item in batch {
        match lasts.iter_mut().find(|(stream, _)| stream == item.stream()) {
            Some((_, last)) => *last = item.last(),
            None => lasts.push((item.stream().to_owned(), item.last())),
        }
    }
    lasts
}
