//! Anthropic Messages: one message, or events from `message_start` to `message_stop`. Tool uses become tool calls in
//! OpenAI's form; the input of a forced tool `answer` becomes the text.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_schemas::result::Finish;

use super::ErrorBody;
use crate::answer::{Counted, Parsed, identifier};
use crate::error::Failure;
use crate::sse::Event;

/// Most content blocks of one answer, count.
const BLOCKS_MAX: usize = 256;

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    model: Option<String>,
    content: Vec<Block>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Option<TokenCount>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    /// Thinking and whatever comes later: no part of the answer.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told {
    MessageStart {
        message: Message,
    },
    ContentBlockStart {
        index: usize,
        content_block: Block,
    },
    ContentBlockDelta {
        index: usize,
        delta: Delta,
    },
    MessageDelta {
        delta: Ending,
        #[serde(default)]
        usage: Option<TokenCount>,
    },
    MessageStop,
    Error {
        error: ErrorBody,
    },
    /// `ping`, `content_block_stop`, and whatever comes later.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Ending {
    #[serde(default)]
    stop_reason: Option<String>,
}

/// Counts of `message_delta` are cumulative; those that are absent stand as they were.
#[derive(Deserialize)]
struct TokenCount {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

/// A reason that is not known is no reason: an answer of unknown worth must not pass as a whole one.
fn finish(reason: &str) -> Result<Finish, Failure> {
    match reason {
        "end_turn" | "stop_sequence" => Ok(Finish::Stop),
        "max_tokens" | "model_context_window_exceeded" => Ok(Finish::Length),
        "tool_use" => Ok(Finish::ToolCalls),
        "refusal" => Ok(Finish::ContentFilter),
        _ => Err(Failure::Truncated),
    }
}

pub(super) fn whole(forced: bool, body: &[u8]) -> Result<Parsed, Failure> {
    let message: Message = serde_json::from_slice(body).map_err(|_| Failure::Malformed)?;
    let mut reader = Reader::new(forced);
    reader.begin(message)?;
    reader.over = true;
    reader.end()
}

/// What the events have said so far.
#[derive(Debug)]
pub(crate) struct Reader {
    forced: bool,
    model: Option<String>,
    finish: Option<Finish>,
    count: Option<Count>,
    blocks: BTreeMap<usize, Building>,
    pub(super) over: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    fresh: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

#[derive(Debug)]
enum Building {
    Text(String),
    Tool { id: String, name: String, input: Value, json: String },
    Other,
}

impl Reader {
    pub(super) fn new(forced: bool) -> Self {
        Self { forced, model: None, finish: None, count: None, blocks: BTreeMap::new(), over: false }
    }

    pub(super) fn take(&mut self, event: &Event) -> Result<Option<String>, Failure> {
        if self.over {
            return Ok(None);
        }
        let told: Told = serde_json::from_str(&event.data).map_err(|_| Failure::Malformed)?;
        match told {
            Told::MessageStart { message } => self.begin(message).map(|()| None),
            Told::ContentBlockStart { index, content_block } => self.open(index, content_block),
            Told::ContentBlockDelta { index, delta } => self.extend(index, delta),
            Told::MessageDelta { delta, usage } => {
                self.tally(usage);
                if let Some(reason) = delta.stop_reason {
                    self.finish = Some(finish(&reason)?);
                }
                Ok(None)
            }
            Told::MessageStop => {
                self.over = true;
                Ok(None)
            }
            Told::Error { error } => Err(error.tells().unwrap_or(Failure::InStream)),
            Told::Other => Ok(None),
        }
    }

    fn begin(&mut self, message: Message) -> Result<(), Failure> {
        self.model = message.model.as_deref().and_then(identifier);
        self.tally(message.usage);
        if let Some(reason) = message.stop_reason {
            self.finish = Some(finish(&reason)?);
        }
        for (index, block) in message.content.into_iter().enumerate() {
            self.open(index, block)?;
        }
        Ok(())
    }

    fn open(&mut self, index: usize, block: Block) -> Result<Option<String>, Failure> {
        let (building, text) = match block {
            Block::Text { text } => (Building::Text(text.clone()), Some(text)),
            Block::ToolUse { id, name, input } => {
                (Building::Tool { id, name, input, json: String::new() }, None)
            }
            Block::Other => (Building::Other, None),
        };
        let replaced = self.blocks.insert(index, building).is_some();
        if replaced || self.blocks.len() > BLOCKS_MAX {
            return Err(Failure::Malformed);
        }
        Ok(text.filter(|text| !text.is_empty() && !self.forced))
    }

    fn extend(&mut self, index: usize, delta: Delta) -> Result<Option<String>, Failure> {
        match (self.blocks.get_mut(&index), delta) {
            (Some(Building::Text(text)), Delta::Text { text: more }) => {
                text.push_str(&more);
                Ok(Some(more).filter(|text| !text.is_empty() && !self.forced))
            }
            (Some(Building::Tool { json, .. }), Delta::InputJson { partial_json }) => {
                json.push_str(&partial_json);
                Ok(None)
            }
            (Some(_), Delta::Other) | (Some(Building::Other), _) => Ok(None),
            _ => Err(Failure::Malformed),
        }
    }

    fn tally(&mut self, told: Option<TokenCount>) {
        let Some(told) = told else { return };
        let count = self.count.get_or_insert_default();
        let set = |field: &mut u64, value: Option<u64>| *field = value.unwrap_or(*field);
        set(&mut count.fresh, told.input_tokens);
        set(&mut count.output, told.output_tokens);
        set(&mut count.cache_read, told.cache_read_input_tokens);
        set(&mut count.cache_write, told.cache_creation_input_tokens);
    }

    pub(super) fn end(self) -> Result<Parsed, Failure> {
        if !self.over || self.finish.is_none() {
            return Err(Failure::Truncated);
        }
        let mut parsed = Parsed {
            finish: self.finish,
            model: self.model,
            counted: self.count.map(Counted::from),
            ..Parsed::default()
        };
        for building in self.blocks.into_values() {
            match building {
                Building::Tool { name, input, json, .. } if self.forced && name == "answer" => {
                    parsed.text = arguments(&input, json);
                    // The forced call is the answer; nobody is to call anything.
                    if parsed.finish == Some(Finish::ToolCalls) {
                        parsed.finish = Some(Finish::Stop);
                    }
                }
                Building::Tool { id, name, input, json } => {
                    let function = json!({ "name": name, "arguments": arguments(&input, json) });
                    parsed.tool_calls.push(json!({ "id": id, "type": "function", "function": function }));
                }
                Building::Text(text) if !self.forced => parsed.text.push_str(&text),
                Building::Text(_) | Building::Other => {}
            }
        }
        Ok(parsed)
    }
}

/// A tool's input as JSON text: streamed in parts, or given at once.
fn arguments(input: &Value, json: String) -> String {
    if !json.is_empty() {
        return json;
    }
    if input.is_null() { "{}".to_owned() } else { input.to_string() }
}

impl From<Count> for Counted {
    /// Anthropic counts what was read afresh apart from what a cache gave or took.
    fn from(count: Count) -> Self {
        Self {
            input: count.fresh.saturating_add(count.cache_read).saturating_add(count.cache_write),
            output: count.output,
            cache_read: count.cache_read,
            cache_write: count.cache_write,
        }
    }
}
