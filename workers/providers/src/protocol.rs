//! The protocols' wire forms: where the call goes, with which headers, and how answers and errors read.
//!
//! Tolerant of fields that it does not know; strict about those that say how the answer ended.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tidegate_schemas::render::Protocol;

use crate::answer::Parsed;
use crate::error::Failure;
use crate::sse::Event;

mod anthropic;
mod openai;
#[cfg(test)]
mod tests;

/// Largest error body that is read, bytes.
pub(crate) const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The call's path below the base URL.
pub(crate) fn path(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenaiChat => "chat/completions",
        Protocol::AnthropicMessages => "messages",
    }
}

/// Header of the provider's id of a request.
pub(crate) fn request_id_header(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenaiChat => "x-request-id",
        Protocol::AnthropicMessages => "request-id",
    }
}

/// The headers that carry the key and the version.
pub(crate) fn headers(protocol: Protocol, key: Option<&SecretString>) -> Vec<(&'static str, String)> {
    let key = key.map(ExposeSecret::expose_secret);
    match protocol {
        Protocol::OpenaiChat => {
            key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect()
        }
        Protocol::AnthropicMessages => std::iter::once(("anthropic-version", "2023-06-01".to_owned()))
            .chain(key.map(|key| ("x-api-key", key.to_owned())))
            .collect(),
    }
}

/// Reads an answer that came whole.
pub(crate) fn whole(protocol: Protocol, forced: bool, body: &[u8]) -> Result<Parsed, Failure> {
    match protocol {
        Protocol::OpenaiChat => openai::whole(body),
        Protocol::AnthropicMessages => anthropic::whole(forced, body),
    }
}

/// Reads an answer that comes as events.
#[derive(Debug)]
pub(crate) enum Reader {
    Openai(openai::Reader),
    Anthropic(anthropic::Reader),
}

impl Reader {
    pub(crate) fn new(protocol: Protocol, forced: bool) -> Self {
        match protocol {
            Protocol::OpenaiChat => Self::Openai(openai::Reader::default()),
            Protocol::AnthropicMessages => Self::Anthropic(anthropic::Reader::new(forced)),
        }
    }

    /// Takes an event; gives the text that it adds.
    pub(crate) fn take(&mut self, event: &Event) -> Result<Option<String>, Failure> {
        match self {
            Self::Openai(reader) => reader.take(event),
            Self::Anthropic(reader) => reader.take(event),
        }
    }

    /// Whether the stream said that it is over.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Openai(reader) => reader.over,
            Self::Anthropic(reader) => reader.over,
        }
    }

    /// The answer, if the stream said that it is over and why.
    pub(crate) fn end(self) -> Result<Parsed, Failure> {
        match self {
            Self::Openai(reader) => reader.end(),
            Self::Anthropic(reader) => reader.end(),
        }
    }
}

/// What both protocols' errors look like. Only known words of it are looked at; none is kept.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ErrorBody {
    #[serde(default)]
    code: Option<Word>,
    #[serde(default, rename = "type")]
    kind: Option<Word>,
    #[serde(default)]
    message: Option<Word>,
    #[serde(default)]
    innererror: Option<Inner>,
}

#[derive(Debug, Default, Deserialize)]
struct Inner {
    #[serde(default)]
    code: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl ErrorBody {
    fn names(&self, words: &[&str]) -> bool {
        let inner = self.innererror.as_ref().and_then(|inner| inner.code.as_ref());
        [self.code.as_ref(), self.kind.as_ref(), inner]
            .into_iter()
            .flatten()
            .any(|word| matches!(word, Word::Text(text) if words.contains(&text.as_str())))
    }

    fn mentions(&self, part: &str) -> bool {
        matches!(&self.message, Some(Word::Text(text)) if text.contains(part))
    }

    /// What kind of failure the words tell, where they tell one.
    pub(crate) fn tells(&self) -> Option<Failure> {
        const REFUSED: &[&str] = &[
            "content_filter",
            "content_policy_violation",
            "ResponsibleAIPolicyViolation",
            "safety_violation",
        ];
        if self.names(REFUSED) {
            Some(Failure::Refused)
        } else if self.names(&["insufficient_quota", "billing_error", "billing_hard_limit_reached"]) {
            Some(Failure::Quota)
        } else if self.names(&["context_length_exceeded"])
            || (self.names(&["invalid_request_error"]) && self.mentions("prompt is too long"))
        {
            Some(Failure::ContextTooLong)
        } else {
            None
        }
    }
}

/// What an answer with this status means.
pub(crate) fn refine(status: u16, body: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Body {
        error: ErrorBody,
    }
    if (300..400).contains(&status) {
        return Failure::Redirect;
    }
    let told = serde_json::from_slice::<Body>(body).ok().and_then(|body| body.error.tells());
    told.unwrap_or(Failure::Status(status))
}
