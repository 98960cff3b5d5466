//! The manifest: what a backup holds. It is written last, so a backup is as it was or as it is to be.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable as _};
use serde::{Deserialize, Serialize};
use tidegate_schemas::digest::Digest;

use super::CopyError;
use super::files::{FileSum, In, Out, at, sync_dir};
use super::keys::Counts;
use super::state::Thinned;
use crate::error::Failure;
use crate::table;

/// Form of a backup; one of another form is refused.
const FORM: u64 = 1;
/// The manifest's file.
pub(super) const MANIFEST: &str = "manifest.json";
/// What it is called until it is whole.
pub(super) const PARTIAL: &str = "manifest.partial";
/// Longest manifest: some hundred bytes a part, and parts become one before they are too many.
const BYTES_MAX: u64 = 64 << 20;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Form of the backup.
    pub form: u64,
    /// When its newest part was taken.
    pub taken: Timestamp,
    /// Records there are.
    pub records: u64,
    /// Root of the tree over them, those that are not signed yet too.
    pub root: Digest,
    /// Which history it is: one more with each break that was accepted.
    pub epoch: u64,
    /// The newest checkpoint, a signed note; none where nothing was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Breaks that were accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaks: Vec<EpochNote>,
    /// How far each stream is recorded.
    pub streams: Vec<StreamEnd>,
    /// Backups that went into it.
    pub(crate) backups: u64,
    /// What each added, in order.
    pub(crate) parts: Vec<Part>,
    /// Keys there are.
    pub(crate) keys: Counts,
    /// How much had taken keys away when the first of these files was written.
    pub(crate) thinned: Thinned,
    /// Wrapped keys, in order.
    pub(crate) wrapped: Vec<FileSum>,
    /// The key file.
    pub(crate) key_file: FileSum,
    /// What no leaf says.
    pub(crate) state: FileSum,
}

/// A signed note of a history: a checkpoint of it, or what was signed before it began with a break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochNote {
    /// The history.
    pub epoch: u64,
    /// The note.
    pub note: String,
}

// === impl EpochNote ===

impl EpochNote {
    /// Breaks that a record accepted.
    pub(crate) fn breaks(txn: &ReadTransaction) -> Result<Vec<Self>, Failure> {
        let mut breaks = Vec::new();
        for row in txn.open_table(table::BREAKS)?.iter()? {
            let (epoch, note) = row?;
            let note = String::from_utf8_lossy(note.value()).into_owned();
            breaks.push(Self { epoch: epoch.value(), note });
        }
        Ok(breaks)
    }

    /// Notes as lines of JSON.
    pub(crate) fn lines(notes: &[Self]) -> String {
        // A number and a text always serialise.
        notes.iter().map(|note| serde_json::to_string(note).unwrap_or_default() + "\n").collect()
    }

    /// Reads lines of JSON.
    pub(super) fn read(lines: &str, path: &Path) -> Result<Vec<Self>, CopyError> {
        let form = |_| CopyError::Form { path: path.to_owned(), what: "holds something else than notes" };
        lines.lines().map(|line| serde_json::from_str(line).map_err(form)).collect()
    }
}

/// How far a stream is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamEnd {
    /// The stream.
    pub stream: String,
    /// Its last sequence that is recorded.
    pub last: u64,
}

/// What one backup added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    pub(crate) first: u64,
    pub(crate) records: u64,
    /// Records of which it holds the hash only, because they were pruned.
    pub(crate) pruned: u64,
    /// Records whose bodies were pruned, with those.
    pub(crate) pruned_bodies: u64,
    /// Bodies that the record did not hold any more, and nothing said why.
    pub(crate) missing: u64,
    pub(crate) leaves: FileSum,
    pub(crate) bodies: FileSum,
    pub(crate) notes: FileSum,
}

// === impl Manifest ===

impl Manifest {
    /// The form that this program writes.
    pub(super) const FORM: u64 = FORM;

    /// Reads the manifest of a backup; `None` where there is none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, CopyError> {
        let path = dir.join(MANIFEST);
        if !fs::exists(&path).map_err(at(&path))? {
            return Ok(None);
        }
        let bytes = In::open(&path)?.rest(BYTES_MAX)?;
        let form = |what| CopyError::Form { path: path.clone(), what };
        #[derive(Deserialize)]
        struct Head {
            form: u64,
        }
        // Another version may have other fields: what it is comes first.
        let Head { form: found } = serde_json::from_slice(&bytes)
            .map_err(|_| form("is no manifest of a backup; use another backup"))?;
        if found != FORM {
            return Err(CopyError::Version { found, known: FORM });
        }
        let read: Self =
            serde_json::from_slice(&bytes).map_err(|_| form("is damaged; use another backup"))?;
        let mut next = 0;
        for part in &read.parts {
            let follows = part.first == next;
            next = part.first.saturating_add(part.records);
            if !follows {
                return Err(form("names parts that do not follow each other; use another backup"));
            }
        }
        if next != read.records || !read.files().all(|file| is_plain(&file.name)) {
            return Err(form("names other records than its parts hold; use another backup"));
        }
        Ok(Some(read))
    }

    /// Writes it in place of the one before, durably. One that could not be read again is not written.
    pub(super) fn write(&self, dir: &Path) -> Result<(), CopyError> {
        let path = dir.join(MANIFEST);
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| at(dir)(error.into()))?;
        text.push(b'\n');
        if text.len() as u64 > BYTES_MAX {
            let what = "would be too long to be read again, and stays as it was; begin another directory";
            return Err(CopyError::Form { path, what });
        }
        let mut out = Out::create(dir, PARTIAL)?;
        out.put(&text)?;
        out.finish()?;
        fs::rename(dir.join(PARTIAL), &path).map_err(at(&path))?;
        sync_dir(dir)
    }

    /// Its files.
    pub(super) fn files(&self) -> impl Iterator<Item = &FileSum> {
        let parts = self.parts.iter().flat_map(|part| [&part.leaves, &part.bodies, &part.notes]);
        parts.chain(&self.wrapped).chain([&self.key_file, &self.state])
    }

    /// Bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// Bodies that the record did not hold any more, and nothing said why.
    #[must_use]
    pub fn bodies_missing(&self) -> u64 {
        self.parts.iter().map(|part| part.missing).sum()
    }
}

/// Whether a name stays in the backup's directory: a manifest comes from outside.
fn is_plain(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    name.split('/').count() <= 2 && name.split('/').all(plain)
}
