//! Backtesting: every recorded decision judged again by another bundle, and what would come of it, in counts.
//!
//! One pass in the record's order. What is kept grows with the kinds of flips and with the names that are told, which are
//! both bounded, never with the records. It says what another bundle would decide of each task alone: that work which went
//! elsewhere would also have ended otherwise, and been judged again, is not followed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tidegate_audit::{Filter, Gone, ReadError, Reader, Record};
use tidegate_policies::{Bundle, DestinationSpec, Judge, Tokens};
use tidegate_schemas::decision::Decision;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::task::Task;

use super::compare::Part;
use super::shelf::{Fetch, Shelf};
use super::{RejudgeError, Unjudged, compare, decided, each, is_decided};

pub use change::{Change, Fate, Flip};
pub use delta::{Cost, Deltas, Egress, Latency, Left, Spent};
pub use example::{Example, Kind, Labelled};
pub use gate::{About, BadGate, Gate, Most};
pub use tally::{Capped, Tally};
pub use unchanged::{Chain, Exchanged, Unchanged};

mod change;
mod delta;
mod example;
mod gate;
mod tally;
mod unchanged;

/// Where labels and findings of the tasks come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// What was found when it was decided; what it means is the other bundle's.
    #[default]
    Recorded,
    /// Each task's texts are looked at anew, with the other bundle's recognisers.
    Rescan,
}

/// What a backtest found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backtest {
    /// The bundle that judged now.
    pub bundle: Digest,
    /// Where labels and findings came from.
    pub labels: Labels,
    /// Decisions looked at.
    pub decisions: u64,
    /// Decisions judged.
    pub judged: u64,
    /// Of those, whose texts were looked at by other recognisers and key words than this bundle has. With [`Labels::Recorded`]
    /// nobody knows what it would find in them.
    pub other_recognisers: u64,
    /// What happens to the task is another thing; the most dangerous flips first.
    #[serde(serialize_with = "change::flips")]
    pub flips: BTreeMap<Flip, Kind>,
    /// The same happens to the task, elsewhere: by what happens.
    pub moved: BTreeMap<Fate, Kind>,
    /// The same happens at the same place.
    pub unchanged: Unchanged,
    /// Decisions of which the effective sensitivity is another.
    pub relabelled: u64,
    /// Decisions whose task would be rendered from another version of its prompt, or from none.
    pub other_prompt: u64,
    /// Decisions that stay what they are, here or elsewhere, with other obligations or another code.
    pub other_terms: u64,
    /// Decisions that stay what they are, here or elsewhere, determined by other policies.
    pub other_policies: u64,
    /// By tenant.
    pub tenants: Capped<Name, Tally>,
    /// By data class, as it was decided then.
    pub classes: BTreeMap<Sensitivity, Tally>,
    /// What it takes, then and now.
    pub deltas: Deltas,
    /// Not judged, by reason.
    pub unjudged: BTreeMap<Unjudged, u64>,
    /// Up to here whole records of the time that was asked for were pruned: how many decisions were among them nobody knows any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned_until: Option<Timestamp>,
    /// Bundles that had judged and are nowhere, and how many decisions each.
    pub unknown_bundles: Capped<Digest, u64>,
    /// Directories that had been asked and are nowhere.
    pub unknown_directories: Capped<Digest, u64>,
    /// Hash over all that was judged: two runs that print the same judged the same alike.
    pub digest: Chain,
}

/// Judges every recorded decision that the filter matches by `other`. `fetch` gives versions that the record does not hold;
/// `progress` is told records passed and records there are.
///
/// # Errors
/// [`RejudgeError`]. What cannot be judged is no error but counted.
pub fn run(
    reader: &Reader,
    filter: &Filter,
    other: Arc<Bundle>,
    labels: Labels,
    fetch: &mut Fetch<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Backtest, RejudgeError> {
    let mut shelf = Shelf::new(reader, fetch)?;
    let mut found = Backtest::new(other.hash(), labels);
    found.pruned_until = asked_of(&reader.status()?.pruned, filter.from);
    let judge = Judge::new(other)?;
    each(reader, filter, progress, &mut |record: &Record| {
        if is_decided(record) {
            match again(reader, record, &mut shelf, &judge, labels)? {
                Ok(judged) => found.add(record, &judged, judge.bundle()),
                Err(missing) => found.miss(record, missing),
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Until when records of the time from `from` on are gone; none where none of them is.
fn asked_of(gone: &Gone, from: Option<Timestamp>) -> Option<Timestamp> {
    gone.records_until.filter(|until| from.is_none_or(|from| from <= *until))
}

/// One decision, as it was and as it would be.
struct Judged {
    task: Task,
    recorded: Decision,
    judged: Decision,
    /// The bundle that had judged.
    own: Arc<Bundle>,
    /// What was run, and what would be: each by its own bundle's prompt.
    sizes: [Size; 2],
}

/// How much a task takes.
#[derive(Clone, Copy)]
struct Size {
    tokens: Tokens,
    bytes: u64,
}

/// Why a decision was not judged, and which version is missing.
struct Missing {
    why: Unjudged,
    version: Option<Digest>,
}

/// Judges what one record decided.
fn again(
    reader: &Reader,
    record: &Record,
    shelf: &mut Shelf<'_, '_>,
    judge: &Judge,
    labels: Labels,
) -> Result<Result<Judged, Missing>, ReadError> {
    let (task, recorded) = match decided(reader, record)? {
        Ok(found) => found,
        Err(why) => return Ok(Err(Missing { why, version: None })),
    };
    let version = recorded.facts.directory;
    let Some(directory) = shelf.directory(version)? else {
        return Ok(Err(Missing { why: Unjudged::DirectoryUnknown, version: Some(version) }));
    };
    // What its destinations cost and how they were reached is known from it alone.
    let Some(own) = shelf.judge(recorded.bundle)? else {
        return Ok(Err(Missing { why: Unjudged::BundleUnknown, version: Some(recorded.bundle) }));
    };
    let sizes = [Size::of(&task, own), Size::of(&task, judge)];
    let own = Arc::clone(own.bundle());
    let judged = match labels {
        Labels::Recorded => judge.decide_as_found(&task, &directory, &recorded),
        Labels::Rescan => judge.decide(&task, &directory, &recorded.facts),
    };
    let judged = compare::as_would_be_sent(judged, &recorded, &task, judge);
    Ok(Ok(Judged { task, recorded, judged, own, sizes }))
}

// === impl Size ===

impl Size {
    /// As a bundle renders it. What it cannot render runs nowhere by it.
    fn of(task: &Task, judge: &Judge) -> Self {
        let rendered = judge.rendered(task).unwrap_or(Cow::Borrowed(task));
        Self { tokens: Tokens::of(&rendered.input), bytes: example::bytes(&rendered) }
    }
}

// === impl Backtest ===

impl Backtest {
    fn new(bundle: Digest, labels: Labels) -> Self {
        Self {
            bundle,
            labels,
            decisions: 0,
            judged: 0,
            other_recognisers: 0,
            flips: BTreeMap::new(),
            moved: BTreeMap::new(),
            unchanged: Unchanged::default(),
            relabelled: 0,
            other_prompt: 0,
            other_terms: 0,
            other_policies: 0,
            tenants: Capped::default(),
            classes: BTreeMap::new(),
            deltas: Deltas::default(),
            unjudged: BTreeMap::new(),
            pruned_until: None,
            unknown_bundles: Capped::default(),
            unknown_directories: Capped::default(),
            digest: Chain::default(),
        }
    }

    /// Decisions that were not judged.
    #[must_use]
    pub fn unjudged(&self) -> u64 {
        self.unjudged.values().sum()
    }

    /// Decisions that flip, of any kind.
    #[must_use]
    pub fn flipped(&self) -> u64 {
        self.flips.values().map(|kind| kind.decisions).sum()
    }

    /// Decisions that stay what they are, elsewhere.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved.values().map(|kind| kind.decisions).sum()
    }

    /// Decisions of the changes that a gate is about.
    #[must_use]
    pub fn counted(&self, gate: &Gate) -> u64 {
        let moved = self.moved.iter().map(|(fate, kind)| (Flip { from: *fate, to: *fate }, kind));
        match &gate.about {
            About::Fates { .. } => {
                let changes = self.flips.iter().map(|(flip, kind)| (*flip, kind)).chain(moved);
                changes.filter(|(flip, _)| gate.is_about(*flip)).map(|(_, kind)| kind.decisions).sum()
            }
            About::Terms => self.other_terms,
            About::Policies => self.other_policies,
            About::Labels => self.relabelled,
            About::Prompts => self.other_prompt,
        }
    }

    /// Whether it is unknown what the bundle would find in some of the texts.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.labels == Labels::Recorded && self.other_recognisers > 0
    }

    /// Whether more decisions change than a gate lets.
    #[must_use]
    pub fn breaches(&self, gate: &Gate) -> bool {
        gate.most.is_exceeded(self.counted(gate), self.judged)
    }

    fn add(&mut self, record: &Record, seen: &Judged, other: &Bundle) {
        let Judged { task, recorded, judged, own, sizes: [before, after] } = seen;
        self.decisions += 1;
        self.judged += 1;
        let (then, now) = (terms(recorded, own), terms(judged, other));
        let (then, now) = (then.as_ref(), now.as_ref());
        let change = Change::of((recorded, then), (judged, now));
        self.other_recognisers += u64::from(!own.taxonomy().looks_for_the_same(other.taxonomy()));
        self.relabelled += u64::from(recorded.sensitivity() != judged.sensitivity());
        self.compare(change, &compare::in_effect(recorded, judged));
        self.tenants.of(&task.tenant).add(change);
        self.classes.entry(recorded.sensitivity()).or_default().add(change);
        let (was, is) = (unchanged::effect(recorded, then), unchanged::effect(judged, now));
        self.digest.follow(record.leaf.index, was, is);
        let size = || example::Size::of(record, task, judged);
        let sample = || Example::of(record, task, recorded, judged);
        match change {
            Change::Flipped(flip) => Kind::add(&mut self.flips, flip, size(), sample),
            Change::Moved(fate) => Kind::add(&mut self.moved, fate, size(), sample),
            Change::None => {
                self.unchanged.digest.follow(record.leaf.index, was, is);
                self.unchanged.add(recorded, judged);
            }
        }
        let then = delta::Run::of(recorded, own, before.tokens);
        let now = delta::Run::of(judged, other, after.tokens);
        self.deltas.add(then.as_ref(), now.as_ref(), [before.bytes, after.bytes]);
    }

    /// Counts what is otherwise in a decision. What flips has other terms and policies anyhow.
    fn compare(&mut self, change: Change, parts: &[Part]) {
        self.other_prompt += u64::from(parts.contains(&Part::Prompt));
        if matches!(change, Change::Flipped(_)) {
            return;
        }
        let terms = parts.contains(&Part::Obligations) || parts.contains(&Part::Code);
        self.other_terms += u64::from(terms);
        self.other_policies += u64::from(parts.contains(&Part::Policies));
    }

    fn miss(&mut self, record: &Record, missing: Missing) {
        let Missing { why, version } = missing;
        self.decisions += 1;
        *self.unjudged.entry(why).or_default() += 1;
        if let Some(tenant) = &record.leaf.tenant {
            self.tenants.of(tenant).miss();
        }
        if let Some(leaf) = &record.leaf.decision {
            self.classes.entry(leaf.sensitivity).or_default().miss();
        }
        match (why, version) {
            (Unjudged::BundleUnknown, Some(version)) => *self.unknown_bundles.of(&version) += 1,
            (Unjudged::DirectoryUnknown, Some(version)) => *self.unknown_directories.of(&version) += 1,
            _ => {}
        }
    }
}

/// What a bundle says of the place that it chose.
fn terms(decision: &Decision, bundle: &Bundle) -> Option<DestinationSpec> {
    let place = decision.destination.as_ref()?;
    bundle.destination(&place.name).map(DestinationSpec::terms)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    #[test]
    fn records_that_were_pruned_are_told_where_they_were_asked_for() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let until = at("2026-10-31T06:00:00Z");
        let gone = super::Gone { records: 9, records_until: Some(until), ..super::Gone::default() };
        for (from, told) in
            [(None, true), (Some("2026-10-30T00:00:00Z"), true), (Some("2026-11-01T00:00:00Z"), false)]
        {
            assert_eq!(super::asked_of(&gone, from.map(at)), told.then_some(until), "{from:?}");
        }
        assert_eq!(super::asked_of(&super::Gone::default(), None), None, "negative control");
    }

    use serde_json::{Value, json};
    use tidegate_audit::Record;
    use tidegate_schemas::digest::Digest;

    use super::{Backtest, Change, Fate, Flip, Gate, Labels, Missing, Part, Unjudged};

    /// The record of a decision of a tenant.
    fn record(tenant: &str) -> Record {
        let id = "01935000-0000-7000-8000-000000000001";
        let leaf = json!({
            "v": 1, "id": id, "index": 7, "time": "2026-11-23T08:30:00Z", "kind": "work", "tenant": tenant,
            "source": { "stream": "WORK_LOCAL", "sequence": 1 },
            "decision": {
                "id": id, "outcome": "local", "sensitivity": "restricted", "stakes": "low", "scan": "none",
                "hop": 0, "bundle": "11".repeat(32), "directory": "00".repeat(32)
            }
        });
        Record { leaf: serde_json::from_value(leaf).unwrap(), line: String::new(), hash: [0; 32] }
    }

    #[test]
    fn gates_see_what_is_otherwise_of_what_stays_here_or_elsewhere_and_every_other_prompt() {
        let counted = |change, parts: &[Part]| {
            let mut found = Backtest::new(Digest::from([0; 32]), Labels::Recorded);
            found.compare(change, parts);
            ["terms>0", "policies>0", "prompts>0"].map(|gate| found.counted(&gate.parse::<Gate>().unwrap()))
        };
        let all = [Part::Obligations, Part::Code, Part::Policies, Part::Prompt];
        assert_eq!(counted(Change::None, &all), [1, 1, 1]);
        assert_eq!(counted(Change::Moved(Fate::Cloud), &all), [1, 1, 1]);
        let flipped = Change::Flipped(Flip { from: Fate::Local, to: Fate::Cloud });
        assert_eq!(counted(flipped, &all), [0, 0, 1], "a flip has other terms anyhow");
        assert_eq!(counted(Change::Moved(Fate::Cloud), &[Part::Destination]), [0, 0, 0], "negative control");
    }

    #[test]
    fn what_is_not_judged_is_counted_by_reason_and_an_unknown_version_is_named() {
        let (bundle, directory) = (Digest::from([0x11; 32]), Digest::from([0x22; 32]));
        let mut found = Backtest::new(Digest::from([0; 32]), Labels::Recorded);
        for (why, version) in [
            (Unjudged::BundleUnknown, Some(bundle)),
            (Unjudged::BundleUnknown, Some(bundle)),
            (Unjudged::DirectoryUnknown, Some(directory)),
            (Unjudged::Erased, None),
        ] {
            found.miss(&record("acme"), Missing { why, version });
        }
        assert_eq!((found.decisions, found.judged, found.unjudged()), (4, 0, 4));
        let told: Value = serde_json::to_value(&found).unwrap();
        let reasons = json!({ "bundle_unknown": 2, "directory_unknown": 1, "erased": 1 });
        assert_eq!(told["unjudged"], reasons);
        assert_eq!(told["unknown_bundles"]["named"], json!({ bundle.to_string(): 2 }));
        assert_eq!(told["unknown_directories"]["named"], json!({ directory.to_string(): 1 }));
        assert_eq!(told["tenants"]["named"]["acme"]["unjudged"], json!(4));
        assert_eq!(told["classes"]["restricted"]["unjudged"], json!(4));
        assert!(!found.breaches(&"any->any>0".parse().unwrap()), "what is not judged does not flip");
    }
}
