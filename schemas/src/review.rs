//! Reviews: a task waits for a person (`review.<queue>.<tenant>`), who decides (`verdict.<queue>.<tenant>.<reviewer>`).
//!
//! A review names the held task by position and digest, so a verdict binds exactly what the reviewer saw.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decision::Decision;
use crate::digest::{Digest, Salt};
use crate::ids::{Name, Position, TaskId};
use crate::labels::Labels;
use crate::sensitive::Sensitive;

/// A held task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Review {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// The task.
    pub task: TaskId,
    /// Who asked; never who decides.
    pub agent: Name,
    /// Where the held task's message stands.
    pub held: Position,
    /// Salted digest of the held task's exact payload.
    pub content: Digest,
    /// The digest's salt.
    pub salt: Salt,
    /// The messages that the bundle's prompt renders of the task, for whoever looks at it. They follow from the payload and the
    /// decision's prompt, which an approval is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendered: Option<Sensitive<Value>>,
    /// The decision that holds it; its destination is where the task would run.
    pub decision: Decision,
    /// When it is rejected if nobody decides.
    pub review_by: Timestamp,
    /// Deadline time left when it was held, milliseconds; it runs on from the verdict.
    pub deadline_left_ms: u64,
}

/// A reviewer's word. Who it is stands in the subject, which the server authorised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// Where the review's message stands.
    pub review: Position,
    /// Digest of what the reviewer saw; must be the review's.
    pub content: Digest,
    /// The decision.
    pub action: Action,
    /// Why, in the reviewer's words; at most 2,000 bytes.
    pub reason: Sensitive<String>,
}

/// What a reviewer decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "action", deny_unknown_fields)]
pub enum Action {
    /// It may run as it stands.
    Approve,
    /// It may run with this input; it is judged again.
    Edit {
        /// The new input, of the task's kind.
        input: Sensitive<Value>,
        /// New labels; can only be stricter than the task's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        labels: Option<Labels>,
    },
    /// It must not run.
    Reject,
}
