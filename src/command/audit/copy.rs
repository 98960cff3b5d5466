//! `tidegate audit backup`, `restore` and `rebuild`: the record into a directory, and back.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;
use tidegate_audit::CopyError;
use tidegate_audit::copy::{self, Made, Rebuild, StreamEnd};

use super::{prove, trust};
use crate::cell::{CHECKPOINT_KEY, CHECKPOINT_PUBLIC, Cell};
use crate::cli::{AuditArgs, Global};
use crate::command::record;
use crate::output;

/// Where a backup with keys holds them.
const KEYS: &str = "keys";

pub(super) async fn backup(
    global: &Global,
    args: &AuditArgs,
    dir: &Path,
    with_keys: bool,
) -> Result<ExitCode> {
    anyhow::ensure!(
        !with_keys || args.record.is_none(),
        "--with-keys copies a cell's keys: leave --record away"
    );
    let key = trust::public_key(global, args)?;
    if key.is_none() {
        output::note(
            "without --public-key nobody knows who signed the checkpoints; the backup is taken all the same",
        );
    }
    let record = trust::directory(global, args)?;
    let (bar, to, crashed) = (prove::bar(global, "copying")?, dir.to_owned(), args.crashed);
    let taken = tokio::task::spawn_blocking(move || {
        let reader = record::reader(&record, None, crashed)?;
        let taken = reader.backup(&to, key.as_ref(), Timestamp::now(), &mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        anyhow::Ok(taken?)
    });
    let taken = taken.await.context("copying the record")??;
    if with_keys {
        copy_keys(&Cell::open(&global.cell)?, dir)?;
        output::note(format!(
            "WARNING: `{}` holds the master key and the signing key: whoever has it reads every body, and can sign another history",
            dir.join(KEYS).display()
        ));
    }
    let manifest = &taken.manifest;
    if global.json {
        output::json(&json!({
            "directory": dir, "records": manifest.records, "added": taken.added, "bytes": manifest.bytes(),
            "signed": taken.signed, "checkpoint": manifest.checkpoint, "streams": manifest.streams,
            "bodies_missing": manifest.bodies_missing(), "keys": with_keys,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows =
        manifest.streams.iter().map(|StreamEnd { stream, last }| vec![stream.clone(), last.to_string()]);
    output::table(&["stream", "up to"], &rows.collect::<Vec<_>>());
    output::line(format!(
        "backed up: {} records in `{}`, {} of them new, {} signed; {} bytes",
        manifest.records,
        dir.display(),
        taken.added,
        taken.signed,
        manifest.bytes()
    ));
    lacks(manifest.bodies_missing());
    if !with_keys {
        output::line(
            "the master key and the signing key are not in it: keep them elsewhere (`keys/` of the cell)",
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn restore(global: &Global, args: &AuditArgs, dir: &Path, check: bool) -> Result<ExitCode> {
    let to = if check { None } else { Some(trust::directory(global, args)?) };
    // A backup is verified anywhere, also where no cell is.
    let nobody = args.public_key.is_none() && Cell::open(&global.cell).is_err();
    let key = if nobody { None } else { trust::public_key(global, args)? };
    if key.is_none() {
        output::note("without --public-key nobody knows who signed the checkpoints of the backup");
    }
    let (from, place) = (dir.to_owned(), to.clone());
    let made = run(global, if check { "verifying" } else { "restoring" }, move |progress| {
        copy::restore(&from, place.as_deref(), key.as_ref(), progress)
    });
    let made = made.await?;
    let what = if check { "the backup is whole" } else { "restored" };
    show(global, &made, to.as_deref(), what)?;
    if !check && !global.json {
        output::line(
            "start the recorder: it reads again what the streams hold, and records as gaps what they no longer hold. If it says that more \
             was signed, go on with `tidegate audit accept-break`",
        );
        output::line(
            "keys of data subjects who were erased after the backup are in it again: repeat these erasures",
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rebuild(
    global: &Global,
    args: &AuditArgs,
    from: Vec<PathBuf>,
    key_file: Option<PathBuf>,
) -> Result<ExitCode> {
    let to = args.record.clone().context("name the directory of the new record with --record")?;
    let key = trust::public_key(global, args)?;
    if key.is_none() {
        output::note("the key is the export's own: anybody could have made it; name yours with --public-key");
    }
    let place = to.clone();
    let made = run(global, "rebuilding", move |progress| {
        let what = Rebuild { from: &from, key_file: key_file.as_deref(), key: key.as_ref() };
        copy::rebuild(what, &place, progress)
    });
    show(global, &made.await?, Some(&to), "rebuilt")?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a copy on a thread of its own, behind a bar.
async fn run(
    global: &Global,
    what: &str,
    make: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<Made, CopyError> + Send + 'static,
) -> Result<Made> {
    let bar = prove::bar(global, what)?;
    let made = tokio::task::spawn_blocking(move || {
        let made = make(&mut |done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        made
    });
    Ok(made.await.context("reading the copy")??)
}

fn show(global: &Global, made: &Made, to: Option<&Path>, what: &str) -> Result<()> {
    let Made { records, root, signed, epoch, bodies_missing, has_keys, holds, accounts } = made;
    if global.json {
        return output::json(&json!({
            "record": to, "records": records, "root": root, "epoch": epoch,
            "signed": signed.as_ref().map(|signed| json!({ "origin": signed.origin, "records": signed.size })),
            "bodies_missing": bodies_missing, "keys": has_keys, "holds": holds, "streams": accounts,
        }));
    }
    prove::accounted(accounts);
    let place = to.map(|to| format!(" in `{}`", to.display())).unwrap_or_default();
    let signed = match signed {
        Some(signed) => format!("{} of them signed by `{}`", signed.size, signed.origin),
        None => "nothing is signed".to_owned(),
    };
    output::line(format!("{what}{place}: {records} records, {signed}; their root is {root}"));
    lacks(*bodies_missing);
    match holds {
        Some(0) => {}
        Some(holds) => output::line(format!("legal holds: {holds}")),
        None => output::line(
            "legal holds and erasures are no part of an export without --bodies: place the holds again",
        ),
    }
    if !has_keys {
        output::line("the keys of its bodies are not there: they stay sealed");
    }
    Ok(())
}

fn lacks(bodies_missing: u64) {
    if bodies_missing > 0 {
        output::line(format!("{bodies_missing} bodies are not in it; their leaves are"));
    }
}

/// Copies the keys that the record is written with. Only where somebody asks for it.
fn copy_keys(cell: &Cell, dir: &Path) -> Result<()> {
    let to = dir.join(KEYS);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&to)?;
    for name in ["master.key", CHECKPOINT_KEY, CHECKPOINT_PUBLIC] {
        let from = cell.key(name);
        let bytes = fs::read(&from).with_context(|| format!("reading `{}`", from.display()))?;
        let path = to.join(name);
        let writing = || format!("writing `{}`", path.display());
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(writing)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(writing)?;
    }
    Ok(())
}
