//! What a verification trusts: a public key, and checkpoints that were kept outside the record.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tidegate_audit::{Checkpoint, PublicKey};

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

/// A checkpoint that was kept outside.
pub(super) fn checkpoint(path: &Path, key: &PublicKey) -> Result<Checkpoint> {
    key.open(&text(path)?).with_context(|| format!("reading the checkpoint in `{}`", path.display()))
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
