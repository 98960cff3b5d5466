//! Headers from outside, CloudEvents among them.

use std::collections::BTreeSet;

use tidegate_schemas::cloudevent;
use tidegate_schemas::header::Headers;
use tidegate_schemas::limits::{HEADERS_BYTES_MAX, HEADERS_COUNT_MAX};

use super::{CANARY, Target, headed, none};

pub(super) const TARGET: Target = Target {
    name: "headers",
    run,
    made: none,
    words: &[
        "ce-id: ",
        "ce-specversion: 1.0\n",
        "ce-dataclassification: ",
        "ce-datacategory: ",
        "ce-dataregulation: ",
        "ce-expirytime: ",
        "ce-correlationid: ",
        "traceparent: 00-",
        "content-type: application/cloudevents+json\n",
        "CE-ID: ",
        "restricted",
        ",",
        "\n",
        "9999-12-31T23:59:59Z",
        "-271821-04-20T00:00:00Z",
        "\u{301}",
        "\u{0}",
    ],
    rounds: 20_000,
};

fn run(data: &[u8]) {
    let text = [data, b"\n\n"].concat();
    let (pairs, _) = headed(&text);
    let headers = match Headers::read(pairs.iter().copied()) {
        Ok(headers) => headers,
        Err(refused) => return assert!(!refused.sentence.contains(CANARY), "a refusal quotes"),
    };
    let held: Vec<(&str, &str)> = headers.iter().collect();
    let names: BTreeSet<String> = held.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert!(names.len() == held.len() && held.len() <= HEADERS_COUNT_MAX, "a name stands twice");
    assert!(held.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= HEADERS_BYTES_MAX);
    match cloudevent::read(&headers) {
        Ok(told) => {
            let labels = told.labels(None);
            let says = headers.get("ce-dataclassification").is_some();
            assert!(says || labels.is_err(), "labels from nowhere");
        }
        Err(refused) => assert!(!refused.sentence.contains(CANARY), "a refusal quotes: {}", refused.sentence),
    }
}
