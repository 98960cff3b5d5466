//! `tidegate audit prove` and `export`: evidence for somebody who has only the public key.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidegate_audit::complete::{Account, NamedErasure};
use tidegate_audit::export::{Extent, Form};
use tidegate_audit::read::Head;
use tidegate_audit::{Checkpoint, ProveError, PublicKey, Reader};
use tidegate_schemas::ids::Position;

use super::verify::{ODD, TAMPERED, named, unreadable};
use super::{cases, trust};
use crate::cli::{AuditArgs, ExportArgs, ExportForm, FilterArgs, Global, ProveCommand};
use crate::command::record;
use crate::output;

/// A file that was changed at random may break any promise of its format; what reads it is held apart for that.
const BROKE: &str = "the record's file broke the reader";

pub(super) async fn run(global: &Global, args: &AuditArgs, what: &ProveCommand) -> Result<ExitCode> {
    let opened = open(global, args);
    let proven = match what {
        ProveCommand::Inclusion { wanted, out } => {
            let wanted = wanted.clone();
            let prove = move |reader: &Reader, key: &PublicKey| {
                let proof = reader.prove_inclusion(key, index(reader, &wanted)?);
                anyhow::Ok(proof.map(|proof| proof.to_string()))
            };
            one(global, opened, out.as_deref(), prove).await
        }
        ProveCommand::Consistency { checkpoint, out } => {
            let checkpoint = checkpoint.clone();
            let prove = move |reader: &Reader, key: &PublicKey| {
                let proof = reader.prove_consistency(key, &trust::checkpoint(&checkpoint, key)?);
                anyhow::Ok(proof.map(|proof| proof.to_string()))
            };
            one(global, opened, out.as_deref(), prove).await
        }
        ProveCommand::Completeness { checkpoint } => {
            match opened.and_then(|opened| Ok((opened, outside(global, args, checkpoint)?))) {
                Ok(((reader, key), kept)) => completeness(global, reader, key, kept).await,
                Err(error) => Err(error),
            }
        }
    };
    proven.or_else(|error| match error.is::<NotThere>() {
        true => Err(error),
        false => unreadable(global, &named(global, args), &error),
    })
}

/// What is asked for has no proof, however whole the record is.
#[derive(Debug)]
struct NotThere(String);

impl std::fmt::Display for NotThere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotThere {}

/// Makes one proof, on a thread of its own.
async fn one(
    global: &Global,
    opened: Result<(Reader, PublicKey)>,
    out: Option<&Path>,
    prove: impl FnOnce(&Reader, &PublicKey) -> Result<Result<String, ProveError>> + Send + 'static,
) -> Result<ExitCode> {
    let (reader, key) = opened?;
    let proof = tokio::task::spawn_blocking(move || prove(&reader, &key));
    match proof.await.context(BROKE)?? {
        Ok(proof) => show(global, out, &proof),
        Err(error) => tampered(error),
    }
}

pub(super) async fn export(global: &Global, args: &AuditArgs, what: &ExportArgs) -> Result<ExitCode> {
    let form = match what.form {
        ExportForm::Lines => Form::Lines,
        ExportForm::Tiles => Form::Tiles,
        ExportForm::CedarTests if what.since > 0 || what.bodies => {
            bail!("--since and --bodies are for records: --form cedar-tests takes a filter")
        }
        ExportForm::CedarTests => return cases::run(global, args, what).await,
    };
    if what.filter != FilterArgs::default() {
        bail!(
            "only --form cedar-tests takes a filter: a bundle of less than all records would prove nothing"
        );
    }
    let (reader, key) = open(global, args)?;
    // Evidence of a record that is not the one that was signed would be evidence for whoever changed it.
    let kept = outside(global, args, &what.checkpoint)?;
    let held = tokio::task::spawn_blocking(move || {
        let held = reader.continues(&key, &kept);
        (reader, key, held)
    });
    let (reader, key, held) = held.await.context(BROKE)?;
    if let Err(error) = held {
        return tampered(error);
    }
    let ExportArgs { dir, since, bodies, .. } = what;
    let (bar, to) = (bar(global, "exporting")?, dir.clone());
    let extent = Extent { form, since: *since, bodies: *bodies };
    let written = tokio::task::spawn_blocking(move || {
        let written = reader.export_extent(&to, extent, &key, &mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        written
    });
    let Head { checkpoint, note } = written.await.context("exporting the record")??;
    if global.json {
        output::json(&json!({ "directory": dir, "records": checkpoint.size, "checkpoint": note }))?;
    } else {
        output::line(format!(
            "exported: {} records of `{}` and what proves them, in `{}`",
            checkpoint.size,
            checkpoint.origin,
            dir.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn open(global: &Global, args: &AuditArgs) -> Result<(Reader, PublicKey)> {
    let key = trust::public_key(global, args)?.context("name the public key with --public-key")?;
    let dir = trust::directory(global, args)?;
    let reader = std::panic::catch_unwind(|| record::reader(&dir, None, args.crashed));
    let reader = reader.map_err(|_| anyhow::anyhow!(BROKE))?;
    Ok((reader?, key))
}

/// The index that is meant: by number, or by where the message stands.
fn index(reader: &Reader, record: &str) -> Result<u64> {
    if let Ok(index) = record.parse() {
        return Ok(index);
    }
    let position: Position =
        record.parse().map_err(|_| NotThere("a record is an index, or STREAM:SEQUENCE".to_owned()))?;
    if reader.was_pruned(&position)? {
        let pruned =
            format!("{position} was pruned by retention; name its index to prove a line that you kept");
        return Err(NotThere(pruned).into());
    }
    let found = reader.at(&position)?.ok_or_else(|| NotThere(format!("{position} is not recorded")))?;
    Ok(found.leaf.index)
}

fn show(global: &Global, out: Option<&Path>, proof: &str) -> Result<ExitCode> {
    match out {
        Some(path) => {
            std::fs::write(path, proof).with_context(|| format!("writing `{}`", path.display()))?;
        }
        None if global.json => output::json(&json!({ "proof": proof }))?,
        None => output::piece(proof),
    }
    Ok(ExitCode::SUCCESS)
}

/// Checkpoints that were kept outside: those that are named, and the cell's own.
fn outside(global: &Global, args: &AuditArgs, named: &[PathBuf]) -> Result<Vec<Checkpoint>> {
    Ok(trust::of(global, args, trust::public_key(global, args)?, named)?.pinned)
}

/// Says that the record is not the one that was signed; any other error is handed on.
fn tampered(error: ProveError) -> Result<ExitCode> {
    match error {
        ProveError::Fork { .. }
        | ProveError::RolledBack { .. }
        | ProveError::Broken
        | ProveError::Note(_) => {
            output::note(format!("TAMPERED: {error}"));
            Ok(ExitCode::from(TAMPERED))
        }
        other => Err(other.into()),
    }
}

async fn completeness(
    global: &Global,
    reader: Reader,
    key: PublicKey,
    kept: Vec<Checkpoint>,
) -> Result<ExitCode> {
    let bar = bar(global, "reading")?;
    let proven = tokio::task::spawn_blocking(move || {
        let proven = reader.prove_completeness_against(&key, &kept, &mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        proven
    });
    let proven = proven.await.context(BROKE)?;
    let (head, accounts) = match proven {
        Ok(proven) => proven,
        Err(error) => return tampered(error),
    };
    let complete = accounts.iter().all(Account::is_complete);
    let explained = accounts.iter().all(Account::is_explained);
    if global.json {
        output::json(&json!({
            "complete": complete, "explained": explained, "records": head.checkpoint.size,
            "streams": accounts, "checkpoint": head.note,
        }))?;
    } else {
        accounted(&accounts);
        let word = if !complete {
            "TAMPERED: sequences are neither recorded nor in a gap"
        } else if explained {
            "complete: every sequence is recorded, lies in an explained gap, or was pruned on record"
        } else {
            "complete, but gaps are unexplained"
        };
        output::line(format!("{word}; {} records of `{}`", head.checkpoint.size, head.checkpoint.origin));
    }
    Ok(match (complete, explained) {
        (false, _) => ExitCode::from(TAMPERED),
        (true, false) => ExitCode::from(ODD),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// What is held of each stream, and its gaps by name.
pub(super) fn accounted(accounts: &[Account]) {
    let row = |account: &Account| {
        let Account { stream, last, messages, missing, pruned, erased, .. } = account;
        let counts = [messages, missing, pruned, erased].map(ToString::to_string);
        [vec![stream.clone(), format!("1 to {last}")], counts.to_vec()].concat()
    };
    let rows: Vec<_> = accounts.iter().map(row).collect();
    output::table(&["stream", "sequences", "messages", "in gaps", "pruned", "erased since"], &rows);
    for account in accounts {
        for gap in &account.gaps {
            let (stream, why) = (&account.stream, gap.words());
            output::line(format!("  {stream} {} to {}: {why} (record {})", gap.from, gap.to, gap.record));
        }
        for erasure in &account.erasures {
            let (stream, NamedErasure { from, messages, record, event }) = (&account.stream, erasure);
            output::line(format!(
                "  {stream} from {from} on, {messages} messages: deleted since, erased with their data subject by EVENTS:{event} \
                 (record {record})"
            ));
        }
        for at in &account.breaks {
            output::line(format!(
                "  {}:{at} is neither recorded nor in a gap, or stands twice",
                account.stream
            ));
        }
    }
}

/// A bar, where somebody looks.
pub(super) fn bar(global: &Global, what: &str) -> Result<ProgressBar> {
    let bar = if global.json { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let template = format!("{what} {{wide_bar}} {{pos}}/{{len}} records, {{eta}} left");
    bar.set_style(ProgressStyle::with_template(&template)?);
    Ok(bar)
}
