//! What others have the writer keep or do beside recording.

use tidegate_audit::{AppendError, Replay, SegmentError, Store};
use tokio::sync::{mpsc, oneshot};

use super::{Tending, Work};

/// Has the writer keep where replays and erasures stand, destroy keys, and keep segments in order. It does not hold the writer:
/// what is asked after its end is an error.
#[derive(Clone)]
pub(crate) struct Keeper(pub(super) mpsc::WeakSender<Work>);

// === impl Keeper ===

impl Keeper {
    /// Keeps where a replay stands; durable when it returns. Else why not.
    pub(crate) async fn keep(&self, replay: &Replay) -> Result<(), String> {
        let replay = replay.clone();
        self.change(move |store| store.keep(&replay)).await
    }

    /// Changes what stands beside the log; durable when it returns. Else why not.
    pub(crate) async fn change(
        &self,
        change: impl FnOnce(&mut Store) -> Result<(), AppendError> + Send + 'static,
    ) -> Result<(), String> {
        let ended = || "the record is closed".to_owned();
        let (told, kept) = oneshot::channel();
        let work = self.0.upgrade().ok_or_else(ended)?;
        work.send(Work::Change(Box::new(change), told)).await.map_err(|_| ended())?;
        drop(work);
        kept.await.map_err(|_| ended())?
    }
}

impl Keeper {
    /// Has something done about segments; durable when it returns.
    pub(crate) async fn tend(&self, tending: Tending) -> Result<bool, SegmentError> {
        let (told, done) = oneshot::channel();
        let work = self.0.upgrade().ok_or(SegmentError::Stale)?;
        work.send(Work::Tend(tending, told)).await.map_err(|_| SegmentError::Stale)?;
        drop(work);
        done.await.map_err(|_| SegmentError::Stale)?
    }
}
