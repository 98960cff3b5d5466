//! A client's request: from OpenAI's wire form to the house's words. Unknown fields are passed over, as OpenAI's server
//! does; known ones that cannot be honoured are refused by name.

use serde::Deserialize;
use serde_json::Value;
use tidegate_schemas::json;
use tidegate_schemas::limits::{CHAT_MESSAGES_MAX, MESSAGE_BYTES_MAX, OUTPUT_TOKENS_MAX, STOP_SEQUENCES_MAX};
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::task::{Chat, ChatMessage, Role, Sampling};

use super::error::ApiError;
use super::{Asked, OpenaiConfig};

/// A request that was understood.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    /// Whether the stream ends with a chunk of usage.
    pub(super) include_usage: bool,
}

#[derive(Deserialize)]
struct Wire {
    model: String,
    messages: Vec<WireMessage>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    top_p: Option<f64>,
    #[serde(default)]
    seed: Option<i64>,
    #[serde(default)]
    stop: Option<OneOrMany>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    tools: Vec<Sensitive<Value>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    response_format: Option<ResponseFormat>,
}

#[derive(Deserialize)]
struct WireMessage {
    role: WireRole,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<Sensitive<Value>>>,
    #[serde(default)]
    tool_call_id: Option<Sensitive<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum WireRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text {
        text: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Sensitive<String>),
    Many(Vec<Sensitive<String>>),
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: JsonSchema },
}

#[derive(Deserialize)]
struct JsonSchema {
    schema: Sensitive<Value>,
}

/// Reads a request body.
pub(super) fn read(body: &[u8], config: &OpenaiConfig) -> Result<Request, ApiError> {
    let wire: Wire = json::read(body, MESSAGE_BYTES_MAX)?;
    if !config.models.contains(&wire.model) {
        return Err(ApiError::unknown_model());
    }
    if wire.n.is_some_and(|n| n != 1) {
        return Err(ApiError::parameter("n", "`n` must be 1"));
    }
    if wire.messages.is_empty() || wire.messages.len() > CHAT_MESSAGES_MAX {
        return Err(ApiError::parameter(
            "messages",
            format!("`messages` must have 1 to {CHAT_MESSAGES_MAX} entries"),
        ));
    }
    let stream = wire.stream.unwrap_or(false);
    let include_usage = wire.stream_options.as_ref().is_some_and(|options| options.include_usage);
    let sampling = sampling(&wire)?;
    let schema = wire.response_format.and_then(|format| match format {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(Sensitive::new(serde_json::json!({ "type": "object" }))),
        ResponseFormat::JsonSchema { json_schema } => Some(json_schema.schema),
    });
    let messages: Result<Vec<_>, _> = wire.messages.into_iter().map(message).collect();
    let chat = Chat { messages: messages?, tools: wire.tools, sampling, stream };
    let asked = Asked { model: wire.model, chat, schema, time_limit: config.time_limit };
    Ok(Request { asked, include_usage })
}

fn sampling(wire: &Wire) -> Result<Sampling, ApiError> {
    let max_tokens = wire.max_completion_tokens.or(wire.max_tokens);
    if max_tokens.is_some_and(|tokens| tokens == 0 || tokens > OUTPUT_TOKENS_MAX) {
        return Err(ApiError::parameter(
            "max_tokens",
            format!("`max_tokens` must be 1 to {OUTPUT_TOKENS_MAX}"),
        ));
    }
    if wire.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
        return Err(ApiError::parameter("temperature", "`temperature` must be 0 to 2"));
    }
    if wire.top_p.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
        return Err(ApiError::parameter("top_p", "`top_p` must be above 0 and at most 1"));
    }
    let stop = match &wire.stop {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop.clone()],
        Some(OneOrMany::Many(stops)) => stops.clone(),
    };
    if stop.len() > STOP_SEQUENCES_MAX || stop.iter().any(|stop| stop.expose().is_empty()) {
        let rule = format!("`stop` must have at most {STOP_SEQUENCES_MAX} texts, none empty");
        return Err(ApiError::parameter("stop", rule));
    }
    let seed = wire.seed.map(i64::cast_unsigned);
    Ok(Sampling { max_tokens, temperature: wire.temperature, top_p: wire.top_p, seed, stop })
}

fn message(wire: WireMessage) -> Result<ChatMessage, ApiError> {
    let role = match wire.role {
        WireRole::System | WireRole::Developer => Role::System,
        WireRole::User => Role::User,
        WireRole::Assistant => Role::Assistant,
        WireRole::Tool => Role::Tool,
    };
    let content = match wire.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => joined(parts)?,
    };
    Ok(ChatMessage {
        role,
        content: content.into(),
        tool_calls: wire.tool_calls.unwrap_or_default(),
        tool_call_id: wire.tool_call_id,
    })
}

fn joined(parts: Vec<Part>) -> Result<String, ApiError> {
    let texts: Result<Vec<String>, ApiError> = parts
        .into_iter()
        .map(|part| match part {
            Part::Text { text } => Ok(text),
            Part::Other => Err(ApiError::parameter("messages", "only parts of type `text` are served here")),
        })
        .collect();
    Ok(texts?.concat())
}
