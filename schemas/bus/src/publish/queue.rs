//! What waits for one stream, and what may go now: a pure decision of the queue, what is on its way, and the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::BATCH_BYTES_MAX;
use crate::config::PublishMode;

/// Single publishes on their way at once while each of them costs an fsync, count.
const SINGLES_MAX: usize = 32;
/// Single publishes on their way at once where they are cheap, count.
const CHEAP_SINGLES_MAX: usize = 1_024;
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
/// A single that takes the server less than this costs no fsync: batches, for which the server opens a store of its own, gain nothing
/// then. Measured: 7-12 us without and 270-550 us with an fsync.
const CHEAP_SINGLE: Duration = Duration::from_micros(60);
/// What a batch costs until one was measured.
const BATCH_COST_FIRST: Duration = Duration::from_millis(4);
/// Singles that must be on their way together for their time to tell what one costs, count.
const TELLING: usize = 8;
/// Weight of a new measurement.
const NEWEST: f64 = 0.1;

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

/// What the server takes for a single and for a batch, as the last ones showed.
#[derive(Debug)]
struct Pace {
    single: Option<Duration>,
    batch: Duration,
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
        let pace = Pace { single: None, batch: BATCH_COST_FIRST };
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

    /// Learns from one that was taken `elapsed` after it was sent as one of `together`. While several are on their way, the time
    /// of one divided by their number is what the server works on it.
    pub(super) fn learn(&mut self, batch: bool, elapsed: Duration, together: usize) {
        let each = elapsed / u32::try_from(together.max(1)).unwrap_or(u32::MAX);
        let mix = |old: Duration| old.mul_f64(1.0 - NEWEST) + each.mul_f64(NEWEST);
        if batch {
            self.pace.batch = mix(self.pace.batch);
        } else if together >= TELLING {
            self.pace.single = Some(self.pace.single.map_or(each, mix));
        }
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

    /// Whether a batch of `count` takes the server less time than as many singles.
    fn pays_off(&self, count: usize) -> bool {
        let dear = self.pace.single.filter(|single| *single >= CHEAP_SINGLE);
        count >= BATCH_FROM
            && match self.mode {
                PublishMode::Adaptive => {
                    dear.is_some_and(|single| single.mul_f64(count as f64) > self.pace.batch)
                }
                PublishMode::Singles => false,
                PublishMode::Batches => true,
            }
    }

    fn singles_max(&self) -> usize {
        let cheap = self.pace.single.is_some_and(|single| single < CHEAP_SINGLE);
        if cheap || self.mode == PublishMode::Singles { CHEAP_SINGLES_MAX } else { SINGLES_MAX }
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
