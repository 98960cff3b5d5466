//! `tidegate audit report`: one month of one tenant, or of all, as a page for people or as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;
use tidegate_audit::export::Form;
use tidegate_audit::report::{Monthly, Question, Verdict};
use tidegate_audit::{ExportError, ProveError, PublicKey};
use tidegate_schemas::ids::Name;

use super::trust;
use super::verify::{TAMPERED, UNREADABLE};
use crate::cell::{self, Cell};
use crate::cli::{AuditArgs, Global, ReportArgs};
use crate::command::record;
use crate::output;
use law::{Clause, Kept};

mod law;
mod page;
mod tables;
#[cfg(test)]
mod tests;
mod words;

/// A claim does not hold, cannot be proven, or is not shown.
const BREACHED: u8 = 2;
/// The report in the bundle that backs it.
const REPORT: &str = "report.json";
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
    /// Directory of the bundle that backs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'a Path>,
    /// What laws and standards ask, and where the record answers.
    clauses: &'a [Clause],
}

pub(super) async fn run(global: &Global, args: &AuditArgs, report: ReportArgs) -> Result<ExitCode> {
    let (dir, name, kept) = match &args.record {
        Some(dir) => (dir.clone(), None, None),
        None => {
            let cell = Cell::open(&global.cell)?;
            let kept = &cell.config.record;
            let (records_days, bodies_days) = (kept.record_retention_days, kept.body_retention_days);
            let kept = Some(Kept { records_days, bodies_days });
            (cell.record(), Some(cell.config.name.to_string()), kept)
        }
    };
    let mut question = question(&report)?;
    let key = trust::public_key(global, args)?;
    if key.is_none() && report.proof.is_some() {
        bail!("name the public key with --public-key: a proof holds for who trusts the key that signed it");
    }
    match trust::of(global, args, key.clone(), &report.checkpoint) {
        Ok(trust) => question.kept = trust.pinned,
        Err(error) => {
            output::failed(&output::sentence(&error));
            return Ok(ExitCode::from(UNREADABLE));
        }
    }
    // A file that was changed at random may break any promise of its format: a panic on the way is an unreadable record.
    let crashed = args.crashed;
    let read = tokio::task::spawn_blocking({
        let (dir, proof, quiet) = (dir.clone(), report.proof.clone(), global.json);
        move || read(&dir, crashed, &mut question, key.as_ref(), proof.as_deref(), quiet)
    });
    let monthly = match read.await.context("the record's file broke the reader") {
        Ok(Ok(monthly)) => monthly,
        Ok(Err(Refused::Question(error))) => return Err(error),
        Ok(Err(Refused::Record(error))) | Err(error) => {
            output::failed(&format!("`{}`: {error:#}", dir.display()));
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let clauses = law::clauses(&monthly, kept);
    let verify = match &args.record {
        Some(dir) => format!("tidegate audit verify --record '{}'", dir.display()),
        None => "tidegate audit verify".to_owned(),
    };
    let proof = report.proof.as_deref();
    let told = Told { cell: name.as_deref(), monthly: &monthly, verify: &verify, proof, clauses: &clauses };
    if let Some(dir) = proof {
        cell::replace(&dir.join(REPORT), (serde_json::to_string(&told)? + "\n").as_bytes(), 0o600)?;
    }
    let text = if global.json { serde_json::to_string(&told)? + "\n" } else { page::render(&told)? };
    match &report.out {
        None => output::piece(&text),
        Some(file) => {
            let before = if file.exists() { " (in the place of what was there)" } else { "" };
            cell::replace(file, text.as_bytes(), 0o600)?;
            output::note(format!("{}{before}: {}", file.display(), words::summary(&monthly)));
            for class in monthly.residency.iter().filter(|class| class.verdict == Verdict::Holds) {
                output::note(words::statement(class, false));
            }
        }
    }
    for class in monthly.residency.iter().filter(|class| !is_kept(class.verdict)) {
        output::failed(words::statement(class, false).trim_end_matches('.'));
    }
    if let Some(refuted) = words::refuted(&monthly) {
        output::failed(refuted.trim_end_matches('.'));
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
    Ok(Question {
        tenant,
        month: report.month,
        now: Timestamp::now(),
        within,
        checkpoint: None,
        kept: Vec::new(),
    })
}

/// Why there is no report.
enum Refused {
    /// It was asked for what there is not.
    Question(anyhow::Error),
    /// The record cannot be read.
    Record(anyhow::Error),
}

impl Refused {
    fn of_export(error: ExportError) -> Self {
        match error {
            ExportError::File { .. } | ExportError::Prove(ProveError::Unsigned) => {
                Self::Question(error.into())
            }
            other => Self::Record(other.into()),
        }
    }
}

/// Reads the record once, held against its newest checkpoint where a key says whose that must be, and those kept outside; and writes the bundle first,
/// so that both are of the same records.
fn read(
    dir: &Path,
    crashed: bool,
    question: &mut Question,
    key: Option<&PublicKey>,
    proof: Option<&Path>,
    quiet: bool,
) -> Result<Monthly, Refused> {
    use tidegate_audit::report::MonthlyError;

    let reader = record::reader(dir, None, crashed).map_err(|error| Refused::Record(error.into()))?;
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} records, {eta} left");
    bar.set_style(style.map_err(|error| Refused::Question(error.into()))?);
    let mut progress = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    question.checkpoint = match (key, proof) {
        (Some(key), Some(proof)) => {
            bar.set_message("exporting");
            let head = reader.export(proof, Form::Lines, key, &mut progress);
            Some(head.map_err(Refused::of_export)?.checkpoint)
        }
        (Some(key), None) => match reader.head(key) {
            Ok(head) => Some(head.checkpoint),
            Err(ProveError::Unsigned) => None,
            Err(error) => return Err(Refused::Record(error.into())),
        },
        (None, _) => None,
    };
    bar.set_message("reading");
    let read = reader.monthly(question, &mut progress);
    bar.finish_and_clear();
    read.map_err(|error| match error {
        MonthlyError::Read(error) => Refused::Record(error.into()),
        other => Refused::Question(other.into()),
    })
}

fn is_kept(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Told | Verdict::Holds)
}

/// 1 where the record is not what was recorded or signed, 2 where a claim does not hold, cannot be proven or is not shown.
fn status(monthly: &Monthly) -> ExitCode {
    if monthly.record.damaged.count > 0 || monthly.record.is_forged() {
        ExitCode::from(TAMPERED)
    } else if monthly.residency.iter().all(|class| is_kept(class.verdict)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(BREACHED)
    }
}
