#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn events(chunks: &[&[u8]]) -> Vec<(String, String)> {
    let mut reader = Events::default();
    let mut all = Vec::new();
    for chunk in chunks {
        all.extend(reader.push(chunk).unwrap().into_iter().map(|event| (event.name, event.data)));
    }
    all
}

#[test]
fn streams_read_as_the_standard_says_at_every_split() {
    let table: [(&str, &[(&str, &str)]); 10] = [
        ("data: a\n\n", &[("", "a")]),
        ("data:a\r\n\r\ndata: b\r\rdata: c\n\n", &[("", "a"), ("", "b"), ("", "c")]),
        ("event: x\ndata: 1\ndata: 2\n\n", &[("x", "1\n2")]),
        ("data\n\ndata:\n\n", &[("", ""), ("", "")]),
        (": comment\nid: 7\nretry: 9\ndata: a\n\n", &[("", "a")]),
        ("\u{feff}data: grüße 🌊\n\n", &[("", "grüße 🌊")]),
        ("event: only\n\ndata: a\n\n", &[("", "a")]),
        ("data:  two spaces\n\n", &[("", " two spaces")]),
        ("data: a: b\n\n\n\n\ndata: c\n\n", &[("", "a: b"), ("", "c")]),
        ("data: whole\n\ndata: unfinished\n", &[("", "whole")]),
    ];
    for (text, expected) in table {
        let expected: Vec<_> = expected.iter().map(|(n, d)| ((*n).to_owned(), (*d).to_owned())).collect();
        for split in 0..=text.len() {
            let (a, b) = text.as_bytes().split_at(split);
            assert_eq!(events(&[a, b]), expected, "{text:?} at {split}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(events(&single), expected, "{text:?} byte by byte");
    }
}

#[test]
fn endless_lines_and_events_are_given_up() {
    let mut reader = Events::default();
    assert_eq!(reader.push(&vec![b'x'; EVENT_BYTES_MAX + 1]), Err(SseError::TooLarge));
    let mut reader = Events::default();
    let line = [b"data: ".as_slice(), &vec![b'x'; EVENT_BYTES_MAX / 2], b"\n"].concat();
    assert!(reader.push(&line).unwrap().is_empty(), "negative control: half is fine");
    assert!(reader.push(&line).is_err(), "two halves and a line feed are more than one");
}

#[test]
fn bytes_that_are_no_text_end_the_stream() {
    assert_eq!(Events::default().push(b"data: \xff\n\n"), Err(SseError::NotUtf8));
}
