//! `tidegate audit verify`: a record from its file, an export from its directory, or one proof.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_audit::complete::Account;
use tidegate_audit::merkle::text::{ConsistencyProof, InclusionProof};
use tidegate_audit::verify::Problem;
use tidegate_audit::{Level, MasterKey, PublicKey, ReadError, Report, Trust, bundle, segment};

use super::{prove, trust};
use crate::cell::Cell;
use crate::cli::{AuditArgs, Global, VerifyArgs};
use crate::command::record;
use crate::output;

/// Something in it was changed.
pub(super) const TAMPERED: u8 = 1;
/// It is whole, and something in it is odd; or nobody was named who must have signed it, so a script must not take it for proven.
pub(super) const ODD: u8 = 2;
/// It could not be read.
pub(super) const UNREADABLE: u8 = 3;
/// Problems listed for people; programs get all.
const LISTED: usize = 10;

pub(super) async fn run(global: &Global, args: &AuditArgs, what: &VerifyArgs) -> Result<ExitCode> {
    // Nothing was looked at then, so it must not be told as tampered.
    let asked = |why: &'static str| unreadable(global, &named(global, args), &anyhow::anyhow!(why));
    let apart = [args.record.is_some(), what.bundle.is_some(), what.proof.is_some(), what.segment.is_some()];
    if apart.into_iter().filter(|is_named| *is_named).count() > 1 {
        return asked("name a record, a bundle, a segment or a proof, not two of them");
    }
    if let Some(proof) = &what.proof {
        if what.leaf.is_none() && what.checkpoint.len() != 1 {
            let why = anyhow::anyhow!("name what it is a proof of: --leaf, or one --checkpoint");
            return unreadable(global, proof, &why);
        }
        return proven(global, args, what, proof).or_else(|error| unreadable(global, proof, &error));
    }
    if let Some(path) = &what.segment {
        return match in_segment(global, args, path).await {
            Ok(report) => {
                show(global, path, &Checked { report: &report, streams: None, vouched: true }, what.strict)
            }
            Err(error) => unreadable(global, path, &error),
        };
    }
    let dir = match &what.bundle {
        Some(dir) => Ok(dir.clone()),
        None => trust::directory(global, args),
    };
    let dir = match dir {
        Ok(dir) => dir,
        Err(error) => return unreadable(global, &named(global, args), &error),
    };
    let checked = match &what.bundle {
        Some(dir) => {
            in_bundle(global, args, what, dir).await.map(|found| (found.report, Some(found.accounts)))
        }
        None => in_record(global, args, what, &dir).await.map(|report| (report, None)),
    };
    match checked {
        Ok((report, streams)) => {
            // The key of a cell is at hand for its own record alone.
            let vouched = args.public_key.is_some() || (args.record.is_none() && what.bundle.is_none());
            let checked = Checked { report: &report, streams: streams.as_deref(), vouched };
            show(global, &dir, &checked, what.strict)
        }
        Err(error) => unreadable(global, &dir, &error),
    }
}

async fn in_record(global: &Global, args: &AuditArgs, what: &VerifyArgs, dir: &Path) -> Result<Report> {
    let level = match what.since {
        Some(index) => Level::Since(index),
        None if what.quick => Level::Quick,
        None => Level::Full,
    };
    let key = trust::public_key(global, args)?;
    if key.is_none() {
        output::note(
            "without --public-key nobody knows who signed the checkpoints: the exit status is 2 at best",
        );
    }
    let trust = trust::of(global, args, key, &what.checkpoint)?;
    // Without the master key all is verified but whether bodies could be opened.
    let master = match (&args.key, &args.record) {
        (Some(path), _) => Some(MasterKey::load(path)?),
        (None, Some(_)) => None,
        (None, None) => MasterKey::load(&Cell::open(&global.cell)?.master_key()).ok(),
    };
    let is_named = args.key.is_some();
    let (bar, dir, crashed) = (prove::bar(global, "verifying")?, dir.to_owned(), args.crashed);
    // A file that was changed at random may break any promise of its format: a panic on the way is an unreadable record.
    let checked = tokio::task::spawn_blocking(move || {
        let reader = record::reader(&dir, None, crashed)?;
        let mut progress = |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        };
        let mut report = reader.verify_against(level, &trust, &mut progress)?;
        // Where something else is wrong already, keys say nothing more.
        if let (Some(master), true) = (master, report.is_ok()) {
            match reader.verify_keys(&master, &mut report, &mut progress) {
                Err(ReadError::WrongKey) if !is_named => output::note(
                    "keys were not looked at: the cell's own master key is not this record's; name the one that is with --key",
                ),
                looked => looked?,
            }
        }
        bar.finish_and_clear();
        anyhow::Ok(report)
    });
    checked.await.context("the record's file broke the reader")?
}

async fn in_segment(global: &Global, args: &AuditArgs, path: &Path) -> Result<Report> {
    let key = trust::public_key(global, args)?.context("name the public key with --public-key")?;
    let (bar, path) = (prove::bar(global, "verifying")?, path.to_owned());
    let checked = tokio::task::spawn_blocking(move || {
        let found = segment::verify(&path, &key, &mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        found
    });
    Ok(checked.await.context("the segment's file broke the reader")??.report)
}

async fn in_bundle(
    global: &Global,
    args: &AuditArgs,
    what: &VerifyArgs,
    dir: &Path,
) -> Result<bundle::Verified> {
    let named = args
        .public_key
        .as_ref()
        .map(|path| trust::text(path)?.trim_end().parse::<PublicKey>().context("the public key"));
    let key: PublicKey = match named.transpose()? {
        Some(key) => key,
        None => {
            output::note(
                "the key is the bundle's own: anybody could have made it, so the exit status is 2 at best; name yours with --public-key",
            );
            bundle::public_key(dir)?
        }
    };
    let trust = Trust { key: Some(key.clone()), pinned: trust::kept(&what.checkpoint, &key)? };
    let (bar, dir, since) = (prove::bar(global, "verifying")?, dir.to_owned(), what.since.unwrap_or(0));
    let checked = tokio::task::spawn_blocking(move || {
        let found = bundle::verify_since(&dir, &key, &trust, since, &mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        found
    });
    let found = checked.await.context("reading the bundle")??;
    if !global.json {
        prove::accounted(&found.accounts);
        if !found.has_bodies {
            output::note("the export holds no sealed bodies: its leaves were checked");
        }
    }
    Ok(found)
}

/// Checks one proof.
fn proven(global: &Global, args: &AuditArgs, what: &VerifyArgs, path: &Path) -> Result<ExitCode> {
    let key = trust::public_key(global, args)?.context("name the public key with --public-key")?;
    let text = trust::text(path)?;
    let checked = match (&what.leaf, what.checkpoint.first()) {
        (Some(leaf), _) => {
            let leaf = trust::text(leaf)?;
            let line = leaf.strip_suffix('\n').unwrap_or(&leaf);
            text.parse::<InclusionProof>().and_then(|proof| proof.check(&key, line.as_bytes()))
        }
        (None, Some(old)) => {
            let old = trust::checkpoint(old, &key)?;
            text.parse::<ConsistencyProof>().and_then(|proof| proof.check(&key, &old))
        }
        (None, None) => anyhow::bail!("a proof is of a line or of a checkpoint"),
    };
    let whole = checked.is_ok();
    let words = match &checked {
        Ok(signed) => format!("proven: by the checkpoint of {} records of `{}`", signed.size, signed.origin),
        Err(error) => format!("TAMPERED: {error}"),
    };
    if global.json {
        let signed = checked.ok().map(|signed| json!({ "origin": signed.origin, "records": signed.size }));
        output::json(&json!({ "verdict": if whole { "proven" } else { "tampered" }, "signed": signed }))?;
    } else {
        output::line(words);
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(TAMPERED) })
}

/// What was named to be read, for saying that it cannot be.
pub(super) fn named(global: &Global, args: &AuditArgs) -> PathBuf {
    args.record.clone().unwrap_or_else(|| global.cell.clone())
}

pub(super) fn unreadable(global: &Global, dir: &Path, error: &anyhow::Error) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "verdict": "unreadable", "record": dir, "why": output::sentence(error) }))?;
    } else {
        output::line(format!("UNREADABLE: `{}`: {}", dir.display(), output::sentence(error)));
    }
    Ok(ExitCode::from(UNREADABLE))
}

/// What was found.
struct Checked<'a> {
    report: &'a Report,
    streams: Option<&'a [Account]>,
    /// Whether the key of who signed it was named, and not taken from what is checked.
    vouched: bool,
}

fn show(global: &Global, dir: &Path, checked: &Checked<'_>, strict: bool) -> Result<ExitCode> {
    let Checked { report, streams, vouched } = *checked;
    let whole = report.is_ok();
    if global.json {
        let verdict = if whole { "whole" } else { "tampered" };
        let mut told = json!({ "verdict": verdict, "record": dir, "signer": vouched, "report": report });
        if let (Some(told), Some(streams)) = (told.as_object_mut(), streams) {
            told.insert("streams".to_owned(), json!(streams));
        }
        output::json(&told)?;
    } else if whole {
        let part = if report.from > 0 { format!(" from index {} on", report.from) } else { String::new() };
        let (records, bodies, anomalies) = (report.records, report.bodies, report.anomalies);
        let pruned = pruned(report);
        let keys = match report.keys {
            Some(keys) => format!("; {keys} keys of bodies open, or were erased on record"),
            None if streams.is_none() => "; keys were not looked at".to_owned(),
            None => String::new(),
        };
        let signed = match report.signed {
            Some(signed) => {
                format!("{} checkpoints fit, the newest is of {signed} records", report.checkpoints)
            }
            None => "nothing is signed yet".to_owned(),
        };
        output::line(format!(
            "whole: {records} records{part} and {bodies} bodies have the bytes that were recorded{pruned}{keys}; {signed}; {anomalies} known anomalies"
        ));
    } else {
        let count = report.problems.len() as u64 + report.more;
        output::line(format!(
            "TAMPERED: {count} problems in {} records of `{}`",
            report.records,
            dir.display()
        ));
        if let Some(first) = report.first() {
            output::line(format!("first bad record: {}", words(first)));
        }
        for problem in report.problems.iter().take(LISTED) {
            output::line(format!("  {}", words(problem)));
        }
        if count > LISTED as u64 {
            output::line(format!("  and {} more; all with --json", count - LISTED as u64));
        }
    }
    Ok(match whole {
        false => ExitCode::from(TAMPERED),
        true if !vouched || (strict && report.anomalies > 0) => ExitCode::from(ODD),
        true => ExitCode::SUCCESS,
    })
}

/// What retention took away.
fn pruned(report: &Report) -> String {
    let records = match report.pruned {
        0 => String::new(),
        records => format!("; {records} records pruned by retention, their hashes kept"),
    };
    match report.pruned_bodies.saturating_sub(report.pruned) {
        0 => records,
        bodies => format!("{records}; {bodies} bodies pruned by retention"),
    }
}

fn words(problem: &Problem) -> String {
    let index =
        problem.index.map(|index| format!("record {index}")).unwrap_or_else(|| "the record".to_owned());
    let place = problem.position.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
    format!("{index}{place}: {}", problem.fault)
}
