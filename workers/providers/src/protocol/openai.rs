//! OpenAI chat completions: one object, or chunks that end with a finish reason and `[DONE]`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_schemas::result::Finish;

use super::ErrorBody;
use crate::answer::{Counted, Parsed, identifier};
use crate::error::Failure;
use crate::sse::Event;

/// Most tool calls of one answer, count.
const TOOL_CALLS_MAX: usize = 128;

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<TokenCount>,
    #[serde(default)]
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default, alias = "delta")]
    message: Option<Message>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Function,
}

#[derive(Default, Deserialize)]
struct Function {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct TokenCount {
    prompt_tokens: u64,
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

/// An error in a stream comes without choices.
#[derive(Deserialize)]
struct Reported {
    error: ErrorBody,
}

impl From<TokenCount> for Counted {
    fn from(count: TokenCount) -> Self {
        let cache_read = count.prompt_tokens_details.and_then(|details| details.cached_tokens);
        Self {
            input: count.prompt_tokens,
            output: count.completion_tokens,
            cache_read: cache_read.unwrap_or(0),
            cache_write: 0,
        }
    }
}

/// A reason that is not known is no reason: an answer of unknown worth must not pass as a whole one.
fn finish(reason: &str) -> Result<Finish, Failure> {
    match reason {
        "stop" => Ok(Finish::Stop),
        "length" | "model_length" => Ok(Finish::Length),
        "tool_calls" | "function_call" => Ok(Finish::ToolCalls),
        "content_filter" => Ok(Finish::ContentFilter),
        _ => Err(Failure::Truncated),
    }
}

pub(super) fn whole(body: &[u8]) -> Result<Parsed, Failure> {
    let completion: Completion = serde_json::from_slice(body).map_err(|_| Failure::Malformed)?;
    let mut reader = Reader::default();
    reader.add(completion)?;
    reader.over = true;
    reader.end()
}

/// What the chunks have said so far.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    parsed: Parsed,
    calls: BTreeMap<usize, Building>,
    pub(super) over: bool,
}

#[derive(Debug, Default)]
struct Building {
    id: String,
    name: String,
    arguments: String,
}

impl Reader {
    pub(super) fn take(&mut self, event: &Event) -> Result<Option<String>, Failure> {
        if self.over {
            return Ok(None);
        }
        if event.data.trim() == "[DONE]" {
            self.over = true;
            return Ok(None);
        }
        match serde_json::from_str::<Completion>(&event.data) {
            Ok(chunk) => self.add(chunk),
            Err(_) => match serde_json::from_str::<Reported>(&event.data) {
                Ok(reported) => Err(reported.error.tells().unwrap_or(Failure::InStream)),
                Err(_) => Err(Failure::Malformed),
            },
        }
    }

    fn add(&mut self, chunk: Completion) -> Result<Option<String>, Failure> {
        if let Some(error) = chunk.error {
            return Err(error.tells().unwrap_or(Failure::InStream));
        }
        self.parsed.model = self.parsed.model.take().or_else(|| chunk.model.as_deref().and_then(identifier));
        if let Some(count) = chunk.usage {
            self.parsed.counted = Some(count.into());
        }
        // Requests ask for one choice.
        let Some(choice) = chunk.choices.into_iter().find(|choice| choice.index == 0) else {
            return Ok(None);
        };
        // Some servers write an empty one while there is none yet.
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            // A refusal stays a refusal, whatever reason follows.
            if self.parsed.finish != Some(Finish::ContentFilter) {
                self.parsed.finish = Some(finish(&reason)?);
            }
        }
        let message = choice.message.unwrap_or_default();
        if message.refusal.is_some_and(|text| !text.is_empty()) {
            self.parsed.finish = Some(Finish::ContentFilter);
        }
        for (position, call) in message.tool_calls.unwrap_or_default().into_iter().enumerate() {
            let building = self.calls.entry(call.index.unwrap_or(position)).or_default();
            building.id.push_str(&call.id.unwrap_or_default());
            building.name.push_str(&call.function.name.unwrap_or_default());
            building.arguments.push_str(&call.function.arguments.unwrap_or_default());
        }
        if self.calls.len() > TOOL_CALLS_MAX {
            return Err(Failure::Malformed);
        }
        let text = message.content.filter(|text| !text.is_empty());
        if let Some(text) = &text {
            self.parsed.text.push_str(text);
        }
        Ok(text)
    }

    pub(super) fn end(mut self) -> Result<Parsed, Failure> {
        if !self.over || self.parsed.finish.is_none() {
            return Err(Failure::Truncated);
        }
        self.parsed.tool_calls = self.calls.into_values().map(Building::done).collect::<Result<_, _>>()?;
        Ok(self.parsed)
    }
}

impl Building {
    fn done(self) -> Result<Value, Failure> {
        if self.id.is_empty() || self.name.is_empty() {
            return Err(Failure::Malformed);
        }
        Ok(json!({
            "id": self.id, "type": "function", "function": { "name": self.name, "arguments": self.arguments }
        }))
    }
}
