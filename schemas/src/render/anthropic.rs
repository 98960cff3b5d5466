//! Anthropic Messages (`POST /v1/messages`): system texts apart, tools and their results as content blocks.

use serde_json::{Map, Value, json};

use super::put;
use crate::sensitive::Sensitive;
use crate::task::{Chat, ChatMessage, Role, Sampling};

pub(super) fn body(model: &str, chat: &Chat, schema: Option<&Value>, tokens_max: u32) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), json!(model));
    body.insert("max_tokens".into(), json!(tokens_max));
    let system: Vec<&str> = chat
        .messages
        .iter()
        .filter(|m| m.role == Role::System)
        .map(|m| m.content.expose().as_str())
        .collect();
    put(&mut body, "system", (!system.is_empty()).then(|| system.join("\n\n")));
    body.insert("messages".into(), turns(&chat.messages));
    let Sampling { temperature, top_p, stop, .. } = &chat.sampling;
    // Anthropic's scale ends at 1.
    put(&mut body, "temperature", temperature.map(|t| t.min(1.0)));
    put(&mut body, "top_p", *top_p);
    put(&mut body, "stop_sequences", (!stop.is_empty()).then_some(stop));
    let mut tools: Vec<Value> = chat.tools.iter().map(|tool| definition(tool.expose())).collect();
    if let Some(schema) = schema {
        tools.push(json!({ "name": "answer", "description": "Gives the answer.", "input_schema": schema }));
        body.insert("tool_choice".into(), json!({ "type": "tool", "name": "answer" }));
    }
    put(&mut body, "tools", (!tools.is_empty()).then_some(tools));
    if chat.stream {
        body.insert("stream".into(), json!(true));
    }
    Value::Object(body)
}

/// OpenAI's `{type: function, function: {name, description, parameters}}` as Anthropic's `{name, …, input_schema}`.
fn definition(tool: &Value) -> Value {
    let function = tool.get("function").unwrap_or(tool);
    let mut entry = Map::new();
    entry.insert("name".into(), function.get("name").cloned().unwrap_or_default());
    put(&mut entry, "description", function.get("description"));
    let schema = function.get("parameters").cloned().unwrap_or_else(|| json!({ "type": "object" }));
    entry.insert("input_schema".into(), schema);
    Value::Object(entry)
}

/// The turns; neighbours of one role become one turn, as tool results and the user's next words must.
fn turns(messages: &[ChatMessage]) -> Value {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages.iter().filter(|m| m.role != Role::System) {
        let role = if message.role == Role::Assistant { "assistant" } else { "user" };
        let blocks = blocks(message);
        match turns.last_mut() {
            Some((last, content)) if *last == role => content.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    turns.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn blocks(message: &ChatMessage) -> Vec<Value> {
    if message.role == Role::Tool {
        let id = message.tool_call_id.as_ref().map(Sensitive::expose);
        return vec![json!({ "type": "tool_result", "tool_use_id": id, "content": message.content })];
    }
    let text = message.content.expose();
    let mut blocks = Vec::new();
    if !text.is_empty() {
        blocks.push(json!({ "type": "text", "text": text }));
    }
    blocks.extend(message.tool_calls.iter().map(|call| use_of(call.expose())));
    blocks
}

fn use_of(call: &Value) -> Value {
    let function = call.get("function").unwrap_or(call);
    let arguments = function.get("arguments").and_then(Value::as_str).unwrap_or("{}");
    let input: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
    json!({ "type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": input })
}
