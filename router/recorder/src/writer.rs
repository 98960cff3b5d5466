//! The writer: one thread that owns the store. While it commits one batch, the next is collected.

use std::time::Duration;

use tidegate_audit::{AppendError, Item, Keys, MasterKey, OpenError, Options, Replay, Signer, Store};
use tidegate_bus::Health;
use tidegate_schemas::metric;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::config::RecorderConfig;
use crate::error::RecorderError;
use crate::shared::Shared;

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
    /// Keep where a replay stands; answered when that is durable.
    Keep(Box<Replay>, oneshot::Sender<Result<(), String>>),
}

/// Keeps where replays stand. It does not hold the writer: what is asked after its end is an error.
#[derive(Clone)]
pub(crate) struct Keeper(mpsc::WeakSender<Work>);

/// What the writer did; it is durable.
pub(crate) enum Done {
    /// Recorded the last sequences of a batch.
    Recorded(Vec<(String, u64)>),
    /// Signed; nothing where there is nothing yet, or it failed.
    Signed(Option<Signed>),
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
    /// The newest checkpoint that the streams held when this process began.
    published: Option<String>,
    keys: Keys,
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
        let keys = Keys {
            master: MasterKey::load(&config.master_key_file)?,
            signer: Signer::load(&config.checkpoint_key_file, &config.origin)?,
        };
        let opener = Opener {
            config: config.clone(),
            published,
            keys,
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

// === impl Keeper ===

impl Keeper {
    /// Keeps where a replay stands; durable when it returns. Else why not.
    pub(crate) async fn keep(&self, replay: &Replay) -> Result<(), String> {
        let ended = || "the record is closed".to_owned();
        let (told, kept) = oneshot::channel();
        let work = self.0.upgrade().ok_or_else(ended)?;
        work.send(Work::Keep(Box::new(replay.clone()), told)).await.map_err(|_| ended())?;
        drop(work);
        kept.await.map_err(|_| ended())?
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
        match Store::open(&self.config.directory, self.keys.clone(), &options) {
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
                Work::Sign => Done::Signed(self.sign(&mut store)),
                Work::Keep(replay, kept) => {
                    // Whoever asked may have gone.
                    let _ = kept.send(self.keep(&mut store, &replay));
                    continue;
                }
            };
            if told.blocking_send(done).is_err() {
                return;
            }
        }
    }

    /// Keeps where a replay stands. On failure the record is opened anew before the next work.
    fn keep(&self, store: &mut Option<Store>, replay: &Replay) -> Result<(), String> {
        let open = match store.take() {
            Some(open) => Ok(open),
            None => self.open(),
        };
        let mut open = open.map_err(|error| error.to_string())?;
        match open.keep(replay) {
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

    /// Signs what is recorded. What fails is said, and tried again with the next one.
    fn sign(&self, store: &mut Option<Store>) -> Option<Signed> {
        let mut open = store.take()?;
        let records = open.records();
        if records == 0 {
            *store = Some(open);
            return None;
        }
        match open.checkpoint() {
            Ok(note) => {
                *store = Some(open);
                Some(Signed { records, note })
            }
            Err(error) => {
                error!(%error, "What is recorded could not be signed.");
                self.health.error(error.to_string());
                self.shared.set_reader(None);
                None
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
