//! Messages: what is published, what a consumer delivers, and what a stream holds.

use bytes::Bytes;
use jiff::Timestamp;
use tidegate_schemas::code::Refused;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Position;

/// A message to publish into a stream.
#[derive(Debug, Clone, Default)]
pub struct Outbound {
    /// Subject, already with the tenant where this identity's account does not add it.
    pub subject: String,
    /// Idempotency key within the stream's duplicate window.
    pub msg_id: Option<String>,
    /// Headers; `nats-msg-id` among them is replaced by [`Self::msg_id`] where that is set.
    pub headers: Headers,
    /// Payload, at most the server's `max_payload`.
    pub payload: Bytes,
    /// Publish only if the subject's last message has this sequence; 0 means that there is none.
    pub expected_subject_sequence: Option<u64>,
}

impl Outbound {
    /// A message without id or headers.
    #[must_use]
    pub fn new(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), payload: payload.into(), ..Self::default() }
    }

    /// The same with an idempotency key.
    #[must_use]
    pub fn with_id(mut self, msg_id: impl Into<String>) -> Self {
        self.msg_id = Some(msg_id.into());
        self
    }

    /// The same with these headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Bytes it counts for in a batch.
    pub(crate) fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        self.payload.len() + self.subject.len() + headers + self.msg_id.as_ref().map_or(0, String::len)
    }
}

/// A message that a stream has taken and made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The stream.
    pub stream: String,
    /// Its sequence there; of the first one where this is a duplicate.
    pub sequence: u64,
    /// The stream already held a message with this id: compare digests before counting that as success.
    pub duplicate: bool,
}

impl Published {
    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.stream.clone(), self.sequence)
    }
}

/// A message as a consumer delivers it.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// Stream it comes from.
    pub stream: String,
    /// Consumer it came by.
    pub consumer: String,
    /// Sequence in the stream.
    pub sequence: u64,
    /// Sequence of this delivery in the consumer: one more with each.
    pub consumer_sequence: u64,
    /// Subject as stored.
    pub subject: String,
    /// Headers as stored, sorted by name; duplicates stay.
    pub headers: Vec<(String, String)>,
    /// Payload as stored.
    pub payload: Bytes,
    /// Deliveries so far, this one included.
    pub delivered: u64,
    /// When the stream took it.
    pub published: Timestamp,
    /// Messages that wait behind it in the consumer.
    pub pending: u64,
}

impl Inbound {
    /// Bytes it takes.
    pub(crate) fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.payload.len() + self.subject.len() + headers
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.stream.clone(), self.sequence)
    }

    /// The first value of a header, whatever the case of `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// Headers that come from outside.
    ///
    /// # Errors
    /// [`Refused`] when a header stands twice or a limit is passed.
    pub fn read_headers(&self) -> Result<Headers, Refused> {
        Headers::read(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Headers that one of our roles wrote.
    #[must_use]
    pub fn trusted_headers(&self) -> Headers {
        Headers::trusted(self.headers.iter().cloned())
    }
}

/// A message as a stream holds it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Stream that holds it.
    pub stream: String,
    /// Sequence in the stream.
    pub sequence: u64,
    /// Subject as stored.
    pub subject: String,
    /// Headers as stored, sorted by name, without the server's own about the lookup.
    pub headers: Vec<(String, String)>,
    /// Payload as stored.
    pub payload: Bytes,
    /// When the stream took it.
    pub published: Timestamp,
}

impl Stored {
    /// The first value of a header, whatever the case of `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// Headers that one of our roles wrote.
    #[must_use]
    pub fn trusted_headers(&self) -> Headers {
        Headers::trusted(self.headers.iter().cloned())
    }
}

fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
