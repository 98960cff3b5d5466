//! A task: one unit of agent work, read from its message.
//!
//! [`Task::read`] is the only way to make one. Tenant, agent and kind come from the subject, which the server has
//! authorised; a body that says otherwise is refused.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cloudevent;
use crate::code::{Code, Refused};
use crate::decision::PromptUsed;
use crate::header::{self, Headers};
use crate::ids::{Identifier, Name, Position, ReplyToken, TaskId};
use crate::json;
use crate::labels::Labels;
use crate::limits::{
    DATA_SUBJECTS_MAX, DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX, OUTPUT_TOKENS_MAX, TASK_BYTES_MAX,
};
use crate::sensitive::Sensitive;
use crate::subject::Class;
use crate::trace::TraceParent;

pub use again::Again;
pub use input::{
    Chat, ChatMessage, Classify, Embed, Extract, Input, Kind, PromptCall, Prompted, Role, Sampling,
    names_variable,
};
pub use subjects::named_subjects;

mod again;
mod input;
mod subjects;
#[cfg(test)]
mod tests;

/// A valid task. Only [`Task::read`] makes one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Task {
    /// Its id: the producer's UUID, or derived.
    pub id: TaskId,
    /// The producer's own id where that is no UUID.
    pub external_id: Option<Identifier>,
    /// Who owns it.
    pub tenant: Name,
    /// Who asks.
    pub agent: Name,
    /// How soon somebody waits.
    pub class: Class,
    /// What is to be done.
    pub input: Input,
    /// The prompt that the input was rendered from, where it was.
    pub by_prompt: Option<ByPrompt>,
    /// What the producer says of the data.
    pub labels: Labels,
    /// What it may take.
    pub limits: Limits,
    /// The workflow it belongs to.
    pub workflow: Option<Identifier>,
    /// The task that caused it.
    pub parent_task: Option<TaskId>,
    /// The task that it repeats, where it was submitted again.
    pub replay_of: Option<TaskId>,
    /// The conversation it belongs to.
    pub session: Option<Identifier>,
    /// Whose data it holds; erasing one of them erases its content.
    pub data_subjects: Vec<Identifier>,
    /// Where the producer also wants the result.
    pub reply: Option<ReplyToken>,
    /// Trace context of the producer.
    pub trace: Option<TraceParent>,
    /// Where its message stands.
    pub position: Position,
    /// When the server stored it.
    pub submitted: Timestamp,
}

/// What an input was rendered from.
#[derive(Debug, Clone, PartialEq)]
pub struct ByPrompt {
    /// The prompt.
    pub prompt: PromptUsed,
    /// Whom to ask about it.
    pub owner: String,
    /// What was put into it. A template may leave some of it out, or change it; it is looked at as it was sent.
    pub variables: Vec<Sensitive<String>>,
}

/// What a task may take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// When it must have ended.
    pub deadline: Timestamp,
    /// The most it may cost, millionths of a US dollar.
    pub cost_usd_micros_max: Option<u64>,
    /// How long a destination may take, milliseconds.
    pub latency_ms_max: Option<u64>,
}

/// A task's message as the server stored it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Tenant of the subject.
    pub tenant: &'a Name,
    /// Agent of the subject.
    pub agent: &'a Name,
    /// Kind token of the subject, whatever it says.
    pub kind: &'a str,
    /// Its headers.
    pub headers: &'a Headers,
    /// Its payload.
    pub payload: &'a [u8],
    /// Where it stands.
    pub position: &'a Position,
    /// When the server stored it.
    pub submitted: Timestamp,
}

/// Task envelope as producers write it: `task.<tenant>.<agent>.<kind>`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskWire {
    /// Version of this envelope; 1.
    #[serde(default = "one")]
    pub schema_version: u32,
    /// The producer's id: a UUID (UUIDv7 is best), or any identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Must be the subject's where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Must be the subject's where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Must be the subject's where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What is to be done; its form depends on the kind.
    #[schemars(with = "Input")]
    pub input: Box<RawValue>,
    /// What the producer says of the data. Required here or by `ce-dataclassification`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// What the task may take.
    #[serde(default)]
    pub limits: LimitsWire,
    /// The workflow it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Identifier>,
    /// The task that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_task: Option<TaskId>,
    /// The task that it repeats, where it was submitted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<TaskId>,
    /// The conversation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Identifier>,
    /// Whose data it holds, at most 8; default: the task itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_subjects: Vec<Identifier>,
    /// How soon somebody waits.
    #[serde(default)]
    pub class: Class,
    /// Last token of `reply.<agent>.<token>`, where the producer also wants the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyToken>,
}

/// Limits as producers write them.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsWire {
    /// Milliseconds from submission; at most one hour, 5 minutes where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The most it may cost, millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd_micros_max: Option<u64>,
    /// How long a destination may take, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms_max: Option<u64>,
}

fn one() -> u32 {
    1
}

/// Why a message is no task, and the id under which its producer is told so.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// The id: the producer's where it could be read, else from the position.
    pub id: TaskId,
    /// The producer's own id where it could be read.
    pub external_id: Option<Identifier>,
    /// Where the producer also wants the result.
    pub reply: Option<ReplyToken>,
    /// Why.
    pub refused: Refused,
}

/// Under which id a producer waits, and where: all that an answer needs.
#[derive(Debug, Default)]
struct Address {
    id: Option<String>,
    reply: Option<ReplyToken>,
}

impl Address {
    fn of_headers(headers: &Headers) -> Self {
        Self {
            id: headers.get(header::ID).map(str::to_owned),
            reply: headers.get(header::REPLY).and_then(|token| ReplyToken::new(token).ok()),
        }
    }

    /// What a body says that is JSON within the limits, and no envelope.
    fn of_no_envelope(payload: &[u8], why: Code) -> Self {
        #[derive(Default, Deserialize)]
        struct Lenient<'a> {
            #[serde(borrow, default)]
            id: Option<&'a RawValue>,
            #[serde(borrow, default)]
            reply: Option<&'a RawValue>,
        }
        // Any other refusal means that size, depth, text or keys are not what a reader may trust.
        if why != Code::InvalidField {
            return Self::default();
        }
        let said: Lenient<'_> = serde_json::from_slice(payload).unwrap_or_default();
        let text = |value: Option<&RawValue>| {
            value.and_then(|value| serde_json::from_str::<String>(value.get()).ok())
        };
        Self { id: text(said.id), reply: text(said.reply).and_then(|token| ReplyToken::new(token).ok()) }
    }
}

impl Task {
    /// Reads a task's message.
    ///
    /// # Errors
    /// [`Rejected`] with the code and sentence for the producer, and the id to answer under.
    pub fn read(message: &Message<'_>) -> Result<Self, Rejected> {
        let wire = json::read::<TaskWire>(message.payload, TASK_BYTES_MAX);
        let said = match &wire {
            Ok(wire) => Address { id: wire.id.clone(), reply: wire.reply.clone() },
            Err(refused) => Address::of_no_envelope(message.payload, refused.code),
        };
        let asked = Address::of_headers(message.headers);
        let reply = said.reply.or(asked.reply);
        let agreed = agree(said.id, asked.id, "id");
        let named = agreed.clone().unwrap_or_default();
        let result = cloudevent::read(message.headers).and_then(|told| {
            let wire = wire?;
            agreed?;
            // Who names a place where nobody can answer would wait for nothing.
            if message.headers.get(header::REPLY).is_some_and(|token| ReplyToken::new(token).is_err()) {
                let sentence = format!(
                    "`{}` is no reply token: 1 to 64 characters of A-Z, a-z, 0-9, `-` and `_`",
                    header::REPLY
                );
                return Err(Refused::new(Code::InvalidHeaders, sentence));
            }
            Self::assemble(message, wire, told, named.as_deref(), reply.clone())
        });
        result.map_err(|refused| {
            let (id, external_id) = identify(message, named.as_deref())
                .unwrap_or((TaskId::from_position(message.position), None));
            Rejected { id, external_id, reply, refused }
        })
    }

    fn assemble(
        message: &Message<'_>,
        wire: TaskWire,
        told: cloudevent::Told,
        named: Option<&str>,
        reply: Option<ReplyToken>,
    ) -> Result<Self, Refused> {
        if wire.schema_version != 1 {
            return Err(field("`schema_version` must be 1"));
        }
        same(wire.tenant.as_deref(), message.tenant.as_str(), "tenant")?;
        same(wire.agent.as_deref(), message.agent.as_str(), "agent")?;
        same(wire.kind.as_deref(), message.kind, "kind")?;
        let kind = Kind::parse(message.kind)?;
        let input = Input::read(kind, wire.input.get())?;
        let labels = told.labels(wire.labels)?;
        labels.check()?;
        if wire.data_subjects.len() > DATA_SUBJECTS_MAX {
            return Err(field(format!("`data_subjects` has more than {DATA_SUBJECTS_MAX} entries")));
        }
        let (id, external_id) = identify(message, named)?;
        let data_subjects = match wire.data_subjects {
            subjects if subjects.is_empty() => vec![subject_of(id)?],
            subjects => subjects,
        };
        let limits = limits(&wire.limits, told.expiry, message.submitted)?;
        let workflow = agree(wire.workflow, told.workflow, "workflow")?;
        let trace = told.trace;
        Ok(Self {
            id,
            external_id,
            tenant: message.tenant.clone(),
            agent: message.agent.clone(),
            class: wire.class,
            input,
            by_prompt: None,
            labels,
            limits,
            workflow,
            parent_task: wire.parent_task,
            replay_of: wire.replay_of,
            session: wire.session,
            data_subjects,
            reply,
            trace,
            position: message.position.clone(),
            submitted: message.submitted,
        })
    }

    /// What kind of work it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.input.kind()
    }
}

fn field(sentence: impl Into<String>) -> Refused {
    Refused::new(Code::InvalidField, sentence)
}

fn subject_of(id: TaskId) -> Result<Identifier, Refused> {
    Identifier::new(format!("task:{id}")).map_err(|error| field(error.to_string()))
}

fn identify(message: &Message<'_>, named: Option<&str>) -> Result<(TaskId, Option<Identifier>), Refused> {
    match named {
        None => Ok((TaskId::from_position(message.position), None)),
        Some(text) => TaskId::named(message.tenant, message.agent, text)
            .map_err(|error| field(format!("`id`: {error}"))),
    }
}

fn same(said: Option<&str>, authorised: &str, what: &str) -> Result<(), Refused> {
    match said {
        Some(said) if said != authorised => Err(Refused::new(
            Code::IdentityMismatch,
            format!("the body's `{what}` is not the subject's; leave it out"),
        )),
        _ => Ok(()),
    }
}

/// A value given in the body, in a header, or alike in both.
fn agree<T: PartialEq>(body: Option<T>, header: Option<T>, what: &str) -> Result<Option<T>, Refused> {
    match (body, header) {
        (Some(body), Some(header)) if body != header => {
            Err(field(format!("the body's `{what}` and the header's differ; send one")))
        }
        (body, header) => Ok(body.or(header)),
    }
}

fn limits(wire: &LimitsWire, expiry: Option<Timestamp>, submitted: Timestamp) -> Result<Limits, Refused> {
    let ms = wire.deadline_ms.unwrap_or(DEADLINE_MS_DEFAULT);
    if ms == 0 || ms > DEADLINE_MS_MAX {
        return Err(field(format!("`deadline_ms` must be 1 to {DEADLINE_MS_MAX}")));
    }
    let from_body = after(submitted, ms)?;
    let latest = after(submitted, DEADLINE_MS_MAX)?;
    let deadline = match expiry {
        Some(expiry) if wire.deadline_ms.is_some() => expiry.min(from_body),
        Some(expiry) => expiry.min(latest),
        None => from_body,
    };
    Ok(Limits {
        deadline,
        cost_usd_micros_max: wire.cost_usd_micros_max,
        latency_ms_max: wire.latency_ms_max,
    })
}

fn after(time: Timestamp, ms: u64) -> Result<Timestamp, Refused> {
    let span = jiff::SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    time.checked_add(span).map_err(|_| field("the deadline is out of range"))
}

/// Checks that a task's output limit is one that can be asked for.
pub(crate) fn output_tokens(asked: Option<u32>) -> Result<(), Refused> {
    match asked {
        Some(tokens) if tokens == 0 || tokens > OUTPUT_TOKENS_MAX => {
            Err(field(format!("`max_tokens` must be 1 to {OUTPUT_TOKENS_MAX}")))
        }
        _ => Ok(()),
    }
}
