//! What waits for one stream, and what may go now: a pure decision of the queue, what is on its way, and the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::BATCH_BYTES_MAX;
use super::pace::{Pace, WIDE};
use crate::config::PublishMode;

/// From this many waiting on, batches may pay off, count.
const BATCH_FROM: usize = 32;
/// Messages of one batch (the server's limit is the same), count.
const BATCH_MESSAGES_MAX: usize = 1_000;
/// Batches on their way at once, count.
const BATCHES_MAX: usize = 2;
/// Longest wait for a batch to fill while nothing is on its way.
const LINGER_IDLE: Duration = Duration::from_millis(2);
/// Longest wait for a batch to fill while another is on its way.
const LINGER_BUSY: Duration = Duration::from_millis(10);
/// What the queue has to know of an entry.
pub(super) trait Sized {
    /// Bytes it counts for in a batch.
    fn bytes(&self) -> usize;
    /// Whether it may not be part of a batch.
    fn alone(&self) -> bool;
    /// When it was handed over.
    fn since(&self) -> Instant;
}

/// Messages of one stream that wait.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: VecDeque<T>,
    alone: VecDeque<T>,
    singles: usize,
    batches: usize,
    pace: Pace,
    mode: PublishMode,
}

/// What may go now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Move<T> {
    /// Publish this one.
    Single(T),
    /// Publish these as one atomic batch.
    Batch(Vec<T>),
    /// Look again then.
    WaitUntil(Instant),
    /// Look again when something comes or returns.
    Nothing,
}

impl<T: Sized> Queue<T> {
    pub(super) fn new(mode: PublishMode) -> Self {
        let pace = Pace::default();
        Self { waiting: VecDeque::new(), alone: VecDeque::new(), singles: 0, batches: 0, pace, mode }
    }

    pub(super) fn push(&mut self, entry: T) {
        if entry.alone() { self.alone.push_back(entry) } else { self.waiting.push_back(entry) }
    }

    /// Adds an entry that may not be part of a batch (any more).
    pub(super) fn push_alone(&mut self, entry: T) {
        self.alone.push_back(entry);
    }

    /// A single or a batch is no longer on its way.
    pub(super) fn returned(&mut self, batch: bool) {
        let count = if batch { &mut self.batches } else { &mut self.singles };
        *count = count.saturating_sub(1);
    }

    /// How many of its kind are on their way.
    pub(super) fn on_their_way(&self, batch: bool) -> usize {
        if batch { self.batches } else { self.singles }
    }

    /// A batch was taken so long after it was sent as one of `together`.
    pub(super) fn batch_taken(&mut self, elapsed: Duration, together: usize) {
        self.pace.batch_taken(elapsed, together);
    }

    /// A single was taken.
    pub(super) fn single_taken(&mut self, now: Instant) {
        self.pace.single_taken(now, !self.waiting.is_empty());
    }

    /// Nothing waits and nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.alone.is_empty() && self.singles == 0 && self.batches == 0
    }

    /// Takes out what has waited too long.
    pub(super) fn expired(&mut self, is_expired: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for list in [&mut self.waiting, &mut self.alone] {
            while list.front().is_some_and(&is_expired) {
                out.extend(list.pop_front());
            }
        }
        out
    }

    pub(super) fn next_move(&mut self, now: Instant) -> Move<T> {
        if self.singles < self.singles_max()
            && let Some(entry) = self.alone.pop_front()
        {
            self.singles += 1;
            return Move::Single(entry);
        }
        let Some(oldest) = self.waiting.front().map(Sized::since) else {
            return Move::Nothing;
        };
        let (count, full) = self.batch_size();
        if !self.pays_off(count) {
            return self.single();
        }
        if self.batches >= BATCHES_MAX {
            return Move::Nothing;
        }
        let linger = if self.batches == 0 { LINGER_IDLE } else { LINGER_BUSY };
        if !full && now < oldest + linger {
            return Move::WaitUntil(oldest + linger);
        }
        self.batches += 1;
        Move::Batch(self.waiting.drain(..count).collect())
    }

    fn pays_off(&self, count: usize) -> bool {
        count >= BATCH_FROM
            && match self.mode {
                PublishMode::Adaptive => self.pace.batch_pays_off(count),
                PublishMode::Singles => false,
                PublishMode::Batches => true,
            }
    }

    fn singles_max(&self) -> usize {
        if self.mode == PublishMode::Singles { WIDE } else { self.pace.window() }
    }

    fn single(&mut self) -> Move<T> {
        if self.singles >= self.singles_max() {
            return Move::Nothing;
        }
        match self.waiting.pop_front() {
            Some(entry) => {
                self.singles += 1;
                Move::Single(entry)
            }
            None => Move::Nothing,
        }
    }

    /// How many of those waiting fit one batch, and whether no more would.
    fn batch_size(&self) -> (usize, bool) {
        let mut bytes = 0;
        for (count, entry) in self.waiting.iter().enumerate() {
            bytes += entry.bytes();
            if count == BATCH_MESSAGES_MAX || (bytes > BATCH_BYTES_MAX && count > 0) {
                return (count, true);
            }
        }
        (self.waiting.len(), self.waiting.len() == BATCH_MESSAGES_MAX || bytes >= BATCH_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests;
