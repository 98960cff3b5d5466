//! SQLite beside the store: the same bytes and indices in WAL mode, synced at each commit.
//!
//! It runs as Python's own module in a process: SQLite's C code as a dependency would be built with everything else, for this
//! row alone.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::SPAN;

const SCRIPT: &str = include_str!("../../sqlite.py");

/// Which indices it has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Indices {
    /// Three: the message, the task, tenant and time.
    Few,
    /// One for each thing that the record is asked by.
    All,
}

/// Records a second.
pub(super) fn rate(dir: &Path, indices: Indices, batch: usize, record_bytes: usize) -> Result<f64> {
    let indices = match indices {
        Indices::Few => "few",
        Indices::All => "all",
    };
    let out = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(dir)
        .args([indices, &batch.to_string(), &record_bytes.to_string(), &SPAN.as_secs_f64().to_string()])
        .output()
        .context("running python3 with its sqlite3 module")?;
    ensure!(out.status.success(), "SQLite: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout);
    text.split_whitespace().next().context("a rate")?.parse().context("a rate")
}
