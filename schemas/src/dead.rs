//! Dead letters: a message that could not be processed, and why: `dead.<role>.<tenant>`.
//!
//! It names the message and copies nothing of it; the message itself stays in its stream and in the record.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::decision::Owners;
use crate::ids::{Name, Position, TaskId};

/// Stands for the tenant in the subject of a letter whose message names none. It is nobody's name.
pub const TENANT_UNKNOWN: &str = "unknown";

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// Where the message stands.
    pub message: Position,
    /// Its subject.
    pub subject: String,
    /// The role that gave up.
    pub role: Name,
    /// The consumer it came by.
    pub consumer: String,
    /// Why.
    pub code: Code,
    /// The same in one sentence that quotes nothing of the message.
    pub sentence: String,
    /// Times it was delivered.
    pub delivered: u64,
    /// When.
    pub at: Timestamp,
    /// The task, where it could be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Whom to ask about it, where known.
    #[serde(default, skip_serializing_if = "Owners::is_empty")]
    pub owners: Owners,
}
