//! Errors of this crate. They hold no URL query, no key, no body and no word of a provider's message.

use tidegate_schemas::code::Code;
use tidegate_schemas::ids::Name;
use tidegate_schemas::result::Usage;

/// Why the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Two providers of one name.
    #[error("provider `{provider}` stands twice; give each its own name")]
    Twice {
        /// The provider.
        provider: Name,
    },
    /// No endpoint.
    #[error("provider `{provider}` has no endpoint; add one under `endpoints`")]
    NoEndpoint {
        /// The provider.
        provider: Name,
    },
    /// An endpoint that may not be used.
    #[error("endpoint `{endpoint}` of provider `{provider}`: the URL {rule}")]
    Url {
        /// The provider.
        provider: Name,
        /// The endpoint.
        endpoint: Name,
        /// What it must be.
        rule: &'static str,
    },
    /// The key cannot be read.
    #[error("the key of provider `{provider}` {rule}")]
    Key {
        /// The provider.
        provider: Name,
        /// What is wrong.
        rule: &'static str,
    },
    /// The root certificates cannot be read.
    #[error("`ca_file` of provider `{provider}` must be a readable PEM file of certificates")]
    Roots {
        /// The provider.
        provider: Name,
    },
    /// No cryptography was installed.
    #[error("install rustls' ring provider before the first client is made")]
    NoCrypto,
    /// The HTTP client could not be made.
    #[error(
        "the HTTP client of provider `{provider}` could not be made; check the system's root certificates"
    )]
    Client {
        /// The provider.
        provider: Name,
    },
}

/// What went wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The claims name what the configuration does not permit. Nothing left.
    #[error("the ticket does not fit this worker's configuration: {0}")]
    NotPermitted(&'static str),
    /// The caller did not let an attempt begin. Nothing left.
    #[error("the attempt was not let begin")]
    Halted,
    /// The caller withdrew.
    #[error("the call was withdrawn")]
    Canceled,
    /// The ticket's time is over.
    #[error("the ticket's time was over before the provider answered")]
    Expired,
    /// The task's time is over.
    #[error("the task's deadline passed before the provider answered")]
    Deadline,
    /// The task's time is over, and the provider said nothing at all for as long as `header_ms` at least.
    #[error("the task's deadline passed, and the provider had said nothing")]
    Silent,
    /// The name led to an address that may not be connected to.
    #[error("the provider's name resolves to an address that its `reach` does not permit")]
    Address,
    /// No connection.
    #[error("the provider could not be reached")]
    Connect,
    /// Time ran out.
    #[error("the provider took longer than {0} permits")]
    Timeout(Wait),
    /// The connection broke.
    #[error("the connection broke during the answer")]
    Broken,
    /// An HTTP status that is none of success.
    #[error("the provider answered with status {0}")]
    Status(u16),
    /// A redirect, which is never followed.
    #[error("the provider answered with a redirect, which is not followed; correct its URL")]
    Redirect,
    /// The provider's quota is used up.
    #[error("the provider's quota is used up; raise it with the provider")]
    Quota,
    /// The answer passes its limit.
    #[error("the answer passes its limit of bytes")]
    TooLarge,
    /// The answer is not of the protocol's form.
    #[error("the answer is not of the protocol's form")]
    Malformed,
    /// The answer ended without saying why.
    #[error("the answer ended without a finish reason")]
    Truncated,
    /// The provider reported an error inside the stream.
    #[error("the provider reported an error inside its answer")]
    InStream,
    /// The input is longer than the model's context.
    #[error("the input does not fit the model's context")]
    ContextTooLong,
    /// The provider refused the content.
    #[error("the provider refused the content")]
    Refused,
}

/// Which of an attempt's times ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until there is a connection: no byte of the request has left.
    Connect,
    /// Until the answer's headers.
    Header,
    /// Between two parts of it.
    Idle,
    /// The whole.
    Total,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "`connect_ms`",
            Self::Header => "`header_ms`",
            Self::Idle => "`idle_ms`",
            Self::Total => "`total_ms`",
        })
    }
}

/// A call that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct ProviderError {
    /// What went wrong last.
    pub failure: Failure,
    /// Times that bytes may have left.
    pub attempts: u32,
    /// Whether text of the answer was handed on before it failed. Then nobody may try again.
    pub published: bool,
    /// The provider's id of the last request: printable ASCII, at most 128 bytes.
    pub request_id: Option<String>,
    /// Tokens that were paid for all the same, where the provider counted them.
    pub usage: Option<Usage>,
    /// What they cost, millionths of a US dollar.
    pub cost_usd_micros: Option<u64>,
}

// === impl Failure ===

impl Failure {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotPermitted(_) | Self::Expired => Code::TicketInvalid,
            Self::Halted => Code::Internal,
            Self::Canceled => Code::Canceled,
            Self::Deadline | Self::Silent => Code::DeadlineExceeded,
            Self::ContextTooLong => Code::ContextTooLong,
            Self::Refused => Code::ProviderRefused,
            Self::Quota => Code::ProviderUnavailable,
            Self::Redirect | Self::TooLarge | Self::Address => Code::ProviderFailed,
            _ if self.is_transient() => Code::ProviderUnavailable,
            _ => Code::ProviderFailed,
        }
    }

    /// The HTTP status, where it is what failed.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(*status),
            _ => None,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect
            | Self::Timeout(_)
            | Self::Broken
            | Self::Malformed
            | Self::Truncated
            | Self::InStream => true,
            Self::Status(status) => matches!(status, 408 | 409 | 429 | 500..=599),
            _ => false,
        }
    }
}
