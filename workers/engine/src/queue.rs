//! The queue between callers and the engine's thread: bounded, and swept of jobs that nobody waits for any more.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::SubmitError;
use crate::job::{Job, JobInput};

/// A job and when it came.
pub(crate) struct Waiting {
    pub(crate) job: Job,
    pub(crate) since: Instant,
}

/// A bounded queue with one reader.
#[derive(Default)]
pub(crate) struct Queue {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(crate) fn push(&self, job: Job) -> Result<(), SubmitError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SubmitError::Stopped);
        }
        if state.waiting.len() >= self.limit {
            return Err(SubmitError::Overloaded { limit: self.limit });
        }
        state.waiting.push_back(Waiting { job, since: Instant::now() });
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the oldest job if there is one.
    pub(crate) fn pop(&self) -> Option<Waiting> {
        self.lock().waiting.pop_front()
    }

    /// Takes the oldest scan if there is one.
    pub(crate) fn pop_scan(&self) -> Option<Waiting> {
        let mut state = self.lock();
        let is_scan = |waiting: &Waiting| matches!(waiting.job.input, JobInput::Scan { .. });
        let at = state.waiting.iter().position(is_scan)?;
        state.waiting.remove(at)
    }

    /// Waits for the oldest job; `None` when the queue is closed and empty.
    pub(crate) fn wait(&self) -> Option<Waiting> {
        let mut state = self.lock();
        loop {
            if let Some(waiting) = state.waiting.pop_front() {
                return Some(waiting);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes out all jobs that are withdrawn or too late.
    pub(crate) fn sweep(&self, now: Instant) -> Vec<Waiting> {
        let mut state = self.lock();
        let gone = |waiting: &Waiting| waiting.job.is_over(now).is_some();
        if !state.waiting.iter().any(gone) {
            return Vec::new();
        }
        let (over, waiting) = std::mem::take(&mut state.waiting).into_iter().partition(gone);
        state.waiting = waiting;
        Vec::from(over)
    }

    /// Takes no further jobs; those waiting stay.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// A panic while the lock is held leaves a whole queue behind: nothing between lock and unlock can break it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
