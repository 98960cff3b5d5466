//! `tidegate audit accept-break`: an operator's act, on record before it is done.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_audit::{Checkpoint, Options, Store};
use tidegate_schemas::control::Act;

use super::super::act;
use crate::cell::Cell;
use crate::cli::Global;
use crate::output;

pub(super) async fn run(global: &Global, reason: &str) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let (dir, keys) = (cell.record(), cell.record_keys()?);
    let options = Options { checkpoint_file: Some(cell.checkpoints()), ..Options::default() };
    let note = {
        let (dir, signer, options) = (dir.clone(), keys.signer.clone(), options.clone());
        tokio::task::spawn_blocking(move || Store::fork(&dir, &signer, &options))
    };
    let note = note.await.context("reading the record")??;
    let records = Checkpoint::unverified(&note).map_or(0, |signed| signed.size);
    // Nothing goes on before it is on record that it breaks, and why.
    act::publish(&cell, Act::RecordBreak { records, note }, reason).await?;
    let accepted = tokio::task::spawn_blocking(move || Store::accept_break(&dir, keys, &options));
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
