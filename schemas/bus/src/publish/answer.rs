//! What the server answers to a publish.

use serde::Deserialize;

use crate::error::{PublishError, SERVER_FULL, STREAM_FULL, wire_code};
use crate::message::Outbound;

/// A publish acknowledgement.
#[derive(Debug, Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(default, borrow)]
    pub(super) stream: std::borrow::Cow<'a, str>,
    #[serde(default)]
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) duplicate: bool,
    #[serde(default)]
    pub(super) error: Option<AnswerError>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AnswerError {
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

pub(super) fn server_error(message: &Outbound, error: &AnswerError) -> PublishError {
    let (subject, reason) = (message.subject.clone(), error.description.clone());
    match error.err_code {
        wire_code::STORE_FAILED if reason.contains("per subject") => PublishError::Refused { subject },
        wire_code::STORE_FAILED if !reason.contains("no space left") => {
            PublishError::Full { subject, reason, remedy: STREAM_FULL }
        }
        wire_code::STORE_FAILED | wire_code::NO_RESOURCES | wire_code::NO_STORAGE => {
            PublishError::Full { subject, reason, remedy: SERVER_FULL }
        }
        wire_code::WRONG_SEQUENCE | wire_code::WRONG_SEQUENCE_CONSTANT => PublishError::Conflict { subject },
        err_code => PublishError::Server { subject, err_code, reason },
    }
}

pub(super) fn word(error: &PublishError) -> &'static str {
    match error {
        PublishError::Refused { .. } => "refused",
        PublishError::Conflict { .. } => "conflict",
        PublishError::Full { .. } => "full",
        PublishError::Denied { .. } => "denied",
        PublishError::NoStream { .. } => "no_stream",
        PublishError::Timeout { .. } => "timeout",
        PublishError::Interrupted { .. } => "interrupted",
        PublishError::TooLarge { .. } => "too_large",
        PublishError::BadSubject { .. } => "bad_subject",
        PublishError::Server { .. } => "server",
        PublishError::Closed => "closed",
    }
}
