#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;
use crate::task::{Embed, Kind};

fn chat() -> Input {
    serde_json::from_value::<Chat>(json!({
        "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": "weather?" },
            { "role": "assistant", "content": "", "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "weather", "arguments": "{\"city\":\"Bern\"}" } }
            ] },
            { "role": "tool", "content": "sunny", "tool_call_id": "c1" },
            { "role": "user", "content": "thanks" }
        ],
        "tools": [{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } }],
        "sampling": { "max_tokens": 9, "temperature": 1.5, "stop": ["END"] },
        "stream": true
    }))
    .map(Input::Chat)
    .unwrap()
}

fn rendered(protocol: Protocol, input: &Input) -> Value {
    serde_json::from_slice(&render(protocol, "m-1", input).unwrap().bytes).unwrap()
}

#[test]
fn openai_gets_the_conversation_as_it_stands() {
    assert_eq!(
        rendered(Protocol::OpenaiChat, &chat()),
        json!({
            "model": "m-1", "max_tokens": 9, "temperature": 1.5, "stop": ["END"], "stream": true,
            "stream_options": { "include_usage": true },
            "messages": [
                { "role": "system", "content": "be brief" },
                { "role": "user", "content": "weather?" },
                { "role": "assistant", "content": "", "tool_calls": [
                    { "id": "c1", "type": "function",
                      "function": { "name": "weather", "arguments": "{\"city\":\"Bern\"}" } } ] },
                { "role": "tool", "content": "sunny", "tool_call_id": "c1" },
                { "role": "user", "content": "thanks" }
            ],
            "tools": [{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } }]
        })
    );
}

#[test]
fn anthropic_gets_blocks_and_merged_turns() {
    assert_eq!(
        rendered(Protocol::AnthropicMessages, &chat()),
        json!({
            "model": "m-1", "max_tokens": 9, "temperature": 1.0, "stop_sequences": ["END"], "stream": true,
            "system": "be brief",
            "messages": [
                { "role": "user", "content": [{ "type": "text", "text": "weather?" }] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "c1", "name": "weather", "input": { "city": "Bern" } }] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "c1", "content": "sunny" },
                    { "type": "text", "text": "thanks" }] }
            ],
            "tools": [{ "name": "weather", "input_schema": { "type": "object" } }]
        })
    );
}

#[test]
fn a_schema_reaches_both_providers_in_their_form() {
    let input = Input::Classify(Classify {
        text: "x".to_owned().into(),
        classes: vec!["a".to_owned().into(), "b".to_owned().into()],
        instructions: None,
    });
    let openai = rendered(Protocol::OpenaiChat, &input);
    assert_eq!(
        openai["response_format"]["json_schema"]["schema"]["properties"]["class"]["enum"],
        json!(["a", "b"])
    );
    let anthropic = rendered(Protocol::AnthropicMessages, &input);
    assert_eq!(anthropic["tool_choice"], json!({ "type": "tool", "name": "answer" }));
}

#[test]
fn only_a_schema_that_the_provider_can_hold_to_is_called_strict() {
    let object = |more: Value| {
        let mut schema = json!({ "type": "object", "properties": { "a": { "type": "string" } },
            "required": ["a"], "additionalProperties": false });
        schema.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schema
    };
    let nested = |inner: Value| object(json!({ "properties": { "a": { "type": "array", "items": inner } } }));
    let rows = [
        ("closed, all required", object(json!({})), true),
        ("nested", nested(object(json!({}))), true),
        ("open", object(json!({ "additionalProperties": true })), false),
        ("an optional property", object(json!({ "required": [] })), false),
        ("open further down", nested(object(json!({ "additionalProperties": {} }))), false),
        ("a combination", object(json!({ "oneOf": [{}] })), false),
        ("no properties said", json!({ "type": "object" }), false),
        ("no schema object", json!(true), false),
    ];
    for (what, schema, strict) in rows {
        let input = Input::Extract(Extract {
            text: "x".to_owned().into(),
            schema: schema.into(),
            instructions: None,
            max_tokens: None,
        });
        let body = rendered(Protocol::OpenaiChat, &input);
        assert_eq!(body["response_format"]["json_schema"]["strict"], json!(strict), "{what}");
    }
}

#[test]
fn a_model_that_reasons_is_asked_in_its_own_words() {
    let plain = rendered(Protocol::OpenaiChat, &chat());
    assert!(plain.get("max_tokens").is_some() && plain.get("temperature").is_some(), "negative control");
    let dialect = Dialect { protocol: Protocol::OpenaiChat, reasoning: true };
    let request = render(dialect, "m-1", &chat()).unwrap();
    let body: Value = serde_json::from_slice(&request.bytes).unwrap();
    assert_eq!((&body["max_completion_tokens"], request.output_tokens_max), (&json!(9), 9));
    assert!(["max_tokens", "temperature", "top_p"].iter().all(|key| body.get(key).is_none()), "{body}");
    assert_eq!(body["messages"], plain["messages"]);
}

#[test]
fn what_holds_an_answer_is_read_from_the_request_itself() {
    let asked = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let extract = Input::Extract(Extract {
        text: "x".to_owned().into(),
        schema: asked.clone().into(),
        instructions: None,
        max_tokens: None,
    });
    for protocol in [Protocol::OpenaiChat, Protocol::AnthropicMessages] {
        let of = |input: &Input| schema_of(&render(protocol, "m-1", input).unwrap().bytes);
        assert_eq!(of(&extract).as_ref(), Some(&asked));
        assert_eq!(of(&chat()), None, "negative control");
    }
}

#[test]
fn rendering_is_the_same_each_time_and_embeddings_stay_local() {
    let (a, b) = (render(Protocol::OpenaiChat, "m", &chat()), render(Protocol::OpenaiChat, "m", &chat()));
    assert_eq!(a.unwrap().bytes, b.unwrap().bytes);
    let embed = Input::Embed(Embed { texts: vec!["x".to_owned().into()] });
    assert_eq!(embed.kind(), Kind::Embed);
    assert_eq!(render(Protocol::OpenaiChat, "m", &embed).unwrap_err().code, Code::NoCapableDestination);
}
