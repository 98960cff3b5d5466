#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::sse::Events;

fn goldens(protocol: Protocol, ending: &str) -> Vec<(PathBuf, Value)> {
    let folder = match protocol {
        Protocol::OpenaiChat => "golden/openai",
        Protocol::AnthropicMessages => "golden/anthropic",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(ending) && !name.contains(".expected.")
        })
        .map(|path| {
            let expected = match ending {
                ".sse" => path.with_extension("sse.expected.json"),
                _ => path.with_extension("expected.json"),
            };
            let expected = serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap();
            (path, expected)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(found.len() >= 3, "the goldens of {protocol:?} are there");
    found
}

fn shown(outcome: Result<Parsed, Failure>) -> Value {
    match outcome {
        Err(failure) => json!({ "failure": failure.to_string() }),
        Ok(parsed) => json!({
            "text": parsed.text,
            "tool_calls": parsed.tool_calls,
            "finish": parsed.finish,
            "model": parsed.model,
            "counted": parsed.counted.map(|counted| json!({
                "input": counted.input, "output": counted.output,
                "cache_read": counted.cache_read, "cache_write": counted.cache_write
            })),
        }),
    }
}

/// Reads chunks to their end, whatever comes.
fn read(protocol: Protocol, chunks: &[&[u8]]) -> (Result<Parsed, Failure>, Vec<String>) {
    let (mut events, mut reader, mut fragments) =
        (Events::default(), Reader::new(protocol, false), Vec::new());
    for chunk in chunks {
        for event in events.push(chunk).unwrap() {
            match reader.take(&event) {
                Ok(text) => fragments.extend(text),
                Err(failure) => return (Err(failure), fragments),
            }
        }
    }
    (reader.end(), fragments)
}

fn shown_stream(protocol: Protocol, chunks: &[&[u8]]) -> Value {
    let (outcome, fragments) = read(protocol, chunks);
    let whole = outcome.is_ok();
    let mut value = shown(outcome);
    if whole {
        value["fragments"] = json!(fragments);
    }
    value
}

const BOTH: [Protocol; 2] = [Protocol::OpenaiChat, Protocol::AnthropicMessages];

#[test]
fn whole_answers_read_as_their_goldens() {
    for protocol in BOTH {
        for (path, expected) in goldens(protocol, ".json") {
            let forced = path.file_stem().unwrap() == "forced";
            let body = std::fs::read(&path).unwrap();
            assert_eq!(shown(whole(protocol, forced, &body)), expected, "{}", path.display());
        }
    }
}

#[test]
fn streams_read_as_their_goldens_however_they_are_split() {
    for protocol in BOTH {
        for (path, expected) in goldens(protocol, ".sse") {
            let bytes = std::fs::read(&path).unwrap();
            for split in 0..=bytes.len() {
                let (a, b) = bytes.split_at(split);
                assert_eq!(shown_stream(protocol, &[a, b]), expected, "{} at {split}", path.display());
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(shown_stream(protocol, &single), expected, "{} byte by byte", path.display());
        }
    }
}

#[test]
fn a_stream_cut_anywhere_is_never_an_answer() {
    for protocol in BOTH {
        for (path, expected) in goldens(protocol, ".sse") {
            let bytes = std::fs::read(&path).unwrap();
            let end = bytes.trim_ascii_end().len();
            for cut in 0..=end {
                let (outcome, _) = read(protocol, &[&bytes[..cut]]);
                assert!(outcome.is_err(), "{} cut at {cut}", path.display());
                assert!(
                    outcome.unwrap_err().is_transient(),
                    "{} cut at {cut} may be tried again",
                    path.display()
                );
            }
            // Negative control: whole, those that should are answers.
            assert_eq!(read(protocol, &[&bytes]).0.is_ok(), expected.get("failure").is_none());
        }
    }
}

#[test]
fn reasons_that_nobody_knows_are_no_reasons() {
    let openai = |reason: &str| {
        json!({ "choices": [{ "message": { "content": "x" }, "finish_reason": reason }] }).to_string()
    };
    let anthropic = |reason: &str| {
        json!({ "content": [{ "type": "text", "text": "x" }], "stop_reason": reason }).to_string()
    };
    for (reason, fine) in [("stop", true), ("abort", false), ("", false)] {
        let read = whole(Protocol::OpenaiChat, false, openai(reason).as_bytes());
        assert_eq!(read.is_ok(), fine, "{reason}");
    }
    for (reason, fine) in [("end_turn", true), ("pause_turn", false), ("", false)] {
        let read = whole(Protocol::AnthropicMessages, false, anthropic(reason).as_bytes());
        assert_eq!(read.is_ok(), fine, "{reason}");
    }
}

#[test]
fn an_empty_reason_in_a_stream_is_none_yet() {
    let chunk = |text: &str, reason: Option<&str>| {
        let choice = json!({ "index": 0, "delta": { "content": text }, "finish_reason": reason });
        format!("data: {}\n\n", json!({ "choices": [choice] }))
    };
    let told = |last: &str| {
        let text = [chunk("hel", Some("")), chunk("lo", Some(last)), "data: [DONE]\n\n".to_owned()].concat();
        read(Protocol::OpenaiChat, &[text.as_bytes()]).0
    };
    assert_eq!(told("stop").unwrap().text, "hello");
    assert!(told("").is_err(), "negative control: it stays without a reason");
}

#[test]
fn errors_are_told_apart_by_status_and_known_words() {
    let openai =
        |code: &str| json!({ "error": { "message": "SECRET", "type": "x", "code": code } }).to_string();
    let prompt = json!({ "type": "error", "error": { "type": "invalid_request_error",
        "message": "prompt is too long: 210000 tokens" } })
    .to_string();
    let inner = json!({ "error": { "code": 400, "innererror": { "code": "ResponsibleAIPolicyViolation" } } });
    let table = [
        (429, String::new(), Failure::Status(429)),
        (429, openai("rate_limit_exceeded"), Failure::Status(429)),
        (429, openai("insufficient_quota"), Failure::Quota),
        (400, openai("context_length_exceeded"), Failure::ContextTooLong),
        (400, openai("content_policy_violation"), Failure::Refused),
        (400, inner.to_string(), Failure::Refused),
        (400, prompt, Failure::ContextTooLong),
        (400, openai("invalid_value"), Failure::Status(400)),
        (401, "<html>".to_owned(), Failure::Status(401)),
        (307, openai("content_filter"), Failure::Redirect),
        (529, openai("x"), Failure::Status(529)),
    ];
    for (status, body, failure) in table {
        let got = refine(status, body.as_bytes());
        assert_eq!(got, failure, "{status} {body}");
        assert!(!format!("{got} {got:?}").contains("SECRET"), "no word of the provider's message");
    }
}

#[test]
fn keys_go_where_each_protocol_wants_them() {
    let key = SecretString::from("k-1");
    let openai = headers(Protocol::OpenaiChat, Some(&key));
    assert_eq!(openai, [("authorization", "Bearer k-1".to_owned())]);
    let anthropic = headers(Protocol::AnthropicMessages, Some(&key));
    assert_eq!(anthropic, [("anthropic-version", "2023-06-01".to_owned()), ("x-api-key", "k-1".to_owned())]);
    assert!(headers(Protocol::OpenaiChat, None).is_empty());
}

#[test]
fn counts_of_a_provider_that_errs_do_not_wrap() {
    let body = json!({
        "content": [], "stop_reason": "end_turn",
        "usage": { "input_tokens": u64::MAX, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 3, "output_tokens": 1 }
    });
    let counted = anthropic::whole(false, body.to_string().as_bytes()).unwrap().counted.unwrap();
    assert_eq!(counted.input, u64::MAX);
}
