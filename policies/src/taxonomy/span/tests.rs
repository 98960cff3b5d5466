//! Where values stand in texts as they were written.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::super::tests::SCANNER;

/// The parts of a text that spans cover, each with its entity.
fn values(text: &str) -> Vec<(String, String)> {
    let spans = SCANNER.spans(text);
    spans.iter().map(|span| (text[span.start..span.end].to_owned(), span.entity.to_string())).collect()
}

#[test]
fn spans_are_the_values_in_the_text_as_it_was_written() {
    let table = [
        ("write to jane@example.org.", "jane@example.org", "email"),
        ("order 12 of 4111 1111 1111 1111 exp 12/29", "4111 1111 1111 1111", "card"),
        ("to GB82 WEST 1234 5698 7654 32 today", "GB82 WEST 1234 5698 7654 32", "iban"),
        ("das ist ｊａｎｅ＠ｅｘａｍｐｌｅ．ｏｒｇ ja", "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｏｒｇ", "email"),
        ("card 41\u{200b}11 1111 1111\u{ad} 1111!", "41\u{200b}11 1111 1111\u{ad} 1111", "card"),
        ("via j\u{430}ne@ex\u{430}mple.org, ja", "j\u{430}ne@ex\u{430}mple.org", "email"),
        ("u=jane%40example.org&x=1", "u=jane%40example.org", "email"),
        ("jane&#64;example&period;org or not", "jane&#64;example&period;org", "email"),
        ("as amFuZUBleGFtcGxlLm9yZw== here", "amFuZUBleGFtcGxlLm9yZw==", "email"),
        ("as 6a616e65406578616d706c652e6f7267 here", "6a616e65406578616d706c652e6f7267", "email"),
    ];
    for (text, value, entity) in table {
        let found = values(text);
        let value_found =
            found.iter().any(|(part, name)| part.contains(value.trim_start_matches("u=")) && name == entity);
        assert!(value_found, "{text}: {found:?}");
    }
    assert!(values("nothing to see, move along").is_empty(), "negative control");
}

#[test]
fn what_two_recognisers_find_is_one_span_that_covers_both() {
    let found = values("postgres://me:s3cret@db.example.org/x");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0.contains("s3cret@db.example.org"), "{found:?}");
    // The stronger check names it.
    assert_eq!(values("my phone is 4111 1111 1111 1111")[0].1, "card");
}

#[test]
fn key_words_are_no_spans() {
    let text = "the patient was diagnosed";
    assert!(SCANNER.spans(text).is_empty());
    assert!(!SCANNER.scan(&[text]).counts.is_empty(), "negative control");
}

/// Texts of what is awkward: forms that fold to more or fewer characters, marks, broken escapes, halves of values.
fn awkward() -> impl Strategy<Value = String> {
    let pieces = proptest::sample::select(vec![
        "jane@example.org",
        "4111 1111 1111 1111",
        "%40",
        "%",
        "%e2%82",
        "&#64;",
        "&#x1f600;",
        "&",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\",
        "㎏",
        "ﬃ",
        "é",
        "e\u{301}",
        "\u{200b}",
        "\u{ad}",
        "а",
        "ｊ",
        "😀",
        "٤",
        "amFuZUBleGFtcGxlLm9yZw==",
        "6a616e65406578616d706c652e6f7267",
        "+49 30 1234567",
        "ﷺ",
        " ",
        "\n",
        "\0",
        "DE89 3704 0044 0532 0130 00",
        "password=",
        "hunter2hunter2",
        "\u{1f1e9}\u{1f1ea}",
        "A",
        "1",
        "-",
        "@",
        "x.y",
    ]);
    let piece = prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => "\\PC{0,6}"];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn spans_stand_on_characters_in_order_and_apart(text in awkward()) {
        let mut last = 0;
        for span in SCANNER.spans(&text) {
            prop_assert!(last <= span.start && span.start < span.end && span.end <= text.len());
            prop_assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
            last = span.end;
        }
    }

    #[test]
    fn whatever_has_a_value_counted_has_a_span(text in awkward()) {
        let words = |name: &str| name.ends_with("_words");
        let counted = SCANNER.scan(&[&text]).counts.keys().any(|name| !words(name.as_str()));
        prop_assert_eq!(counted, !SCANNER.spans(&text).is_empty());
    }

    #[test]
    fn a_value_among_anything_is_covered(before in awkward(), after in awkward()) {
        let text = format!("{before} jane@example.org {after}");
        let (start, end) = (before.len() + 1, before.len() + 1 + "jane@example.org".len());
        prop_assert!(SCANNER.spans(&text).iter().any(|span| span.start <= start && end <= span.end));
    }
}

#[test]
fn any_bytes_of_utf8_can_be_looked_at() {
    for text in ["", "\u{301}", "\0", "%", "&#", "\\u", "=", "@", "\u{10ffff}"] {
        assert!(SCANNER.spans(text).is_empty(), "{text:?}");
    }
}

/// `jane@example.org` in base64, so many times over.
fn wrapped(times: usize) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..times).fold("jane@example.org".to_owned(), |text, _| {
        let letters = text.as_bytes().chunks(3).flat_map(|three| {
            let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
                << (8 * (3 - three.len()));
            (0..=three.len()).map(move |index| char::from(alphabet[bits >> (18 - 6 * index) & 63]))
        });
        letters.collect()
    })
}

#[test]
fn forms_in_each_other_are_read_four_deep_and_no_deeper() {
    for times in 1..=4 {
        let text = wrapped(times);
        assert_eq!(values(&text).first().map(|(_, name)| name.as_str()), Some("email"), "{times}: {text}");
    }
    assert!(values(&wrapped(5)).is_empty(), "a limit that README names");
    assert_eq!(values("u=jane%252540example.org")[0].1, "email", "escaped three times");
}

#[test]
fn a_private_key_is_taken_with_its_body() {
    let body = "MIIEpAIBAAKCAQEA7bq8x2Zc\n".repeat(60);
    let text = format!("here: -----BEGIN RSA PRIVATE KEY-----\n{body}-----END RSA PRIVATE KEY-----\nbye");
    let spans = SCANNER.spans(&text);
    let span = spans.iter().find(|span| span.entity.as_str() == "private_key").unwrap();
    assert_eq!(&text[span.end..], "\nbye");
    let cut = format!("-----BEGIN RSA PRIVATE KEY-----\n{body}");
    assert_eq!(SCANNER.spans(&cut)[0].end, cut.len(), "without its end, as far as it goes");
    assert!(SCANNER.spans("-----BEGIN PUBLIC KEY-----\nMIIB").is_empty(), "negative control");
}
