//! Text whose values are replaced by tokens, leaves, and comes back in pieces. The first three bytes say where one more value is
//! replaced, and in what pieces it comes.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_schemas::ids::Name;
use tidegate_schemas::redact::{Restored, Restorer, Span, Token, is_redaction_of, redact};
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::task::{Input, Kind};

use super::{Target, none};

pub(super) const TARGET: Target = Target {
    name: "redact",
    run,
    made: none,
    words: &[
        VALUE,
        "<EMAIL_k7f3q2xa>",
        "<EMAIL_",
        "\\u003c",
        "\\u003e",
        "\\",
        "\\\"",
        "<",
        ">",
        "{\"a\":\"",
        "\"}",
        "\u{e4}",
        "\u{1f600}",
    ],
    rounds: 20_000,
};

/// What is always replaced.
const VALUE: &str = "jane@example.org";
/// From where on the ids of all tokens are the same: of the bits that are drawn only the lowest twenty are counted up.
const ID_COMMON: usize = 4;
/// Longest that waits for the rest of a token, bytes.
const HELD_BYTES_MAX: usize = 64;

fn span(start: usize, end: usize) -> Span {
    Span { start, end, entity: Name::new("email").unwrap(), category: Name::new("personal").unwrap() }
}

/// Each place of the value, and what stands between two bytes, where that is free.
fn spans(text: &str, from: usize, length: usize) -> Vec<Span> {
    let mut all: Vec<Span> =
        text.match_indices(VALUE).map(|(start, value)| span(start, start + value.len())).collect();
    let start = text.ceil_char_boundary(from);
    let end = text.ceil_char_boundary(start + length);
    if start < end && all.iter().all(|other| other.end <= start || end <= other.start) {
        all.push(span(start, end));
        all.sort_by_key(|span| span.start);
    }
    all
}

fn restored(text: &str, issued: &BTreeMap<Token, Sensitive<String>>, size: usize) -> (Vec<u8>, Restored) {
    let (mut restorer, mut out) = (Restorer::new(issued), Vec::new());
    for piece in text.as_bytes().chunks(size) {
        out.extend(restorer.feed(piece));
        assert!(restorer.held() <= HELD_BYTES_MAX, "what waits has a bound");
    }
    let (rest, counts) = restorer.finish();
    out.extend(rest);
    (out, counts)
}

fn run(data: &[u8]) {
    let &[from, length, size, ref text @ ..] = data else { return };
    let text = String::from_utf8_lossy(text);
    let body = json!({ "messages": [{ "role": "user", "content": text }] }).to_string();
    let Ok(input) = Input::read(Kind::Chat, &body) else { return };
    let spans = spans(&text, usize::from(from), usize::from(length));
    let mut issued = BTreeMap::new();
    let mut replaced = 0;
    let spans = [spans];
    let redacted = redact(&input, &spans, |span, value| {
        replaced += 1;
        // As many bits as there are, so that no text has it by chance.
        let token = Token::new(&span.entity, 0x5d_a3c1_9b77 ^ replaced);
        issued.insert(token.clone(), Sensitive::from(value.to_owned()));
        Some(token)
    });
    let is_json = text.trim_start().starts_with(['{', '[']);
    let Ok(redacted) = redacted else { return assert!(is_json, "spans of the text are refused") };
    assert!(!redacted.texts()[0].contains(VALUE), "a value stays");
    // A text that has a token's id by itself comes back as another; all end alike here, so that one look is enough.
    if issued.keys().next().is_some_and(|token| text.contains(&token.id()[ID_COMMON..])) {
        return;
    }
    assert!(is_redaction_of(&redacted, &input, &spans), "what was redacted is no redaction: {text:?}");
    let whole = restored(redacted.texts()[0], &issued, usize::MAX);
    assert_eq!(
        whole,
        restored(redacted.texts()[0], &issued, usize::from(size) + 1),
        "pieces make another text"
    );
    // Within JSON a value comes back by another escape than it may have had.
    if !is_json {
        assert_eq!(String::from_utf8_lossy(&whole.0), text, "another text comes back");
        assert_eq!(u64::from(whole.1.restored), replaced, "as many come back as were replaced");
    }
}
