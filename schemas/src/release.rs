//! Releases: which bundles a cell decides by, beside the active one. A canary decides for a share of the tasks and is watched by
//! guards; a shadow is judged beside and never acted on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::Active;
use crate::digest::Digest;
use crate::ids::Name;

/// The whole, in basis points.
pub const SHARE_BP_MAX: u16 = 10_000;

/// A bundle that decides for a share of the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Canary {
    /// The bundle.
    pub hash: Digest,
    /// Its share, basis points: 1 to 10,000.
    pub share_bp: u16,
    /// What is drawn.
    pub by: ShareBy,
    /// Sequence of the control event in EVENTS by which it began: guards look at what was decided since then.
    #[serde(default)]
    pub since: u64,
    /// Guards that do not watch it.
    #[serde(default, skip_serializing_if = "Guards::is_empty")]
    pub unguarded: Guards,
}

/// What a guard watches: something of which the canary's tasks must not have more than the active bundle's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Policies that could not be evaluated.
    Errors,
    /// Tasks that no policy permits, or that have no place to go.
    Rejections,
    /// Tasks that went to the cloud.
    CloudShare,
    /// Tasks that failed.
    Failures,
    /// What a task costs.
    Cost,
    /// How long a task takes.
    Latency,
    /// Held tasks that a reviewer rejected or changed.
    Overturns,
}

/// Some of the guards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Vec<Guard>", into = "Vec<Guard>")]
#[schemars(with = "Vec<Guard>")]
pub struct Guards(u8);

/// What a share is of. All tasks that it has in common are decided by the same bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareBy {
    /// Of the tenants.
    Tenant,
    /// Of the workflows; a task that names none is one of its own.
    Workflow,
    /// Of the sessions; a task that names none is one of its own.
    Session,
}

impl ShareBy {
    /// The word that stands in an act.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Workflow => "workflow",
            Self::Session => "session",
        }
    }
}

/// An operator's agreement that more may leave by a bundle than by another. It is that operator's own act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// The bundle.
    pub hash: Digest,
    /// The one that it was held against: where another is active meanwhile, nobody agreed.
    pub against: Digest,
    /// Who agreed.
    pub by: Name,
    /// Sequence of the act in EVENTS: what was agreed to before a bundle was taken back counts no more.
    #[serde(default)]
    pub event: u64,
}

impl Approved {
    /// Whether it still stands: it came after the active bundle became so, and after the one that it is about was last taken back.
    #[must_use]
    pub fn stands(&self, now: &Candidates) -> bool {
        let back = now.taken_back.filter(|back| back.hash == self.hash).map_or(0, |back| back.event);
        self.against == now.active && self.event > now.active_since.max(back)
    }
}

/// Value of key `approvals` in bucket `release`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// Sequence of the control event in EVENTS that left it.
    pub event: u64,
    /// Those that count.
    pub all: Vec<Approved>,
}

/// Key of [`Approvals`] in bucket `release`.
pub const APPROVALS_KEY: &str = "approvals";
/// Most agreements that are kept; the oldest goes first.
pub const APPROVALS_MAX: usize = 64;

/// Value of key `candidates` in bucket `release`: all that an operator's act left. Key `active` follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// Sequence of the control event in EVENTS that left it.
    pub event: u64,
    /// The bundle that is active.
    pub active: Digest,
    /// Sequence of the control event by which it became so the last time.
    #[serde(default)]
    pub active_since: u64,
    /// The bundle that was active before: a rollback leads there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// The bundle that is judged beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Digest>,
    /// The bundle that decides for a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// The canary that a guard took back; it stands until another begins, or a bundle is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakenBack>,
}

/// A canary that a guard took back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// The bundle.
    pub hash: Digest,
    /// The guard.
    pub guard: Guard,
    /// Sequence in EVENTS of the guard's act.
    pub event: u64,
}

/// Key of [`Candidates`] in bucket `release`.
pub const CANDIDATES_KEY: &str = "candidates";

// === impl Guard ===

impl Guard {
    /// All guards; where several see something at once, the first of these is named.
    pub const ALL: [Self; 7] = [
        Self::Errors,
        Self::Rejections,
        Self::CloudShare,
        Self::Failures,
        Self::Cost,
        Self::Latency,
        Self::Overturns,
    ];

    /// The word that stands in an act.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Rejections => "rejections",
            Self::CloudShare => "cloud_share",
            Self::Failures => "failures",
            Self::Cost => "cost",
            Self::Latency => "latency",
            Self::Overturns => "overturns",
        }
    }
}

// === impl Guards ===

impl Guards {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Whether a guard is among them.
    #[must_use]
    pub fn contains(self, guard: Guard) -> bool {
        self.0 & 1 << guard as u8 != 0
    }
}

impl FromIterator<Guard> for Guards {
    fn from_iter<T: IntoIterator<Item = Guard>>(guards: T) -> Self {
        Self(guards.into_iter().fold(0, |bits, guard| bits | 1 << guard as u8))
    }
}

impl From<Vec<Guard>> for Guards {
    fn from(guards: Vec<Guard>) -> Self {
        guards.into_iter().collect()
    }
}

impl From<Guards> for Vec<Guard> {
    fn from(guards: Guards) -> Self {
        Guard::ALL.into_iter().filter(|guard| guards.contains(*guard)).collect()
    }
}

// === impl Candidates ===

impl Candidates {
    /// What counts, by both keys: they are written one after the other. A bundle that was made active by who knows no other key
    /// ends what stands there.
    #[must_use]
    pub fn in_force(active: Option<Active>, left: Option<Self>) -> Option<Self> {
        match (active, left) {
            (Some(Active { event, hash }), Some(left)) if left.event < event => {
                Some(Self { before: Some(left.active), shadow: left.shadow, ..Self::only(event, hash) })
            }
            (_, Some(left)) => Some(left),
            (Some(Active { event, hash }), None) => Some(Self::only(event, hash)),
            (None, None) => None,
        }
    }

    /// An active bundle and nothing beside it.
    #[must_use]
    pub fn only(event: u64, active: Digest) -> Self {
        Self {
            event,
            active,
            active_since: event,
            before: None,
            shadow: None,
            canary: None,
            taken_back: None,
        }
    }
}
