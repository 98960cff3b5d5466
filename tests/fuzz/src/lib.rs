//! What reads bytes that others wrote, as functions of such bytes: a target panics where a promise is broken.
//!
//! The tests here feed each with its kept seeds and with changed ones, the same in each run and as many as a gate has time for; `run` has
//! libFuzzer feed them, guided by coverage (`examples/guided.rs`). What it does not do: judge whether what was read means something; that is the tests' of the crate that reads.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a target panics where a promise is broken")]

use std::path::{Path, PathBuf};

pub use target::{CONTROLS, TARGETS, Target};

pub mod mutate;
mod target;

/// Where a target's seeds are kept.
#[must_use]
pub fn seeds_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name)
}

/// The kept seeds of a target, in the order of their names, and those that it makes itself.
#[must_use]
pub fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(seeds_dir(target.name)).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let kept = files.iter().map(|file| std::fs::read(file).unwrap());
    kept.chain((target.made)()).collect()
}
