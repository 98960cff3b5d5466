//! One job on the engine, seen from async code: events cross from the engine's thread by a channel, and whoever stops
//! waiting withdraws the job.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidegate_engine::{CancelFlag, Engine, EngineError, Job, JobEvent, JobInput, SubmitError};
use tokio::sync::mpsc;

/// Numbers jobs for the engine's log.
static JOBS: AtomicU64 = AtomicU64::new(1);

/// A job under way. Dropping it withdraws the job.
#[derive(Debug)]
pub struct Inference {
    // Unbounded because the engine's thread must not block; the answer's token limit bounds it.
    events: mpsc::UnboundedReceiver<JobEvent>,
    cancel: CancelFlag,
}

/// Queues a job. Pieces of the answer are sent on only where they are wanted.
///
/// # Errors
/// The engine has no room, or has stopped.
pub fn begin(
    engine: &Engine,
    input: JobInput,
    deadline: Option<Instant>,
    pieces: bool,
) -> Result<Inference, SubmitError> {
    let (sender, events) = mpsc::unbounded_channel();
    let cancel = CancelFlag::new();
    let job = Job {
        id: JOBS.fetch_add(1, Ordering::Relaxed),
        input,
        deadline,
        cancel: cancel.clone(),
        events: Box::new(move |event| {
            if pieces || !matches!(event, JobEvent::Token { .. }) {
                // Nobody listens once the job was withdrawn.
                let _ = sender.send(event);
            }
        }),
    };
    engine.submit(job)?;
    Ok(Inference { events, cancel })
}

impl Inference {
    /// The next event. After [`JobEvent::Done`] or [`JobEvent::Failed`] there is none.
    pub async fn next(&mut self) -> JobEvent {
        // The engine drops a job without a last event only when its thread died.
        self.events.recv().await.unwrap_or(JobEvent::Failed(EngineError::Panicked, None))
    }

    /// The switch that withdraws the job.
    #[must_use]
    pub fn cancel_flag(&self) -> CancelFlag {
        self.cancel.clone()
    }
}

impl Drop for Inference {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
