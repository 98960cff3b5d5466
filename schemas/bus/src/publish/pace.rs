//! What the server takes for singles and for batches, learned from its acknowledgements.
//!
//! A single that costs an fsync is dear, and a batch shares one fsync among many; one that costs none is cheap, and batches, for
//! which the server opens a store of its own, gain nothing. How long a single takes does not tell which: on a busy machine it
//! waits for its turn as long as for a disk. What tells is whether more go through when more are on their way. An fsync comes
//! after the other; waiting for a turn is shared. Until there was a crowd to tell by, singles count as dear, as they are where
//! a cell is deployed as it should be, unless some that were alone came back faster than any fsync.

use std::time::Duration;

use tokio::time::Instant;

/// Singles on their way at once while each costs an fsync, or it is not known, count.
pub(super) const NARROW: usize = 32;
/// The same while it is tried whether more go through, count.
pub(super) const WIDER: usize = 128;
/// The same where they are cheap, count.
pub(super) const WIDE: usize = 1_024;
/// Singles that go through this fast cost no fsync. Measured: 7-12 us without and 270-550 us with one.
const CHEAP: Duration = Duration::from_micros(60);
/// Singles that go through this slowly cost one, however many more go through a wider window: a disk is noisy.
const DEAR: Duration = Duration::from_micros(180);
/// How many times more must go through the wider window; a server that syncs each single gives the same.
const GAIN: f64 = 3.0;
/// What a single costs until it is known.
const ASSUMED: Duration = Duration::from_micros(300);
/// A single that was alone and came back within this cost no fsync.
const QUICK: Duration = Duration::from_micros(200);
/// The share of singles that must do so; on a busy machine most wait for their turn.
const QUICK_SHARE: f64 = 0.05;
/// Weight of a new one in that share.
const QUICK_NEWEST: f64 = 1.0 / 128.0;
/// What a batch may cost of the time that its messages would take as singles: it also spares the server their work.
const BATCH_WORTH: f64 = 2.0;
/// Shortest time that a rate is measured over.
const EPOCH: Duration = Duration::from_millis(20);
/// Fewest acknowledgements that a rate is measured over, count.
const EPOCH_ACKS: u32 = 16;
/// How long what was learned counts: disks and machines change.
const KNOWN: Duration = Duration::from_secs(5);
/// The same of singles that are dear: to learn it anew, a crowd has to go as singles.
const KNOWN_DEAR: Duration = Duration::from_secs(30);
/// What a batch costs until one was measured.
const BATCH_FIRST: Duration = Duration::from_millis(4);
/// Weight of a new measurement of a batch.
const NEWEST: f64 = 0.1;

/// What was learned.
#[derive(Debug)]
pub(super) struct Pace {
    singles: Singles,
    epoch: Epoch,
    known_at: Option<Instant>,
    batch: Duration,
    batch_at: Option<Instant>,
    /// Share of lone singles that were quick.
    quick: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Singles {
    /// Measured in the narrow window.
    Unknown,
    /// Slow in the narrow window, where so many a second went through; measured in the wider one.
    Slow(f64),
    Cheap,
    /// Each costs the server this long.
    Dear(Duration),
}

/// Acknowledgements while more messages waited than could go.
#[derive(Debug, Default)]
struct Epoch {
    began: Option<Instant>,
    /// Time of crowds before this one.
    before: Duration,
    acks: u32,
    /// Acknowledgements to come that belong to the window before.
    skip: usize,
}

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Self {
            singles: Singles::Unknown,
            epoch: Epoch::default(),
            known_at: None,
            batch: BATCH_FIRST,
            batch_at: None,
            quick: 0.0,
        }
    }
}

impl Pace {
    /// Singles that may be on their way at once.
    pub(super) fn window(&self) -> usize {
        match self.singles {
            Singles::Unknown | Singles::Dear(_) => NARROW,
            Singles::Slow(_) => WIDER,
            Singles::Cheap => WIDE,
        }
    }

    /// Whether a crowd is needed to know more.
    pub(super) fn is_learning(&self) -> bool {
        matches!(self.singles, Singles::Unknown | Singles::Slow(_))
    }

    /// What a single costs the server, where it is known or to be assumed that each costs an fsync.
    fn dear(&self) -> Option<Duration> {
        match self.singles {
            Singles::Dear(single) => Some(single),
            Singles::Unknown | Singles::Slow(_) => (self.quick < QUICK_SHARE).then_some(ASSUMED),
            Singles::Cheap => None,
        }
    }

    /// Whether a batch of `count` costs the server less than as many singles.
    pub(super) fn batch_pays_off(&self, now: Instant, count: usize) -> bool {
        let known = self.batch_at.is_some_and(|at| now.saturating_duration_since(at) < KNOWN);
        let batch = if known { self.batch } else { BATCH_FIRST };
        self.dear().is_some_and(|single| single.mul_f64(count as f64 * BATCH_WORTH) > batch)
    }

    /// A batch was taken so long after it was sent as one of `together`.
    pub(super) fn batch_taken(&mut self, now: Instant, elapsed: Duration, together: usize) {
        let each = elapsed / u32::try_from(together.max(1)).unwrap_or(u32::MAX);
        self.batch = self.batch.mul_f64(1.0 - NEWEST) + each.mul_f64(NEWEST);
        self.batch_at = Some(now);
    }

    /// A single was taken that was alone on its way.
    pub(super) fn lone_taken(&mut self, elapsed: Duration) {
        let quick = if elapsed < QUICK { 1.0 } else { 0.0 };
        self.quick += (quick - self.quick) * QUICK_NEWEST;
    }

    /// A single was taken. It tells what singles cost only while others wait for room (`crowded`).
    pub(super) fn single_taken(&mut self, now: Instant, crowded: bool) {
        let known = if matches!(self.singles, Singles::Dear(_)) { KNOWN_DEAR } else { KNOWN };
        if self.known_at.is_some_and(|at| now.duration_since(at) > known) {
            // What is on its way of the window before tells nothing of the next.
            self.epoch = Epoch { skip: self.window(), ..Epoch::default() };
            self.singles = Singles::Unknown;
            self.known_at = None;
        }
        if !crowded {
            self.epoch.pause(now);
            return;
        }
        let measured = match self.singles {
            Singles::Unknown | Singles::Slow(_) => self.epoch.acked(now),
            Singles::Cheap | Singles::Dear(_) => None,
        };
        let Some(rate) = measured else { return };
        let cheap = rate * CHEAP.as_secs_f64() > 1.0;
        match self.singles {
            Singles::Unknown if !cheap => {
                self.singles = Singles::Slow(rate);
                self.epoch = Epoch { skip: NARROW, ..Epoch::default() };
            }
            Singles::Slow(narrow) if !cheap && (rate < narrow * GAIN || rate * DEAR.as_secs_f64() < 1.0) => {
                self.singles = Singles::Dear(Duration::from_secs_f64(1.0 / rate));
                self.known_at = Some(now);
            }
            _ => {
                self.singles = Singles::Cheap;
                self.known_at = Some(now);
            }
        }
    }
}

// === impl Epoch ===

impl Epoch {
    /// The crowd is over; the next one goes on counting.
    fn pause(&mut self, now: Instant) {
        if let Some(began) = self.began.take() {
            self.before += now.saturating_duration_since(began);
        }
    }

    /// Counts an acknowledgement; the rate a second once there are enough over enough time.
    fn acked(&mut self, now: Instant) -> Option<f64> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let began = *self.began.get_or_insert(now);
        let elapsed = self.before + now.duration_since(began);
        if elapsed >= EPOCH && self.acks >= EPOCH_ACKS {
            return Some(f64::from(self.acks) / elapsed.as_secs_f64());
        }
        self.acks += 1;
        None
    }
}

#[cfg(test)]
mod tests;
