//! What a verification trusts: a public key, and checkpoints that were kept outside the record.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tidegate_audit::{Checkpoint, PublicKey, Trust, checkpoint};

use crate::cell::{CHECKPOINT_PUBLIC, Cell};
use crate::cli::{AuditArgs, Global};

/// Longest file of a key or a note that is read, bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The directory of the record that is meant.
pub(super) fn directory(global: &Global, args: &AuditArgs) -> Result<PathBuf> {
    match &args.record {
        Some(dir) => Ok(dir.clone()),
        None => Ok(Cell::open(&global.cell)?.record()),
    }
}

/// The public key that was named, else that of the cell whose record is meant.
pub(super) fn public_key(global: &Global, args: &AuditArgs) -> Result<Option<PublicKey>> {
    let path = match (&args.public_key, &args.record) {
        (Some(path), _) => path.clone(),
        (None, Some(_)) => return Ok(None),
        (None, None) => Cell::open(&global.cell)?.key(CHECKPOINT_PUBLIC),
    };
    let key = text(&path)?.trim_end().parse::<PublicKey>();
    key.map(Some).with_context(|| format!("reading `{}`", path.display()))
}

/// What holds a record to what was signed: the key, the checkpoints that are named, and the newest one that the cell keeps
/// outside its record. It is read before the record, which may grow meanwhile.
pub(super) fn of(
    global: &Global,
    args: &AuditArgs,
    key: Option<PublicKey>,
    named: &[PathBuf],
) -> Result<Trust> {
    let Some(key) = key else {
        anyhow::ensure!(named.is_empty(), "a checkpoint is read with --public-key");
        return Ok(Trust::default());
    };
    let mut pinned = kept(named, &key)?;
    if args.record.is_none() {
        let path = Cell::open(&global.cell)?.checkpoints();
        let newest = checkpoint::newest(&path).context("reading the checkpoint file")?;
        let opened =
            newest.map(|note| key.open(&note).context("reading the newest note of the checkpoint file"));
        pinned.extend(opened.transpose()?);
    }
    Ok(Trust { key: Some(key), pinned })
}

/// Checkpoints that somebody kept.
pub(super) fn kept(named: &[PathBuf], key: &PublicKey) -> Result<Vec<Checkpoint>> {
    named.iter().map(|path| self::checkpoint(path, key)).collect()
}

/// A checkpoint that was kept outside: a signed note, or the newest one of a copy of the cell's file of them.
pub(super) fn checkpoint(path: &Path, key: &PublicKey) -> Result<Checkpoint> {
    let reading = || format!("reading the checkpoint in `{}`", path.display());
    let note = checkpoint::kept(path).with_context(reading)?;
    key.open(&note).with_context(reading)
}

/// A file of text.
pub(super) fn text(path: &Path) -> Result<String> {
    use std::io::Read as _;
    let reading = || format!("reading `{}`", path.display());
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(reading)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(reading)?;
    Ok(text)
}
