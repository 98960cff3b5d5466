//! What is asked for: a filter, and what a record must have to match it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::{Identifier, Name, TaskId};
use tidegate_schemas::labels::{Sensitivity, Stakes};
use tidegate_schemas::result::State;
use tidegate_schemas::task::Kind;

use crate::error::ReadError;
use crate::leaf::{Leaf, RecordKind};

/// Which records. What is absent matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Whose they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// The task they belong to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// What they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RecordKind>,
    /// Kind of work, of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_kind: Option<Kind>,
    /// Terminal state, of results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Code of a result, attempt, step or dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Outcome of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Destination of the decision, step or result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// A policy that determined the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The bundle that judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
    /// Sensitivity: the effective one of a decision, the declared one of a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Sensitivity>,
    /// What is at stake: by a decision, as declared of a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stakes: Option<Stakes>,
    /// Kind of data, among the labels of the decision, as its bundle names it: `unknown` where it does not know the name. As
    /// the four after it, only of decisions that a router wrote with the bundle's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Name>,
    /// Rule that the data falls under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regulation: Option<Name>,
    /// Region that the data may be worked on in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residency: Option<Name>,
    /// What the data subjects consented to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Name>,
    /// What the work is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Name>,
    /// Workflow they belong to; needs the master key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Identifier>,
    /// The person whose data they hold, by name; needs the master key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Identifier>,
    /// The person whose data they hold, by what leaves call that person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_ref: Option<String>,
    /// W3C trace id. No index serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Only those with an anomaly.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anomalies: bool,
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// The `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
    /// Most records of the page: 100 where not given, at most 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Where a page ended: the index of the last record that was looked at. Records only come after it, so that pages one after
/// the other have each record once, whatever is written meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(u64);

// === impl Filter ===

impl Filter {
    /// Whether a record is one of them. The names of a workflow and of a person stand in no leaf, and are not looked at.
    #[must_use]
    pub fn matches(&self, leaf: &Leaf) -> bool {
        let decision = leaf.decision.as_ref();
        let known = decision.map(|decision| &decision.labels);
        fits(self.tenant.as_ref(), leaf.tenant.as_ref())
            && fits(self.agent.as_ref(), leaf.agent.as_ref())
            && fits(self.task, leaf.task)
            && fits(self.kind, Some(leaf.kind))
            && fits(self.task_kind, leaf.task_kind())
            && fits(self.state, leaf.state)
            && fits(self.code, leaf.code)
            && fits(self.outcome, decision.map(|decision| decision.outcome))
            && fits(self.destination.as_ref(), leaf.destination())
            && fits(self.bundle, decision.map(|decision| decision.bundle))
            && self.policy.as_ref().is_none_or(|policy| decision.is_some_and(|d| d.policies.contains(policy)))
            && fits(self.sensitivity, leaf.sensitivity())
            && fits(self.stakes, leaf.stakes())
            && among(self.category.as_ref(), known.map(|labels| &labels.categories))
            && among(self.regulation.as_ref(), known.map(|labels| &labels.regulations))
            && among(self.residency.as_ref(), known.map(|labels| &labels.residency))
            && among(self.consent.as_ref(), known.map(|labels| &labels.consent))
            && fits(self.purpose.as_ref(), known.and_then(|labels| labels.purpose.as_ref()))
            && self.subject_ref.as_ref().is_none_or(|subject| leaf.subjects.contains(subject))
            && fits(self.trace.as_ref(), leaf.trace.as_ref())
            && (!self.anomalies || leaf.is_odd())
            && self.from.is_none_or(|from| leaf.time >= from)
            && self.to.is_none_or(|to| leaf.time < to)
    }
}

fn fits<T: PartialEq>(wanted: Option<T>, there: Option<T>) -> bool {
    wanted.is_none() || wanted == there
}

fn among(wanted: Option<&Name>, there: Option<&BTreeSet<Name>>) -> bool {
    wanted.is_none_or(|name| there.is_some_and(|names| names.contains(name)))
}

// === impl Cursor ===

impl Cursor {
    /// The cursor of a page that ended with the record at an index.
    #[must_use]
    pub fn at(index: u64) -> Self {
        Self(index)
    }

    /// Index of the last record that was looked at: of all records, how far a query is that no index serves.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = ReadError;
    fn from_str(text: &str) -> Result<Self, ReadError> {
        text.parse().map(Self).map_err(|_| ReadError::BadCursor)
    }
}

impl TryFrom<String> for Cursor {
    type Error = ReadError;
    fn try_from(text: String) -> Result<Self, ReadError> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> String {
        cursor.to_string()
    }
}
