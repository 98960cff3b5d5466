//! The tally: one record after another, each with what caused it. Pure; knows no table and no file.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::result::State;
use tidegate_schemas::subject::{EVENTS, Lane, WORK_CLOUD, WORK_LOCAL};

use super::Question;
use super::counts::{Capped, Indices, KEYS_MAX, Span};
use super::people::Reviews;
use super::places::Places;
use super::residency::{Ground, Residencies};
use super::rows::{Acted, Anomaly, Counted, Dead, Decided, Ended, Failed, Judged, Missing, Part, Refused};
use super::shape::{Covered, Monthly, Signed, Standing, Tasks};
use crate::checkpoint::held::Held;
use crate::entry::GapReason;
use crate::leaf::{Detail, Flag, Leaf, PhaseWord, RecordKind};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    of_all: bool,
    only: Option<Name>,
    /// Begin of the month.
    from: Timestamp,
    record: Standing,
    /// The tree over the leaves that were read, and what was signed of it: first the record's own checkpoint where there is one.
    held: Held,
    /// Whether there is.
    own: bool,
    /// Checkpoints that were kept outside.
    kept: usize,
    covered: Covered,
    tasks: Tasks,
    outcomes: Capped<(Option<Sensitivity>, State), u64>,
    rejections: Capped<(Option<Code>, Vec<String>), u64>,
    failures: Capped<(State, Option<Code>), u64>,
    decisions: Capped<(Outcome, Sensitivity), u64>,
    places: Places,
    parts: Capped<String, Sum>,
    reviews: Reviews,
    expired: u64,
    residency: Residencies,
    dead: Capped<(String, Option<Code>), u64>,
    anomalies: Capped<Flag, Indices>,
    gaps: Capped<(String, GapReason), (u64, u64)>,
    acts: Vec<Acted>,
    bundles: Capped<Digest, u64>,
    directories: BTreeSet<Digest>,
    kinds: Capped<RecordKind, u64>,
}

/// One tenant's part, so far.
#[derive(Debug, Default)]
struct Sum {
    submitted: u64,
    ended: u64,
    calls: u64,
    bytes: u64,
    cost_usd_micros: u64,
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(question: &Question) -> Self {
        Self {
            of_all: question.tenant.is_none(),
            only: question.tenant.clone(),
            from: question.month.start(),
            residency: Residencies::new(question.within.clone()),
            held: Held::new(question.checkpoint.iter().chain(&question.kept).cloned()),
            own: question.checkpoint.is_some(),
            kept: question.kept.len(),
            ..Self::default()
        }
    }

    /// A record whose bytes are those that were recorded, asked for or not.
    pub(super) fn read(&mut self, index: u64, time: Timestamp, hash: [u8; 32]) {
        self.record.records = index + 1;
        self.record.head = Some(hash.into());
        self.record.times = Span::with(self.record.times, time);
        self.held.push(hash);
    }

    /// A record that is missing or whose bytes are others: whose it was, nobody can tell.
    pub(super) fn damaged(&mut self, index: u64) {
        self.record.records = index + 1;
        self.record.head = None;
        self.record.damaged.add(index);
        self.held.push([0; 32]);
    }

    /// Records that were pruned, the newest of which was of this time. Their hashes follow with [`Self::hash`].
    pub(super) fn pruned(&mut self, range: std::ops::Range<u64>, newest: Timestamp) {
        let records = range.end - range.start;
        self.record.records = range.end;
        self.record.pruned += records;
        if newest >= self.from {
            self.record.pruned_unread += records;
        }
    }

    /// The hash that is kept of a record that was pruned.
    pub(super) fn hash(&mut self, hash: [u8; 32]) {
        self.held.push(hash);
    }

    /// A gap that was noticed after the month; what it misses may be the month's.
    pub(super) fn later_gap(&mut self, leaf: &Leaf) {
        if let Some(Detail::Gap { to, .. }) = leaf.detail {
            self.unseen(leaf, to);
        }
    }

    /// A record of the month, and the record that caused it where that is known.
    pub(super) fn take(&mut self, leaf: &Leaf, cause: Option<&Leaf>) {
        if self.of_another(leaf) {
            return;
        }
        self.covered.records += 1;
        self.covered.of_the_cell += u64::from(leaf.tenant.is_none());
        self.covered.indices = Span::with(self.covered.indices, leaf.index);
        self.covered.times = Span::with(self.covered.times, leaf.time);
        self.kinds.count(leaf.kind);
        for flag in leaf.flags.iter().filter(|flag| flag.is_anomaly()) {
            if let Some(records) = self.anomalies.at(*flag) {
                records.add(leaf.index);
            }
        }
        self.decided(leaf);
        match leaf.kind {
            RecordKind::Task => self.task(leaf),
            RecordKind::Cancel => self.tasks.withdrawn += 1,
            RecordKind::Work => {
                self.reviews.followed(leaf, cause);
                self.places.dispatched(leaf);
                self.residency.dispatched(leaf);
            }
            RecordKind::Attempt => self.attempt(leaf, cause),
            RecordKind::Result => self.result(leaf, cause),
            RecordKind::Review => self.reviews.held(leaf),
            RecordKind::Verdict => self.reviews.verdict(leaf, cause),
            RecordKind::Dead => self.letter(leaf),
            RecordKind::Control => self.act(leaf),
            RecordKind::Gap => self.gap(leaf),
            RecordKind::Unparsable if carries_work(leaf) => self.residency.unattributed.add(leaf.index),
            RecordKind::Unparsable | RecordKind::Step | RecordKind::Checkpoint => {}
        }
    }

    /// An operator's act for another tenant than the one that is asked for.
    fn of_another(&self, leaf: &Leaf) -> bool {
        match (&self.only, &leaf.detail) {
            (Some(only), Some(Detail::Control { tenant: Some(tenant), .. })) => only != tenant,
            _ => false,
        }
    }

    fn part(&mut self, leaf: &Leaf) -> Option<&mut Sum> {
        if !self.of_all {
            return None;
        }
        self.parts.at(leaf.tenant.as_ref()?.to_string())
    }

    fn decided(&mut self, leaf: &Leaf) {
        let Some(decision) = &leaf.decision else { return };
        self.decisions.count((decision.outcome, decision.sensitivity));
        self.bundles.count(decision.bundle);
        if self.directories.len() < KEYS_MAX {
            self.directories.insert(decision.directory);
        }
    }

    fn task(&mut self, leaf: &Leaf) {
        if leaf.flags.contains(&Flag::Repeat) {
            self.tasks.repeated += 1;
            return;
        }
        self.tasks.submitted += 1;
        self.tasks.unreadable += u64::from(leaf.code.is_some());
        if let Some(part) = self.part(leaf) {
            part.submitted += 1;
        }
    }

    fn attempt(&mut self, leaf: &Leaf, work: Option<&Leaf>) {
        let Some(work) = work.filter(|work| permits(work, leaf)) else {
            self.residency.unattributed.add(leaf.index);
            return;
        };
        self.places.attempt(work, leaf);
        self.residency.attempt(work, leaf);
        let Some(Detail::Attempt { phase, lane: Lane::Cloud, content_bytes, cost_usd_micros, .. }) =
            &leaf.detail
        else {
            return;
        };
        let Some(part) = self.part(leaf) else { return };
        if *phase == PhaseWord::Started {
            part.calls += 1;
            part.bytes = part.bytes.saturating_add(content_bytes.unwrap_or(0));
        }
        part.cost_usd_micros = part.cost_usd_micros.saturating_add(cost_usd_micros.unwrap_or(0));
    }

    fn result(&mut self, leaf: &Leaf, cause: Option<&Leaf>) {
        self.reviews.followed(leaf, cause);
        // The first terminal result is the task's; the second is an anomaly and nothing else.
        let (Some(state), false) = (leaf.state, leaf.flags.contains(&Flag::SecondTerminal)) else { return };
        self.tasks.ended += 1;
        self.outcomes.count((class(leaf, cause), state));
        match state {
            State::Rejected => {
                let policies = leaf.decision.as_ref().map(|decision| decision.policies.clone());
                self.rejections.count((leaf.code, policies.unwrap_or_default()));
            }
            State::Completed => {}
            other => self.failures.count((other, leaf.code)),
        }
        if leaf.code == Some(Code::ReviewExpired) {
            self.expired += 1;
        }
        match cause {
            Some(work) if work.kind == RecordKind::Work => self.places.result(work, leaf),
            Some(review) if review.kind == RecordKind::Review && leaf.code == Some(Code::ReviewExpired) => {
                self.reviews.expired(review);
            }
            _ => {}
        }
        let cost = match leaf.detail {
            Some(Detail::Result { cost_usd_micros, .. }) => cost_usd_micros.unwrap_or(0),
            _ => 0,
        };
        if let Some(part) = self.part(leaf) {
            part.ended += 1;
            part.cost_usd_micros = part.cost_usd_micros.saturating_add(cost);
        }
    }

    fn letter(&mut self, leaf: &Leaf) {
        if let Some(Detail::Dead { role, .. }) = &leaf.detail {
            self.dead.count((role.to_string(), leaf.code));
        }
    }

    fn act(&mut self, leaf: &Leaf) {
        let Some(Detail::Control { act, .. }) = leaf.detail else { return };
        match self.acts.iter_mut().find(|acted| acted.act == act) {
            Some(acted) => acted.times += 1,
            None => self.acts.push(Acted { act, times: 1 }),
        }
    }

    fn gap(&mut self, leaf: &Leaf) {
        let Some(Detail::Gap { to, reason }) = leaf.detail else { return };
        let messages = self.unseen(leaf, to);
        if let Some((gaps, missing)) = self.gaps.at((leaf.source.stream.clone(), reason)) {
            *gaps += 1;
            *missing = missing.saturating_add(messages);
        }
    }

    /// Counts what a gap misses of works and attempts; all that it misses.
    fn unseen(&mut self, leaf: &Leaf, to: u64) -> u64 {
        let messages = to.saturating_sub(leaf.source.sequence).saturating_add(1);
        if carries_work(leaf) {
            self.residency.unseen = self.residency.unseen.saturating_add(messages);
        }
        messages
    }

    /// The report.
    pub(super) fn told(mut self, question: &Question) -> Monthly {
        self.signed();
        let left_out = self.left_out();
        let (unattributed, unseen) = (self.residency.unattributed.clone(), self.residency.unseen);
        let (places, left) = self.places.told();
        let ground = match self.record.is_forged() {
            true => Ground::Forged,
            false if self.record.vouches_for(&self.covered) => Ground::Signed,
            false => Ground::Unsigned,
        };
        Monthly {
            v: 1,
            tenant: question.tenant.clone(),
            month: question.month,
            from: question.month.start(),
            to: question.month.end(),
            made: question.now,
            ended: question.now >= question.month.end(),
            residency: self.residency.told(self.record.damaged.count + self.record.pruned_unread, ground),
            record: self.record,
            covered: self.covered,
            tasks: self.tasks,
            outcomes: self.outcomes.into_rows(|((class, state), tasks)| Ended { class, state, tasks }),
            rejections: self.rejections.into_rows(|((code, policies), tasks)| Refused {
                code,
                policies,
                tasks,
            }),
            failures: self.failures.into_rows(|((state, code), tasks)| Failed { state, code, tasks }),
            decisions: self.decisions.into_rows(|((outcome, class), decisions)| Decided {
                outcome,
                class,
                decisions,
            }),
            places,
            left,
            tenants: self.parts.into_rows(|(tenant, sum)| sum.told(tenant)),
            people: self.reviews.told(self.expired),
            unattributed,
            unseen,
            dead: self.dead.into_rows(|((role, code), letters)| Dead { role, code, letters }),
            anomalies: self.anomalies.into_rows(|(flag, records)| Anomaly { flag, records }),
            gaps: self.gaps.into_rows(|((stream, reason), (gaps, messages))| Missing {
                stream,
                reason,
                gaps,
                messages,
            }),
            acts: self.acts,
            bundles: self.bundles.into_rows(|(bundle, decisions)| Judged { bundle, decisions }),
            directories: self.directories.len() as u64,
            kinds: self.kinds.into_rows(|(kind, records)| Counted { kind, records }),
            left_out,
        }
    }

    /// What became of the heads that were held against the records.
    fn signed(&mut self) {
        let of = |at| self.held.head(at).map(|(head, fits)| Signed::new(head, fits));
        let first = usize::from(self.own);
        let refuted = self.held.refuted(first).map(|head| Signed::new(head, false));
        let newest = (first..first + self.kept).filter_map(of).max_by_key(|kept| kept.size);
        self.record.signed = if self.own { of(0) } else { None };
        self.record.kept = refuted.or(newest);
    }

    fn left_out(&self) -> u64 {
        let counts = [self.rejections.left_out(), self.parts.left_out(), self.dead.left_out()];
        let more = [self.gaps.left_out(), self.bundles.left_out(), self.places.left_out()];
        let last = [self.reviews.left_out(), self.residency.left_out()];
        counts.iter().chain(&more).chain(&last).sum()
    }
}

impl Sum {
    fn told(self, tenant: String) -> Part {
        let Self { submitted, ended, calls, bytes, cost_usd_micros } = self;
        Part { tenant, submitted, ended, calls, bytes, cost_usd_micros }
    }
}

/// Whether a message that cannot be read, or was never seen, may have been a work or an attempt.
fn carries_work(leaf: &Leaf) -> bool {
    [WORK_LOCAL, WORK_CLOUD, EVENTS].contains(&leaf.source.stream.as_str())
}

/// Whether an attempt is one that this work permits: the same task at the same place, on the cloud lane by the same ticket
/// and of the bytes that were judged.
fn permits(work: &Leaf, attempt: &Leaf) -> bool {
    let (
        Some(Detail::Work { lane, target, ticket, .. }),
        Some(Detail::Attempt { lane: there, target: to, ticket: by, content, .. }),
    ) = (&work.detail, &attempt.detail)
    else {
        return false;
    };
    let judged = work.decision.as_ref().and_then(|decision| decision.content);
    let same = (lane, target, ticket) == (there, to, by)
        && (&work.tenant, &work.agent, work.task) == (&attempt.tenant, &attempt.agent, attempt.task);
    same && (*lane == Lane::Local || (by.is_some() && content.is_some() && *content == judged))
}

/// Data class of a task that ended: as it was judged, else as it was declared.
fn class(result: &Leaf, cause: Option<&Leaf>) -> Option<Sensitivity> {
    let judged = |leaf: &Leaf| leaf.decision.as_ref().map(|decision| decision.sensitivity);
    judged(result).or_else(|| match cause {
        Some(Leaf { detail: Some(Detail::Task { sensitivity, .. }), .. }) => Some(*sensitivity),
        Some(cause) => judged(cause),
        None => None,
    })
}
