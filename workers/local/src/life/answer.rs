//! From what the engine made to the task's terminal result. Sentences quote nothing of prompts or answers.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tidegate_engine as engine;
use tidegate_engine::{EngineError, FinishReason, ModelInfo, OutputContent, Spent};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::result::{Finish, ModelUsed, Output, ResultError, State, TaskResult, Timings, Usage};
use tidegate_schemas::task::{Input, Kind};

use super::Message;
use super::outgoing::{self, Unused};
use super::work::Work;

/// What is sent, and what is told of it should it come too late.
pub(super) type Answer = (Message, Unused);

/// The deadline had passed before the run began.
pub(super) fn too_late(work: &Work, now: Timestamp) -> Answer {
    refused(work, Refused::new(Code::DeadlineExceeded, "the deadline passed while the work waited"), now)
}

/// The producer withdrew the task. The router sends this result; here it answers a producer that waits.
pub(super) fn withdrawn(work: &Work, now: Timestamp) -> Message {
    let refused = Refused::new(Code::Canceled, "the producer withdrew the task");
    outgoing::result(work, &ended(work, State::Canceled, refused, now))
}

/// The output does not fit a message.
pub(super) fn oversized(work: &Work, made: Unused, now: Timestamp) -> Answer {
    let refused =
        Refused::new(Code::TooLarge, "the output is larger than a message may be; ask for less at once");
    let mut result = ended(work, State::Failed, refused, now);
    result.usage = made.usage;
    result.attempts = work.attempt;
    send(work, &result, made)
}

/// Work that cannot be run as it is.
pub(super) fn refused(work: &Work, refused: Refused, now: Timestamp) -> Answer {
    send(work, &ended(work, State::Failed, refused, now), Unused::default())
}

/// The engine ended it without an answer; what it had cost by then is told with it.
pub(super) fn failed(work: &Work, error: &EngineError, spent: Option<&Spent>, now: Timestamp) -> Answer {
    let mut result = ended(work, State::Failed, Refused::new(code(error), error.to_string()), now);
    result.attempts = work.attempt;
    if let Some(spent) = spent {
        result.model = Some(model(work, &spent.model));
        result.usage = usage(spent.usage);
        result.timings = timings(work, &spent.timings, now);
        result.timings.first_token_ms =
            result.timings.first_token_ms.filter(|_| spent.usage.output_tokens > 0);
    }
    send(work, &result, unused(spent))
}

/// What a run had cost that ended without an answer.
pub(super) fn unused(spent: Option<&Spent>) -> Unused {
    Unused { usage: spent.map(|spent| usage(spent.usage)).unwrap_or_default(), output: None }
}

/// The engine's answer, as the kind of work wants it.
pub(super) fn finished(work: &Work, made: engine::Output, now: Timestamp) -> Answer {
    let usage = usage(made.usage);
    let digest = match &made.content {
        OutputContent::Text(text) => Some(work.salt.digest(text.as_bytes())),
        OutputContent::Embeddings(_) | OutputContent::Scanned(_) => None,
    };
    let timings = timings(work, &made.timings, now);
    let model = model(work, &made.model);
    let mut result = match output(&work.local.input, made.content, made.finish) {
        Ok(output) => {
            TaskResult { state: State::Completed, error: None, output: Some(output), ..blank(work) }
        }
        Err(refused) => ended(work, State::Failed, refused, now),
    };
    result.model = Some(model);
    result.usage = usage;
    result.timings = timings;
    result.attempts = work.attempt;
    send(work, &result, Unused { usage, output: digest })
}

fn send(work: &Work, result: &TaskResult, unused: Unused) -> Answer {
    (outgoing::result(work, result), unused)
}

/// A result of this work, without an end yet.
fn blank(work: &Work) -> TaskResult {
    let unset = ResultError { code: Code::Internal, message: String::new(), retry_after_ms: None };
    let (tenant, agent) = (work.tenant.clone(), work.hop.agent.clone());
    let mut result =
        TaskResult::ended(tenant, agent, work.hop.id, State::Failed, unset).decided(&work.decision);
    result.destination = Some(work.destination.clone());
    result
}

fn ended(work: &Work, state: State, refused: Refused, now: Timestamp) -> TaskResult {
    let error = ResultError { code: refused.code, message: refused.sentence, retry_after_ms: None };
    TaskResult { state, error: Some(error), ..blank(work) }.timed(work.hop.submitted, now)
}

pub(super) fn code(error: &EngineError) -> Code {
    match error {
        EngineError::ContextTooLong { .. } | EngineError::TextTooLong { .. } => Code::ContextTooLong,
        EngineError::DeadlineExceeded => Code::DeadlineExceeded,
        EngineError::Canceled => Code::Canceled,
        EngineError::BadSchema { .. } => Code::InvalidSchema,
        EngineError::UnsupportedKind { .. } => Code::NoCapableDestination,
        EngineError::InvalidInput { .. } | EngineError::Template { .. } => Code::InvalidField,
        EngineError::Model { .. } | EngineError::Panicked | EngineError::ShutDown => Code::ModelFailed,
    }
}

fn timings(work: &Work, spent: &engine::Timings, now: Timestamp) -> Timings {
    let total_ms = u64::try_from(now.duration_since(work.hop.submitted).as_millis()).unwrap_or(0);
    let run_ms = millis(spent.prompt + spent.decode);
    let first_token_ms =
        (work.local.kind != Kind::Embed).then(|| total_ms.saturating_sub(millis(spent.decode)));
    Timings { total_ms, queued_ms: total_ms.saturating_sub(run_ms), first_token_ms, run_ms }
}

fn usage(of: engine::Usage) -> Usage {
    Usage { input_tokens: of.input_tokens.into(), output_tokens: of.output_tokens.into(), cached_tokens: 0 }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn model(work: &Work, info: &ModelInfo) -> ModelUsed {
    ModelUsed {
        requested: work.local.model.clone(),
        answered: info.name.clone(),
        sha256: info.sha256.parse().ok(),
        adapter_sha256: info.adapter_sha256.as_deref().and_then(|sha256| sha256.parse().ok()),
        quantisation: Some(info.quantisation.clone()),
        kernels: Some(info.kernels.clone()),
    }
}

/// The output in the form of its kind.
fn output(input: &Input, content: OutputContent, finish: FinishReason) -> Result<Output, Refused> {
    match (input, content) {
        (Input::Embed(_), OutputContent::Embeddings(vectors)) => Ok(Output::Embeddings { vectors }),
        (Input::Chat(_), OutputContent::Text(text)) => {
            let finish = match finish {
                FinishReason::Stop => Finish::Stop,
                FinishReason::Length => Finish::Length,
            };
            Ok(Output::Text { text: text.into(), tool_calls: Vec::new(), finish })
        }
        (Input::Extract(_), OutputContent::Text(text)) => {
            let value: Value = serde_json::from_str(&text).map_err(|_| incomplete(finish))?;
            Ok(Output::Json { value: value.into() })
        }
        (Input::Classify(_), OutputContent::Text(text)) => {
            let Class { class } = serde_json::from_str(&text).map_err(|_| incomplete(finish))?;
            Ok(Output::Class { class: class.into() })
        }
        _ => Err(Refused::new(Code::ModelFailed, "the engine answered in another form than was asked")),
    }
}

#[derive(Deserialize)]
struct Class {
    class: String,
}

fn incomplete(finish: FinishReason) -> Refused {
    let sentence = match finish {
        FinishReason::Length => {
            "the answer was cut before its JSON was complete; raise `max_tokens`, or ask for less"
        }
        FinishReason::Stop => "the model ended before its JSON was complete",
    };
    Refused::new(Code::ModelFailed, sentence)
}
