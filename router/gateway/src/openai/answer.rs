//! Answers in OpenAI's form: one object, or a stream of chunks that ends with `[DONE]`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tidegate_schemas::result::{Finish, Usage};

use super::error::ApiError;
use super::{ChatError, ChatEvent, ChatStream};

/// What every chunk of one answer says.
#[derive(Debug, Clone)]
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    pub(super) fn new(model: String) -> Self {
        Self { id: format!("chatcmpl-{}", uuid::Uuid::now_v7().simple()), created: now(), model }
    }

    fn whole(&self, text: &str, finish: Finish, usage: Usage) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text, "refusal": null },
                "logprobs": null,
                "finish_reason": finish_reason(finish),
            }],
            "usage": usage_of(usage),
        })
    }

    fn chunk(&self, delta: &Value, finish: Option<Finish>) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish.map(finish_reason),
            }],
        })
    }

    fn usage_chunk(&self, usage: Usage) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [], "usage": usage_of(usage),
        })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::ContentFilter => "content_filter",
    }
}

fn usage_of(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
    })
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Value {
    let entries: Vec<Value> = names
        .iter()
        .map(|name| json!({ "id": name, "object": "model", "created": 0, "owned_by": "tidegate" }))
        .collect();
    json!({ "object": "list", "data": entries })
}

/// The answer as one object, once it is complete.
pub(super) async fn whole(head: Head, mut events: ChatStream) -> Result<Response, ApiError> {
    let mut text = String::new();
    while let Some(event) = events.next().await {
        match event {
            ChatEvent::Fragment(fragment) => text.push_str(fragment.expose()),
            ChatEvent::End { finish, usage } => {
                return Ok(Json(head.whole(&text, finish, usage)).into_response());
            }
            ChatEvent::Failed(error) => return Err(error.into()),
        }
    }
    Err(ChatError::Failed.into())
}

/// The answer as a stream of server-sent events. A failure before the first text is still an HTTP error.
pub(super) async fn streamed(
    head: Head,
    mut events: ChatStream,
    include_usage: bool,
) -> Result<Response, ApiError> {
    let first = match events.next().await {
        Some(ChatEvent::Failed(error)) => return Err(error.into()),
        None => return Err(ChatError::Failed.into()),
        Some(event) => event,
    };
    let begin = head.chunk(&json!({ "role": "assistant", "content": "" }), None);
    let rest = stream::iter([first]).chain(events);
    let chunks = Chunks {
        head,
        include_usage,
        rest: rest.boxed(),
        ready: VecDeque::from([line(&begin)]),
        over: false,
    };
    Ok(Sse::new(chunks.into_stream()).keep_alive(KeepAlive::default()).into_response())
}

struct Chunks {
    head: Head,
    include_usage: bool,
    rest: ChatStream,
    ready: VecDeque<Event>,
    over: bool,
}

impl Chunks {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        stream::unfold(self, |mut chunks| async move {
            let event = chunks.next().await?;
            Some((Ok(event), chunks))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        if self.ready.is_empty() && !self.over {
            match self.rest.next().await {
                Some(event) => self.take(event),
                // The model went away without a word: no finish reason, no `[DONE]`, so a client knows.
                None => self.fail(ChatError::Failed),
            }
        }
        self.ready.pop_front()
    }

    fn take(&mut self, event: ChatEvent) {
        match event {
            ChatEvent::Fragment(text) => {
                self.ready.push_back(line(&self.head.chunk(&json!({ "content": text }), None)));
            }
            ChatEvent::End { finish, usage } => {
                self.ready.push_back(line(&self.head.chunk(&json!({}), Some(finish))));
                if self.include_usage {
                    self.ready.push_back(line(&self.head.usage_chunk(usage)));
                }
                self.ready.push_back(Event::default().data("[DONE]"));
                self.over = true;
            }
            ChatEvent::Failed(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: ChatError) {
        self.ready.push_back(line(&ApiError::from(error).to_json()));
        self.over = true;
    }
}

fn line(value: &Value) -> Event {
    Event::default().data(value.to_string())
}
