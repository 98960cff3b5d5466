//! Work: what the router sends to a worker.
//!
//! Local work is JSON with the task's input. Cloud work is the exact bytes of the provider's request and nothing else of
//! the task; all that the worker needs beside them stands in headers ([`Hop`]) and in the ticket.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::code::{Code, Refused};
use crate::header::{self, Headers};
use crate::ids::{Identifier, Name, Position, ReplyToken, TaskId};
use crate::redact::{ByModel, Span, Token};
use crate::result::TaskResult;
use crate::task::{Input, Task};
use crate::trace::TraceParent;
use crate::vault::Scope;

/// Local work: `work.local.<pool>.<class>.<tenant>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LocalWork {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// The kind of work, as the input's form alone does not say it.
    pub kind: crate::task::Kind,
    /// The model that the decision chose.
    pub model: String,
    /// The input, one copy.
    pub input: Input,
}

/// Work of the pool `redact`: replace what was found by tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RedactWork {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// Within what a token stands for its value.
    pub scope: Scope,
    /// The input, as it would leave without.
    pub input: Input,
    /// What the recognisers found in each of its texts.
    pub spans: Vec<Vec<Span>>,
    /// What else is to be looked for, by a model in the process that redacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_model: Option<ByModel>,
}

/// Work of the pool `restore`: put values back where tokens stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreWork {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// Within what the tokens were issued.
    pub scope: Scope,
    /// Tokens that left, as they stand in what was sent.
    pub tokens: Vec<Token>,
    /// The result as it would be, with tokens in its output.
    pub result: TaskResult,
}

/// What every hop after the task knows of it, carried in headers.
#[derive(Debug, Clone, PartialEq)]
pub struct Hop {
    /// The task.
    pub id: TaskId,
    /// Who asked.
    pub agent: Name,
    /// Where the task's message stands.
    pub task: Position,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// When it was submitted.
    pub submitted: Timestamp,
    /// Decisions of this task before the one behind this message.
    pub hop: u32,
    /// Whose data it holds.
    pub data_subjects: Vec<Identifier>,
    /// The workflow it belongs to.
    pub workflow: Option<Identifier>,
    /// Where the producer also wants the result.
    pub reply: Option<ReplyToken>,
    /// Trace context.
    pub trace: Option<TraceParent>,
}

const SUBMITTED: &str = "tidegate-submitted";

impl Hop {
    /// The hop that follows a task's message.
    #[must_use]
    pub fn of(task: &Task, hop: u32) -> Self {
        Self {
            id: task.id,
            agent: task.agent.clone(),
            task: task.position.clone(),
            deadline: task.limits.deadline,
            submitted: task.submitted,
            hop,
            data_subjects: task.data_subjects.clone(),
            workflow: task.workflow.clone(),
            reply: task.reply.clone(),
            trace: task.trace,
        }
    }

    /// The same, under a span of its own within the trace.
    #[must_use]
    pub fn child(self, span: u64) -> Self {
        Self { trace: self.trace.map(|trace| trace.child(span)), ..self }
    }

    /// The headers of a message that is this hop, caused by the message at `cause`.
    #[must_use]
    pub fn headers(&self, cause: &Position) -> Headers {
        let subjects: Vec<String> = self.data_subjects.iter().map(escaped).collect();
        Headers::new()
            .with(header::CAUSE, cause.to_string())
            .with(header::TASK_ID, self.id.to_string())
            .with(header::AGENT, self.agent.as_str())
            .with(header::TASK, self.task.to_string())
            .with(header::DEADLINE, self.deadline.to_string())
            .with(SUBMITTED, self.submitted.to_string())
            .with(header::HOP, self.hop.to_string())
            .with(header::SUBJECTS, subjects.join(","))
            .with_some(header::WORKFLOW, self.workflow.as_ref().map(Identifier::as_str))
            .with_some(header::REPLY, self.reply.as_ref().map(ReplyToken::as_str))
            .with_some(header::TRACEPARENT, self.trace.map(|trace| trace.to_string()))
    }

    /// Reads the hop from a role's message.
    ///
    /// # Errors
    /// [`Code::InvalidHeaders`] with the header that is missing or malformed.
    pub fn read(headers: &Headers) -> Result<Self, Refused> {
        let subjects: Result<Vec<_>, _> = headers
            .get(header::SUBJECTS)
            .unwrap_or_default()
            .split(',')
            .filter(|s| !s.is_empty())
            .map(|text| Identifier::new(text.replace("%2C", ",").replace("%25", "%")))
            .collect();
        Ok(Self {
            id: required(headers, header::TASK_ID)?,
            agent: required(headers, header::AGENT)?,
            task: required(headers, header::TASK)?,
            deadline: required(headers, header::DEADLINE)?,
            submitted: required(headers, SUBMITTED)?,
            hop: required(headers, header::HOP)?,
            data_subjects: subjects.map_err(|_| bad(header::SUBJECTS))?,
            workflow: optional(headers, header::WORKFLOW)?,
            reply: optional(headers, header::REPLY)?,
            trace: headers.get(header::TRACEPARENT).and_then(|text| text.parse().ok()),
        })
    }

    /// The idempotency key of a message of this task: `<tenant>/<agent>/<task>/<step>/<attempt>`.
    #[must_use]
    pub fn msg_id(&self, tenant: &Name, step: &str, attempt: u32) -> String {
        format!("{tenant}/{}/{}/{step}/{attempt}", self.agent, self.id)
    }
}

/// An identifier in a list that commas part.
fn escaped(id: &Identifier) -> String {
    id.as_str().replace('%', "%25").replace(',', "%2C")
}

fn bad(name: &str) -> Refused {
    Refused::new(Code::InvalidHeaders, format!("header `{name}` is missing or malformed"))
}

fn required<T: std::str::FromStr>(headers: &Headers, name: &str) -> Result<T, Refused> {
    headers.get(name).and_then(|text| text.parse().ok()).ok_or_else(|| bad(name))
}

fn optional<T: std::str::FromStr>(headers: &Headers, name: &str) -> Result<Option<T>, Refused> {
    headers.get(name).map(|text| text.parse().map_err(|_| bad(name))).transpose()
}
