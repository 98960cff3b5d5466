//! Attempts: each time work runs or is sent, told before it begins and when it ends: `attempt.<lane>.<tenant>`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::code::Code;
use crate::digest::Digest;
use crate::ids::{Name, TaskId};
use crate::result::Usage;

/// One attempt's beginning or end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// The task.
    pub task: TaskId,
    /// Who asked.
    pub agent: Name,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What happened.
    pub phase: Phase,
    /// When.
    pub at: Timestamp,
    /// The destination's pool or provider.
    pub target: Name,
    /// The model.
    pub model: String,
    /// The ticket that permits it, on the cloud lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Uuid>,
    /// Salted digest of the exact bytes, on the cloud lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// Bytes that leave, on the cloud lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_bytes: Option<u64>,
    /// Host that they go to, on the cloud lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// What happened to an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// It is about to begin; acknowledged before the first byte leaves.
    Started,
    /// It ended, and another follows.
    Retried {
        /// Why.
        code: Code,
        /// HTTP status, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// It ended; somebody else's result was there first, or the task was withdrawn.
    Late {
        /// Tokens that were paid for.
        usage: Usage,
        /// What it cost, millionths of a US dollar.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_usd_micros: Option<u64>,
        /// Salted digest of the output that was not used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Digest>,
    },
    /// It ended without an answer, and the work went back to the router.
    Returned {
        /// Why.
        code: Code,
        /// HTTP status, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
}
