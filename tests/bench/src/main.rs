//! Benchmarks: each row is a figure and its ratio to a ceiling that was measured in the same run.

fn main() {}
