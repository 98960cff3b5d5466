//! Marks: the few words by which records are found without a scan, a byte each.

use tidegate_schemas::decision::Outcome;
use tidegate_schemas::result::State;

use crate::leaf::{Leaf, RecordKind};

/// A record that somebody must look at.
pub(crate) const ANOMALY: u8 = 64;

/// The mark of a decision's outcome.
pub(crate) fn outcome(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Local => 1,
        Outcome::Cloud => 2,
        Outcome::Hold => 3,
        Outcome::Reject => 4,
    }
}

/// The mark of a terminal state; others are no record's.
pub(crate) fn state(state: State) -> Option<u8> {
    match state {
        State::Completed => Some(16),
        State::Failed => Some(17),
        State::Canceled => Some(18),
        State::Rejected => Some(19),
        State::Submitted | State::Working | State::InputRequired => None,
    }
}

/// The mark of a kind that is rare; those that are not are found by a scan.
pub(crate) fn kind(kind: RecordKind) -> Option<u8> {
    match kind {
        RecordKind::Cancel => Some(32),
        RecordKind::Step => Some(33),
        RecordKind::Review => Some(34),
        RecordKind::Verdict => Some(35),
        RecordKind::Dead => Some(36),
        RecordKind::Control => Some(37),
        RecordKind::Checkpoint => Some(38),
        RecordKind::Gap => Some(39),
        RecordKind::Unparsable => Some(40),
        RecordKind::Task | RecordKind::Work | RecordKind::Result | RecordKind::Attempt => None,
    }
}

/// All marks of a record.
pub(crate) fn of(leaf: &Leaf) -> impl Iterator<Item = u8> {
    let decided = leaf.decision.as_ref().map(|decision| outcome(decision.outcome));
    let odd = leaf.flags.iter().any(|flag| flag.is_anomaly()).then_some(ANOMALY);
    [decided, leaf.state.and_then(state), kind(leaf.kind), odd].into_iter().flatten()
}
