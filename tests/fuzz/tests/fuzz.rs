//! Each target with its kept seeds and with changed ones.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tidegate_fuzz::{CONTROLS, TARGETS, Target, mutate, seeds, seeds_dir};

/// Longest that a target may take for one input, and for all of a test's: what takes longer does not grow with its input.
const ONE_MAX: Duration = Duration::from_secs(5);
/// Longest that one test goes on, so that a slow machine runs fewer inputs and not longer.
const ALL_MAX: Duration = Duration::from_secs(4);

/// Feeds a target its seeds as they are, then changed ones. A panic names the input's number, which gives it again.
fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "no seeds in {}", seeds_dir(name).display());
    for (index, seed) in seeds.iter().enumerate() {
        fed(target, seed, &format!("seed {index}"));
    }
    let begun = Instant::now();
    for number in 0..u64::from(target.rounds) {
        fed(target, &mutate::mutated(&seeds, target.words, number), &format!("input {number}"));
        if begun.elapsed() > ALL_MAX {
            break;
        }
    }
}

fn fed(target: &Target, data: &[u8], which: &str) {
    let begun = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(data)));
    assert!(ended.is_ok(), "{}: {which} breaks a promise, see above: {}", target.name, data.escape_ascii());
    assert!(begun.elapsed() < ONE_MAX, "{}: {which} takes {:?}", target.name, begun.elapsed());
}

#[test]
fn fuzz_task_envelopes_are_read_or_refused() {
    fuzz("envelope");
}

#[test]
fn fuzz_headers_are_read_or_refused() {
    fuzz("headers");
}

#[test]
fn fuzz_tickets_that_nobody_signed_permit_nothing() {
    fuzz("ticket");
}

#[test]
fn fuzz_streams_read_alike_in_any_pieces() {
    fuzz("sse");
}

#[test]
fn fuzz_nothing_beside_a_value_hides_it() {
    fuzz("finder");
}

#[test]
fn fuzz_redacted_text_comes_back_in_any_pieces() {
    fuzz("redact");
}

#[test]
fn fuzz_bundle_archives_are_read_or_refused() {
    fuzz("bundle");
}

#[test]
fn fuzz_gguf_heads_are_read_or_refused() {
    fuzz("gguf");
}

/// Negative control: changed inputs reach what is wrong, and a target that breaks a promise is noticed.
#[test]
fn fuzz_reaches_what_is_wrong() {
    let wrong =
        Target {
            name: "wrong",
            run: |data| {
                let value: Option<serde_json::Value> = serde_json::from_slice(data).ok();
                assert!(value.is_none_or(|value| value["input"]["messages"] != serde_json::Value::Null
                    || value.get("input").is_none()));
            },
            made: || vec![br#"{"input":{"messages":[{"role":"user","content":"hello"}]}}"#.to_vec()],
            words: &[],
            rounds: 1_000,
        };
    let seeds = seeds(&wrong);
    let breaks = |number| {
        catch_unwind(AssertUnwindSafe(|| (wrong.run)(&mutate::mutated(&seeds, wrong.words, number)))).is_err()
    };
    assert!((0..u64::from(wrong.rounds)).any(breaks), "a field that is missing is not reached");
    let once = |number| mutate::mutated(&seeds, wrong.words, number);
    assert!((0..100).all(|number| once(number) == once(number)), "a number gives its input again");
}

/// Negative control: what lies behind seven right bytes is not reached by chance. `tests/fuzz/run` has to reach it, guided by coverage.
#[test]
fn fuzz_without_guidance_what_lies_deep_is_not_reached() {
    let [deep, _] = CONTROLS;
    let begin = vec![b"quokka".to_vec(), vec![0; 8]];
    for number in 0..u64::from(deep.rounds) {
        let data = mutate::mutated(&begin, deep.words, number);
        let ended = catch_unwind(AssertUnwindSafe(|| (deep.run)(&data)));
        assert!(ended.is_ok(), "input {number} reached it by chance");
    }
    assert!(catch_unwind(|| (deep.run)(b"quollzy")).is_err(), "and it is there");
}
