//! `tidegate policy test`: cases, what they cover, and whether the loss of a `forbid` would be noticed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidegate_policies::trial::{self, Trial};
use tidegate_policies::{Bundle, CedarTest, Judge};

use super::{named, named_failures, refused, tell_failures};
use crate::cli::Global;
use crate::output;

/// Exit code: a case fails, a policy determines none, or one could be lost unseen.
const BREACHED: u8 = 2;

pub(super) fn run(global: &Global, dir: Option<&Path>, cedar_tests: &[PathBuf]) -> Result<ExitCode> {
    let dir = named(dir)?;
    let judge = match Bundle::from_dir(&dir).and_then(|bundle| Judge::new(Arc::new(bundle))) {
        Ok(judge) => judge,
        Err(error) => return refused(global, &dir, &error),
    };
    let mut more = Vec::new();
    for file in cedar_tests {
        let read = CedarTest::read(file).with_context(|| format!("reading `{}`", file.display()))?;
        more.extend(read);
    }
    let bar = if global.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    bar.set_style(ProgressStyle::with_template("trying {wide_bar} {pos}/{len} cases and lost forbids")?);
    let trial = trial::run(&judge, &more, &mut |done, of| {
        bar.set_length(u64::try_from(of).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    });
    bar.finish_and_clear();
    show(global, &trial)?;
    Ok(if trial.passed() { ExitCode::SUCCESS } else { ExitCode::from(BREACHED) })
}

fn show(global: &Global, trial: &Trial) -> Result<()> {
    let failed = trial.failed();
    let passed = trial.ran.len() - failed.len();
    if global.json {
        return output::json(&json!({
            "passed": passed,
            "failed": named_failures(&failed),
            "silent": trial.silent,
            "mutants": trial.mutants,
            "survivors": trial.survivors,
            "taken": trial.taken,
        }));
    }
    tell_failures(&failed);
    for id in &trial.silent {
        output::line(format!("SILENT {id}: it determines no case; add one that it decides"));
    }
    for id in &trial.survivors {
        output::line(format!("UNNOTICED {id}: without it every case still passes; add one that needs it"));
    }
    output::line(format!(
        "{passed} cases passed, {} failed; {} policies determine none; {} of {} forbids could be lost unseen",
        failed.len(),
        trial.silent.len(),
        trial.survivors.len(),
        trial.mutants
    ));
    if trial.taken > 0 {
        output::line(format!("{} policies are the extended bundle's: test it there", trial.taken));
    }
    Ok(())
}
