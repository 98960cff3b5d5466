#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::restore::HELD_BYTES_MAX;
use super::*;
use crate::ids::Name;
use crate::result::{Finish, Output};
use crate::sensitive::Sensitive;
use crate::task::{Input, Kind};

const EMAIL: &str = "<EMAIL_k7f3q2xa>";
const PERSON: &str = "<PERSON_abcdefgh>";
const FOREIGN: &str = "<EMAIL_zzzzzzzz>";

fn issued() -> BTreeMap<Token, Sensitive<String>> {
    [(EMAIL, "jane@example.org"), (PERSON, "Zoë \"Z\" O\\Brien\n")]
        .map(|(token, value)| (token.parse().unwrap(), value.to_owned().into()))
        .into()
}

fn in_pieces(text: &[u8], cuts: &[usize]) -> (Vec<u8>, Restored) {
    let issued = issued();
    let mut restorer = Restorer::new(&issued);
    let (mut out, mut done) = (Vec::new(), 0);
    for cut in cuts.iter().copied().chain([text.len()]) {
        out.extend(restorer.feed(&text[done..cut]));
        assert!(restorer.held() <= HELD_BYTES_MAX, "what is held back has a bound");
        done = cut;
    }
    let (rest, counts) = restorer.finish();
    out.extend(rest);
    (out, counts)
}

fn whole(text: &str) -> String {
    String::from_utf8(in_pieces(text.as_bytes(), &[]).0).unwrap()
}

/// Text, what it becomes, values put back, tokens of others.
const TABLE: [(&str, &str, u32, u32); 14] = [
    ("Write to <EMAIL_k7f3q2xa>.", "Write to jane@example.org.", 1, 0),
    ("ä<EMAIL_k7f3q2xa>é<EMAIL_k7f3q2xa>", "äjane@example.orgéjane@example.org", 2, 0),
    ("Dear <PERSON_abcdefgh>!", "Dear Zoë \"Z\" O\\Brien\n!", 1, 0),
    ("not ours: <EMAIL_zzzzzzzz>", "not ours: <EMAIL_zzzzzzzz>", 0, 1),
    ("<EMAIL_k7f3q2x", "<EMAIL_k7f3q2x", 0, 0),
    ("<EMAIL_k7f3q2xa", "<EMAIL_k7f3q2xa", 0, 0),
    ("<<EMAIL_k7f3q2xa>>", "<jane@example.org>", 1, 0),
    (
        "<email_k7f3q2xa> <EMAIL k7f3q2xa> <EMAIL_K7F3Q2XA>",
        "<email_k7f3q2xa> <EMAIL k7f3q2xa> <EMAIL_K7F3Q2XA>",
        0,
        0,
    ),
    ("a < b and \\ c <p>x</p> <EMAIL_", "a < b and \\ c <p>x</p> <EMAIL_", 0, 0),
    (r#"{"to":"<PERSON_abcdefgh>"}"#, r#"{"to":"Zoë \"Z\" O\\Brien\n"}"#, 1, 0),
    (r#" {"to":"\u003cPERSON_abcdefgh\u003e"}"#, r#" {"to":"Zoë \"Z\" O\\Brien\n"}"#, 1, 0),
    (r#"so: {"to":"\u003CPERSON_abcdefgh\u003E"}"#, r#"so: {"to":"Zoë \"Z\" O\\Brien\n"}"#, 1, 0),
    (r#"{"to":"\\u003cEMAIL_k7f3q2xa\\u003e"}"#, r#"{"to":"\\u003cEMAIL_k7f3q2xa\\u003e"}"#, 0, 0),
    (r#"{"to":"\\\u003cEMAIL_k7f3q2xa>"}"#, r#"{"to":"\\jane@example.org"}"#, 1, 0),
];

#[test]
fn restore_is_the_same_at_every_split() {
    for (text, expected, restored, foreign) in TABLE {
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (out, counts) = in_pieces(bytes, &[first, second]);
                assert_eq!(out, expected.as_bytes(), "{text} cut at {first} and {second}");
                assert_eq!((counts.restored, counts.foreign), (restored, foreign), "{text}");
            }
        }
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(in_pieces(bytes, &every).0, expected.as_bytes(), "{text} byte by byte");
    }
}

/// Restores each piece by itself, as if nothing had to be held back.
fn without_hold_back(text: &[u8], cut: usize) -> Vec<u8> {
    let issued = issued();
    let mut out = Vec::new();
    for piece in [&text[..cut], &text[cut..]] {
        let mut restorer = Restorer::new(&issued);
        out.extend(restorer.feed(piece));
        out.extend(restorer.finish().0);
    }
    out
}

#[test]
fn restore_without_holding_back_misses_split_tokens() {
    let text = format!("Write to {EMAIL}.");
    let right = whole(&text).into_bytes();
    let wrong = (0..=text.len()).filter(|cut| without_hold_back(text.as_bytes(), *cut) != right).count();
    assert_eq!(wrong, EMAIL.len() - 1, "negative control: every cut within the token");
}

#[test]
fn restore_holds_back_nothing_that_cannot_become_a_token() {
    let issued = issued();
    for text in ["plain", "ä", "a < b", "<p", "<EMAIL-", "\\n", "<EMAIL_k7f3q2xa>", "<1"] {
        let mut restorer = Restorer::new(&issued);
        let _ = restorer.feed(text.as_bytes());
        assert_eq!(restorer.held(), 0, "{text}");
    }
    for text in ["<", "<E", "<EMAIL_k7f3q2xa", "\\", "\\u003c", "\\u003cEMAIL_k7f3q2xa\\u003"] {
        let mut restorer = Restorer::new(&issued);
        assert!(restorer.feed(text.as_bytes()).is_empty());
        assert_eq!(restorer.held(), text.len(), "negative control: {text}");
    }
}

#[test]
fn restore_reaches_json_values_keys_and_tool_arguments() {
    let arguments = json!({ "to": PERSON, "note": format!("for {EMAIL}") }).to_string();
    let call = json!({ "function": { "name": "send", "arguments": arguments } });
    let text = format!("To {EMAIL}");
    let (output, counts) = restore_output(
        Output::Text { text: text.into(), tool_calls: vec![call.into()], finish: Finish::ToolCalls },
        &issued(),
    );
    let Output::Text { text, tool_calls, .. } = output else { unreachable!() };
    assert_eq!(text.expose(), "To jane@example.org");
    let arguments = tool_calls[0].expose()["function"]["arguments"].as_str().unwrap().to_owned();
    let arguments: serde_json::Value = serde_json::from_str(&arguments).unwrap();
    assert_eq!(arguments["to"], json!("Zoë \"Z\" O\\Brien\n"), "the arguments are JSON still");
    assert_eq!((counts.restored, counts.dropped, counts.mangled), (3, 0, 0));

    let value = json!({ EMAIL: [PERSON, 1, null] });
    let (output, _) = restore_output(Output::Json { value: value.into() }, &issued());
    let Output::Json { value } = output else { unreachable!() };
    assert_eq!(value.expose(), &json!({ "jane@example.org": ["Zoë \"Z\" O\\Brien\n", 1, null] }));
}

#[test]
fn restore_counts_what_was_dropped_mangled_or_foreign() {
    let rows = [
        (format!("{EMAIL} {PERSON}"), (2, 0, 0, 0)),
        (EMAIL.to_owned(), (1, 0, 1, 0)),
        (format!("{EMAIL} [PERSON_ABCDEFGH]"), (1, 0, 0, 1)),
        (format!("{FOREIGN} &lt;EMAIL_k7f3q2xa&gt;"), (0, 1, 1, 1)),
    ];
    for (text, expected) in rows {
        let output = Output::Text { text: text.clone().into(), tool_calls: Vec::new(), finish: Finish::Stop };
        let counts = restore_output(output, &issued()).1;
        assert_eq!((counts.restored, counts.foreign, counts.dropped, counts.mangled), expected, "{text}");
    }
}

fn span(text: &str, value: &str) -> Span {
    let start = text.find(value).unwrap();
    let name = |text: &str| Name::new(text).unwrap();
    Span { start, end: start + value.len(), entity: name("email"), category: name("personal") }
}

#[test]
fn redact_replaces_spans_and_nothing_else() {
    let input = json!({ "messages": [
        { "role": "user", "content": "ä jane@example.org ö" },
        { "role": "assistant", "tool_calls": [{ "arguments": "{\"x\":\"a\\njane@example.org\"}", "n": 1 }] },
    ] });
    let input = Input::read(Kind::Chat, &input.to_string()).unwrap();
    let spans: Vec<Vec<Span>> = input
        .texts()
        .iter()
        .map(|text| if text.contains("jane") { vec![span(text, "jane@example.org")] } else { Vec::new() })
        .collect();
    let mut values = Vec::new();
    let redacted = redact(&input, &spans, |_, value| {
        values.push(value.to_owned());
        EMAIL.parse().ok()
    })
    .unwrap();
    assert_eq!(values, ["jane@example.org"; 2]);
    let text = serde_json::to_string(&redacted).unwrap();
    assert!(!text.contains("jane") && text.matches(EMAIL).count() == 2, "{text}");
    assert!(is_redaction_of(&redacted, &input, &spans));
    assert!(
        !is_redaction_of(&redacted, &input, &vec![Vec::new(); spans.len()]),
        "nothing was to be replaced"
    );
    assert!(redact(&input, &spans[1..], |_, _| EMAIL.parse().ok()).is_err(), "spans of another input");
}

/// The pattern of an address takes the `n` of `\n` with it; what is left must be JSON still.
#[test]
fn redact_never_cuts_an_escape_of_json() {
    let text = "{\"x\":\"hi\\njane@example.org\"}";
    let input = json!({ "messages": [{ "role": "user", "content": text }] });
    let input = Input::read(Kind::Chat, &input.to_string()).unwrap();
    let spans = [vec![span(text, "njane@example.org")]];
    let redacted = redact(&input, &spans, |_, _| EMAIL.parse().ok()).unwrap();
    let left: serde_json::Value = serde_json::from_str(redacted.texts()[0]).unwrap();
    assert_eq!(left["x"], json!(format!("hi\n{EMAIL}")));
}

/// What only begins like JSON has no escapes: all of the value goes.
#[test]
fn redact_takes_a_value_behind_a_backslash_whole_where_the_text_is_no_json() {
    for text in ["[x] CORP\\uwe@firma.de", "{x CORP\\ursula@firma.de", "[x] \\jane@firma.de"] {
        let input = json!({ "messages": [{ "role": "user", "content": text }] });
        let input = Input::read(Kind::Chat, &input.to_string()).unwrap();
        let value = text.rsplit('\\').next().unwrap();
        let redacted = redact(&input, &[vec![span(text, value)]], |_, _| EMAIL.parse().ok()).unwrap();
        assert_eq!(redacted.texts()[0], text.replace(value, EMAIL));
    }
}

#[test]
fn redact_is_told_from_any_other_change() {
    let of = |text: &str, n: u32| {
        let input = json!({ "messages": [{ "role": "user", "content": text }],
                            "tools": [{ "name": "f", "n": n }] });
        Input::read(Kind::Chat, &input.to_string()).unwrap()
    };
    let text = "Ask jane@example.org and John, please.";
    let original = of(text, 1);
    let spans: Vec<Vec<Span>> = original
        .texts()
        .iter()
        .map(|text| if text.contains("jane") { vec![span(text, "jane@example.org")] } else { Vec::new() })
        .collect();
    let rows = [
        (of("Ask <EMAIL_k7f3q2xa> and John, please.", 1), true),
        // Nothing but what was to be replaced is, all of it, and by a token of its kind.
        (of("Ask <EMAIL_k7f3q2xa> and <PERSON_abcdefgh>, please.", 1), false),
        (of("Ask <X_4111111111111111_abcdefgh> and John, please.", 1), false),
        (of("Ask <EMAIL_k7f3q2xa><EMAIL_k7f3q2xa> and John, please.", 1), false),
        (of(text, 1), false),
        (of("Ask <EMAIL_k7f3q2xa> and Jane, please.", 1), false),
        (of("Please ask <EMAIL_k7f3q2xa> and John, please.", 1), false),
        (of("Ask <EMAIL_k7f3q2xa> and John, please. Bye", 1), false),
        (of("Ask <EMAIL_k7f3q2xa> and John, please.", 2), false),
        (of("something else", 1), false),
    ];
    for (redacted, expected) in rows {
        assert_eq!(is_redaction_of(&redacted, &original, &spans), expected, "{:?}", redacted.texts());
    }
}

#[test]
fn a_token_is_typed_random_and_ascii() {
    let token = |entity: &str, random| Token::new(&Name::new(entity).unwrap(), random);
    assert_eq!(token("phone_national", 0).as_str(), "<PHONE_NATIONAL_aaaaaaaa>");
    assert_eq!(token("us-ssn", u64::MAX).as_str(), "<US_SSN_99999999>");
    assert_eq!(token("9", 1).as_str(), "<VALUE_baaaaaaa>");
    for entity in ["email", "a-very-long-name-of-a-finding-that-goes-on"] {
        let token = token(entity, 0x1234_5678_9abc_def0);
        assert_eq!(token.as_str().parse::<Token>().unwrap(), token);
        assert_eq!(tokens_in(&format!("x{token}y")), [token]);
    }
    for text in ["<EMAIL_k7f3q2x>", "<EMAIL_k7f3q2xl>", "<email_k7f3q2xa>", "EMAIL_k7f3q2xa", "<_k7f3q2xa>"] {
        assert!(text.parse::<Token>().is_err(), "{text}");
    }
}

fn fragments() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(EMAIL.to_owned()),
        Just(PERSON.to_owned()),
        Just(FOREIGN.to_owned()),
        Just("\\u003cEMAIL_k7f3q2xa\\u003E".to_owned()),
        Just("<EMAIL_".to_owned()),
        Just("\\".to_owned()),
        Just("<".to_owned()),
        "[ -~äöß€𝄞]{0,6}",
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn restore_of_any_pieces_is_that_of_the_whole(
        text in fragments(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(in_pieces(bytes, &cuts), in_pieces(bytes, &[]));
    }

    #[test]
    fn restore_undoes_redact(words in proptest::collection::vec("[a-zäß<>\\\\ ]{0,9}", 1..5)) {
        let text = words.join("jane@example.org");
        let message = json!({ "messages": [{ "role": "user", "content": format!("x{text}") }] });
        let input = Input::read(Kind::Chat, &message.to_string()).unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        let spans: Vec<Span> = input.texts()[0]
            .match_indices("jane@example.org")
            .map(|(start, value)| Span { start, end: start + value.len(), entity: name("email"), category: name("personal") })
            .collect();
        let spans = [spans];
        let redacted = redact(&input, &spans, |_, _| EMAIL.parse().ok()).unwrap();
        prop_assert!(!redacted.texts()[0].contains("jane@"));
        prop_assert!(is_redaction_of(&redacted, &input, &spans));
        // A backslash before the token is one of the text: it is no JSON.
        prop_assert_eq!(whole(redacted.texts()[0]), input.texts()[0]);
    }
}
