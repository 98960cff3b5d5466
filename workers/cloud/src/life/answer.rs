//! From what a provider answered to the task's terminal result. Sentences quote nothing of requests or answers.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_providers::{Answer, ProviderError};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::render;
use tidegate_schemas::result::{Finish, ModelUsed, Output, ResultError, State, TaskResult, Timings};

use super::Message;
use super::outgoing::{self, Unused};
use super::work::{Form, Work};

/// The provider answered: completed, or failed where the answer is not of the form that was asked for.
pub(super) fn completed(work: &Work, answer: Answer, attempts: u32, now: Timestamp) -> (Message, Unused) {
    let unused = Unused {
        usage: answer.usage.unwrap_or_default(),
        cost_usd_micros: answer.cost_usd_micros,
        output: Some(work.envelope.salt.digest(answer.text.expose().as_bytes())),
    };
    let model = ModelUsed {
        requested: work.claims().model.clone(),
        answered: answer.model.clone(),
        sha256: None,
        adapter_sha256: None,
        quantisation: None,
        kernels: None,
    };
    let timings = timings(work, &answer, now);
    let asked = render::schema_of(work.bytes());
    let mut result = match output(work.envelope.form, answer, asked.as_ref()) {
        Ok(output) => {
            let unset = Refused::new(Code::Internal, "");
            TaskResult {
                state: State::Completed,
                error: None,
                output: Some(output),
                ..ended(work, unset, now)
            }
        }
        Err(refused) => ended(work, refused, now),
    };
    result.model = Some(model);
    result.timings = timings;
    if work.is_redacted() && result.state == State::Completed {
        let result = spent(result, unused, attempts);
        return (outgoing::restore(work, result, attempts), unused);
    }
    (send(work, result, unused, attempts), unused)
}

/// The call ended without an answer that can be used, and nobody is to try again.
pub(super) fn failed(
    work: &Work,
    refused: Refused,
    error: &ProviderError,
    attempts: u32,
    now: Timestamp,
) -> (Message, Unused) {
    let unused = Unused::spent(error.usage, error.cost_usd_micros);
    (send(work, ended(work, refused, now), unused, attempts), unused)
}

/// What is asked for is no schema that an answer could be held to: it ends before a byte of it leaves.
pub(super) fn unaskable(work: &Work, now: Timestamp) -> Option<(Message, Unused)> {
    let schema = render::schema_of(work.bytes())?;
    jsonschema::validator_for(&schema).err()?;
    let sentence = "the schema is no JSON Schema, or refers to another document";
    let refused = Refused::new(Code::InvalidSchema, sentence);
    Some((send(work, ended(work, refused, now), Unused::default(), 0), Unused::default()))
}

/// The producer withdrew the task. The router sends this result; here it answers a producer that waits.
pub(super) fn withdrawn(work: &Work, attempts: u32, now: Timestamp) -> Message {
    let refused = Refused::new(Code::Canceled, "the producer withdrew the task");
    let result = TaskResult { state: State::Canceled, ..ended(work, refused, now) };
    send(work, result, Unused::default(), attempts)
}

/// The result does not fit a message.
pub(super) fn oversized(
    work: &Work,
    refused: Refused,
    unused: Unused,
    attempts: u32,
    now: Timestamp,
) -> Message {
    let message = send(work, ended(work, refused, now), unused, attempts);
    // Under the id of the result that did not fit nothing was stored, but a second id cannot be mistaken.
    Message { msg_id: format!("{}/oversized", message.msg_id), ..message }
}

fn send(work: &Work, result: TaskResult, unused: Unused, attempts: u32) -> Message {
    outgoing::result(work, &spent(result, unused, attempts))
}

/// The result with what it took.
fn spent(result: TaskResult, unused: Unused, attempts: u32) -> TaskResult {
    let Unused { usage, cost_usd_micros, .. } = unused;
    TaskResult { usage, cost_usd_micros, attempts, ..result }
}

fn ended(work: &Work, refused: Refused, now: Timestamp) -> TaskResult {
    let envelope = &work.envelope;
    let error = ResultError { code: refused.code, message: refused.sentence, retry_after_ms: None };
    let (tenant, agent) = (envelope.tenant.clone(), envelope.hop.agent.clone());
    let mut result = TaskResult::ended(tenant, agent, envelope.hop.id, State::Failed, error)
        .timed(envelope.hop.submitted, now)
        .decided(&envelope.decision);
    result.destination = Some(envelope.destination.clone());
    result
}

fn timings(work: &Work, answer: &Answer, now: Timestamp) -> Timings {
    let total = now.duration_since(work.envelope.hop.submitted).as_millis();
    let total_ms = u64::try_from(total).unwrap_or(0);
    let queued_ms = total_ms.saturating_sub(answer.run_ms);
    let first_token_ms = answer.first_text_ms.map(|first| queued_ms.saturating_add(first));
    Timings { total_ms, queued_ms, first_token_ms, run_ms: answer.run_ms }
}

fn output(form: Form, answer: Answer, asked: Option<&Value>) -> Result<Output, Refused> {
    let bytes = answer.text.expose().as_bytes();
    let unfit = |_| incomplete(answer.finish);
    match form {
        Form::Text => {
            Ok(Output::Text { text: answer.text, tool_calls: answer.tool_calls, finish: answer.finish })
        }
        Form::Json => {
            let value: Value = json::read(bytes, MESSAGE_BYTES_MAX).map_err(unfit)?;
            follows(asked, &value)?;
            Ok(Output::Json { value: value.into() })
        }
        Form::Class => {
            let Class { class } = json::read(bytes, MESSAGE_BYTES_MAX).map_err(unfit)?;
            follows(asked, &json!({ "class": class }))?;
            Ok(Output::Class { class: class.into() })
        }
    }
}

/// Whether an answer follows the schema that the request asked for: a provider may take it for a wish.
fn follows(asked: Option<&Value>, answer: &Value) -> Result<(), Refused> {
    let schema = asked.and_then(|schema| jsonschema::validator_for(schema).ok());
    if schema.is_some_and(|schema| !schema.is_valid(answer)) {
        let sentence = "the provider's model did not answer by the schema that was asked for";
        return Err(Refused::new(Code::ModelFailed, sentence));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Class {
    class: String,
}

fn incomplete(finish: Finish) -> Refused {
    let sentence = match finish {
        Finish::Length => {
            "the answer was cut before its JSON was complete; raise `max_tokens`, or ask for less"
        }
        Finish::Stop | Finish::ToolCalls | Finish::ContentFilter => {
            "the provider's model did not answer with the JSON that was asked for"
        }
    };
    Refused::new(Code::ModelFailed, sentence)
}
