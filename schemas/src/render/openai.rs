//! OpenAI chat completions (`POST /v1/chat/completions`).

use serde_json::{Map, Value, json};

use super::put;
use crate::task::{Chat, ChatMessage, Sampling};

pub(super) fn body(
    model: &str,
    chat: &Chat,
    schema: Option<&Value>,
    tokens_max: u32,
    reasoning: bool,
) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("messages".into(), chat.messages.iter().map(message).collect());
    let most = if reasoning { "max_completion_tokens" } else { "max_tokens" };
    body.insert(most.into(), json!(tokens_max));
    let Sampling { temperature, top_p, seed, stop, .. } = &chat.sampling;
    put(&mut body, "temperature", temperature.filter(|_| !reasoning));
    put(&mut body, "top_p", top_p.filter(|_| !reasoning));
    put(&mut body, "seed", *seed);
    put(&mut body, "stop", (!stop.is_empty()).then_some(stop));
    put(&mut body, "tools", (!chat.tools.is_empty()).then_some(&chat.tools));
    put(
        &mut body,
        "response_format",
        schema.map(|schema| {
            json!({ "type": "json_schema",
                    "json_schema": { "name": "answer", "strict": is_strict(schema), "schema": schema } })
        }),
    );
    if chat.stream {
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    Value::Object(body)
}

/// Whether a schema is one of those that the provider can hold an answer to: objects are closed and need each of their
/// properties, and no keyword combines or excludes. It refuses others when they are called strict (OpenAI, Structured Outputs).
fn is_strict(schema: &Value) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    if UNSUPPORTED.iter().any(|keyword| fields.contains_key(*keyword)) {
        return false;
    }
    let properties = fields.get("properties").and_then(Value::as_object);
    let is_object = properties.is_some() || fields.get("type").is_some_and(|kind| *kind == json!("object"));
    let required = fields.get("required").and_then(Value::as_array);
    let needs = |name: &String| required.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)));
    let closed = fields.get("additionalProperties") == Some(&json!(false));
    if is_object && !(closed && properties.is_none_or(|all| all.keys().all(needs))) {
        return false;
    }
    let maps =
        ["properties", "$defs", "definitions"].into_iter().filter_map(|key| fields.get(key)?.as_object());
    let lists = fields.get("anyOf").and_then(Value::as_array);
    maps.flat_map(Map::values).chain(lists.into_iter().flatten()).chain(fields.get("items")).all(is_strict)
}

/// Keywords of JSON Schema that strict answers cannot follow.
const UNSUPPORTED: [&str; 11] = [
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "patternProperties",
    "dependentRequired",
    "dependentSchemas",
    "prefixItems",
    "unevaluatedProperties",
];

fn message(message: &ChatMessage) -> Value {
    let mut entry = Map::new();
    entry.insert("role".into(), json!(message.role));
    entry.insert("content".into(), json!(message.content));
    put(&mut entry, "tool_calls", (!message.tool_calls.is_empty()).then_some(&message.tool_calls));
    put(&mut entry, "tool_call_id", message.tool_call_id.as_ref());
    Value::Object(entry)
}
