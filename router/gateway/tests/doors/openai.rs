//! The OpenAI protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tidegate_gateway::{
    Answer, Asked, ChatError, ChatEvent, OpenaiConfig, Reach, ServeError, bind, serve_openai,
};
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::result::{Finish, Usage};
use tidegate_schemas::task::Role;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{get, post, post_with};

/// What the model behind the door does.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    /// Says these pieces and ends.
    Say(Vec<&'static str>, Finish),
    /// Says one piece, then fails.
    Break,
    /// Says nothing and fails.
    Refuse(ChatError),
    /// Takes no request.
    Busy,
    /// Says pieces for ever.
    Endless,
    /// Says one piece and vanishes.
    Vanish,
}

pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    pub(crate) dropped: Arc<Notify>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
}

/// Tells when an answer's stream is dropped.
struct Tell(Arc<Notify>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

pub(crate) async fn start(script: Script, key: Option<&str>) -> Door {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), Reach::Loopback).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (asked, dropped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let (noted, told) = (asked.clone(), dropped.clone());
    let answer: Answer = Arc::new(move |asked| {
        noted.lock().unwrap().push(asked);
        let tell = Tell(told.clone());
        let events = events(&script)?;
        Ok(events
            .map(move |event| {
                let _ = &tell;
                event
            })
            .boxed())
    });
    let config = OpenaiConfig {
        models: vec!["m".to_owned(), "n".to_owned()],
        key: key.map(|key| key.to_owned().into()),
        stand_in: true,
        time_limit: Duration::from_secs(60),
    };
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_openai(listener, config, answer, shutdown.clone()));
    Door { addr, asked, dropped, shutdown, serving }
}

fn events(script: &Script) -> Result<futures::stream::BoxStream<'static, ChatEvent>, ChatError> {
    let say = |text: &str| ChatEvent::Fragment(text.to_owned().into());
    let usage = Usage { input_tokens: 11, output_tokens: 3, cached_tokens: 0 };
    let events = match script {
        Script::Say(pieces, finish) => {
            let end = ChatEvent::End { finish: *finish, usage };
            pieces.iter().map(|piece| say(piece)).chain([end]).collect()
        }
        Script::Break => vec![say("Good"), ChatEvent::Failed(ChatError::Failed)],
        Script::Refuse(error) => vec![ChatEvent::Failed(error.clone())],
        Script::Busy => return Err(ChatError::Overloaded),
        Script::Vanish => vec![say("Good")],
        Script::Endless => {
            let tick = || async { tokio::task::yield_now().await };
            return Ok(futures::stream::repeat(say("tick "))
                .then(move |event| async move {
                    tick().await;
                    event
                })
                .boxed());
        }
    };
    Ok(futures::stream::iter(events).boxed())
}

fn good_day() -> Script {
    Script::Say(vec!["Good", " day"], Finish::Stop)
}

fn request(extra: &Value) -> Vec<u8> {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Say good day" }] });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    serde_json::to_vec(&body).unwrap()
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn answers_in_one_object() {
    let door = start(good_day(), None).await;
    let answer = post(door.addr, CHAT, &request(&json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("x-tidegate-stand-in"), Some("true"));
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "m");
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(
        body["choices"][0]["message"],
        json!({ "role": "assistant", "content": "Good day", "refusal": null })
    );
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 11);
    assert_eq!(body["usage"]["completion_tokens"], 3);
    assert_eq!(body["usage"]["total_tokens"], 14);
}

#[tokio::test]
async fn answers_in_a_stream() {
    for (include_usage, chunks) in [(true, 6), (false, 5)] {
        let door = start(Script::Say(vec!["Good", " day"], Finish::Length), None).await;
        let body = request(&json!({ "stream": true, "stream_options": { "include_usage": include_usage } }));
        let answer = post(door.addr, CHAT, &body).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
        assert_eq!(answer.header("x-tidegate-stand-in"), Some("true"));
        let mut events = answer.events();
        assert_eq!(events.len(), chunks, "{events:?}");
        assert_eq!(events.pop().unwrap(), "[DONE]");
        let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        assert!(events.iter().all(|e| e["id"] == events[0]["id"] && e["object"] == "chat.completion.chunk"));
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let text: String =
            events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, "Good day");
        assert_eq!(events[3]["choices"][0]["finish_reason"], "length");
        if include_usage {
            assert_eq!(events[4]["choices"], json!([]));
            assert_eq!(events[4]["usage"]["total_tokens"], 14);
        }
    }
}

#[tokio::test]
async fn understands_what_clients_send() {
    let door = start(good_day(), None).await;
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let body = json!({
        "model": "n",
        "messages": [
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
            { "role": "assistant", "content": null, "tool_calls": [{ "id": "c1" }] },
            { "role": "tool", "content": "42", "tool_call_id": "c1" },
        ],
        "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 3, "stop": "END",
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": schema } },
        "store": false, "user": "somebody",
    });
    let answer = post(door.addr, CHAT, &serde_json::to_vec(&body).unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["model"], "n");
    let asked = door.asked.lock().unwrap().remove(0);
    let roles: Vec<Role> = asked.chat.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!(asked.chat.messages[1].content.expose(), "ab");
    assert_eq!(asked.chat.messages[2].tool_calls.len(), 1);
    let sampling = &asked.chat.sampling;
    assert_eq!((sampling.max_tokens, sampling.temperature), (Some(7), Some(0.5)));
    assert_eq!((sampling.top_p, sampling.seed), (Some(0.9), Some(3)));
    assert_eq!(sampling.stop[0].expose(), "END");
    assert_eq!(asked.schema.unwrap().expose(), &schema);
    assert_eq!(asked.time_limit, Duration::from_secs(60));
}

#[tokio::test]
async fn refuses_by_name_and_quotes_nothing() {
    let door = start(good_day(), None).await;
    let deep = format!("{{\"model\":\"m\",\"messages\":{}{}}}", "[".repeat(40), "]".repeat(40));
    // body, status, a word of the message, code
    let rows: Vec<(Vec<u8>, u16, &str, Value)> = vec![
        (request(&json!({ "model": "CANARY" })), 404, "model", json!("model_not_found")),
        (request(&json!({ "n": 2 })), 400, "`n`", Value::Null),
        (request(&json!({ "messages": [] })), 400, "messages", Value::Null),
        (request(&json!({ "max_tokens": 0 })), 400, "max_tokens", Value::Null),
        (request(&json!({ "temperature": 3 })), 400, "temperature", Value::Null),
        (request(&json!({ "top_p": 0 })), 400, "top_p", Value::Null),
        (request(&json!({ "stop": [""] })), 400, "stop", Value::Null),
        (
            request(
                &json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }] }),
            ),
            400,
            "text",
            Value::Null,
        ),
        (b"{\"model\":\"CANARY\"".to_vec(), 400, "JSON", Value::Null),
        (b"{\"model\":\"m\",\"model\":\"CANARY\"}".to_vec(), 400, "twice", Value::Null),
        (vec![b'{', 0xff, b'}'], 400, "UTF-8", Value::Null),
        (deep.into_bytes(), 400, "deeper", Value::Null),
        (vec![b' '; MESSAGE_BYTES_MAX + 1], 413, "4 MiB", Value::Null),
    ];
    for (body, status, word, code) in rows {
        let answer = post(door.addr, CHAT, &body).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, status, "{word}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["code"], code, "{word}");
        assert!(error["message"].as_str().unwrap().contains(word), "{word}: {error}");
        assert!(!answer.body.contains("CANARY"), "{word} quotes the request");
        assert_eq!(answer.header("x-tidegate-stand-in"), Some("true"));
    }
    assert!(door.asked.lock().unwrap().is_empty(), "none of them reached the model");
    assert_eq!(post(door.addr, CHAT, &request(&json!({}))).await.status, 200, "the next one is served");
}

#[tokio::test]
async fn failures_before_the_first_word_are_statuses() {
    let rows = [
        (Script::Busy, 429, json!("rate_limit_exceeded")),
        (Script::Refuse(ChatError::Overloaded), 429, json!("rate_limit_exceeded")),
        (
            Script::Refuse(ChatError::ContextTooLong("too long".to_owned())),
            400,
            json!("context_length_exceeded"),
        ),
        (Script::Refuse(ChatError::Invalid("bad schema".to_owned())), 400, Value::Null),
        (Script::Refuse(ChatError::Late), 504, Value::Null),
        (Script::Refuse(ChatError::Failed), 500, Value::Null),
    ];
    for (script, status, code) in rows {
        for stream in [false, true] {
            let door = start(script.clone(), None).await;
            let answer = post(door.addr, CHAT, &request(&json!({ "stream": stream }))).await;
            assert_eq!(answer.status, status, "{script:?}, stream {stream}");
            assert_eq!(answer.json()["error"]["code"], code, "{script:?}");
            assert_eq!(answer.header("retry-after").is_some(), status == 429);
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_never_looks_complete() {
    for script in [Script::Break, Script::Vanish] {
        let door = start(script.clone(), None).await;
        let answer = post(door.addr, CHAT, &request(&json!({ "stream": true }))).await;
        let events = answer.events();
        assert!(
            !events.iter().any(|event| event == "[DONE]" || event.contains("\"finish_reason\":\"")),
            "{script:?}"
        );
        assert!(events.last().unwrap().contains("server_error"), "{script:?}: {events:?}");
        let whole = start(script, None).await;
        assert_eq!(post(whole.addr, CHAT, &request(&json!({}))).await.status, 500);
    }
    // The control: a stream that does not break has both marks.
    let door = start(good_day(), None).await;
    let events = post(door.addr, CHAT, &request(&json!({ "stream": true }))).await.events();
    assert!(events.iter().any(|event| event.contains("\"finish_reason\":\"stop\"")));
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn asks_for_the_key_where_there_is_one() {
    let door = start(good_day(), Some("k-1")).await;
    for (headers, status) in [
        ("", 401),
        ("authorization: Bearer k-2\r\n", 401),
        ("authorization: k-1\r\n", 401),
        ("authorization: Bearer k-1\r\n", 200),
    ] {
        let answer = post_with(door.addr, CHAT, headers, &request(&json!({}))).await;
        assert_eq!(answer.status, status, "{headers}");
    }
    assert_eq!(get(door.addr, "/v1/models").await.status, 401);
}

#[tokio::test]
async fn lists_its_models_and_knows_no_other_route() {
    let door = start(good_day(), None).await;
    let models = get(door.addr, "/v1/models").await.json();
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m", "n"]);
    let lost = get(door.addr, "/v1/embeddings").await;
    assert_eq!((lost.status, &lost.json()["error"]["code"]), (404, &json!("unknown_url")));
    assert_eq!(get(door.addr, CHAT).await.status, 404, "chat completions are posted");
}
