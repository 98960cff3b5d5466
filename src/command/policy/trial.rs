//! `tidegate policy test`: cases, what they cover, and whether the loss of a `forbid` would be noticed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidegate_policies::trial::{self, Trial};
use tidegate_policies::{Bundle, CedarTest, Judge};

use super::super::prove::{self, Held};
use super::answers::{self, Answers};
use super::{named, named_failures, refused, tell_failures};
use crate::cli::Global;
use crate::output;

/// Exit code: a case fails, a policy determines none, or one could be lost unseen.
const BREACHED: u8 = 2;

pub(super) fn run(
    global: &Global,
    dir: Option<&Path>,
    cedar_tests: &[PathBuf],
    model: Option<(&str, Option<PathBuf>)>,
) -> Result<ExitCode> {
    let model = model.map(|(model, adapter)| answers::model(model, adapter)).transpose()?;
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
    let mut trial = trial::run(&judge, &more, &mut |done, of| {
        bar.set_length(u64::try_from(of).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    });
    bar.finish_and_clear();
    let lost = Lost::sift(&mut trial, |id| prove::held_by(&judge.bundle().without(id)?))?;
    let answers = Answers::ask(&judge, model, global.json)?;
    show(global, &trial, &lost, &answers)?;
    Ok(match (trial.passed(), answers.failed()) {
        (false, _) => ExitCode::from(BREACHED),
        (true, true) => ExitCode::FAILURE,
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Forbids of which no case notices the loss, held against the bundle's properties.
#[derive(Default)]
struct Lost {
    /// Those without which a property does not hold, and which properties.
    noticed: BTreeMap<String, Vec<String>>,
    /// Why a property could not be asked about one of the others.
    unasked: Option<String>,
}

impl Lost {
    /// Takes those out that a property needs. `ask` says whether the properties hold without one.
    fn sift(trial: &mut Trial, ask: impl Fn(&str) -> Result<Held>) -> Result<Self> {
        let mut lost = Self::default();
        for id in std::mem::take(&mut trial.survivors) {
            match ask(&id)? {
                Held::Refuted(properties) => drop(lost.noticed.insert(id, properties)),
                Held::Proven => trial.survivors.push(id),
                Held::Unproven(why) => {
                    lost.unasked = Some(why);
                    trial.survivors.push(id);
                }
            }
        }
        Ok(lost)
    }
}

fn show(global: &Global, trial: &Trial, lost: &Lost, answers: &Answers) -> Result<()> {
    let failed = trial.failed();
    let passed = trial.ran.len() - failed.len();
    if global.json {
        return output::json(&json!({
            "passed": passed,
            "failed": named_failures(&failed),
            "silent": trial.silent,
            "mutants": trial.mutants,
            "survivors": trial.survivors,
            "noticed_by_properties": lost.noticed,
            "properties_unasked": lost.unasked,
            "taken": trial.taken,
            "answers": answers,
        }));
    }
    tell_failures(&failed);
    for id in &trial.silent {
        let add = if id.starts_with("prompt ") {
            "no case renders it; add a [[prompt]] row"
        } else {
            "it determines no case; add one that it decides"
        };
        output::line(format!("SILENT {id}: {add}"));
    }
    for id in &trial.survivors {
        output::line(format!("UNNOTICED {id}: without it every case still passes; add one that needs it"));
    }
    for (id, properties) in &lost.noticed {
        output::line(format!("noticed by properties alone, {id}: {}", properties.join(", ")));
    }
    if let Some(why) = &lost.unasked {
        output::line(format!("whether a property needs them is not known: {why}"));
    }
    output::line(format!(
        "{passed} cases passed, {} failed; {} policies or prompts have none; {} of {} forbids could be lost unseen",
        failed.len(),
        trial.silent.len(),
        trial.survivors.len(),
        trial.mutants
    ));
    if trial.taken > 0 {
        output::line(format!(
            "{} policies and prompts are the extended bundle's: test it there",
            trial.taken
        ));
    }
    answers.tell();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_forbid_that_a_property_needs_is_noticed_and_one_that_nobody_asked_about_is_not() {
        let survivors = ["needed", "idle", "unknown"].map(str::to_owned).to_vec();
        let mut trial = Trial { ran: Vec::new(), silent: Vec::new(), mutants: 3, survivors, taken: 0 };
        let lost = Lost::sift(&mut trial, |id| {
            Ok(match id {
                "needed" => Held::Refuted(vec!["p".to_owned()]),
                "idle" => Held::Proven,
                _ => Held::Unproven("no solver".to_owned()),
            })
        });
        let lost = lost.unwrap();
        assert_eq!(trial.survivors, ["idle", "unknown"]);
        assert_eq!(lost.noticed, [("needed".to_owned(), vec!["p".to_owned()])].into());
        assert_eq!(lost.unasked.as_deref(), Some("no solver"));
    }
}
