//! A message of WORK_LOCAL, read: only what the router sent to this pool, unchanged, becomes work.

use jiff::Timestamp;
use tidegate_engine::JobInput;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::{Decision, Destination};
use tidegate_schemas::digest::Salt;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::result::{ResultError, State, TaskResult};
use tidegate_schemas::step::StepReason;
use tidegate_schemas::subject::{Lane, Subject};
use tidegate_schemas::task::Kind;
use tidegate_schemas::work::{Hop, LocalWork};
use tidegate_schemas::{header, json, subject};

use super::{Arrived, Context, Deltas, Disposition, Message, Run, Telling, outgoing};

/// Work that was read.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) position: Position,
    pub(super) tenant: Name,
    pub(super) pool: Name,
    pub(super) hop: Hop,
    pub(super) decision: Decision,
    pub(super) destination: Destination,
    pub(super) salt: Salt,
    pub(super) local: LocalWork,
    /// When the stream took it.
    pub(super) published: Timestamp,
    /// Which attempt this delivery is, from 1.
    pub(super) attempt: u32,
}

impl Work {
    pub(super) fn read(message: &Arrived) -> Result<Self, Refused> {
        let (tenant, pool) = tenant_and_pool(message)?;
        let hop = Hop::read(&message.headers)?.child(message.span);
        let salt = message.headers.get(header::SALT).and_then(|text| Salt::try_from(text.to_owned()).ok());
        let salt = salt.ok_or_else(|| missing(header::SALT))?;
        let decision = message.headers.get(header::DECISION).ok_or_else(|| missing(header::DECISION))?;
        let decision: Decision = serde_json::from_str(decision).map_err(|_| missing(header::DECISION))?;
        let misled = |sentence: &str| Refused::new(Code::Unattributable, sentence);
        let destination = decision.destination.clone().filter(|d| d.lane == Lane::Local && d.target == pool);
        let destination =
            destination.ok_or_else(|| misled("the decision names another destination than this pool"))?;
        if decision.content != Some(salt.digest(&message.payload)) {
            return Err(misled(
                "the payload is not the one that was judged: its digest differs from the decision's",
            ));
        }
        let local: LocalWork = json::read(&message.payload, MESSAGE_BYTES_MAX)?;
        if local.input.kind() != local.kind || local.model != destination.model {
            return Err(Refused::new(
                Code::InvalidField,
                "the work's kind or model is not that of its input or decision",
            ));
        }
        let attempt = u32::try_from(message.delivered).unwrap_or(u32::MAX);
        let position = message.position.clone();
        let published = message.published;
        Ok(Self { position, tenant, pool, hop, decision, destination, salt, local, published, attempt })
    }

    /// Why it must go back to the router instead of being run here.
    pub(super) fn no_go(&self, context: &Context<'_>) -> Option<StepReason> {
        if context.off.iter().any(|switch| switch.covers(&self.tenant, &self.destination)) {
            return Some(StepReason::Off);
        }
        let models = context.models;
        let loaded = if self.local.kind == Kind::Embed { models.embed } else { models.chat };
        let named = models.names.is_empty() || models.names.contains(&self.local.model);
        if !loaded || !named {
            return Some(incapable());
        }
        // The bundle names the weights that its rules and cases were tried with, and what is merged into them: no others answer
        // under it.
        let loaded = match self.local.kind {
            Kind::Embed => (models.embed_sha256, None),
            _ => (models.chat_sha256, models.chat_adapter_sha256),
        };
        let pinned = (self.destination.model_sha256, self.destination.adapter_sha256);
        let other = pinned != (None, None) && pinned != loaded;
        other.then_some(StepReason::Fallback { code: Code::WrongModel })
    }

    /// The run of this work.
    pub(super) fn run(&self, input: JobInput, now: Timestamp) -> Run {
        let deltas = self.local.input.wants_stream().then(|| Deltas {
            subject: subject::delta(&self.tenant, &self.hop.agent, self.hop.id),
            attempt: self.attempt,
        });
        Run {
            tenant: self.tenant.clone(),
            task: self.hop.id,
            attempt: outgoing::started(self, now),
            working: outgoing::working(self),
            input,
            deadline: self.hop.deadline,
            deltas,
        }
    }
}

/// The reason of work that no model here can do.
pub(super) fn incapable() -> StepReason {
    StepReason::Fallback { code: Code::NoCapableDestination }
}

/// Why a message that keeps failing is given up.
pub(super) fn poison() -> Refused {
    Refused::new(Code::Poison, "the work made its worker fail again and again; it was given up")
}

/// A message that cannot be worked on: a dead letter, and the failed result where its headers tell the task.
pub(super) fn dead(message: &Arrived, refused: Refused, now: Timestamp) -> Disposition {
    let decision: Option<Decision> =
        message.headers.get(header::DECISION).and_then(|text| serde_json::from_str(text).ok());
    let (result, tell) = match failed(message, &refused, decision.as_ref(), now) {
        Some((task, result, tell)) => (Some((task, Box::new(result))), tell),
        None => (None, Vec::new()),
    };
    let owners = decision.map(|decision| decision.owners()).unwrap_or_default();
    Disposition::Dead { refused, result, tell, owners }
}

fn failed(
    message: &Arrived,
    refused: &Refused,
    decision: Option<&Decision>,
    now: Timestamp,
) -> Option<(TaskId, Message, Vec<Telling>)> {
    let (tenant, _) = tenant_and_pool(message).ok()?;
    let hop = Hop::read(&message.headers).ok()?.child(message.span);
    let error = ResultError { code: refused.code, message: refused.sentence.clone(), retry_after_ms: None };
    let mut result = TaskResult::ended(tenant.clone(), hop.agent.clone(), hop.id, State::Failed, error)
        .timed(hop.submitted, now);
    if let Some(decision) = decision {
        result = result.decided(decision);
    }
    let sent = outgoing::given_up(&result, &hop, &message.position, decision);
    let tell = outgoing::told(&tenant, &hop, decision, &sent);
    Some((hop.id, sent, tell))
}

fn tenant_and_pool(message: &Arrived) -> Result<(Name, Name), Refused> {
    match Subject::parse(&message.subject) {
        Ok(Subject::WorkLocal { pool, tenant, .. }) => Ok((tenant, pool)),
        _ => Err(Refused::new(Code::Unattributable, "the subject is none of local work")),
    }
}

fn missing(name: &str) -> Refused {
    Refused::new(Code::InvalidHeaders, format!("header `{name}` is missing or malformed"))
}
