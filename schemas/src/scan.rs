//! A model's scan of a task's texts: asked of the local lane by `work.local.scan.…`, answered by a step, a fact of the next
//! decision.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::Name;
use crate::subject::Lane;

/// The pool, and the name of the destination, of work that is to be scanned. No bundle's destination may use it.
pub const SCAN_POOL: &str = "scan";
/// Bytes of all texts of a task that is sent to be scanned; a longer one is decided without.
pub const SCAN_BYTES_MAX: usize = 64 * 1024;
/// Texts of a task that is sent to be scanned, count.
pub const SCAN_TEXTS_MAX: usize = 4_096;
/// How long a scan may wait in its queue, and how long it may then take, milliseconds each; what is longer has failed.
pub const SCAN_MS_MAX: u64 = 10_000;
/// Kinds of findings that a scan may report, count.
pub const SCAN_FINDINGS_MAX: usize = 128;

/// What is known of a model's scan when a task is decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ModelScan {
    /// There is none, and none is asked for: it failed, or what is decided is no longer what it could be asked about.
    #[default]
    Closed,
    /// There is none yet; the decision may be that one comes first.
    Open,
    /// It was made, of exactly the texts that are decided about.
    Done {
        /// SHA-256 of the model's weights.
        model: Digest,
        /// What the model found: its entity → count.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        findings: BTreeMap<Name, u32>,
    },
}

impl ModelScan {
    /// Whether nothing is known and nothing is asked.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self == Self::Closed
    }
}

/// Whether a pool is the one that scans.
#[must_use]
pub fn is_scan(lane: Lane, target: &Name) -> bool {
    lane == Lane::Local && target.as_str() == SCAN_POOL
}

/// The name of the pool.
#[must_use]
#[expect(clippy::expect_used, reason = "a constant that is a name")]
pub fn pool() -> Name {
    Name::new(SCAN_POOL).expect("a name")
}
