//! Negative controls: faults that were put there to be found. No test feeds these but those that look for the faults.

use super::{Target, none};

/// A fault behind seven bytes that are compared one after the other. By chance one of 2^56 inputs has them; guided by coverage each
/// right byte is a step.
pub(super) const DEEP: Target =
    Target { name: "control-deep", run: deep, made: none, words: &[], rounds: 100_000 };

/// Time that grows with the square of the length, and more where the input says so.
pub(super) const SLOW: Target = Target { name: "control-slow", run: slow, made: long, words: &[], rounds: 0 };

const WORD: &[u8; 7] = b"quollzy";

fn long() -> Vec<Vec<u8>> {
    vec![b"a value ".repeat(64)]
}

#[inline(never)]
fn right(data: &[u8], at: usize) -> bool {
    data.get(at).copied().map(std::hint::black_box) == Some(WORD[at])
}

fn deep(data: &[u8]) {
    if right(data, 0)
        && right(data, 1)
        && right(data, 2)
        && right(data, 3)
        && right(data, 4)
        && right(data, 5)
        && right(data, 6)
    {
        panic!("the fault that was put there");
    }
}

fn slow(data: &[u8]) {
    let pairs = data.iter().flat_map(|one| data.iter().map(move |other| one == other));
    let equal = pairs.filter(|equal| std::hint::black_box(*equal)).count();
    assert!(equal <= data.len() * data.len(), "more pairs than there are");
}
