//! Steps: a worker hands a task back to the router, which decides anew: `step.<lane>.<tenant>`.
//!
//! A step carries only a cause and a reason, never labels or input: the router takes the original by its cause.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::digest::Digest;
use crate::ids::Name;

/// Work that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// Why it came back.
    pub reason: StepReason,
    /// The destination that it came back from.
    pub destination: Name,
    /// Times it was sent or run there.
    pub attempts: u32,
}

/// Why work came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum StepReason {
    /// The ticket expired in the queue or while waiting for the provider.
    Expired,
    /// The lane, provider or model was switched off after the decision.
    Off,
    /// The destination did not answer within the permitted attempts.
    Fallback {
        /// What went wrong last.
        code: Code,
    },
    /// A model has scanned it; of work of the pool `scan` only.
    Scanned {
        /// SHA-256 of the model's weights.
        model: Digest,
        /// What it found: entity → count. Never the text.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        findings: BTreeMap<Name, u32>,
    },
    /// No model could scan it.
    ScanFailed {
        /// Why.
        code: Code,
    },
}
