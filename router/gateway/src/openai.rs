//! A chat model behind the OpenAI protocol: `POST /v1/chat/completions`, `GET /v1/models`
//! (<https://platform.openai.com/docs/api-reference/chat>).
//!
//! It lets one Tidegate process stand in for a provider: every answer then says so in `x-tidegate-stand-in`. What
//! answers is a function; what is missing here (embeddings, images, several choices) is refused by name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures::stream::BoxStream;
use serde_json::Value;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::result::{Finish, Usage};
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::task::Chat;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::serve::{DoorLimits, ServeError, until};

mod answer;
mod error;
mod request;

use error::ApiError;

/// The header that says that no provider answered.
const STAND_IN: HeaderName = HeaderName::from_static("x-tidegate-stand-in");
/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// What a connection may idle beyond the longest answer.
const IDLE_MARGIN: Duration = Duration::from_secs(30);

/// What is served, and how.
#[derive(Clone)]
pub struct OpenaiConfig {
    /// Names of models that are answered to; the answer names the one that was asked for. At least one.
    pub models: Vec<String>,
    /// The bearer key that a client must show; none takes every client.
    pub key: Option<Sensitive<String>>,
    /// Whether answers say that they stand in for a provider.
    pub stand_in: bool,
    /// Longest time to answer in.
    pub time_limit: Duration,
}

impl fmt::Debug for OpenaiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenaiConfig").field("models", &self.models).finish_non_exhaustive()
    }
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The model it named: one of [`OpenaiConfig::models`].
    pub model: String,
    /// The conversation and how to choose tokens; `stream` is the client's wish.
    pub chat: Chat,
    /// The JSON Schema that the answer must follow, where one was given.
    pub schema: Option<Sensitive<Value>>,
    /// Longest time to answer in.
    pub time_limit: Duration,
}

/// A part of an answer. `End` or `Failed` comes exactly once and last.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatEvent {
    /// Some more text.
    Fragment(Sensitive<String>),
    /// The answer is complete.
    End {
        /// Why it ended.
        finish: Finish,
        /// Tokens.
        usage: Usage,
    },
    /// There will be no more.
    Failed(ChatError),
}

/// Why there is no answer. Sentences quote nothing of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// Too many wait already: 429.
    #[error("the server is busy; try again in a moment")]
    Overloaded,
    /// The prompt does not fit: 400 `context_length_exceeded`.
    #[error("{0}")]
    ContextTooLong(String),
    /// The request cannot be served: 400.
    #[error("{0}")]
    Invalid(String),
    /// The time was over: 504.
    #[error("the model did not finish in time")]
    Late,
    /// The model failed: 500.
    #[error("the model could not finish; see the server's log")]
    Failed,
}

/// The events of one answer. Dropping it withdraws the request.
pub type ChatStream = BoxStream<'static, ChatEvent>;
/// What answers. Called on the server's runtime: it must not block.
pub type Answer = Arc<dyn Fn(Asked) -> Result<ChatStream, ChatError> + Send + Sync>;

/// Serves the protocol on a listener from [`crate::bind`] until `shutdown`.
///
/// # Errors
/// [`ServeError`] when the system ends the listener.
pub async fn serve_openai(
    listener: TcpListener,
    config: OpenaiConfig,
    answer: Answer,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let limits = DoorLimits { connections_max: CONNECTIONS_MAX, idle_max: config.time_limit + IDLE_MARGIN };
    until(listener, openai_router(config, answer), limits, shutdown).await
}

#[derive(Clone)]
struct Door {
    config: Arc<OpenaiConfig>,
    answer: Answer,
}

/// The routes of [`serve_openai`].
fn openai_router(config: OpenaiConfig, answer: Answer) -> Router {
    let stand_in = config.stand_in;
    let router = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(models))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
        .with_state(Door { config: Arc::new(config), answer });
    if stand_in { router.layer(middleware::map_response(label)) } else { router }
}

async fn label(mut response: Response) -> Response {
    response.headers_mut().insert(STAND_IN, HeaderValue::from_static("true"));
    response
}

async fn unknown(method: Method, uri: Uri) -> ApiError {
    ApiError::unknown_route(&method, uri.path())
}

async fn models(State(door): State<Door>, headers: HeaderMap) -> Result<Response, ApiError> {
    authorised(&door.config, &headers)?;
    Ok(Json(answer::models(&door.config.models)).into_response())
}

async fn complete(
    State(door): State<Door>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    authorised(&door.config, &headers)?;
    let body = body.map_err(|rejection| ApiError::body(rejection.status()))?;
    let request = request::read(&body, &door.config)?;
    let include_usage = request.include_usage;
    let head = answer::Head::new(request.asked.model.clone());
    let wants_stream = request.asked.chat.stream;
    let stream = (door.answer)(request.asked)?;
    if wants_stream {
        answer::streamed(head, stream, include_usage).await
    } else {
        answer::whole(head, stream).await
    }
}

fn authorised(config: &OpenaiConfig, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(key) = &config.key else { return Ok(()) };
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shown.and_then(|value| value.strip_prefix("Bearer ")) == Some(key.expose().as_str()) {
        Ok(())
    } else {
        Err(ApiError::unauthorised())
    }
}
