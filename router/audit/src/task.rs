//! What became of each task: a pure step from (row, message) to row, and the tasks that are still open.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::result::State;

use crate::leaf::Flag;
use crate::project::Effect;

/// A task without a terminal result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTask {
    /// Whose it is.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// The task.
    pub task: TaskId,
    /// Where it is.
    pub state: State,
    /// When it must have ended; stands still while it is held.
    pub deadline: Timestamp,
    /// When it is rejected if nobody decides; given while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_by: Option<Timestamp>,
    /// Index of the task's record.
    pub index: u64,
    /// Where the task's message stands.
    pub position: Position,
    /// Where the newest message of the task stands.
    pub last: Position,
}

impl OpenTask {
    /// When something must have happened: the review's end while it is held, else the deadline.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        self.review_by.unwrap_or(self.deadline)
    }
}

/// One task, as the record keeps it. Short names: one row a task, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Index of the task's own record.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub(crate) opened: Option<u64>,
    /// Index of its terminal result.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(crate) terminal: Option<u64>,
    #[serde(rename = "s")]
    pub(crate) state: State,
    #[serde(rename = "d")]
    pub(crate) deadline_ms: i64,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) review_by_ms: Option<i64>,
    /// Whether its producer withdrew it.
    #[serde(rename = "w", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) withdrawn: bool,
    /// Data subjects of the task, for messages that name none: the key they are sealed with.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<u64>,
    /// First sequence of the task in each stream, by the stream's number: nothing from there on is trimmed while it is open.
    #[serde(rename = "f")]
    pub(crate) first: Vec<(u32, u64)>,
    /// Index of its newest record.
    #[serde(rename = "e")]
    pub(crate) last: u64,
}

/// What a step changed in the counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// It was accepted.
    pub(crate) accepted: bool,
    /// An accepted task ended.
    pub(crate) ended: bool,
}

// === impl Row ===

impl Row {
    /// A task of which nothing is known yet.
    pub(crate) fn unknown(index: u64) -> Self {
        Self {
            opened: None,
            terminal: None,
            state: State::Submitted,
            deadline_ms: 0,
            review_by_ms: None,
            withdrawn: false,
            key: None,
            first: Vec::new(),
            last: index,
        }
    }

    /// Takes one message in. What is odd about it is added to `flags`.
    pub(crate) fn step(&mut self, effect: Effect, index: u64, flags: &mut Vec<Flag>) -> Counted {
        self.last = index;
        if let Effect::Submitted(deadline) = effect {
            return self.submitted(deadline, index, flags);
        }
        self.withdrawn |= effect == Effect::Withdrawn;
        // Any producer may withdraw an id that never came. That, and the canceled result that answers it, is no oddity of ours.
        let plain = self.withdrawn && matches!(effect, Effect::Withdrawn | Effect::Ended(State::Canceled));
        if self.opened.is_none() && !plain {
            flags.push(Flag::Orphan);
        }
        match (effect, self.terminal) {
            (Effect::Ended(_), Some(_)) => flags.push(Flag::SecondTerminal),
            (Effect::Ended(state), None) => {
                self.terminal = Some(index);
                self.state = state;
                self.review_by_ms = None;
                return Counted { accepted: false, ended: self.opened.is_some() };
            }
            (Effect::Working(deadline), None) => {
                self.state = State::Working;
                self.review_by_ms = None;
                if let Some(deadline) = deadline {
                    self.deadline_ms = deadline.as_millisecond();
                }
            }
            (Effect::Held(review_by), None) => {
                self.state = State::InputRequired;
                self.review_by_ms = Some(review_by.as_millisecond());
            }
            _ => {}
        }
        Counted::default()
    }

    fn submitted(&mut self, deadline: Timestamp, index: u64, flags: &mut Vec<Flag>) -> Counted {
        if self.opened.is_some() {
            flags.push(Flag::Repeat);
            return Counted::default();
        }
        self.opened = Some(index);
        if self.terminal.is_none() {
            self.deadline_ms = deadline.as_millisecond();
        }
        Counted { accepted: true, ended: self.terminal.is_some() }
    }

    /// Notes where the task's messages begin in a stream.
    pub(crate) fn touch(&mut self, stream: u32, sequence: u64) {
        if !self.first.iter().any(|(known, _)| *known == stream) {
            self.first.push((stream, sequence));
        }
    }

    /// When something must have happened, milliseconds; `None` when the task is not open.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        match (self.opened, self.terminal) {
            (Some(_), None) => {
                Some(u64::try_from(self.review_by_ms.unwrap_or(self.deadline_ms)).unwrap_or_default())
            }
            _ => None,
        }
    }
}
