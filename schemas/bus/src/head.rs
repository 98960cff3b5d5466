//! Work's own headers, written before its payload.
//!
//! A message of work carries a decision, a ticket and a dozen short headers, about 2 KiB. The server searches all header bytes
//! of a message for each of its own keys, and every client takes them apart one by one, so the road would pay for them as if
//! they were many messages. Our header [`HEAD`] says how many bytes at the beginning of the payload are headers:
//! `name: value` and CR LF, one a line, as in NATS' own form (ADR-4). What others look for stays where they look for it: id,
//! cause and trace.
//!
//! Only subjects of work have a head, which none but the router publishes; the same header elsewhere means nothing. A head
//! that cannot be read is left where it is: the message then lacks the headers that its reader needs, and is refused there.

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_schemas::header::{CAUSE, Headers, MSG_ID, TRACEPARENT};

/// Bytes of the payload that are headers.
pub(crate) const HEAD: &str = "tidegate-head";
/// What goes between a name and its value, and ends a line.
const BETWEEN: &[u8] = b": ";
const END: &[u8] = b"\r\n";

/// Whether messages of a subject have a head.
pub(crate) fn has_one(subject: &str) -> bool {
    subject.starts_with("work.")
}

/// Whether a header stands in the head, and not among the server's.
pub(crate) fn holds(name: &str) -> bool {
    !matches!(name, MSG_ID | CAUSE | TRACEPARENT)
}

/// Head and payload in one, and how many bytes the head has.
pub(crate) fn put_before(headers: &Headers, payload: &Bytes) -> (Bytes, usize) {
    let held = || headers.iter().filter(|(name, _)| holds(name));
    let line = |(name, value): (&str, &str)| name.len() + BETWEEN.len() + value.len() + END.len();
    let bytes = held().map(line).sum();
    let mut all = BytesMut::with_capacity(bytes + payload.len());
    for (name, value) in held() {
        all.put_slice(name.as_bytes());
        all.put_slice(BETWEEN);
        all.put_slice(value.as_bytes());
        all.put_slice(END);
    }
    all.put_slice(payload);
    (all.freeze(), bytes)
}

/// Takes a message's head from its payload into its headers, in the order of their names. Headers that stand twice stay twice.
pub(crate) fn take(subject: &str, headers: &mut Vec<(String, String)>, payload: &mut Bytes) {
    if !has_one(subject) {
        return;
    }
    let Some(at) = headers.iter().position(|(name, _)| name == HEAD) else { return };
    let bytes = headers.get(at).and_then(|(_, bytes)| bytes.parse().ok());
    let Some(head) = bytes.and_then(|bytes: usize| payload.get(..bytes)) else { return };
    let Some(held) = read(head) else { return };
    let bytes = head.len();
    headers.remove(at);
    headers.extend(held);
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    *payload = payload.slice(bytes..);
}

fn read(head: &[u8]) -> Option<Vec<(String, String)>> {
    let mut held = Vec::new();
    let mut rest = std::str::from_utf8(head).ok()?;
    while !rest.is_empty() {
        let (line, after) = rest.split_once("\r\n")?;
        let (name, value) = line.split_once(": ")?;
        let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        if name.is_empty() || name == HEAD || !lower || !holds(name) {
            return None;
        }
        held.push((name.to_owned(), value.to_owned()));
        rest = after;
    }
    Some(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: &str = "work.cloud.p.interactive.acme";

    fn stored(headers: &Headers, payload: &'static [u8]) -> (Vec<(String, String)>, Bytes) {
        let (all, bytes) = put_before(headers, &Bytes::from_static(payload));
        let mut kept = vec![(HEAD.to_owned(), bytes.to_string())];
        let stay = headers.iter().filter(|(name, _)| !holds(name));
        kept.extend(stay.map(|(name, value)| (name.to_owned(), value.to_owned())));
        (kept, all)
    }

    fn taken(
        subject: &str,
        mut headers: Vec<(String, String)>,
        mut payload: Bytes,
    ) -> (Vec<(String, String)>, Bytes) {
        take(subject, &mut headers, &mut payload);
        (headers, payload)
    }

    #[test]
    fn what_was_put_before_the_payload_is_taken_again() {
        let headers = Headers::new()
            .with("tidegate-decision", "{\"a\": 1}")
            .with("tidegate-agent", "")
            .with(CAUSE, "TASKS_a:1")
            .with("ce-correlationid", "naïve: flow");
        for payload in [&b"{}"[..], b"", b"\r\n: \r\n", b"\xff\x00"] {
            let (kept, all) = stored(&headers, payload);
            assert!(kept.iter().any(|(name, _)| name == CAUSE), "what others look for stays");
            let (mut read, left) = taken(WORK, kept, all);
            assert_eq!(left, payload);
            let mut wanted: Vec<_> =
                headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            wanted.sort();
            read.sort();
            assert_eq!(read, wanted);
        }
    }

    #[test]
    fn a_head_that_cannot_be_read_stays_where_it_is() {
        let row = |bytes: &str, payload: &'static [u8]| {
            (vec![(HEAD.to_owned(), bytes.to_owned())], Bytes::from_static(payload))
        };
        let rows = [
            ("longer than the payload", row("7", b"a: b\r\n")),
            ("no number", row("six", b"a: b\r\n")),
            ("negative", row("-1", b"a: b\r\n")),
            ("cut within a line", row("5", b"a: b\r\n")),
            ("no name", row("5", b": b\r\n")),
            ("no value", row("3", b"a\r\n")),
            ("no text", row("6", b"a: \xff\r\n")),
            ("a cause of its own", row("21", b"tidegate-cause: A:1\r\n")),
            ("the same in another case", row("21", b"Tidegate-Cause: A:1\r\n")),
            ("a head of its own", row("18", b"tidegate-head: 1\r\n")),
        ];
        for (name, (headers, payload)) in rows {
            assert_eq!(taken(WORK, headers.clone(), payload.clone()), (headers, payload), "{name}");
        }
        let (headers, payload) = row("6", b"a: b\r\n");
        assert_ne!(taken(WORK, headers.clone(), payload.clone()), (headers, payload), "a good one is taken");
    }

    #[test]
    fn only_work_has_a_head() {
        for subject in ["task.acme.bot.chat", "result.acme.bot.x", "workshop.a", "replay.r.work.local"] {
            let (headers, payload) =
                (vec![(HEAD.to_owned(), "6".to_owned())], Bytes::from_static(b"a: b\r\n"));
            assert_eq!(taken(subject, headers.clone(), payload.clone()), (headers, payload), "{subject}");
        }
    }
}
