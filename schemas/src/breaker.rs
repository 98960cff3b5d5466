//! Circuit breakers: whether a destination that kept failing is tried again. A pure state machine, one a destination, kept as a
//! value of bucket [`BREAKERS_BUCKET`] and changed by compare-and-set, so that all workers and routers see one state.
//!
//! ```text
//! closed ──(FAILURES_MAX tasks failed in a row)─▶ open ──(its time is over: one probe)──▶ probing
//!    ▲                                           ▲                                        │ │
//!    └───────────────(a probe is answered)───────┼────────────────────────────────────────┘ │
//!                                                └──────────(the probe fails: for longer)────┘
//! ```
//!
//! A state is of one place: provider, endpoint and model as the worker calls them. What another place does is nothing to it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{Name, TaskId};

#[cfg(test)]
mod tests;

/// The bucket of breakers.
pub const BREAKERS_BUCKET: &str = "breakers";
/// Tasks whose attempts failed in a row that open a breaker, count. Those of one task count once: its content may be the fault.
pub const FAILURES_MAX: u32 = 5;
/// How long it is open the first time, milliseconds; it doubles each time a probe fails.
pub const OPEN_MS: i64 = 15_000;
/// The longest that it is open, milliseconds.
pub const OPEN_MS_MAX: i64 = 300_000;
/// How long a probe keeps others out, milliseconds: as long as its worker may be dead.
pub const PROBE_MS: i64 = 60_000;

/// Where attempts go: what a worker calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The provider.
    pub provider: Name,
    /// Which base URL of the worker's allow-list.
    pub endpoint: Name,
    /// The model there.
    pub model: String,
}

/// A place that is not tried, until then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Broken {
    /// Which.
    pub place: Place,
    /// When it may be tried again.
    pub until: Timestamp,
}

/// One place's breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Version of this form; 1, and no other is read.
    #[serde(deserialize_with = "crate::json::version_one")]
    pub schema_version: u32,
    /// Which place.
    pub place: Place,
    /// Tasks whose attempts failed since it was answered last, count.
    pub failures: u32,
    /// Which, while it is closed; absent in what was written before they were told apart.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub failed: BTreeSet<TaskId>,
    /// Times it opened since it was closed last, count.
    pub trips: u32,
    /// Where it stands.
    pub state: State,
}

/// Where a breaker stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Attempts go through.
    Closed,
    /// None does.
    Open {
        /// Until then.
        until: Timestamp,
    },
    /// One attempt tries it.
    Probing {
        /// Which.
        probe: String,
        /// Another may when nothing was heard of it until then.
        until: Timestamp,
    },
}

/// Whether an attempt may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go,
    /// It may, and is the probe.
    Probe,
    /// It may not before then.
    Wait(Timestamp),
}

/// An attempt, as it speaks of its place.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Its id: another one for each delivery of its work.
    pub id: &'a str,
    /// Its task.
    pub task: TaskId,
    /// Whether it was admitted as a probe.
    pub is_probe: bool,
}

/// What an attempt says of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Up,
    /// It does not, or by an error of its own.
    Down,
    /// Nothing.
    Unknown,
}

// === impl Place ===

impl Place {
    /// Key of its breaker in [`BREAKERS_BUCKET`]: models have names that no key may have.
    #[must_use]
    pub fn key(&self) -> String {
        // The parts are told apart by a byte that no name holds.
        let all = format!("{}\0{}\0{}", self.provider, self.endpoint, self.model);
        format!("{}.{}", self.provider, Digest::plain(all.as_bytes()))
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            schema_version: 1,
            place,
            failures: 0,
            failed: BTreeSet::new(),
            trips: 0,
            state: State::Closed,
        }
    }

    /// Whether an attempt may go, which is the probe from then on where one is due.
    pub fn admit(&mut self, probe: &str, now: Timestamp) -> Admission {
        match &self.state {
            State::Closed => Admission::Go,
            // Its own write, whose answer was lost.
            State::Probing { probe: own, .. } if own == probe => Admission::Probe,
            State::Open { until } | State::Probing { until, .. } if now < *until => Admission::Wait(*until),
            State::Open { .. } | State::Probing { .. } => {
                self.state = State::Probing { probe: probe.to_owned(), until: after(now, PROBE_MS) };
                Admission::Probe
            }
        }
    }

    /// What an attempt said. In a breaker that is not closed only probes count: others began before. An answer to any of them
    /// closes it, also to one that took longer than it kept others out; of failures only that of the newest counts.
    pub fn heard(&mut self, attempt: Attempt<'_>, health: Health, now: Timestamp) {
        let is_newest = matches!(&self.state, State::Probing { probe, .. } if probe == attempt.id);
        match (&self.state, health) {
            (State::Closed, Health::Up) => (self.failures, self.failed) = (0, BTreeSet::new()),
            (State::Closed, Health::Down) => {
                // A write whose answer was lost comes again, and counts once too.
                if self.failed.insert(attempt.task) {
                    self.failures = self.failures.saturating_add(1);
                }
                if self.failures >= FAILURES_MAX {
                    self.open(now);
                }
            }
            (State::Open { .. } | State::Probing { .. }, Health::Up) if attempt.is_probe => {
                *self = Self::new(self.place.clone());
            }
            (State::Probing { .. }, Health::Down) if is_newest => self.open(now),
            // Another one may try at once.
            (State::Probing { .. }, Health::Unknown) if is_newest => self.state = State::Open { until: now },
            _ => {}
        }
    }

    /// That it is not to be tried now, where it is so.
    #[must_use]
    pub fn broken(&self, now: Timestamp) -> Option<Broken> {
        let until = match &self.state {
            State::Closed => return None,
            State::Open { until } | State::Probing { until, .. } => *until,
        };
        (now < until).then(|| Broken { place: self.place.clone(), until })
    }

    /// Whether it is closed and nothing has failed since it was answered.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.state == State::Closed && self.failures == 0
    }

    fn open(&mut self, now: Timestamp) {
        let ms = OPEN_MS.saturating_mul(1_i64.checked_shl(self.trips.min(16)).unwrap_or(1)).min(OPEN_MS_MAX);
        self.trips = self.trips.saturating_add(1);
        self.failed.clear();
        self.state = State::Open { until: after(now, ms) };
    }
}

fn after(now: Timestamp, ms: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_millis(ms)).unwrap_or(Timestamp::MAX)
}
