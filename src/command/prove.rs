//! The prover, a program of its own: `tidegate policy prove` runs it and passes on what it says and how it ends; a release asks it
//! whether a bundle's own properties hold, and whether more may leave.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tidegate_policies::{Bundle, Form};
use tidegate_schemas::digest::Digest;
use uuid::Uuid;

use crate::cli::Global;
use crate::output;

/// The prover: beside this program, else on `PATH`.
const PROVER: &str = "tidegate-prove";
/// What it answers where something could not be proven; so does this command where there is no answer.
const NOT_PROVEN: u8 = 3;

/// What cannot be asked about is not proven, and ends so: any other failure's status would say "refuted".
pub(super) fn run(
    global: &Global,
    dir: Result<PathBuf>,
    against: Result<Option<Bundle>>,
    only: &[String],
    limit: Option<u64>,
) -> Result<ExitCode> {
    let asked = dir.and_then(|dir| ask(global, &dir, against?.as_ref(), only, limit));
    asked.or_else(|error| {
        output::note(format!("tidegate: {error:#}"));
        Ok(ExitCode::from(NOT_PROVEN))
    })
}

fn ask(
    global: &Global,
    dir: &Path,
    against: Option<&Bundle>,
    only: &[String],
    limit: Option<u64>,
) -> Result<ExitCode> {
    let program = prover();
    let mut command = Command::new(&program);
    command.arg(dir);
    if against.is_some() {
        command.arg("--against").arg("-").stdin(Stdio::piped());
    }
    for id in only {
        command.arg("--only").arg(id);
    }
    if let Some(limit) = limit {
        command.arg("--limit").arg(limit.to_string());
    }
    if global.json {
        command.arg("--json");
    }
    let mut running = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            output::note(format!(
                "tidegate: `{PROVER}` is neither beside this program nor on PATH, so nothing is proven: build it with `cargo build --release --locked -p {PROVER}`"
            ));
            return Ok(ExitCode::from(NOT_PROVEN));
        }
        other => other.with_context(|| format!("running `{}`", program.display()))?,
    };
    if let Some((mut input, against)) = running.stdin.take().zip(against) {
        // A prover that ended before it read everything says why itself.
        let _ = input.write_all(against.archive().as_bytes());
    }
    let status = running.wait().context("waiting for the prover")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(NOT_PROVEN)))
}

/// Whether the prover shows that by a bundle no more may leave than by another. Where there is no prover, or it cannot tell, it does
/// not.
pub(super) fn is_not_wider(bundle: &Bundle, against: &Bundle) -> Result<bool> {
    let file = std::env::temp_dir().join(format!("tidegate-bundle-{}", Uuid::now_v7()));
    std::fs::write(&file, bundle.archive()).with_context(|| format!("writing `{}`", file.display()))?;
    let asked = shown(&file, bundle, against);
    // A copy that cannot be removed is told by nobody: it holds nothing that the cell does not.
    let _ = std::fs::remove_file(&file);
    asked
}

fn shown(file: &Path, bundle: &Bundle, against: &Bundle) -> Result<bool> {
    // What it says stands for another operator's agreement: only the one that came with this program is asked.
    let Some(prover) = beside() else { return Ok(false) };
    let mut command = Command::new(prover);
    command
        .arg(file)
        .args(["--against", "-", "--access", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut running = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.context("running the prover")?,
    };
    if let Some(mut input) = running.stdin.take() {
        let _ = input.write_all(against.archive().as_bytes());
    }
    let output = running.wait_with_output().context("waiting for the prover")?;
    let report: Option<Compared> = serde_json::from_slice(&output.stdout).ok();
    Ok(output.status.success() && report.is_some_and(|report| report.shows(bundle, against)))
}

/// What of the prover's report counts.
#[derive(Deserialize)]
struct Compared {
    bundle: Digest,
    against: Against,
}

#[derive(Deserialize)]
struct Against {
    bundle: Digest,
    cloud_access: String,
}

// === impl Compared ===

impl Compared {
    fn shows(&self, bundle: &Bundle, against: &Bundle) -> bool {
        (self.bundle, self.against.bundle) == (bundle.hash(), against.hash())
            && ["equal", "narrower"].contains(&self.against.cloud_access.as_str())
    }
}

fn prover() -> PathBuf {
    beside().unwrap_or_else(|| PROVER.into())
}

/// The prover beside this program.
fn beside() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(PROVER)));
    beside.filter(|program| program.is_file())
}

/// What is known of a bundle's own properties.
pub(super) enum Held {
    /// All of them hold for every request.
    Proven,
    /// These do not: what they say never happens does.
    Refuted(Vec<String>),
    /// Some are not proven, and why.
    Unproven(String),
}

/// As [`held`], of a bundle that stands in no directory.
pub(super) fn held_by(bundle: &Bundle) -> Result<Held> {
    let file = std::env::temp_dir().join(format!("tidegate-bundle-{}", Uuid::now_v7()));
    std::fs::write(&file, bundle.archive()).with_context(|| format!("writing `{}`", file.display()))?;
    let asked = held(&file, bundle);
    let _ = std::fs::remove_file(&file);
    asked
}

/// Whether a bundle's own properties hold. Nothing is asked where it has none.
pub(super) fn held(dir: &Path, bundle: &Bundle) -> Result<Held> {
    if bundle.properties().is_empty() {
        return Ok(Held::Unproven("the bundle promises nothing: it has no properties".to_owned()));
    }
    let mut command = Command::new(prover());
    command.arg(dir).arg("--json").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    for property in bundle.properties() {
        command.arg("--only").arg(&property.id);
    }
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Held::Unproven(format!("`{PROVER}` is neither beside this program nor on PATH")));
        }
        other => other.context("running the prover")?,
    };
    let report: Option<Findings> = serde_json::from_slice(&output.stdout).ok();
    let report = report.filter(|report| report.bundle == bundle.hash());
    Ok(report.map_or(Held::Unproven("the prover gave no answer".to_owned()), |report| report.held(bundle)))
}

/// What of the prover's report counts where a bundle's own properties are asked about.
#[derive(Deserialize)]
struct Findings {
    bundle: Digest,
    findings: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    id: String,
    verdict: String,
}

// === impl Findings ===

impl Findings {
    fn held(self, bundle: &Bundle) -> Held {
        let of = |verdict: &str| -> Vec<String> {
            let found = self.findings.iter().filter(|found| found.verdict == verdict);
            found.map(|found| found.id.clone()).collect()
        };
        // That a task has a place is no safety: what takes it may be meant, and must not wait for an author.
        let is_safety = |id: &String| {
            let property = bundle.properties().iter().find(|property| property.id == *id);
            property.is_none_or(|property| !matches!(property.form, Form::Reachable { .. }))
        };
        let (refuted, proven) = (of("refuted"), of("proven"));
        let refuted: Vec<String> = refuted.into_iter().filter(is_safety).collect();
        let open: Vec<&str> = bundle
            .properties()
            .iter()
            .map(|property| property.id.as_str())
            .filter(|id| !proven.iter().any(|proven| proven == id))
            .collect();
        match (refuted.is_empty(), open.is_empty()) {
            (false, _) => Held::Refuted(refuted),
            (true, true) => Held::Proven,
            (true, false) => {
                Held::Unproven(format!("not so of {}; `tidegate policy prove` says why", open.join(", ")))
            }
        }
    }
}
