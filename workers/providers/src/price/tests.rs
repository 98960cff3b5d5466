#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn counted(input: u64, output: u64, cache_read: u64) -> Counted {
    Counted { input, output, cache_read, cache_write: 0 }
}

fn at() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

#[test]
fn known_models_have_their_published_price() {
    // gpt-4o-mini: 0.15 and 0.60 US dollars a million tokens, cached input half.
    let table = [
        ("gpt-4o-mini", counted(1_000_000, 0, 0), 150_000),
        ("gpt-4o-mini", counted(0, 1_000_000, 0), 600_000),
        ("gpt-4o-mini-2024-07-18", counted(1_000, 100, 0), 210),
        ("gpt-4o-mini", counted(1_000_000, 0, 1_000_000), 75_000),
        ("gpt-4o-mini", counted(0, 0, 0), 0),
    ];
    for (model, counted, micros) in table {
        assert_eq!(
            usd_micros(Seller::Id("openai"), model, counted, at()),
            Some(micros),
            "{model} {counted:?}"
        );
    }
}

#[test]
fn the_seller_may_be_told_by_url() {
    let seller = Seller::Url("https://api.openai.com/v1/chat/completions");
    assert_eq!(usd_micros(seller, "gpt-4o-mini", counted(1_000_000, 0, 0), at()), Some(150_000));
}

#[test]
fn what_is_not_known_has_no_price() {
    let table = [
        (Seller::Id("openai"), "no-such-model"),
        (Seller::Id("nobody"), "gpt-4o-mini"),
        (Seller::Url("http://127.0.0.1:4000/v1/chat/completions"), "gpt-4o-mini"),
    ];
    for (seller, model) in table {
        assert_eq!(usd_micros(seller, model, counted(10, 10, 0), at()), None, "{seller:?} {model}");
    }
}
