//! `tidegate audit accept-break`: an operator's act, on record before it is done.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_audit::{Checkpoint, OpenError, Options, Store};
use tidegate_bus::Role;
use tidegate_schemas::control::Act;

use super::super::act;
use crate::cell::Cell;
use crate::cli::Global;
use crate::output;

/// How long a recorder that is started again and again, and refuses each time, may have the record.
const REFUSING: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn run(global: &Global, reason: &str) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let (dir, keys) = (cell.record(), cell.record_keys()?);
    let bus = cell.connect(Role::Provisioner).await?;
    let published =
        tidegate_recorder::published(&bus).await.context("asking for the newest published checkpoint")?;
    let options = Options { checkpoint_file: Some(cell.checkpoints()), published, ..Options::default() };
    let note = {
        let (dir, signer, options) = (dir.clone(), keys.signer.clone(), options.clone());
        tokio::task::spawn_blocking(move || alone(|| Store::fork(&dir, &signer, &options)))
    };
    let note = note.await.context("reading the record")??;
    let records = Checkpoint::unverified(&note).map_or(0, |signed| signed.size);
    // Nothing goes on before it is on record that it breaks, and why.
    act::publish(&cell, Act::RecordBreak { records, note }, reason).await?;
    let accepted =
        tokio::task::spawn_blocking(move || alone(|| Store::accept_break(&dir, keys.clone(), &options)));
    accepted.await.context("writing the record")??;
    if global.json {
        output::json(&json!({ "accepted": true, "signed_before": records }))?;
    } else {
        output::line(format!(
            "accepted: the record no longer holds all of the {records} records that were signed, and goes on under a new origin"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Tries until no recorder looks at the record. One that holds it goes on with it: there is no break then.
fn alone<T>(mut attempt: impl FnMut() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(OpenError::Locked { .. }) if begun.elapsed() < REFUSING => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}
