//! `tidegate audit report`: one month of one tenant, or of all, as a page for people or as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use tidegate_audit::Reader;
use tidegate_audit::report::{Monthly, Question, Verdict};
use tidegate_schemas::ids::Name;

use super::verify::{TAMPERED, UNREADABLE};
use crate::cell::{self, Cell};
use crate::cli::{AuditArgs, Global, ReportArgs};
use crate::output;
use law::Clause;

mod law;
mod page;
mod tables;
#[cfg(test)]
mod tests;
mod words;

/// A claim does not hold, or cannot be proven.
const BREACHED: u8 = 2;
/// What stands for every tenant.
const ALL: &str = "all";

/// The report with what the laws ask, as `--json` prints it.
#[derive(Serialize)]
struct Told<'a> {
    /// The cell's name; absent for a record's directory alone.
    cell: Option<&'a str>,
    #[serde(flatten)]
    monthly: &'a Monthly,
    /// The command that verifies the record.
    verify: &'a str,
    /// What laws and standards ask, and where the record answers.
    clauses: &'a [Clause],
}

pub(super) async fn run(global: &Global, args: &AuditArgs, report: ReportArgs) -> Result<ExitCode> {
    let (dir, name) = match &args.record {
        Some(dir) => (dir.clone(), None),
        None => {
            let cell = Cell::open(&global.cell)?;
            (cell.record(), Some(cell.config.name.to_string()))
        }
    };
    let question = question(&report)?;
    // A file that was changed at random may break any promise of its format: a panic on the way is an unreadable record.
    let read = tokio::task::spawn_blocking({
        let (dir, quiet) = (dir.clone(), global.json);
        move || read(&dir, &question, quiet)
    });
    let monthly = match read.await.context("the record's file broke the reader") {
        Ok(Ok(monthly)) => monthly,
        Ok(Err(Refused::Question(error))) => return Err(error),
        Ok(Err(Refused::Record(error))) | Err(error) => {
            output::failed(&format!("`{}`: {error:#}", dir.display()));
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let clauses = law::clauses(&monthly);
    let verify = match &args.record {
        Some(dir) => format!("tidegate audit verify --record '{}'", dir.display()),
        None => "tidegate audit verify".to_owned(),
    };
    let told = Told { cell: name.as_deref(), monthly: &monthly, verify: &verify, clauses: &clauses };
    let text = if global.json { serde_json::to_string(&told)? + "\n" } else { page::render(&told)? };
    match &report.out {
        None => output::piece(&text),
        Some(file) => {
            cell::replace(file, text.as_bytes(), 0o600)?;
            output::note(format!("{}: {}", file.display(), words::summary(&monthly)));
        }
    }
    Ok(status(&monthly))
}

fn question(report: &ReportArgs) -> Result<Question> {
    let tenant = (report.tenant.as_str() != ALL)
        .then(|| Name::new(report.tenant.as_str()))
        .transpose()
        .context("--tenant")?;
    let mut within = BTreeMap::new();
    for (class, regions) in &report.within {
        if within.insert(*class, regions.clone()).is_some() {
            bail!("--within {}: name each class once, with all of its regions", class.as_str());
        }
    }
    Ok(Question { tenant, month: report.month, now: Timestamp::now(), within })
}

/// Why there is no report.
enum Refused {
    /// It was asked for what there is not.
    Question(anyhow::Error),
    /// The record cannot be read.
    Record(anyhow::Error),
}

fn read(dir: &Path, question: &Question, quiet: bool) -> Result<Monthly, Refused> {
    use tidegate_audit::report::MonthlyError;

    let reader = Reader::open(dir, None).map_err(|error| Refused::Record(error.into()))?;
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("reading {wide_bar} {pos}/{len} records, {eta} left");
    bar.set_style(style.map_err(|error| Refused::Question(error.into()))?);
    let read = reader.monthly(question, &mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    read.map_err(|error| match error {
        MonthlyError::Read(error) => Refused::Record(error.into()),
        other => Refused::Question(other.into()),
    })
}

/// 1 where the record is not what was recorded, 2 where a claim does not hold or cannot be proven.
fn status(monthly: &Monthly) -> ExitCode {
    let kept = |verdict: Verdict| matches!(verdict, Verdict::Told | Verdict::Holds);
    if monthly.record.damaged.count > 0 {
        ExitCode::from(TAMPERED)
    } else if monthly.residency.iter().all(|class| kept(class.verdict)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(BREACHED)
    }
}
