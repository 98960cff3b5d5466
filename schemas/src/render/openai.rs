//! OpenAI chat completions (`POST /v1/chat/completions`).

use serde_json::{Map, Value, json};

use super::put;
use crate::task::{Chat, ChatMessage, Sampling};

pub(super) fn body(model: &str, chat: &Chat, schema: Option<&Value>, tokens_max: u32) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("messages".into(), chat.messages.iter().map(message).collect());
    body.insert("max_tokens".into(), json!(tokens_max));
    let Sampling { temperature, top_p, seed, stop, .. } = &chat.sampling;
    put(&mut body, "temperature", *temperature);
    put(&mut body, "top_p", *top_p);
    put(&mut body, "seed", *seed);
    put(&mut body, "stop", (!stop.is_empty()).then_some(stop));
    put(&mut body, "tools", (!chat.tools.is_empty()).then_some(&chat.tools));
    put(
        &mut body,
        "response_format",
        schema.map(|schema| {
            json!({ "type": "json_schema",
                    "json_schema": { "name": "answer", "strict": true, "schema": schema } })
        }),
    );
    if chat.stream {
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    Value::Object(body)
}

fn message(message: &ChatMessage) -> Value {
    let mut entry = Map::new();
    entry.insert("role".into(), json!(message.role));
    entry.insert("content".into(), json!(message.content));
    put(&mut entry, "tool_calls", (!message.tool_calls.is_empty()).then_some(&message.tool_calls));
    put(&mut entry, "tool_call_id", message.tool_call_id.as_ref());
    Value::Object(entry)
}
