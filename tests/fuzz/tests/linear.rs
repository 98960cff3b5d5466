//! Time that a target takes grows with the length of what it is fed, and no faster.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use tidegate_fuzz::{CONTROLS, TARGETS, Target, seeds};

/// By how much the long input is longer, and so often the short one is fed beside it.
const LONGER: usize = 8;
/// By how much more time the long one may take; with the square of the length it takes eight times as much.
const SLACK: u32 = 3;
/// What the kernel's clock of a thread does not tell.
const CHANCE: Duration = Duration::from_millis(20);
/// Of so many runs the quickest counts: caches are shared with what else runs.
const RUNS: u32 = 3;
/// The short input, bytes.
const BYTES: usize = 8 * 1024;

/// What is repeated: seeds, words of the form, and characters that make recognisers and readers begin again and again.
fn pieces(target: &Target) -> Vec<Vec<u8>> {
    let awkward =
        ["a", "@", "%4", "=", "<", "\\", "\"", "[", "1 ", "a.", "\u{301}", "\u{200b}", "aA0/", "\n\n", ": "];
    let words = target.words.iter().copied().filter(|word| !word.is_empty()).chain(awkward);
    words.map(|word| word.as_bytes().to_vec()).chain(seeds(target)).collect()
}

/// What this thread has computed so far: of time that passes a machine under load gives it a part.
fn computed() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

/// What it takes to feed it this, repeated to a length, so many times.
fn took(target: &Target, piece: &[u8], bytes: usize, times: usize) -> Duration {
    let data = piece.repeat(bytes.div_ceil(piece.len()));
    let run = |_| {
        let begun = computed();
        (0..times).for_each(|_| (target.run)(&data));
        computed().saturating_sub(begun)
    };
    (0..RUNS).map(run).min().unwrap()
}

/// Pieces of which more takes too much more time.
fn too_slow(target: &Target, bytes: usize) -> Vec<String> {
    let mut slow = Vec::new();
    for piece in pieces(target) {
        let short = took(target, &piece, bytes, LONGER);
        let long = took(target, &piece, bytes * LONGER, 1);
        if long > short * SLACK + CHANCE {
            slow.push(format!(
                "`{}`: {LONGER} times {:?}, or {long:?} at once",
                piece.escape_ascii(),
                short / 8
            ));
        }
    }
    slow
}

fn grows_with_its_input(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).unwrap();
    let slow = too_slow(&target, BYTES);
    assert!(slow.is_empty(), "{name} grows faster than its input: {slow:#?}");
}

#[test]
fn fuzz_time_of_task_envelopes_grows_with_their_length() {
    grows_with_its_input("envelope");
}

#[test]
fn fuzz_time_of_headers_grows_with_their_length() {
    grows_with_its_input("headers");
}

#[test]
fn fuzz_time_of_streams_grows_with_their_length() {
    grows_with_its_input("sse");
}

#[test]
fn fuzz_time_of_finding_grows_with_the_text() {
    grows_with_its_input("finder");
}

#[test]
fn fuzz_time_of_redacting_grows_with_the_text() {
    grows_with_its_input("redact");
}

/// Negative control: what grows with the square is noticed.
#[test]
fn fuzz_time_that_grows_with_the_square_is_noticed() {
    let slow = CONTROLS.into_iter().find(|control| control.name == "control-slow").unwrap();
    assert!(!too_slow(&slow, BYTES / 8).is_empty(), "the fault that was put there is not noticed");
}
