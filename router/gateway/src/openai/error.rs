//! Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`.

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use tidegate_schemas::code::Refused;

use super::ChatError;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<&'static str>,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(super) fn parameter(param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param), ..Self::invalid(message) }
    }

    pub(super) fn unknown_model() -> Self {
        let message = "the model does not exist here; GET /v1/models lists those that do";
        let error = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Self { code: Some("model_not_found"), param: Some("model"), ..error }
    }

    pub(super) fn unknown_route(method: &Method, path: &str) -> Self {
        // The path is the client's own words; only their length is bounded by the server.
        let path: String = path.chars().take(100).collect();
        let error = Self::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            format!("no {method} `{path}` here; there are POST /v1/chat/completions and GET /v1/models"),
        );
        Self { code: Some("unknown_url"), ..error }
    }

    pub(super) fn unauthorised() -> Self {
        let error = Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_request_error",
            "the key is missing or wrong; send `Authorization: Bearer <key>`",
        );
        Self { code: Some("invalid_api_key"), ..error }
    }

    /// The body could not be taken whole.
    pub(super) fn body(status: StatusCode) -> Self {
        let message = if status == StatusCode::PAYLOAD_TOO_LARGE {
            "the body is larger than 4 MiB"
        } else {
            "the body could not be read to its end"
        };
        Self::new(status, "invalid_request_error", message)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        } })
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::invalid(refused.sentence)
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        let message = error.to_string();
        match error {
            ChatError::Overloaded => {
                let busy = Self::new(StatusCode::TOO_MANY_REQUESTS, "requests", message);
                Self { code: Some("rate_limit_exceeded"), ..busy }
            }
            ChatError::ContextTooLong(_) => Self {
                code: Some("context_length_exceeded"),
                param: Some("messages"),
                ..Self::invalid(message)
            },
            ChatError::Invalid(_) => Self::invalid(message),
            ChatError::Late => Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message),
            ChatError::Failed => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.to_json())).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}
