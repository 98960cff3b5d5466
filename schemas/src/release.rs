//! Releases: which bundles a cell decides by, beside the active one. A canary decides for a share of the tasks; a shadow is
//! judged beside and never acted on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::Active;
use crate::digest::Digest;

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
}

/// What a share is of. All tasks that it has in common are decided by the same bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShareBy {
    /// Of the tenants.
    Tenant,
    /// Of the workflows; a task that names none is one of its own.
    Workflow,
}

impl ShareBy {
    /// The word that stands in an act.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Workflow => "workflow",
        }
    }
}

/// Value of key `candidates` in bucket `release`: all that an operator's act left. Key `active` follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// Sequence of the control event in EVENTS that left it.
    pub event: u64,
    /// The bundle that is active.
    pub active: Digest,
    /// The bundle that was active before: a rollback leads there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// The bundle that is judged beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Digest>,
    /// The bundle that decides for a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// Key of [`Candidates`] in bucket `release`.
pub const CANDIDATES_KEY: &str = "candidates";

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
        Self { event, active, before: None, shadow: None, canary: None }
    }
}
