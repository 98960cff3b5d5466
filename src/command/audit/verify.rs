//! `tidegate audit verify`: the record against itself, read from its file.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidegate_audit::verify::Problem;
use tidegate_audit::{Level, Reader, Report};

use crate::cell::Cell;
use crate::cli::{AuditArgs, Global};
use crate::output;

/// Something in it was changed.
const TAMPERED: u8 = 1;
/// It could not be read.
const UNREADABLE: u8 = 3;
/// Problems listed for people; programs get all.
const LISTED: usize = 10;

pub(super) async fn run(
    global: &Global,
    args: &AuditArgs,
    quick: bool,
    since: Option<u64>,
) -> Result<ExitCode> {
    let dir = match &args.record {
        Some(dir) => dir.clone(),
        None => Cell::open(&global.cell)?.record(),
    };
    let level = match since {
        Some(index) => Level::Since(index),
        None if quick => Level::Quick,
        None => Level::Full,
    };
    // A file that was changed at random may break any promise of its format: a panic on the way is an unreadable record.
    let checked = tokio::task::spawn_blocking({
        let (dir, json) = (dir.clone(), global.json);
        move || verify(&dir, level, json)
    });
    let report = match checked.await.context("the record's file broke the reader") {
        Ok(Ok(report)) => report,
        Ok(Err(error)) | Err(error) => return unreadable(global, &dir, &error),
    };
    show(global, &dir, &report)
}

fn verify(dir: &Path, level: Level, quiet: bool) -> Result<Report> {
    let reader = Reader::open(dir, None)?;
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
    bar.set_style(ProgressStyle::with_template("verifying {wide_bar} {pos}/{len} records, {eta} left")?);
    let report = reader.verify(level, &mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(report?)
}

fn unreadable(global: &Global, dir: &Path, error: &anyhow::Error) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "verdict": "unreadable", "record": dir, "why": output::sentence(error) }))?;
    } else {
        output::line(format!("UNREADABLE: `{}`: {}", dir.display(), output::sentence(error)));
    }
    Ok(ExitCode::from(UNREADABLE))
}

fn show(global: &Global, dir: &Path, report: &Report) -> Result<ExitCode> {
    let whole = report.is_ok();
    if global.json {
        let verdict = if whole { "whole" } else { "tampered" };
        output::json(&json!({ "verdict": verdict, "record": dir, "report": report }))?;
    } else if whole {
        let part = if report.from > 0 { format!(" from index {} on", report.from) } else { String::new() };
        output::line(format!(
            "whole: {} records{part} and {} bodies have the bytes that were recorded; {} known anomalies",
            report.records, report.bodies, report.anomalies
        ));
    } else {
        let count = report.problems.len() as u64 + report.more;
        output::line(format!(
            "TAMPERED: {count} problems in {} records of `{}`",
            report.records,
            dir.display()
        ));
        if let Some(first) = first(report) {
            output::line(format!("first bad record: {}", words(first)));
        }
        for problem in report.problems.iter().take(LISTED) {
            output::line(format!("  {}", words(problem)));
        }
        if count > LISTED as u64 {
            output::line(format!("  and {} more; all with --json", count - LISTED as u64));
        }
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(TAMPERED) })
}

/// The problem at the lowest index; else the first of those that lie between records.
fn first(report: &Report) -> Option<&Problem> {
    report
        .problems
        .iter()
        .filter(|p| p.index.is_some())
        .min_by_key(|p| p.index)
        .or_else(|| report.problems.first())
}

fn words(problem: &Problem) -> String {
    let index =
        problem.index.map(|index| format!("record {index}")).unwrap_or_else(|| "the record".to_owned());
    let place = problem.position.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
    format!("{index}{place}: {}", problem.fault)
}
