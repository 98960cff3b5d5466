//! Of each kind of change the smallest task: what it was labelled as, and which policies determined it. Never its text.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use tidegate_audit::Record;
use tidegate_schemas::decision::Decision;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::labels::{KnownLabels, Sensitivity, Stakes};
use tidegate_schemas::task::Task;

use crate::rejudge::Brief;

/// Decisions that change alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// How many.
    pub decisions: u64,
    /// Of the smallest task among them.
    pub example: Example,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Its record.
    pub index: u64,
    /// Where the message stands that its decision sent on.
    pub position: Position,
    /// The task.
    pub task: TaskId,
    /// Whose it is.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// Kind of work.
    pub kind: tidegate_schemas::task::Kind,
    /// Bytes of its texts.
    pub input_bytes: u64,
    /// What is known of its data, by the bundle that judged now.
    pub labels: Labelled,
    /// As it was decided.
    pub before: Brief,
    /// As it is judged now.
    pub after: Brief,
}

/// Labels in the words of the bundle: no producer's own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Labelled {
    /// As its producer said.
    pub declared: Sensitivity,
    /// As it counted when it was decided.
    pub before: Sensitivity,
    /// As it counts now.
    pub sensitivity: Sensitivity,
    /// What is at stake.
    pub stakes: Stakes,
    /// All other names.
    #[serde(flatten)]
    pub known: KnownLabels,
    /// Findings in its texts, count.
    pub findings: u64,
}

/// How small a task is: by its bytes, then by its labels, then the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size {
    bytes: u64,
    labels: usize,
    index: u64,
}

// === impl Kind ===

impl Kind {
    /// Counts one more, and keeps it where it is the smallest.
    pub(super) fn add<K: Ord>(
        kinds: &mut BTreeMap<K, Self>,
        key: K,
        size: Size,
        example: impl FnOnce() -> Example,
    ) {
        match kinds.entry(key) {
            Entry::Vacant(free) => {
                free.insert(Self { decisions: 1, example: example() });
            }
            Entry::Occupied(mut kept) => {
                let kind = kept.get_mut();
                kind.decisions += 1;
                if size < kind.example.size() {
                    kind.example = example();
                }
            }
        }
    }
}

// === impl Example ===

impl Example {
    pub(super) fn of(record: &Record, task: &Task, recorded: &Decision, judged: &Decision) -> Self {
        Self {
            index: record.leaf.index,
            position: record.leaf.position(),
            task: task.id,
            tenant: task.tenant.clone(),
            agent: task.agent.clone(),
            kind: task.kind(),
            input_bytes: bytes(task),
            labels: Labelled {
                declared: task.labels.sensitivity,
                before: recorded.sensitivity(),
                sensitivity: judged.sensitivity(),
                stakes: judged.stakes(),
                known: judged.known.clone(),
                findings: judged.findings.values().map(|count| u64::from(*count)).sum(),
            },
            before: Brief::of(recorded.clone()),
            after: Brief::of(judged.clone()),
        }
    }

    fn size(&self) -> Size {
        Size { bytes: self.input_bytes, labels: names(&self.labels.known), index: self.index }
    }
}

// === impl Size ===

impl Size {
    pub(super) fn of(record: &Record, task: &Task, judged: &Decision) -> Self {
        Self { bytes: bytes(task), labels: names(&judged.known), index: record.leaf.index }
    }
}

/// Bytes of a task's texts.
pub(super) fn bytes(task: &Task) -> u64 {
    u64::try_from(task.input.bytes()).unwrap_or(u64::MAX)
}

/// Names among labels, count.
fn names(known: &KnownLabels) -> usize {
    let KnownLabels { categories, regulations, residency, consent, purpose } = known;
    let lists = [categories, regulations, residency, consent];
    lists.into_iter().map(|list| list.len()).sum::<usize>() + usize::from(purpose.is_some())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::{BTreeMap, BTreeSet};

    use tidegate_schemas::decision::Outcome;
    use tidegate_schemas::ids::{Name, Position, TaskId};
    use tidegate_schemas::labels::{KnownLabels, Sensitivity, Stakes};
    use uuid::Uuid;

    use super::{Brief, Example, Kind, Labelled};

    fn example(index: u64, input_bytes: u64, categories: &[&str]) -> Example {
        let brief = Brief { outcome: Outcome::Local, destination: None, policies: Vec::new() };
        let categories: BTreeSet<Name> = categories.iter().map(|name| Name::new(*name).unwrap()).collect();
        Example {
            index,
            position: Position::new("WORK_LOCAL", index),
            task: TaskId(Uuid::nil()),
            tenant: Name::new("acme").unwrap(),
            agent: Name::new("bot").unwrap(),
            kind: tidegate_schemas::task::Kind::Chat,
            input_bytes,
            labels: Labelled {
                declared: Sensitivity::Public,
                before: Sensitivity::Public,
                sensitivity: Sensitivity::Public,
                stakes: Stakes::Low,
                known: KnownLabels { categories, ..KnownLabels::default() },
                findings: 0,
            },
            before: brief.clone(),
            after: brief,
        }
    }

    #[test]
    fn the_smallest_is_kept_whatever_comes_first() {
        let rows = [
            example(4, 90, &[]),
            example(5, 12, &["card", "health"]),
            example(6, 12, &["card"]),
            example(7, 12, &["hr"]),
        ];
        for turn in 0..rows.len() {
            let mut kinds = BTreeMap::new();
            let mut order = rows.clone();
            order.rotate_left(turn);
            for example in order {
                Kind::add(&mut kinds, "a", example.size(), || example.clone());
            }
            let kept = kinds.get("a").unwrap();
            assert_eq!((kept.decisions, kept.example.index), (4, 6), "from {turn} on");
        }
    }
}
