//! What a bundle says of itself: its name, whom alerts name, and limits.

use serde::{Deserialize, Serialize};
use tidegate_schemas::ids::Name;
use tidegate_schemas::limits::REVIEW_MS_DEFAULT;

/// Longest that held work can wait for its reviewers, hours: as long as bodies are kept.
pub const REVIEW_HOURS_MAX: u32 = 30 * 24;

/// What a bundle says of itself (`bundle.toml`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name.
    pub name: Name,
    /// Its version, for people; the hash is what counts.
    pub version: String,
    /// Whom alerts name.
    pub owner: String,
    /// Queue of reviews whose policy names none.
    pub review_queue: Name,
    /// The most that one task may cost in the cloud, millionths of a US dollar; policies and tasks can only lower it.
    pub cloud_cost_usd_micros_max: u64,
    /// How long held work waits for its reviewers, hours; absent: 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_hours: Option<u32>,
}

// === impl Manifest ===

impl Manifest {
    /// How long held work waits for its reviewers.
    #[must_use]
    pub fn review_ms(&self) -> u64 {
        self.review_hours.map_or(REVIEW_MS_DEFAULT, |hours| u64::from(hours) * 3_600_000)
    }

    pub(super) fn fault(&self) -> Option<String> {
        if self.version.is_empty() {
            return Some("`version` is empty; name one, for people".to_owned());
        }
        if self.owner.is_empty() {
            return Some("`owner` is empty; name whom alerts are for".to_owned());
        }
        let hours = self.review_hours.filter(|hours| !(1..=REVIEW_HOURS_MAX).contains(hours))?;
        Some(format!("`review_hours` is {hours}; it must be 1 to {REVIEW_HOURS_MAX}"))
    }
}
