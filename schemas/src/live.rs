//! What is told while a task is under way, on core NATS: nothing of it is stored, and nobody waits for it.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::decision::{Decision, Outcome};
use crate::ids::TaskId;
use crate::result::State;

/// A transition of a task: `state.<tenant>.<agent>.<task>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transition<'a> {
    /// The task.
    pub task: TaskId,
    /// The state that it is in now.
    pub state: State,
    /// The decision behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Uuid>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Where it runs, or would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Cow<'a, str>>,
    /// Why, in one plain sentence that quotes nothing of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentence: Option<Cow<'a, str>>,
}

impl<'a> Transition<'a> {
    /// A transition, by a decision where there is one.
    #[must_use]
    pub fn new(task: TaskId, state: State, decision: Option<&'a Decision>) -> Self {
        Self {
            task,
            state,
            decision: decision.map(|d| d.id),
            outcome: decision.map(|d| d.outcome),
            destination: decision.and_then(|d| d.destination.as_ref()).map(|d| d.name.as_str().into()),
            sentence: decision.map(|d| d.sentence.as_str().into()),
        }
    }
}

/// A piece of an answer while it is made; the last one of an attempt has no text: `delta.<tenant>.<agent>.<task>`. Without `Debug`: the text is the answer's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delta<'a> {
    /// Which attempt made it, from 1; the pieces of another attempt do not continue it.
    pub attempt: u32,
    /// Its place in the attempt, from 0.
    pub index: u32,
    /// The piece.
    pub text: Cow<'a, str>,
    /// Whether it is the attempt's last.
    pub last: bool,
}
