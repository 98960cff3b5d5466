//! `tidegate policy prove`: runs the prover, a program of its own, and passes on what it says and how it ends.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use tidegate_policies::Bundle;

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

fn prover() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(PROVER)));
    beside.filter(|program| program.is_file()).unwrap_or_else(|| PROVER.into())
}
