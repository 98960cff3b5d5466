//! Steps: a worker hands a task back to the router, which decides anew: `step.<lane>.<tenant>`.
//!
//! A step carries only a cause and a reason, never labels: the router takes the original by its cause. One from the local lane may
//! carry what would leave after a redaction, one from the cloud lane a provider's answer that holds tokens.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Spent;
use crate::code::Code;
use crate::digest::Digest;
use crate::ids::Name;
use crate::redact::Span;
use crate::result::TaskResult;
use crate::task::Input;

/// Work that came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// What a model found in texts that it read whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRead {
    /// SHA-256 of its weights.
    pub model: Digest,
    /// Entity → count. Never the text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<Name, u32>,
}

/// Why work came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// A budget leaves no room for what it may use. From the cloud lane only.
    Spent {
        /// Which.
        budget: Spent,
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
    /// What was found is replaced by tokens: this is what would leave. From the local lane only.
    Redacted {
        /// The input with its tokens.
        input: Input,
        /// Tokens in it, count.
        tokens: u32,
        /// What was replaced in each text of the input, where a model has read it too; empty: what the recognisers found.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        spans: Vec<Vec<Span>>,
        /// What that model found.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by_model: Option<ModelRead>,
    },
    /// A provider has answered a redacted task; values are to be put back. From the cloud lane only.
    Restore {
        /// The result as it would be, with tokens in its output.
        result: Box<TaskResult>,
    },
}
