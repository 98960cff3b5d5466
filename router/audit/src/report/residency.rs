//! Residency: which regions records of each data class reached, and whether a claim about it holds.
//!
//! Fails closed. Work counts from its dispatch on, whether or not anybody took it; an attempt counts by its own record,
//! whatever became of it. What cannot be tied to a decision, was changed, or was never seen leaves every claim unproven.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::subject::Lane;

use super::counts::{Capped, Indices, Span};
use super::places::UNKNOWN;
use crate::leaf::{Detail, Leaf, PhaseWord};

/// Every data class, the least restricted first.
const CLASSES: [Sensitivity; 4] =
    [Sensitivity::Public, Sensitivity::Internal, Sensitivity::Confidential, Sensitivity::Restricted];
/// Offending records that are named.
const OFFENCES_MAX: usize = 20;

/// Where records of one class went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Residency {
    /// Data class.
    pub class: Sensitivity,
    /// Regions that were claimed; absent where nothing was.
    pub within: Option<BTreeSet<Name>>,
    /// What the record says to that.
    pub verdict: Verdict,
    /// Regions that were reached.
    pub reached: Vec<Reached>,
    /// Records that reached another region than those claimed, count.
    pub outside: u64,
    /// The first of those, at most 20.
    pub offences: Vec<Offence>,
}

/// What the record says to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was claimed; the regions are told as they are.
    Told,
    /// No record reached a destination outside.
    Holds,
    /// At least one did.
    Broken,
    /// None that was seen did, and not everything could be seen.
    Unproven,
    /// None did by the records as they stand, and no signed checkpoint was held against them: nobody vouches for them.
    NotShown,
}

/// What vouches for the records that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// They give the root of a signed checkpoint.
    Signed,
    /// No checkpoint was held against them.
    Unsigned,
    /// A checkpoint was signed over other records.
    Forged,
}

/// One region that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// The region.
    pub region: String,
    /// Inside or outside the boundary.
    pub lane: Lane,
    /// Works dispatched to it.
    pub dispatched: u64,
    /// Attempts begun there.
    pub attempts: u64,
    /// Indices of those records.
    pub indices: Option<Span<u64>>,
    /// Times of those records.
    pub times: Option<Span<Timestamp>>,
}

/// One record that reached a region outside those claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offence {
    /// Its index.
    pub index: u64,
    /// The region.
    pub region: String,
}

#[derive(Debug, Default)]
struct Went {
    dispatched: u64,
    attempts: u64,
    indices: Option<Span<u64>>,
    times: Option<Span<Timestamp>>,
}

/// Residency while it is counted.
#[derive(Debug, Default)]
pub(super) struct Residencies {
    within: BTreeMap<Sensitivity, BTreeSet<Name>>,
    went: Capped<(Sensitivity, String, Lane), Went>,
    outside: BTreeMap<Sensitivity, (u64, Vec<Offence>)>,
    /// Works and attempts that cannot be tied to a decision.
    pub(super) unattributed: Indices,
    /// Messages of the streams of works and attempts that were never seen, noticed since the month began.
    pub(super) unseen: u64,
}

// === impl Residencies ===

impl Residencies {
    pub(super) fn new(within: BTreeMap<Sensitivity, BTreeSet<Name>>) -> Self {
        Self { within, ..Self::default() }
    }

    /// A work that was dispatched.
    pub(super) fn dispatched(&mut self, work: &Leaf) {
        self.went(work, work, |went| went.dispatched += 1);
    }

    /// An attempt on a work; any phase of it.
    pub(super) fn attempt(&mut self, work: &Leaf, attempt: &Leaf) {
        let begun = matches!(&attempt.detail, Some(Detail::Attempt { phase: PhaseWord::Started, .. }));
        self.went(work, attempt, |went| went.attempts += u64::from(begun));
    }

    fn went(&mut self, work: &Leaf, record: &Leaf, count: impl Fn(&mut Went)) {
        let (Some(decision), Some(Detail::Work { lane, .. })) = (&work.decision, &work.detail) else {
            self.unattributed.add(record.index);
            return;
        };
        let region = decision.region.as_ref().map_or(UNKNOWN, |region| region.as_str());
        if let Some(went) = self.went.at((decision.sensitivity, region.to_owned(), *lane)) {
            count(went);
            went.indices = Span::with(went.indices, record.index);
            went.times = Span::with(went.times, record.time);
        }
        // A region that is not named lies within nothing.
        let inside = |within: &BTreeSet<Name>| decision.region.as_ref().is_some_and(|r| within.contains(r));
        if self.within.get(&decision.sensitivity).is_some_and(|within| !inside(within)) {
            let (count, offences) = self.outside.entry(decision.sensitivity).or_default();
            *count += 1;
            if offences.len() < OFFENCES_MAX {
                offences.push(Offence { index: record.index, region: region.to_owned() });
            }
        }
    }

    pub(super) fn left_out(&self) -> u64 {
        self.went.left_out()
    }

    /// One statement a class. `damaged`: records whose bytes are not those that were recorded, or that were pruned and may be
    /// the month's.
    pub(super) fn told(self, damaged: u64, ground: Ground) -> Vec<Residency> {
        let blind = ground == Ground::Forged || self.unattributed.count + self.unseen + damaged > 0;
        let mut reached: BTreeMap<Sensitivity, Vec<Reached>> = BTreeMap::new();
        for (class, row) in self.went.into_rows(|((class, region, lane), went)| {
            let Went { dispatched, attempts, indices, times } = went;
            (class, Reached { region, lane, dispatched, attempts, indices, times })
        }) {
            reached.entry(class).or_default().push(row);
        }
        let (mut within, mut outside) = (self.within, self.outside);
        let one = |class: Sensitivity| {
            let within = within.remove(&class);
            let (outside, offences) = outside.remove(&class).unwrap_or_default();
            let verdict = match (&within, outside, blind) {
                (None, _, _) => Verdict::Told,
                (Some(_), 0, false) if ground == Ground::Signed => Verdict::Holds,
                (Some(_), 0, false) => Verdict::NotShown,
                (Some(_), 0, true) => Verdict::Unproven,
                (Some(_), _, _) => Verdict::Broken,
            };
            let reached = reached.remove(&class).unwrap_or_default();
            Residency { class, within, verdict, reached, outside, offences }
        };
        CLASSES.into_iter().map(one).collect()
    }
}
