//! What can go wrong between a role and the server. Never holds payload text.

/// What to do where one stream has no room.
pub(crate) const STREAM_FULL: &str = "let the recorder trim, or raise the stream's max_bytes";
/// What to do where the server has none for any stream.
pub(crate) const SERVER_FULL: &str =
    "free room on the server's disk, or raise `max_file_store` in its configuration, and start it again";

/// A message was not taken, or it is unknown whether it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The stream holds one message a subject and has one already.
    #[error("stream refused `{subject}`: the subject already has its one message")]
    Refused {
        /// The subject.
        subject: String,
    },
    /// The subject's last message is not the expected one: somebody else wrote first.
    #[error("`{subject}` has moved on since it was read; read it again")]
    Conflict {
        /// The subject.
        subject: String,
    },
    /// The stream, the server or its disk has no room. The message was not taken.
    #[error("no room for `{subject}`: {reason}; {remedy}")]
    Full {
        /// The subject.
        subject: String,
        /// The server's words.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The server's allow-list of this identity does not hold the subject.
    #[error("this identity may not publish `{subject}`; compare its allow-list in the accounts file")]
    Denied {
        /// The subject.
        subject: String,
    },
    /// No stream listens on the subject, or this account does not import it.
    #[error("no stream takes `{subject}`; run the provisioner, or check this account's imports")]
    NoStream {
        /// The subject.
        subject: String,
    },
    /// No answer in time; it is unknown whether the message was taken. Retry under the same id. A server that ran out of disk
    /// answers nothing at all.
    #[error(
        "no acknowledgement for `{subject}` in time; retry under the same id, and where that does not help look into the \
         server's log: is its disk full?"
    )]
    Timeout {
        /// The subject.
        subject: String,
    },
    /// The connection broke before the answer; it is unknown whether the message was taken. Retry under the same id.
    #[error("the connection broke before `{subject}` was acknowledged; retry under the same id")]
    Interrupted {
        /// The subject.
        subject: String,
    },
    /// The message is larger than the server's `max_payload`.
    #[error("message for `{subject}` is {bytes} bytes, more than the {bytes_max} the server takes")]
    TooLarge {
        /// The subject.
        subject: String,
        /// Its size, bytes.
        bytes: usize,
        /// The limit, bytes.
        bytes_max: usize,
    },
    /// The subject is empty or holds white space or a wildcard.
    #[error("`{subject}` is no subject to publish to")]
    BadSubject {
        /// The subject.
        subject: String,
    },
    /// The server answered with another error.
    #[error("the server refused `{subject}`: {reason} (error {err_code})")]
    Server {
        /// The subject.
        subject: String,
        /// The server's error code.
        err_code: u64,
        /// The server's words.
        reason: String,
    },
    /// The connection is closed for good.
    #[error("the connection to the bus is closed")]
    Closed,
}

impl PublishError {
    /// Whether the same message may succeed later under the same id.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::NoStream { .. } | Self::Timeout { .. } | Self::Interrupted { .. } => {
                true
            }
            Self::Server { err_code, .. } => *err_code == 0 || *err_code == wire_code::UNAVAILABLE,
            Self::Refused { .. }
            | Self::Conflict { .. }
            | Self::Denied { .. }
            | Self::TooLarge { .. }
            | Self::BadSubject { .. }
            | Self::Closed => false,
        }
    }
}

/// A request to the server or to another role failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The server's allow-list of this identity does not hold the subject.
    #[error("this identity may not use `{subject}`; compare its allow-list in the accounts file")]
    Denied {
        /// The subject.
        subject: String,
    },
    /// Nobody listens on the subject, or this account does not import it.
    #[error("nobody answers `{subject}`; check that the role runs and that this account imports it")]
    NoResponder {
        /// The subject.
        subject: String,
    },
    /// No answer in time.
    #[error("no answer from `{subject}` in time")]
    Timeout {
        /// The subject.
        subject: String,
    },
    /// The server or its disk has no room for what was asked.
    #[error("the server has no room for `{subject}`: {reason}; {remedy}", remedy = SERVER_FULL)]
    Full {
        /// The subject.
        subject: String,
        /// The server's words.
        reason: String,
    },
    /// The server could not make a stream; its disk, its directory or what the stream asks for.
    #[error(
        "the server could not make the stream of `{subject}`: {reason}; its log says more: look whether its store directory can be written and has room"
    )]
    NotMade {
        /// The subject.
        subject: String,
        /// The server's words.
        reason: String,
    },
    /// The server answered with an error.
    #[error("`{subject}` failed: {reason} (error {err_code})")]
    Server {
        /// The subject.
        subject: String,
        /// The server's error code.
        err_code: u64,
        /// The server's words.
        reason: String,
    },
    /// The answer could not be read.
    #[error("the answer of `{subject}` has an unknown form; is the server the expected version?")]
    Malformed {
        /// The subject.
        subject: String,
    },
    /// The request could not be sent.
    #[error("the request to `{subject}` could not be sent: {reason}")]
    Send {
        /// The subject.
        subject: String,
        /// Why.
        reason: String,
    },
}

impl ApiError {
    /// Whether the server says that the stream, consumer or message does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Server {
                err_code: wire_code::STREAM_NOT_FOUND
                    | wire_code::CONSUMER_NOT_FOUND
                    | wire_code::MESSAGE_NOT_FOUND,
                ..
            }
        )
    }
}

/// The server's error codes that we tell apart (nats-server `errors.json`).
pub(crate) mod wire_code {
    /// Consumer not found.
    pub(crate) const CONSUMER_NOT_FOUND: u64 = 10_014;
    /// No message found.
    pub(crate) const MESSAGE_NOT_FOUND: u64 = 10_037;
    /// Stream not found.
    pub(crate) const STREAM_NOT_FOUND: u64 = 10_059;
    /// Wrong last sequence.
    pub(crate) const WRONG_SEQUENCE: u64 = 10_071;
    /// Wrong last sequence, without the number.
    pub(crate) const WRONG_SEQUENCE_CONSTANT: u64 = 10_164;
    /// The store refused: the description says why.
    pub(crate) const STORE_FAILED: u64 = 10_077;
    /// Insufficient resources.
    pub(crate) const NO_RESOURCES: u64 = 10_023;
    /// Storage resources exceeded.
    pub(crate) const NO_STORAGE: u64 = 10_047;
    /// A new stream could not be made, whatever the cause.
    pub(crate) const NO_STREAM_MADE: u64 = 10_049;
    /// JetStream temporarily unavailable.
    pub(crate) const UNAVAILABLE: u64 = 10_008;
    /// A sequence that is not in the stream.
    pub(crate) const SEQUENCE_NOT_FOUND: u64 = 10_043;
}
