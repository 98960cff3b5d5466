//! Labels: what is known about a task's data. Declared by the producer, raised (never lowered) by what is detected.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::code::{Code, Refused};
use crate::ids::Name;
use crate::limits::LABELS_MAX;

/// How far data may travel, from everywhere to nowhere. The order is the restriction's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Published or meant to be.
    Public,
    /// For the organisation.
    Internal,
    /// For those who need it.
    Confidential,
    /// Must not leave the boundary. What an unknown label means.
    #[serde(other)]
    Restricted,
}

impl Sensitivity {
    /// The value as it stands on the wire and in Cedar.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Confidential => "confidential",
            Self::Restricted => "restricted",
        }
    }
}

/// What is at stake when the answer is wrong, lowest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Stakes {
    /// Nothing lasting.
    #[default]
    Low,
    /// Money or time.
    Medium,
    /// A person's rights, health or livelihood. What an unknown value means.
    #[serde(other)]
    High,
}

impl Stakes {
    /// The value as it stands on the wire and in Cedar.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Labels of a task, as declared on the wire and as the judge sees them.
///
/// Categories, regulations and regions are names; those that the active taxonomy does not know count as the most
/// restrictive value of their kind (the judge decides that, for it holds the taxonomy).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// How far the data may travel.
    pub sensitivity: Sensitivity,
    /// Kinds of data in it: `email`, `card`, `health`, …
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Name>,
    /// Rules it falls under: `gdpr`, `hipaa`, `pci`, …
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub regulations: BTreeSet<Name>,
    /// Regions it may be worked on in; empty means anywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub residency: BTreeSet<Name>,
    /// What the data subjects consented to: `cloud_processing`, …
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub consent: BTreeSet<Name>,
    /// What the work is for: `support`, `marketing`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Name>,
    /// What is at stake.
    #[serde(default)]
    pub stakes: Stakes,
}

impl Labels {
    /// Labels of one sensitivity and nothing else.
    #[must_use]
    pub fn of(sensitivity: Sensitivity) -> Self {
        Self {
            sensitivity,
            categories: BTreeSet::new(),
            regulations: BTreeSet::new(),
            residency: BTreeSet::new(),
            consent: BTreeSet::new(),
            purpose: None,
            stakes: Stakes::Low,
        }
    }

    /// Checks the lists' lengths.
    ///
    /// # Errors
    /// [`Code::InvalidField`] when one is over its limit.
    pub fn check(&self) -> Result<(), Refused> {
        let lists = [&self.categories, &self.regulations, &self.residency, &self.consent];
        if lists.iter().any(|list| list.len() > LABELS_MAX) {
            return Err(Refused::new(
                Code::InvalidField,
                format!("a list of labels has more than {LABELS_MAX} entries"),
            ));
        }
        Ok(())
    }

    /// These labels raised by others: the stricter sensitivity and stakes, all categories and regulations, only the
    /// residency and consent that both allow. Never wider than either.
    #[must_use]
    pub fn raised_by(&self, other: &Raise) -> Self {
        Self {
            sensitivity: self.sensitivity.max(other.sensitivity),
            categories: self.categories.union(&other.categories).cloned().collect(),
            regulations: self.regulations.union(&other.regulations).cloned().collect(),
            residency: self.residency.clone(),
            consent: self.consent.clone(),
            purpose: self.purpose.clone(),
            stakes: self.stakes.max(other.stakes),
        }
    }

    /// These labels with what a task inherits from the result that it goes on from: never wider than either. Where the two
    /// leave no region in common, [`NOWHERE`] is what is left.
    #[must_use]
    pub fn inheriting(&self, parent: &Self) -> Self {
        Self {
            sensitivity: self.sensitivity.max(parent.sensitivity),
            categories: self.categories.union(&parent.categories).cloned().collect(),
            regulations: self.regulations.union(&parent.regulations).cloned().collect(),
            residency: narrowed(&self.residency, &parent.residency),
            consent: self.consent.intersection(&parent.consent).cloned().collect(),
            purpose: self.purpose.clone(),
            stakes: self.stakes.max(parent.stakes),
        }
    }

    /// Whether these labels permit no more than `other` does.
    #[must_use]
    pub fn at_least_as_strict_as(&self, other: &Self) -> bool {
        let nowhere =
            self.residency.iter().any(|region| region.as_str() == NOWHERE) && self.residency.len() == 1;
        let narrower_residency = nowhere
            || other.residency.is_empty()
            || (!self.residency.is_empty() && self.residency.is_subset(&other.residency));
        self.sensitivity >= other.sensitivity
            && self.stakes >= other.stakes
            && self.categories.is_superset(&other.categories)
            && self.regulations.is_superset(&other.regulations)
            && self.consent.is_subset(&other.consent)
            && narrower_residency
    }
}

/// The names among labels in the words of the bundle that judged: one that its taxonomy does not know stands as `unknown`.
/// No producer's own word is among them, so they may be told in the open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct KnownLabels {
    /// Kinds of data in it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Name>,
    /// Rules it falls under.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub regulations: BTreeSet<Name>,
    /// Regions it may be worked on in; empty means anywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub residency: BTreeSet<Name>,
    /// What the data subjects consented to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub consent: BTreeSet<Name>,
    /// What the work is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Name>,
}

impl KnownLabels {
    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A region that no taxonomy knows and no destination is in.
pub const NOWHERE: &str = "nowhere";

/// Regions that both lists leave; an empty one leaves all.
fn narrowed(one: &BTreeSet<Name>, other: &BTreeSet<Name>) -> BTreeSet<Name> {
    match (one.is_empty(), other.is_empty()) {
        (true, _) => other.clone(),
        (_, true) => one.clone(),
        _ => {
            let both: BTreeSet<Name> = one.intersection(other).cloned().collect();
            if both.is_empty() { Name::new(NOWHERE).into_iter().collect() } else { both }
        }
    }
}

/// What detection adds to labels. It can only add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// At least this sensitive.
    pub sensitivity: Sensitivity,
    /// At least these kinds of data.
    pub categories: BTreeSet<Name>,
    /// At least these rules.
    pub regulations: BTreeSet<Name>,
    /// At least this much at stake.
    pub stakes: Stakes,
}

impl Default for Raise {
    fn default() -> Self {
        Self {
            sensitivity: Sensitivity::Public,
            categories: BTreeSet::new(),
            regulations: BTreeSet::new(),
            stakes: Stakes::Low,
        }
    }
}
