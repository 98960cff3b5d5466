//! Wrapped keys as lines of JSON: without the key file and the master key they open nothing.

use std::collections::HashMap;

use redb::{ReadTransaction, ReadableTable as _};
use serde::{Deserialize, Serialize};

use super::CopyError;
use super::files::{In, Out};
use crate::error::Failure;
use crate::table;

/// Longest line: a task has at most eight data subjects.
const LINE_BYTES_MAX: usize = 4_096;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum KeyLine {
    /// A task's wrapped key, and where it is looked up.
    Key {
        key: u64,
        wrapped: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<String>,
    },
    /// A data subject's row in the key file.
    Subject { subject: String, row: u64 },
    /// Keys and rows of the key file that there are; stands last.
    Counts(Counts),
}

/// Keys, and rows of the key file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counts {
    pub(crate) keys: u64,
    pub(crate) rows: u64,
    /// The mark of the last row's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<u64>,
}

/// Writes the keys that came after `since`. Returns how many there are.
pub(super) fn write(txn: &ReadTransaction, since: Counts, out: &mut Out) -> Result<Counts, CopyError> {
    let failed = |error: Failure| CopyError::from(error);
    let meta = txn.open_table(table::META).map_err(Failure::from).map_err(failed)?;
    let count = |name: &str| -> Result<u64, Failure> { Ok(meta.get(name)?.map_or(0, |value| value.value())) };
    let mark = meta.get(table::META_KEY_MARK).map_err(Failure::from)?.map(|mark| mark.value());
    let counts = Counts { keys: count(table::META_KEYS)?, rows: count(table::META_KEY_ROWS)?, mark };
    let places = places(txn, since.keys)?;
    for row in
        txn.open_table(table::KEYS).map_err(Failure::from)?.range(since.keys..).map_err(Failure::from)?
    {
        let (key, wrapped) = row.map_err(Failure::from)?;
        let (key, wrapped) = (key.value(), hex::encode(wrapped.value()));
        out.line(&KeyLine::Key { key, wrapped, place: places.get(&key).map(hex::encode) })?;
    }
    for row in txn.open_table(table::SUBJECTS).map_err(Failure::from)?.iter().map_err(Failure::from)? {
        let (subject, row) = row.map_err(Failure::from)?;
        if row.value() >= since.rows {
            out.line(&KeyLine::Subject { subject: hex::encode(subject.value()), row: row.value() })?;
        }
    }
    out.line(&KeyLine::Counts(counts))?;
    Ok(counts)
}

/// Where the keys from `first` on are looked up: one that was made in place of a destroyed one has its place.
fn places(txn: &ReadTransaction, first: u64) -> Result<HashMap<u64, [u8; 32]>, Failure> {
    let mut places = HashMap::new();
    for row in txn.open_table(table::KEY_OF)?.iter()? {
        let (place, key) = row?;
        if key.value() >= first {
            places.insert(key.value(), *place.value());
        }
    }
    Ok(places)
}

/// Reads lines; a file that does not end with its counts was cut short.
pub(super) fn read(
    file: &mut In,
    take: &mut dyn FnMut(KeyLine) -> Result<(), CopyError>,
) -> Result<Counts, CopyError> {
    let mut counts = None;
    while let Some(line) = file.line(LINE_BYTES_MAX)? {
        let form = || CopyError::Form { path: file.path().to_owned(), what: "holds a line that is no key" };
        match serde_json::from_slice(&line).map_err(|_| form())? {
            KeyLine::Counts(found) => counts = Some(found),
            line => take(line)?,
        }
    }
    counts
        .ok_or(CopyError::Form { path: file.path().to_owned(), what: "is cut short: its counts are missing" })
}
