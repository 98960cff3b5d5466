//! What waits for one stream, and what may go now: a pure decision of the queue, what is on its way, and the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::BATCH_BYTES_MAX;
use super::pace::{Pace, WIDE};
use crate::config::PublishMode;

/// From this many waiting on, batches may pay off, count.
const BATCH_FROM: usize = 16;
/// From this many waiting on, it is found out whether they do, count.
const CROWD: usize = 64;
/// Shortest time over which arrivals are counted.
const ARRIVALS_OVER: Duration = Duration::from_millis(100);
/// Messages of one batch (the server's limit is the same), count.
const BATCH_MESSAGES_MAX: usize = 1_000;
/// Batches on their way at once, count.
const BATCHES_MAX: usize = 2;
/// Longest wait for a batch to fill while nothing is on its way; and for the next message, whatever is.
const LINGER_IDLE: Duration = Duration::from_millis(2);
/// Longest wait for a batch to fill while another is on its way, or many come.
const LINGER_BUSY: Duration = Duration::from_millis(10);

/// The same while a backlog waits at the server: it is what others wait for, not this.
const LINGER_BEHIND: Duration = Duration::from_millis(30);

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
    /// Bytes of those that wait.
    bytes: usize,
    alone: VecDeque<T>,
    singles: usize,
    batches: usize,
    pace: Pace,
    mode: PublishMode,
    arrivals: Arrivals,
    /// A crowd goes as singles, to find out what they cost.
    learning: bool,
}

/// How many messages come.
#[derive(Debug, Default)]
struct Arrivals {
    since: Option<Instant>,
    count: u32,
    /// Messages a second, of the last span that was long enough.
    rate: f64,
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
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            alone: VecDeque::new(),
            singles: 0,
            batches: 0,
            pace: Pace::default(),
            mode,
            arrivals: Arrivals::default(),
            learning: false,
        }
    }

    pub(super) fn push(&mut self, entry: T) {
        if entry.alone() {
            self.alone.push_back(entry);
        } else {
            self.arrivals.came(entry.since());
            self.bytes += entry.bytes();
            self.waiting.push_back(entry);
        }
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
    pub(super) fn batch_taken(&mut self, now: Instant, elapsed: Duration, together: usize) {
        self.pace.batch_taken(now, elapsed, together);
    }

    /// A single was taken so long after it was sent as one of `together`.
    pub(super) fn single_taken(&mut self, now: Instant, elapsed: Duration, together: usize) {
        if together == 1 {
            self.pace.lone_taken(elapsed);
        }
        // What lingers for a batch waits for no room.
        self.pace.single_taken(now, self.learning && !self.waiting.is_empty());
    }

    /// Nothing waits and nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.alone.is_empty() && self.singles == 0 && self.batches == 0
    }

    /// Takes out what has waited too long.
    pub(super) fn expired(&mut self, is_expired: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        while self.waiting.front().is_some_and(&is_expired) {
            out.extend(self.take_one());
        }
        while self.alone.front().is_some_and(&is_expired) {
            out.extend(self.alone.pop_front());
        }
        out
    }

    /// What may go now. `behind` says that more waits at the server than is worked on.
    pub(super) fn next_move(&mut self, now: Instant, behind: bool) -> Move<T> {
        if self.singles < self.singles_max()
            && let Some(entry) = self.alone.pop_front()
        {
            self.singles += 1;
            return Move::Single(entry);
        }
        let Some(oldest) = self.waiting.front().map(Sized::since) else {
            self.learning = false;
            return Move::Nothing;
        };
        if self.learns() || !self.pays_off(now, self.waiting.len()) && !self.gathers(now, behind) {
            return self.single();
        }
        let ((count, full), gathers) = (self.batch_size(), self.gathers(now, behind));
        if !gathers && !self.pays_off(now, count) {
            return self.single();
        }
        let (linger, gap) = match (gathers, behind) {
            (true, true) => (LINGER_BEHIND, LINGER_BUSY),
            (true, false) => (LINGER_BUSY, LINGER_IDLE),
            (false, _) if self.batches > 0 => (LINGER_BUSY, LINGER_IDLE),
            (false, _) => (LINGER_IDLE, LINGER_IDLE),
        };
        // When no more come, nobody is waited for.
        let newest = self.waiting.back().map_or(oldest, Sized::since);
        let until = (oldest + linger).min(newest + gap);
        if !full && now < until {
            return Move::WaitUntil(until);
        }
        if !self.pays_off(now, count) {
            return self.single();
        }
        if self.batches >= BATCHES_MAX {
            return Move::Nothing;
        }
        self.batches += 1;
        let batch: Vec<T> = self.waiting.drain(..count).collect();
        self.bytes -= batch.iter().map(Sized::bytes).sum::<usize>();
        Move::Batch(batch)
    }

    /// Whether so many come that waiting for them makes a batch that pays off.
    fn gathers(&self, now: Instant, behind: bool) -> bool {
        let linger = if behind { LINGER_BEHIND } else { LINGER_BUSY };
        let expected = self.arrivals.within(LINGER_BUSY);
        // A count that no longer fits exactly is far beyond what pays off.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive estimate"
        )]
        let together = self.arrivals.within(linger) as usize;
        self.mode == PublishMode::Adaptive && expected >= BATCH_FROM as f64 && self.pays_off(now, together)
    }

    /// Whether there is a crowd that tells what singles cost, while that is not known. It goes to its last.
    fn learns(&mut self) -> bool {
        let crowd = self.learning || self.waiting.len() >= CROWD;
        self.learning = crowd && self.mode == PublishMode::Adaptive && self.pace.is_learning();
        self.learning
    }

    fn pays_off(&self, now: Instant, count: usize) -> bool {
        count >= BATCH_FROM
            && match self.mode {
                PublishMode::Adaptive => self.pace.batch_pays_off(now, count),
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
        match self.take_one() {
            Some(entry) => {
                self.singles += 1;
                Move::Single(entry)
            }
            None => Move::Nothing,
        }
    }

    fn take_one(&mut self) -> Option<T> {
        let entry = self.waiting.pop_front()?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    /// How many of those waiting fit one batch, and whether no more would.
    fn batch_size(&self) -> (usize, bool) {
        if self.waiting.len() < BATCH_MESSAGES_MAX && self.bytes < BATCH_BYTES_MAX {
            return (self.waiting.len(), false);
        }
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

// === impl Arrivals ===

impl Arrivals {
    fn came(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= ARRIVALS_OVER {
            self.rate = f64::from(self.count) / elapsed.as_secs_f64();
            (self.since, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
    }

    /// How many come within this time.
    fn within(&self, span: Duration) -> f64 {
        self.rate * span.as_secs_f64()
    }
}

#[cfg(test)]
mod tests;
