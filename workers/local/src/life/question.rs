//! From work to what the engine is asked. Extraction and classification are conversations in the same words as those that
//! a provider gets, held to their schema.

use serde_json::Value;
use tidegate_engine::{ChatMessage, ChatRequest, JobInput, SamplingParams};
use tidegate_schemas::code::Refused;
use tidegate_schemas::limits::OUTPUT_TOKENS_DEFAULT;
use tidegate_schemas::render;
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::task::{self, Chat, Input, Sampling};

use super::work::Work;

/// What the engine is asked for this work.
pub(super) fn ask(work: &Work) -> Result<JobInput, Refused> {
    match &work.local.input {
        Input::Embed(embed) => {
            let texts = embed.texts.iter().map(|text| text.expose().clone()).collect();
            Ok(JobInput::Embed { texts })
        }
        input => {
            let chat = render::as_chat(input)?;
            Ok(JobInput::Chat(chat_request(&chat, render::schema(input))))
        }
    }
}

/// A conversation as the engine takes it; with a schema the answer is JSON of that shape.
#[must_use]
pub fn chat_request(chat: &Chat, schema: Option<Value>) -> ChatRequest {
    let tools: Vec<Value> = chat.tools.iter().map(|tool| tool.expose().clone()).collect();
    ChatRequest {
        messages: chat.messages.iter().map(message).collect(),
        tools: (!tools.is_empty()).then_some(Value::Array(tools)),
        params: params(&chat.sampling),
        schema,
    }
}

/// Chat templates read role and content; calls that an assistant made stand in its content, one a line.
fn message(message: &task::ChatMessage) -> ChatMessage {
    let content = message.content.expose();
    let calls = message.tool_calls.iter().map(|call| call.expose().to_string());
    let lines: Vec<String> =
        std::iter::once(content.clone()).filter(|text| !text.is_empty()).chain(calls).collect();
    ChatMessage { role: message.role.as_str().to_owned(), content: lines.join("\n") }
}

fn params(sampling: &Sampling) -> SamplingParams {
    let default = SamplingParams::default();
    SamplingParams {
        temperature: sampling.temperature.unwrap_or(default.temperature),
        top_p: sampling.top_p.unwrap_or(default.top_p),
        max_tokens: sampling.max_tokens.unwrap_or(OUTPUT_TOKENS_DEFAULT),
        seed: sampling.seed.unwrap_or(default.seed),
        stop: sampling.stop.iter().map(Sensitive::expose).cloned().collect(),
    }
}
