//! The provider's request, rendered: a pure function that runs before the decision is bound, so that what is judged,
//! signed and sent are the same bytes. The worker adds only method, URL and credentials.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::code::{Code, Refused};
use crate::limits::OUTPUT_TOKENS_DEFAULT;
use crate::task::{Chat, ChatMessage, Classify, Extract, Input, Role, Sampling};

mod anthropic;
mod openai;
#[cfg(test)]
mod tests;

/// A provider's wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// OpenAI chat completions, and every server that is compatible with them.
    OpenaiChat,
    /// Anthropic Messages.
    AnthropicMessages,
}

/// How a destination is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Its protocol.
    pub protocol: Protocol,
    /// Whether its model reasons first. OpenAI's then take `max_completion_tokens` in place of `max_tokens`, and refuse `temperature` and
    /// `top_p` (OpenAI, Reasoning models).
    pub reasoning: bool,
}

impl From<Protocol> for Dialect {
    fn from(protocol: Protocol) -> Self {
        Self { protocol, reasoning: false }
    }
}

/// A rendered request.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The exact bytes of the request's body.
    pub bytes: Vec<u8>,
    /// Most tokens that the request permits the answer to have.
    pub output_tokens_max: u32,
}

/// Renders the request for a model.
///
/// # Errors
/// [`Code::NoCapableDestination`] when the protocol has no such work.
pub fn render(dialect: impl Into<Dialect>, model: &str, input: &Input) -> Result<Rendered, Refused> {
    let Dialect { protocol, reasoning } = dialect.into();
    let chat = as_chat(input)?;
    let output_tokens_max = chat.sampling.max_tokens.unwrap_or(OUTPUT_TOKENS_DEFAULT);
    let schema = schema(input);
    let body = match protocol {
        Protocol::OpenaiChat => openai::body(model, &chat, schema.as_ref(), output_tokens_max, reasoning),
        Protocol::AnthropicMessages => anthropic::body(model, &chat, schema.as_ref(), output_tokens_max),
    };
    let bytes = serde_json::to_vec(&body)
        .map_err(|_| Refused::new(Code::Internal, "the request could not be written as JSON"))?;
    Ok(Rendered { bytes, output_tokens_max })
}

/// The conversation that asks a chat model for this work. Local chat models are asked by the same words.
///
/// # Errors
/// [`Code::NoCapableDestination`] for work that is no conversation.
pub fn as_chat(input: &Input) -> Result<Chat, Refused> {
    match input {
        Input::Chat(chat) => Ok(chat.clone()),
        Input::Extract(extract) => Ok(extraction(extract)),
        Input::Classify(classify) => Ok(classification(classify)),
        Input::Embed(_) => {
            Err(Refused::new(Code::NoCapableDestination, "embeddings are made on the local lane only"))
        }
        Input::Prompt(_) => {
            Err(Refused::new(Code::PromptFailed, "a prompt is no work before its bundle has rendered it"))
        }
    }
}

/// The JSON Schema that the answer must follow, where there is one.
#[must_use]
pub fn schema(input: &Input) -> Option<Value> {
    match input {
        Input::Extract(extract) => Some(extract.schema.expose().clone()),
        Input::Classify(classify) => {
            let classes: Vec<&String> = classify.classes.iter().map(|class| class.expose()).collect();
            Some(json!({
                "type": "object",
                "properties": { "class": { "type": "string", "enum": classes } },
                "required": ["class"],
                "additionalProperties": false
            }))
        }
        Input::Chat(_) | Input::Embed(_) | Input::Prompt(_) => None,
    }
}

/// The schema that a rendered request holds its answer to, whichever protocol it is of.
#[must_use]
pub fn schema_of(request: &[u8]) -> Option<Value> {
    let request: Value = serde_json::from_slice(request).ok()?;
    let openai = request.pointer("/response_format/json_schema/schema");
    let anthropic = || {
        let name = request.pointer("/tool_choice/name")?;
        let tools = request.get("tools")?.as_array()?;
        tools.iter().find(|tool| tool.get("name") == Some(name))?.get("input_schema")
    };
    openai.or_else(anthropic).cloned()
}

fn message(role: Role, content: String) -> ChatMessage {
    ChatMessage { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
}

fn extraction(extract: &Extract) -> Chat {
    let wanted =
        extract.instructions.as_ref().map_or("Extract the data that the schema names.", |text| text.expose());
    let system = format!("{wanted} Answer with JSON that follows this schema: {}", extract.schema.expose());
    Chat {
        messages: vec![message(Role::System, system), message(Role::User, extract.text.expose().clone())],
        tools: Vec::new(),
        sampling: Sampling { max_tokens: extract.max_tokens, temperature: Some(0.0), ..Sampling::default() },
        stream: false,
    }
}

fn classification(classify: &Classify) -> Chat {
    let classes: Vec<&str> = classify.classes.iter().map(|class| class.expose().as_str()).collect();
    let wanted = classify.instructions.as_ref().map_or("Choose the class of the text.", |text| text.expose());
    let system = format!("{wanted} Answer with JSON {{\"class\": …}}; one of: {}", classes.join(", "));
    Chat {
        messages: vec![message(Role::System, system), message(Role::User, classify.text.expose().clone())],
        tools: Vec::new(),
        sampling: Sampling { max_tokens: Some(64), temperature: Some(0.0), ..Sampling::default() },
        stream: false,
    }
}

/// Sets a key where there is a value.
fn put<T: Serialize>(body: &mut Map<String, Value>, key: &str, value: Option<T>) {
    if let Some(value) = value {
        body.insert(key.to_owned(), json!(value));
    }
}
