//! Message headers: their names, and a list that is lower case, ordered and free of duplicates.

use std::borrow::Cow;

use crate::code::{Code, Refused};
use crate::limits::{HEADERS_BYTES_MAX, HEADERS_COUNT_MAX};

/// JetStream's idempotency key.
pub const MSG_ID: &str = "nats-msg-id";
/// Position of the message that caused this one, `<stream>:<sequence>`.
pub const CAUSE: &str = "tidegate-cause";
/// Position of the task message that a later hop belongs to.
pub const TASK: &str = "tidegate-task";
/// Id of the task.
pub const TASK_ID: &str = "tidegate-task-id";
/// Agent that asked.
pub const AGENT: &str = "tidegate-agent";
/// The decision that caused a work, review or rejected result, as compact JSON.
pub const DECISION: &str = "tidegate-decision";
/// The signed ticket of cloud work.
pub const TICKET: &str = "tidegate-ticket";
/// The budgets that cloud work counts in, as compact JSON; absent: none.
pub const BUDGETS: &str = "tidegate-budgets";
/// Form of a cloud answer: `text`, `json` (by a schema) or `class` (one of given labels).
pub const OUTPUT: &str = "tidegate-output";
/// Salt of the payload's digest, hexadecimal.
pub const SALT: &str = "tidegate-salt";
/// Id of a task, as its producer names it (CloudEvents).
pub const ID: &str = "ce-id";
/// Reply token that the producer chose.
pub const REPLY: &str = "tidegate-reply";
/// When the task must have ended, RFC 3339.
pub const DEADLINE: &str = "tidegate-deadline";
/// The task's data subjects, separated by commas.
pub const SUBJECTS: &str = "tidegate-data-subjects";
/// Decisions of this task before this one.
pub const HOP: &str = "tidegate-hop";
/// Terminal state of a result.
pub const STATE: &str = "tidegate-state";
/// Code of a result or dead letter.
pub const CODE: &str = "tidegate-code";
/// Effective sensitivity of a task or result.
pub const SENSITIVITY: &str = "tidegate-sensitivity";
/// Labels of a result as they count, compact JSON: what a task inherits that goes on from it.
pub const LABELS: &str = "tidegate-labels";
/// Destination that made a result.
pub const DESTINATION: &str = "tidegate-destination";
/// Id of the decision behind a result.
pub const DECISION_ID: &str = "tidegate-decision-id";
/// Prompt behind a result: its name and its hash.
pub const PROMPT: &str = "tidegate-prompt";
/// Cost of a result, millionths of a US dollar.
pub const COST: &str = "tidegate-cost-usd-micros";
/// Time from submission to result, milliseconds.
pub const LATENCY: &str = "tidegate-latency-ms";
/// W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// Workflow of the task (CloudEvents correlation extension).
pub const WORKFLOW: &str = "ce-correlationid";
/// Replay that a record was published again by.
pub const REPLAY_ID: &str = "tidegate-replay-id";
/// Position of the record that was published again.
pub const REPLAY_POSITION: &str = "tidegate-replay-position";
/// Time of the record that was published again, RFC 3339.
pub const REPLAY_TIME: &str = "tidegate-replay-time";

/// Headers by lower-case name, in order, each name at most once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(Cow<'static, str>, String)>);

impl Headers {
    /// No headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Headers from outside.
    ///
    /// # Errors
    /// [`Code::InvalidHeaders`] when a name stands twice (in any case) or a limit is passed.
    pub fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Refused> {
        let mut headers = Self::new();
        let mut bytes = 0;
        for (name, value) in pairs {
            bytes += name.len() + value.len();
            let name = name.to_ascii_lowercase();
            if headers.get(&name).is_some() {
                return Err(Refused::new(Code::InvalidHeaders, "a header stands twice; send each once"));
            }
            headers.0.push((name.into(), value.to_owned()));
            if bytes > HEADERS_BYTES_MAX || headers.0.len() > HEADERS_COUNT_MAX {
                return Err(Refused::new(
                    Code::InvalidHeaders,
                    format!("headers pass {HEADERS_COUNT_MAX} entries or {HEADERS_BYTES_MAX} bytes"),
                ));
            }
        }
        Ok(headers)
    }

    /// Headers of a role's own message, taken as they come; a later value replaces an earlier one.
    pub fn trusted(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        pairs.into_iter().fold(Self::new(), |headers, (name, value)| headers.with(name, value))
    }

    /// The value of a header, whatever the case of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The headers with one set. Line breaks cannot pass: they become spaces.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets one header. Line breaks cannot pass: they become spaces.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (mut name, mut value) = (name.into(), value.into());
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            name = name.to_ascii_lowercase().into();
        }
        // One look for each is a search of whole words; both at once is one of bytes.
        if value.as_bytes().contains(&b'\r') || value.as_bytes().contains(&b'\n') {
            value = value.replace(['\r', '\n'], " ");
        }
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// The headers with one set where there is a value.
    #[must_use]
    pub fn with_some(self, name: impl Into<Cow<'static, str>>, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_str()))
    }

    /// The same, with names as they are held: most are constants.
    pub fn held(&self) -> impl Iterator<Item = (&Cow<'static, str>, &str)> {
        self.0.iter().map(|(name, value)| (name, value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
