//! What the parts of the recorder share: positions, a reader of the record, what is odd.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_audit::{ReadError, Reader};
use tidegate_schemas::ids::Name;
use tokio::sync::watch;

use crate::guard::Guarded;

/// Longest list of streams that could not be recorded, kept for the status.
const REFUSED_MAX: usize = 64;

/// Messages that may be missing in the record while open tasks are counted from it.
const BEHIND: u64 = 5_000;

/// Shared by all parts. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The reader; `None` while the record is not open.
    reader: Mutex<Option<Arc<Reader>>>,
    /// stream → last sequence that is recorded and durable.
    recorded: watch::Sender<BTreeMap<String, u64>>,
    /// stream → last sequence that the server gave, when it was last asked.
    last: Mutex<BTreeMap<String, u64>>,
    /// Commits of records since the recorder began.
    commits: AtomicU64,
    /// Streams that cannot be recorded, and why.
    refused: Mutex<BTreeMap<String, String>>,
    /// Streams that will not be recorded until somebody does something.
    lost: Mutex<BTreeSet<String>>,
    /// Held while messages out of the record are on their way to a stream; whoever waits for it alone knows that what is
    /// published from then on was read afterwards.
    publishing: tokio::sync::RwLock<()>,
    /// Open tasks by tenant, as they were last counted.
    open: Mutex<Option<(Instant, BTreeMap<Name, u64>)>>,
    /// Where the canary's guards stand.
    guarded: Mutex<Option<Guarded>>,
}

impl Shared {
    /// To be held from reading messages to having published them.
    pub(crate) async fn publishing(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.inner.publishing.read().await
    }

    /// Waits until nothing is on its way that was read before.
    pub(crate) async fn published(&self) {
        drop(self.inner.publishing.write().await);
    }

    /// The record is open, or not.
    pub(crate) fn set_reader(&self, reader: Option<Reader>) {
        *lock(&self.inner.reader) = reader.map(Arc::new);
    }

    /// The record's reader.
    pub(crate) fn reader(&self) -> Option<Arc<Reader>> {
        lock(&self.inner.reader).clone()
    }

    /// Reads the record on a thread that may block. `None` while the record is not open.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        with: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Option<Result<T, ReadError>> {
        let reader = self.reader()?;
        // The closure does not panic by itself; a defect in the store ends that one read.
        tokio::task::spawn_blocking(move || with(&reader)).await.ok()
    }

    /// Follows what is recorded.
    pub(crate) fn follow(&self) -> watch::Receiver<BTreeMap<String, u64>> {
        self.inner.recorded.subscribe()
    }

    /// The last recorded sequence of each stream.
    pub(crate) fn recorded(&self) -> BTreeMap<String, u64> {
        self.inner.recorded.borrow().clone()
    }

    /// More is recorded.
    pub(crate) fn advance(&self, positions: impl IntoIterator<Item = (String, u64)>) {
        self.inner.recorded.send_modify(|recorded| recorded.extend(positions));
    }

    /// A batch is durable.
    pub(crate) fn committed(&self) {
        self.inner.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Commits of records since the recorder began.
    pub(crate) fn commits(&self) -> u64 {
        self.inner.commits.load(Ordering::Relaxed)
    }

    /// A stream's last sequence, as the server gave it.
    pub(crate) fn seen(&self, stream: &str, last: u64) {
        lock(&self.inner.last).insert(stream.to_owned(), last);
    }

    /// Messages behind each stream's end, as far as it is known.
    pub(crate) fn lag(&self) -> BTreeMap<String, u64> {
        let recorded = self.recorded();
        let behind = |(stream, last): (&String, &u64)| {
            let at = recorded.get(stream).copied().unwrap_or(0);
            (stream.clone(), last.saturating_sub(at))
        };
        lock(&self.inner.last).iter().map(behind).collect()
    }

    /// Messages behind all streams' ends, as far as it is known.
    pub(crate) fn behind(&self) -> u64 {
        self.lag().values().sum()
    }

    /// A stream cannot be recorded, for this reason; `None` when it can again.
    pub(crate) fn refuse(&self, stream: &str, why: Option<String>) {
        let mut refused = lock(&self.inner.refused);
        match why {
            Some(why) if refused.len() < REFUSED_MAX => {
                refused.insert(stream.to_owned(), why);
            }
            Some(_) => {}
            None => {
                refused.remove(stream);
            }
        }
    }

    /// A stream is another one than was recorded, or is itself again.
    pub(crate) fn lose(&self, stream: &str, lost: bool) {
        let mut all = lock(&self.inner.lost);
        if lost {
            all.insert(stream.to_owned());
        } else {
            all.remove(stream);
        }
    }

    /// Whether nothing of a stream will be recorded.
    pub(crate) fn is_lost(&self, stream: &str) -> bool {
        lock(&self.inner.lost).contains(stream)
    }

    /// How many tasks of each tenant are open, counted at most once in so long. None while the record is not open, or is so
    /// far behind the streams that it would count what has ended.
    pub(crate) async fn open(&self, every: Duration) -> Option<Result<BTreeMap<Name, u64>, ReadError>> {
        if self.behind() > BEHIND || !self.refused().is_empty() {
            return None;
        }
        if let Some((at, counts)) = lock(&self.inner.open).clone()
            && at.elapsed() < every
        {
            return Some(Ok(counts));
        }
        let counts = self.read(Reader::open_by_tenant).await?;
        if let Ok(counts) = &counts {
            *lock(&self.inner.open) = Some((Instant::now(), counts.clone()));
        }
        Some(counts)
    }

    /// The canary's guards stand here now; none without a canary.
    pub(crate) fn set_guarded(&self, guarded: Option<Guarded>) {
        *lock(&self.inner.guarded) = guarded;
    }

    /// Where the canary's guards stand.
    pub(crate) fn guarded(&self) -> Option<Guarded> {
        lock(&self.inner.guarded).clone()
    }

    /// Streams that cannot be recorded, and why.
    pub(crate) fn refused(&self) -> BTreeMap<String, String> {
        lock(&self.inner.refused).clone()
    }
}

/// A panic while the lock was held leaves plain data behind, which stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
