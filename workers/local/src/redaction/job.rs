//! Work of the pool `redact`: which values are to have a token, and the input with them.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use tidegate_engine::Output;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::Decision;
use tidegate_schemas::digest::Salt;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::redact::{ByModel, Token, redact};
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::step::{ModelRead, Step, StepReason};
use tidegate_schemas::subject::{Lane, Subject};
use tidegate_schemas::vault::{Issue, Issued, REDACT_POOL, Secret};
use tidegate_schemas::work::{Hop, RedactWork};

use super::reading::{Reading, reading};
use crate::life::{Arrived, Message};

/// Work that was read.
pub(crate) struct Job {
    pub(crate) position: Position,
    pub(crate) tenant: Name,
    pub(crate) hop: Hop,
    pub(super) published: Timestamp,
    decision: Decision,
    work: RedactWork,
    /// What a model has found, where one has read the texts: what is replaced is among `work.spans` then.
    read: Option<ModelRead>,
}

/// Tokens, and what each stands for.
pub(crate) type Known = BTreeMap<Token, Sensitive<String>>;

impl Job {
    pub(crate) fn read(message: &Arrived) -> Result<Self, Refused> {
        let (tenant, hop, decision) = envelope(message, REDACT_POOL)?;
        let salt = message.headers.get(header::SALT).and_then(|text| Salt::try_from(text.to_owned()).ok());
        let judged = salt.is_some_and(|salt| decision.content == Some(salt.digest(&message.payload)));
        if !judged {
            return Err(Refused::new(Code::Unattributable, "the payload is not the one that was judged"));
        }
        let work: RedactWork = json::read(&message.payload, MESSAGE_BYTES_MAX)?;
        let (position, published) = (message.position.clone(), message.published);
        Ok(Self { position, tenant, hop, published, decision, work, read: None })
    }

    /// The model that is to read the texts, too.
    pub(super) fn by_model(&self) -> Option<&ByModel> {
        self.work.by_model.as_ref()
    }

    /// The texts, in order.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.work.input.texts()
    }

    /// Replaces what the model found as well.
    pub(super) fn join(&mut self, output: &Output) -> Result<(), Code> {
        let Some(by_model) = &self.work.by_model else { return Ok(()) };
        let Reading { spans, read } = reading(&self.work.input.texts(), &self.work.spans, by_model, output)?;
        self.work.spans = spans;
        self.read = Some(read);
        Ok(())
    }

    /// Whether its producer hears tokens while they come.
    pub(crate) fn streams(&self) -> bool {
        self.work.input.wants_stream()
    }

    /// What the vault is asked: each value once. None where nothing is to be replaced.
    pub(crate) fn question(&self) -> Result<Issue, Refused> {
        let mut values: Vec<Secret> = Vec::new();
        redact(&self.work.input, &self.work.spans, |span, value| {
            let secret = Secret { entity: span.entity.clone(), value: value.to_owned().into() };
            if !values.contains(&secret) {
                values.push(secret);
            }
            Some(Token::new(&span.entity, 0))
        })?;
        Ok(Issue { scope: self.work.scope.clone(), task: self.hop.task.clone(), values })
    }

    /// The step back to the router with what would leave, and what the tokens in it stand for.
    pub(crate) fn answer(&self, asked: &Issue, issued: &Issued) -> Result<(Message, Known), Refused> {
        if asked.values.len() != issued.tokens.len() {
            return Err(Refused::new(
                Code::Internal,
                "the vault gave another number of tokens than was asked",
            ));
        }
        let pairs: Vec<(&Secret, &Token)> = asked.values.iter().zip(&issued.tokens).collect();
        let mut tokens = 0_u32;
        let input = redact(&self.work.input, &self.work.spans, |span, value| {
            tokens = tokens.saturating_add(1);
            let of = pairs.iter().find(|(s, _)| s.entity == span.entity && s.value.expose() == value);
            of.map(|(_, token)| (*token).clone())
        })?;
        let known = pairs.into_iter().map(|(secret, token)| (token.clone(), secret.value.clone())).collect();
        let spans = if self.read.is_some() { self.work.spans.clone() } else { Vec::new() };
        let reason = StepReason::Redacted { input, tokens, spans, by_model: self.read.clone() };
        Ok((self.step(reason), known))
    }

    /// The step back to the router where nothing could be replaced: the task stays inside.
    pub(crate) fn given_up(&self, code: Code) -> Message {
        self.step(StepReason::Fallback { code })
    }

    /// The same where no model could read its texts; none where what was decided rests on the recognisers alone.
    pub(super) fn unread(&self, code: Code) -> Option<Message> {
        self.by_model().filter(|by_model| by_model.required).map(|_| self.given_up(code))
    }

    fn step(&self, reason: StepReason) -> Message {
        let destination = self.decision.destination.as_ref().map(|place| place.name.clone());
        let step = Step {
            schema_version: 1,
            reason,
            destination: destination.unwrap_or_else(|| self.tenant.clone()),
            attempts: 0,
        };
        Message {
            msg_id: self.hop.msg_id(&self.tenant, &format!("step-hop{}", self.hop.hop), 0),
            subject: Subject::Step(Lane::Local, self.tenant.clone()).to_string(),
            headers: typed(self.hop.headers(&self.position)),
            payload: json_of(&step),
        }
    }
}

/// Whose work a message of this pool is, and what was decided of it.
pub(super) fn envelope(message: &Arrived, of: &str) -> Result<(Name, Hop, Decision), Refused> {
    let tenant = match Subject::parse(&message.subject) {
        Ok(Subject::WorkLocal { pool, tenant, .. }) if pool.as_str() == of => tenant,
        _ => return Err(Refused::new(Code::Unattributable, "the subject is none of this pool's")),
    };
    let hop = Hop::read(&message.headers)?.child(message.span);
    let decision = message.headers.get(header::DECISION).and_then(|text| serde_json::from_str(text).ok());
    let missing =
        || Refused::new(Code::InvalidHeaders, "the header with the decision is missing or malformed");
    Ok((tenant, hop, decision.ok_or_else(missing)?))
}

pub(super) fn typed(headers: Headers) -> Headers {
    headers.with("content-type", "application/json")
}

/// JSON of one of our own types.
pub(super) fn json_of<T: serde::Serialize>(value: &T) -> Bytes {
    // Our wire types hold only what JSON can write; should that ever fail, an empty payload is refused by every reader.
    serde_json::to_vec(value).unwrap_or_default().into()
}
