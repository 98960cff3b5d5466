//! Benchmarks: each row is a figure and its ratio to a ceiling that was measured in the same run.
//!
//! Absolute figures drift with the machine, ratios travel. Where less is better the ratio is ceiling ÷ value, so that 1 is
//! always the ceiling and more is always better. `tests/bench/run` builds this and brings what it needs.

mod engine;
mod judge;
mod machine;
mod pii;
mod record;
mod road;
mod row;
mod scan;
mod task;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use crate::row::Table;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is measured, and how much of it.
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", about = "Benchmarks, each as a ratio to its ceiling in the same run")]
struct Options {
    /// What to measure.
    #[arg(value_enum, default_value_t = Group::All)]
    group: Group,
    /// Also write one JSON object a row to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Messages of 512 B in a backlog that is drained; of 4 KiB it is two fifths as many.
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    messages: u64,
    /// Only the settings of `road` and the parts of `record` that this text is part of, like `512B durable`, `store batch 128` or
    /// `a million messages`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// The marked corpus of `pii`: JSON, a list of `{full_text, spans: [{entity_type, start_position, end_position}]}`.
    #[arg(long, value_name = "FILE", required_if_eq("group", "pii"))]
    data: Option<PathBuf>,
    /// Also write the values that would leave to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    misses: Option<PathBuf>,
    /// Directory for streams and records, on the disk that is to be measured.
    #[arg(long, value_name = "DIR", default_value = "target")]
    directory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    Road,
    Judge,
    Record,
    Engine,
    /// Finding personal data; not part of `all`, as its corpus is not part of this project.
    Pii,
    All,
    /// Our side of `engine`, in a process with the engine's own environment.
    #[value(hide = true)]
    Probe,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("tidegate-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if options.group == Group::Probe {
        return pii::probe().or_else(scan::probe).unwrap_or_else(engine::probe);
    }
    std::fs::create_dir_all(&options.directory)
        .with_context(|| format!("making `{}`", options.directory.display()))?;
    let wants = |group: Group| options.group == group || options.group == Group::All;
    let mut table = Table::begin(options.json.as_deref())?;
    // What cannot be measured for want of a part is said before minutes are spent on the rest.
    let server = if wants(Group::Road) { Some(tidegate_bus::server::find()?) } else { None };
    if let Some(server) = &server {
        table.note(machine::version(server)?);
    }
    let model = if wants(Group::Engine) { Some(engine::model()?) } else { None };
    if let (Group::Pii, Some(data)) = (options.group, &options.data) {
        pii::run(&mut table, data, options.misses.as_deref())?;
    }
    if wants(Group::Judge) {
        judge::run(&mut table)?;
    }
    if wants(Group::Record) {
        record::run(&mut table, &options.directory, &options.only)?;
    }
    if let Some(model) = model {
        engine::run(&mut table, &model)?;
        scan::run(&mut table, &model)?;
    }
    if let Some(server) = server {
        let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
        let Options { messages, only, directory, .. } = options;
        runtime.block_on(road::run(&mut table, &server, *messages, directory, only))?;
    }
    table.print()
}

/// Progress, on standard error.
fn say(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
