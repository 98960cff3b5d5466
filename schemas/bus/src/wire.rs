//! Our messages in the client's form and back: headers, heads, delivery subjects, answers of direct gets.

use std::borrow::Cow;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue, IntoHeaderName};
use bytes::Bytes;
use jiff::Timestamp;
use tidegate_schemas::header::MSG_ID;

use crate::head::{self, HEAD};
use crate::message::{Inbound, Outbound, Stored};

/// JetStream reads its idempotency key in this spelling only.
const MSG_ID_CANONICAL: &str = "Nats-Msg-Id";
const EXPECTED_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// Place of a message in an atomic batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InBatch<'a> {
    pub(crate) id: &'a str,
    /// From 1.
    pub(crate) sequence: usize,
    pub(crate) commit: bool,
}

/// A message for a stream in the client's form: headers and payload, which a head may go before.
pub(crate) fn outgoing(message: &Outbound, batch: Option<InBatch<'_>>) -> (HeaderMap, Bytes) {
    if !head::has_one(&message.subject) {
        return (header_map(message, batch, |_| true), message.payload.clone());
    }
    let mut map = header_map(message, batch, |name| !head::holds(name));
    let (payload, bytes) = head::put_before(&message.headers, &message.payload);
    map.insert(HEAD, HeaderValue::from(bytes));
    (map, payload)
}

/// The client's headers of a message: those that are to be kept, and the server's own.
pub(crate) fn header_map(
    message: &Outbound,
    batch: Option<InBatch<'_>>,
    keep: impl Fn(&str) -> bool,
) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in message.headers.held().filter(|(name, _)| keep(name)) {
        if name == MSG_ID {
            if message.msg_id.is_none() {
                map.insert(MSG_ID_CANONICAL, HeaderValue::from(value));
            }
        } else {
            map.insert(header_name(name), HeaderValue::from(value));
        }
    }
    if let Some(id) = &message.msg_id {
        map.insert(MSG_ID_CANONICAL, HeaderValue::from(id.as_str()));
    }
    if let Some(sequence) = message.expected_subject_sequence {
        map.insert(EXPECTED_SUBJECT_SEQUENCE, HeaderValue::from(sequence));
    }
    if let Some(batch) = batch {
        map.insert(BATCH_ID, HeaderValue::from(batch.id));
        map.insert(BATCH_SEQUENCE, HeaderValue::from(batch.sequence));
        if batch.commit {
            map.insert(BATCH_COMMIT, HeaderValue::from("1"));
        }
    }
    map
}

/// A name in the client's form; a constant one is not copied.
#[expect(clippy::ptr_arg, reason = "whether it is a constant is what matters")]
fn header_name(name: &Cow<'static, str>) -> HeaderName {
    match name {
        // Other clients read this one in its own spelling too.
        Cow::Borrowed("kv-operation") => HeaderName::from_static("KV-Operation"),
        Cow::Owned(name) if name == "kv-operation" => HeaderName::from_static("KV-Operation"),
        Cow::Borrowed(name) => HeaderName::from_static(name),
        Cow::Owned(name) => name.as_str().into_header_name(),
    }
}

/// Headers of a message as pairs, sorted by name because the client keeps no order; a name that stands twice stays twice.
pub(crate) fn header_pairs(map: Option<&HeaderMap>, keep: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = map
        .into_iter()
        .flat_map(HeaderMap::iter)
        .filter(|(name, _)| keep(name_of(name)))
        .flat_map(|(name, values)| {
            values.iter().map(|value| (name_of(name).to_owned(), value.as_str().to_owned()))
        })
        .collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

fn name_of(name: &HeaderName) -> &str {
    name.as_ref()
}

/// A delivery from its message; `None` when its reply subject is no delivery's.
pub(crate) fn inbound(message: async_nats::Message) -> Option<(Inbound, String)> {
    let reply = message.reply?.to_string();
    let place = Delivery::parse(&reply)?;
    let (subject, mut payload) = (message.subject.to_string(), message.payload);
    let mut headers = header_pairs(message.headers.as_ref(), |_| true);
    head::take(&subject, &mut headers, &mut payload);
    let inbound = Inbound {
        stream: place.stream.to_owned(),
        consumer: place.consumer.to_owned(),
        sequence: place.sequence,
        consumer_sequence: place.consumer_sequence,
        subject,
        headers,
        payload,
        delivered: place.delivered,
        published: place.published,
        pending: place.pending,
    };
    Some((inbound, reply))
}

/// What the acknowledgement subject of a delivery says (ADR-15).
#[derive(Debug, PartialEq, Eq)]
struct Delivery<'a> {
    stream: &'a str,
    consumer: &'a str,
    delivered: u64,
    sequence: u64,
    consumer_sequence: u64,
    published: Timestamp,
    pending: u64,
}

impl<'a> Delivery<'a> {
    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<ns>.<pending>`, or the same after a domain and an
    /// account hash.
    fn parse(reply: &'a str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let tokens = rest.split('.').count();
        let mut parts = rest.split('.').skip(if tokens >= 9 { 2 } else { 0 });
        let (stream, consumer) = (parts.next()?, parts.next()?);
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (delivered, sequence, consumer_sequence) = (number()?, number()?, number()?);
        let published = Timestamp::from_nanosecond(i128::from(number()?)).ok()?;
        Some(Self { stream, consumer, delivered, sequence, consumer_sequence, published, pending: number()? })
    }
}

/// A stored message from the answer of a direct get; `None` when the answer has another form.
pub(crate) fn stored(message: &async_nats::Message) -> Option<Stored> {
    let headers = message.headers.as_ref()?;
    let last = |name: &str| headers.get_last(name).map(HeaderValue::as_str);
    let (subject, mut payload) = (last("Nats-Subject")?.to_owned(), message.payload.clone());
    let mut pairs = header_pairs(Some(headers), |name| !LOOKUP_HEADERS.contains(&name));
    head::take(&subject, &mut pairs, &mut payload);
    Some(Stored {
        stream: last("Nats-Stream")?.to_owned(),
        sequence: last("Nats-Sequence")?.parse().ok()?,
        subject,
        published: last("Nats-Time-Stamp")?.parse().ok()?,
        headers: pairs,
        payload,
    })
}

const LOOKUP_HEADERS: [&str; 8] = [
    "Nats-Stream",
    "Nats-Sequence",
    "Nats-Subject",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
    "Nats-UpTo-Sequence",
    "Nats-Request-Info",
];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tidegate_schemas::header::Headers;

    use super::*;

    #[test]
    fn reads_both_forms_of_a_delivery() {
        let rows = [
            "$JS.ACK.WORK_LOCAL.default.2.40.41.1795460219507160873.7",
            "$JS.ACK.hub.ABCDEF.WORK_LOCAL.default.2.40.41.1795460219507160873.7",
            "$JS.ACK.hub.ABCDEF.WORK_LOCAL.default.2.40.41.1795460219507160873.7.random",
        ];
        for row in rows {
            let place = Delivery::parse(row).unwrap();
            assert_eq!((place.stream, place.consumer), ("WORK_LOCAL", "default"), "{row}");
            assert_eq!(
                (place.delivered, place.sequence, place.consumer_sequence, place.pending),
                (2, 40, 41, 7)
            );
        }
        for row in ["_INBOX.x", "$JS.ACK.A.b.1.2", "$JS.ACK.A.b.x.2.3.4.5"] {
            assert_eq!(Delivery::parse(row), None, "{row}");
        }
    }

    #[test]
    fn the_id_is_written_as_the_server_reads_it() {
        let headers = Headers::new().with(MSG_ID, "from headers").with("TideGate-Cause", "A:1");
        let mut message = Outbound::new("a", "x").with_headers(headers);
        let map = header_map(&message, None, |_| true);
        assert_eq!(map.get(MSG_ID_CANONICAL).map(HeaderValue::as_str), Some("from headers"));
        assert_eq!(map.get("tidegate-cause").map(HeaderValue::as_str), Some("A:1"));
        message.msg_id = Some("own".to_owned());
        message.expected_subject_sequence = Some(3);
        let batch = InBatch { id: "b", sequence: 2, commit: true };
        let map = header_map(&message, Some(batch), |_| true);
        assert_eq!(map.get_all(MSG_ID_CANONICAL).count(), 1);
        assert_eq!(map.get(MSG_ID_CANONICAL).map(HeaderValue::as_str), Some("own"));
        assert_eq!(map.get(BATCH_COMMIT).map(HeaderValue::as_str), Some("1"));
        assert_eq!(map.get(EXPECTED_SUBJECT_SEQUENCE).map(HeaderValue::as_str), Some("3"));
    }
}
