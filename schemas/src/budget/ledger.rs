//! What one budget has used: a pure state machine, kept as one value of a bucket and changed by compare-and-set.
//!
//! ```text
//! reserve(id, most) ─▶ New │ Known │ Refused(spent)      settle(id, used)      release(id)
//! ```
//!
//! INVARIANT: what is used and what is reserved in a window are together never above its limit, as long as each reservation is as
//! much as its attempt can use. Who reserved and was never heard of again stays counted until the window ends.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Amounts, Caps, Scope, Spent, Unit, Window};

#[cfg(test)]
mod tests;

/// Reservations that one ledger holds, count. Beyond it the oldest counts as used, and can no more be settled.
pub const RESERVATIONS_MAX: usize = 1_024;

/// What one budget has used, and what is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Version of this form; 1, and no other is read.
    #[serde(deserialize_with = "crate::json::version_one")]
    pub schema_version: u32,
    /// Whose.
    pub of: Scope,
    /// What was used in the newest window of each length.
    pub windows: BTreeMap<Window, Counted>,
    /// What is reserved, by id.
    pub open: BTreeMap<String, Reservation>,
    /// Sequence in EVENTS of the act by which it began anew, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<u64>,
}

/// What was used in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// When it began.
    pub start: Timestamp,
    /// What was settled in it.
    pub used: Amounts,
}

/// What an attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The delivery that made it, or took it over.
    pub by: u64,
    /// When.
    pub at: Timestamp,
    /// The most that the attempt can use.
    pub most: Amounts,
}

/// What became of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// It was made.
    New,
    /// An earlier delivery had made it; it is this one's now.
    Known,
    /// There is no room.
    Refused(Spent),
}

// === impl Ledger ===

impl Ledger {
    /// One that has counted nothing.
    #[must_use]
    pub fn new(of: Scope) -> Self {
        Self { schema_version: 1, of, windows: BTreeMap::new(), open: BTreeMap::new(), reset: None }
    }

    /// Reserves `most` under an id, by the delivery `by`, if all limits leave room. The same id is counted once.
    pub fn reserve(&mut self, caps: &Caps, id: &str, by: u64, most: Amounts, now: Timestamp) -> Reserved {
        self.roll(caps, now);
        let known = self.open.get(id).copied();
        let most = known.map_or(most, |held| held.most);
        let at = self.latest().max(now);
        if let Some(held) = known.filter(|held| self.is_in_all(held)) {
            self.open.insert(id.to_owned(), Reservation { by, ..held });
            return Reserved::Known;
        }
        // One that an earlier window counts goes on counting there, and needs room in the windows that are new since.
        let besides = |window: &Counted| self.total(window, known.map(|_| id));
        if let Some(spent) = self.full(caps, besides, most) {
            return Reserved::Refused(spent);
        }
        self.open.insert(id.to_owned(), Reservation { by, at, most });
        self.fold();
        if known.is_some() { Reserved::Known } else { Reserved::New }
    }

    /// Puts what was used in the place of what was reserved. Says whether there was something reserved.
    pub fn settle(&mut self, id: &str, used: Amounts) -> bool {
        let Some(held) = self.open.remove(id) else { return false };
        self.count(&held, used);
        true
    }

    /// Takes back what this delivery reserved: nothing left. What another one took over meanwhile stays.
    pub fn release(&mut self, id: &str, by: u64) -> bool {
        let is_own = self.open.get(id).is_some_and(|held| held.by == by);
        is_own && self.open.remove(id).is_some()
    }

    /// The limit that leaves no room for anything, of several the one that stays so longest.
    #[must_use]
    pub fn spent(&self, caps: &Caps, now: Timestamp) -> Option<Spent> {
        let mut rolled = self.clone();
        rolled.roll(caps, now);
        let any = |unit| Amounts {
            requests: u64::from(unit == Unit::Requests),
            tokens: u64::from(unit == Unit::Tokens),
            usd_micros: u64::from(unit == Unit::UsdMicros),
        };
        let full = Unit::ALL.map(|unit| rolled.full(caps, |window| rolled.total(window, None), any(unit)));
        full.into_iter().flatten().max_by_key(|spent| (spent.never, spent.until))
    }

    /// What counts in a window now: used and reserved.
    #[must_use]
    pub fn counts(&self, window: Window, now: Timestamp) -> Amounts {
        let start = window.start(now);
        let counted = self.windows.get(&window).filter(|counted| counted.start >= start);
        counted.map(|counted| self.total(counted, None)).unwrap_or_default()
    }

    /// Begins the windows that this moment lies in. A window never goes back: whose clock is behind counts in the newest one.
    fn roll(&mut self, caps: &Caps, now: Timestamp) {
        for window in Window::ALL {
            if !caps.contains_key(&window) && !self.windows.contains_key(&window) {
                continue;
            }
            let begun = Counted { start: window.start(now), used: Amounts::default() };
            let counted = self.windows.entry(window).or_insert(begun);
            if counted.start < begun.start {
                *counted = begun;
            }
        }
        let oldest = self.windows.values().map(|counted| counted.start).min();
        self.open.retain(|_, held| oldest.is_some_and(|oldest| held.at >= oldest));
    }

    /// The newest moment that a window began.
    fn latest(&self) -> Timestamp {
        self.windows.values().map(|counted| counted.start).max().unwrap_or(Timestamp::MIN)
    }

    fn is_in_all(&self, held: &Reservation) -> bool {
        held.at >= self.latest()
    }

    /// What counts in a window, without one reservation.
    fn total(&self, window: &Counted, without: Option<&str>) -> Amounts {
        let open =
            self.open.iter().filter(|(id, held)| held.at >= window.start && without != Some(id.as_str()));
        open.fold(window.used, |sum, (_, held)| sum.plus(held.most))
    }

    /// The limit that `more` would pass, of several one that no window has room for, else the one whose window ends last.
    fn full(&self, caps: &Caps, total: impl Fn(&Counted) -> Amounts, more: Amounts) -> Option<Spent> {
        let mut found: Option<Spent> = None;
        for (window, cap) in caps {
            let Some(counted) = self.windows.get(window) else { continue };
            let after = total(counted).plus(more);
            for unit in Unit::ALL {
                // What asks for nothing of a unit is not stopped by its limit.
                let passes = more.of(unit) > 0 && cap.of(unit).is_some_and(|most| after.of(unit) > most);
                let until = window.end(counted.start);
                let never = cap.of(unit).is_some_and(|most| more.of(unit) > most);
                if passes && found.as_ref().is_none_or(|found| (found.never, found.until) < (never, until)) {
                    found = Some(Spent { of: self.of.clone(), window: *window, unit, until, never });
                }
            }
        }
        found
    }

    fn count(&mut self, held: &Reservation, used: Amounts) {
        for counted in self.windows.values_mut().filter(|counted| held.at >= counted.start) {
            counted.used = counted.used.plus(used);
        }
    }

    /// Keeps the ledger small: what is never settled counts as used.
    fn fold(&mut self) {
        while self.open.len() > RESERVATIONS_MAX {
            let oldest =
                self.open.iter().min_by_key(|(_, held)| held.at).map(|(id, held)| (id.clone(), *held));
            let Some((id, held)) = oldest else { return };
            self.open.remove(&id);
            self.count(&held, held.most);
        }
    }
}
