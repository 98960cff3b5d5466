//! Work of the pool `restore`: which tokens are to be known, and the result with values in their place.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tidegate_schemas::attempt::{Attempt, Phase};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::Decision;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::redact::{Restored, Token, restore_output, tokens_in};
use tidegate_schemas::result::{ResultError, State, TaskResult};
use tidegate_schemas::subject::{Lane, Subject};
use tidegate_schemas::vault::{RESTORE_POOL, Resolve, Resolved, VALUES_MAX};
use tidegate_schemas::work::{Hop, RestoreWork};

use super::job::{Known, envelope, json_of, typed};
use crate::life::{Arrived, Message};

/// An answer that is on its way home.
pub(crate) struct Home {
    pub(crate) position: Position,
    pub(crate) tenant: Name,
    pub(crate) hop: Hop,
    pub(crate) decision: Decision,
    work: RestoreWork,
}

/// As many of the tokens that left as the vault is asked about, those that came back first: a text may hold any number of what only
/// looks like one.
pub(super) fn to_ask(left: &[Token], came_back: &str) -> Vec<Token> {
    let came_back: BTreeSet<Token> = tokens_in(came_back).into_iter().collect();
    let (first, others): (Vec<_>, Vec<_>) = left.iter().cloned().partition(|token| came_back.contains(token));
    first.into_iter().chain(others).take(VALUES_MAX).collect()
}

impl Home {
    pub(crate) fn read(message: &Arrived) -> Result<Self, Refused> {
        let (tenant, hop, decision) = envelope(message, RESTORE_POOL)?;
        let work: RestoreWork = json::read(&message.payload, MESSAGE_BYTES_MAX)?;
        if (&work.result.tenant, &work.result.agent, work.result.task) != (&tenant, &hop.agent, hop.id) {
            return Err(Refused::new(Code::Unattributable, "the result is another task's"));
        }
        Ok(Self { position: message.position.clone(), tenant, hop, decision, work })
    }

    /// What the vault is asked: the tokens that left.
    pub(crate) fn question(&self) -> Resolve {
        let output = serde_json::to_string(&self.work.result.output).unwrap_or_default();
        Resolve { scope: self.work.scope.clone(), tokens: to_ask(&self.work.tokens, &output) }
    }

    /// The result, and what became of the tokens. One that the vault does not know in this scope stays as it is.
    pub(crate) fn result(
        &self,
        asked: &Resolve,
        resolved: Resolved,
        now: Timestamp,
    ) -> Result<(Message, Restored), Refused> {
        if asked.tokens.len() != resolved.values.len() {
            return Err(Refused::new(
                Code::Internal,
                "the vault gave another number of values than was asked",
            ));
        }
        let pairs = asked.tokens.iter().cloned().zip(resolved.values);
        let known: Known = pairs.filter_map(|(token, value)| Some((token, value?))).collect();
        let mut result = self.work.result.clone();
        let mut counts = Restored::default();
        result.output = result.output.map(|output| {
            let (output, counted) = restore_output(output, &known);
            counts = counted;
            output
        });
        result.redaction = Some(counts);
        let queued = result.timings.queued_ms;
        let worked = result.timings.total_ms;
        let result = result.timed(self.hop.submitted, now);
        let total = result.timings.total_ms;
        // What was added on the way home was waiting, too.
        let timings = tidegate_schemas::result::Timings {
            queued_ms: queued.saturating_add(total.saturating_sub(worked)),
            ..result.timings
        };
        Ok((self.message(&TaskResult { timings, ..result }), counts))
    }

    fn message(&self, result: &TaskResult) -> Message {
        let headers = result.headers(self.hop.headers(&self.position), Some(&self.decision.labels));
        let (tenant, agent) = (self.tenant.clone(), self.hop.agent.clone());
        Message {
            msg_id: self.hop.msg_id(&self.tenant, &format!("restored-hop{}", self.hop.hop), result.attempts),
            subject: Subject::Result { tenant, agent, task: self.hop.id }.to_string(),
            headers: typed(headers),
            payload: json_of(result),
        }
    }

    /// The result where the one with values fits no message: what was answered is paid for, and cannot be told.
    pub(crate) fn oversized(&self, now: Timestamp) -> Message {
        let message = "with its values the answer is larger than a message may be; ask for less at once";
        let error = ResultError { code: Code::TooLarge, message: message.to_owned(), retry_after_ms: None };
        let result =
            TaskResult { state: State::Failed, output: None, error: Some(error), ..self.work.result.clone() };
        let message = self.message(&result.timed(self.hop.submitted, now));
        // Under the id of the result that did not fit nothing was stored, but a second id cannot be mistaken.
        Message { msg_id: format!("{}/oversized", message.msg_id), ..message }
    }

    /// The record that the answer is not used: another result was first.
    pub(crate) fn late(&self, now: Timestamp) -> Message {
        let (result, place) = (&self.work.result, self.decision.destination.as_ref());
        let attempt = Attempt {
            schema_version: 1,
            task: self.hop.id,
            agent: self.hop.agent.clone(),
            attempt: result.attempts,
            phase: Phase::Late { usage: result.usage, cost_usd_micros: result.cost_usd_micros, output: None },
            at: now,
            target: place.map_or_else(|| self.tenant.clone(), |place| place.target.clone()),
            model: place.map(|place| place.model.clone()).unwrap_or_default(),
            ticket: None,
            content: None,
            content_bytes: None,
            host: None,
        };
        Message {
            msg_id: self.hop.msg_id(&self.tenant, &format!("late-restored-hop{}", self.hop.hop), 0),
            subject: Subject::Attempt(Lane::Local, self.tenant.clone()).to_string(),
            headers: typed(self.hop.headers(&self.position)),
            payload: json_of(&attempt),
        }
    }
}
