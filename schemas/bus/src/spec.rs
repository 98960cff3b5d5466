//! What streams, consumers and buckets must be, in the words of the JetStream API, and where the server's echo differs.

use serde::Serialize;
use serde_json::Value;

/// Copies of each stream, count.
const REPLICAS: u8 = 1;
/// How long a stream knows an id, nanoseconds: 10 minutes.
const DUPLICATE_WINDOW_NS: u64 = 600 * 1_000_000_000;

/// A stream. File storage, limits retention, new messages discarded when it is full, no age limit unless said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamSpec {
    /// Name.
    pub name: String,
    /// Subjects it takes.
    pub subjects: Vec<String>,
    /// Bytes it may hold.
    pub max_bytes: u64,
    /// Messages a subject may hold; -1 without a limit.
    pub max_msgs_per_subject: i64,
    /// Whether a subject that is full refuses new messages instead of dropping its oldest.
    pub discard_new_per_subject: bool,
    /// Age at which messages go, nanoseconds; 0 never.
    #[serde(rename = "max_age")]
    pub max_age_ns: u64,
    duplicate_window: u64,
    retention: &'static str,
    storage: &'static str,
    discard: &'static str,
    num_replicas: u8,
    allow_direct: bool,
    allow_atomic: bool,
    allow_rollup_hdrs: bool,
    deny_delete: bool,
    deny_purge: bool,
    max_msgs: i64,
    max_consumers: i64,
}

/// A durable pull consumer with explicit acknowledgement and no limit of deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerSpec {
    /// Its stream.
    #[serde(skip)]
    pub stream: String,
    /// Durable name.
    pub durable_name: String,
    /// Subjects it delivers; never empty.
    pub filter_subjects: Vec<String>,
    /// How long a delivery may go unacknowledged and without progress, nanoseconds.
    #[serde(rename = "ack_wait")]
    pub ack_wait_ns: u64,
    /// Deliveries that may be unacknowledged at once, count.
    pub max_ack_pending: u64,
    /// Whether it delivers headers without payloads.
    pub headers_only: bool,
    ack_policy: &'static str,
    deliver_policy: &'static str,
    replay_policy: &'static str,
    max_deliver: i64,
    max_waiting: u32,
}

/// A key-value bucket: one value a key, no history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSpec {
    /// Name.
    pub name: String,
    /// Bytes it may hold.
    pub max_bytes: u64,
    /// How long a value stays after it was last written, nanoseconds; 0 for ever.
    pub max_age_ns: u64,
}

/// A field of a configuration that is not as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The field.
    pub field: String,
    /// What was asked.
    pub asked: String,
    /// What the server has.
    pub found: String,
}

/// How long a delivery may go unacknowledged, nanoseconds: 30 seconds.
pub const ACK_WAIT_NS: u64 = 30 * 1_000_000_000;

// === impl StreamSpec ===

impl StreamSpec {
    /// A stream of the cell.
    #[must_use]
    pub fn new(name: impl Into<String>, subjects: &[&str], max_bytes: u64) -> Self {
        Self {
            name: name.into(),
            subjects: subjects.iter().map(ToString::to_string).collect(),
            max_bytes,
            max_msgs_per_subject: -1,
            discard_new_per_subject: false,
            max_age_ns: 0,
            duplicate_window: DUPLICATE_WINDOW_NS,
            retention: "limits",
            storage: "file",
            discard: "new",
            num_replicas: REPLICAS,
            allow_direct: true,
            allow_atomic: true,
            allow_rollup_hdrs: false,
            deny_delete: false,
            deny_purge: false,
            max_msgs: -1,
            max_consumers: -1,
        }
    }

    /// The same, with one message a subject and further ones refused.
    #[must_use]
    pub fn one_per_subject(mut self) -> Self {
        self.max_msgs_per_subject = 1;
        self.discard_new_per_subject = true;
        self
    }

    /// The same, with messages that go at an age.
    #[must_use]
    pub fn with_max_age_ns(mut self, max_age_ns: u64) -> Self {
        self.max_age_ns = max_age_ns;
        self.duplicate_window = DUPLICATE_WINDOW_NS.min(max_age_ns);
        self
    }
}

impl BucketSpec {
    /// The stream behind the bucket, readable by other clients as a bucket (ADR-8).
    #[must_use]
    pub fn stream(&self) -> StreamSpec {
        let subject = format!("$KV.{}.>", self.name);
        let mut spec = StreamSpec::new(crate::kv::bucket_stream(&self.name), &[&subject], self.max_bytes);
        spec.max_msgs_per_subject = 1;
        spec.allow_rollup_hdrs = true;
        if self.max_age_ns > 0 { spec.with_max_age_ns(self.max_age_ns) } else { spec }
    }
}

// === impl ConsumerSpec ===

impl ConsumerSpec {
    /// A consumer that delivers what matches `filters`.
    #[must_use]
    pub fn new(stream: impl Into<String>, name: impl Into<String>, filters: &[&str]) -> Self {
        Self {
            stream: stream.into(),
            durable_name: name.into(),
            filter_subjects: filters.iter().map(ToString::to_string).collect(),
            ack_wait_ns: ACK_WAIT_NS,
            max_ack_pending: 10_000,
            headers_only: false,
            ack_policy: "explicit",
            deliver_policy: "all",
            replay_policy: "instant",
            max_deliver: -1,
            max_waiting: 512,
        }
    }

    /// The same with another wait for acknowledgement, milliseconds.
    #[must_use]
    pub fn with_ack_wait_ms(mut self, ack_wait_ms: u64) -> Self {
        self.ack_wait_ns = ack_wait_ms * 1_000_000;
        self
    }

    /// The same with another limit of unacknowledged deliveries.
    #[must_use]
    pub fn with_max_ack_pending(mut self, max_ack_pending: u64) -> Self {
        self.max_ack_pending = max_ack_pending;
        self
    }

    /// The same without payloads.
    #[must_use]
    pub fn headers_only(mut self) -> Self {
        self.headers_only = true;
        self
    }
}

/// Where the server's configuration is not as asked. Only asked fields count, and the server leaves out zeroes and `false`.
pub(crate) fn drift<T: Serialize>(asked: &T, found: &Value) -> Vec<Drift> {
    let asked = serde_json::to_value(asked).unwrap_or_default();
    let Some(asked) = asked.as_object() else { return Vec::new() };
    let differs = |(field, asked): (&String, &Value)| {
        let mut echo = found.get(field).cloned().unwrap_or(Value::Null);
        if field == "filter_subjects" && echo.is_null() {
            // One filter may be echoed under its singular name.
            echo = found.get("filter_subject").map(|one| Value::Array(vec![one.clone()])).unwrap_or_default();
        }
        let same = *asked == echo || (echo.is_null() && is_zero(asked));
        (!same).then(|| Drift { field: field.clone(), asked: asked.to_string(), found: echo.to_string() })
    };
    asked.iter().filter_map(differs).collect()
}

pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests;
