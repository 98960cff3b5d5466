//! A replay's plan: which records, fixed before anything is published, in a file that somebody can read first.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tidegate_schemas::digest::Digest;
use uuid::Uuid;

use crate::error::ReadError;
use crate::read::{Filter, Reader};

/// Most records of one plan.
pub const RECORDS_MAX: usize = 1_000_000;
/// Longest plan file, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Records to publish again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this form; 1.
    pub v: u32,
    /// The replay's id: a subject token.
    pub id: Uuid,
    /// When it was made.
    pub made: Timestamp,
    /// What it was made from.
    pub filter: Filter,
    /// SHA-256 over each record's index (8 bytes, big-endian) and leaf hash, in order.
    pub hash: Digest,
    /// Indices of the records, in the order in which they will be published.
    pub indices: Vec<u64>,
}

/// Why there is no plan, or it cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Too much at once.
    #[error("the filter matches more than {RECORDS_MAX} records; narrow it")]
    TooMany,
    /// The file could not be read or written.
    #[error("cannot use the plan file `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("`{}` is not a replay plan of this version", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The record is not the one it was made from, or was changed.
    #[error("the record no longer holds what the plan was made from; make a new plan")]
    Stale,
}

impl Plan {
    /// Fixes which records a filter matches now. The filter's page and limit are not looked at; gaps are left out.
    ///
    /// # Errors
    /// [`PlanError::TooMany`] above [`RECORDS_MAX`]; [`PlanError::Read`].
    pub fn make(reader: &Reader, filter: Filter, id: Uuid, made: Timestamp) -> Result<Self, PlanError> {
        let filter = Filter { after: None, limit: None, ..filter };
        let mut page = Filter { limit: Some(1_000), ..filter.clone() };
        let (mut indices, mut hash) = (Vec::new(), Sha256::new());
        loop {
            let found = reader.query(&page)?;
            for record in found.records.iter().filter(|record| record.leaf.body.is_some()) {
                indices.push(record.leaf.index);
                add(&mut hash, record.leaf.index, &record.hash);
            }
            if indices.len() > RECORDS_MAX {
                return Err(PlanError::TooMany);
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        Ok(Self { v: 1, id, made, filter, hash: Digest::from(<[u8; 32]>::from(hash.finalize())), indices })
    }

    /// Checks that the record still holds what the plan was made from.
    ///
    /// # Errors
    /// [`PlanError::Stale`] when it does not.
    pub fn check(&self, reader: &Reader) -> Result<(), PlanError> {
        let mut hash = Sha256::new();
        for index in &self.indices {
            let record = reader.get(*index)?.ok_or(PlanError::Stale)?;
            add(&mut hash, *index, &crate::leaf::leaf_hash(record.line.as_bytes()));
        }
        let same = <[u8; 32]>::from(hash.finalize()) == *self.hash.as_bytes();
        if same { Ok(()) } else { Err(PlanError::Stale) }
    }

    /// Writes the plan to a new file.
    ///
    /// # Errors
    /// [`PlanError::Io`] when the file is there or cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PlanError> {
        let io = |source| PlanError::Io { path: path.to_owned(), source };
        let text = serde_json::to_vec(self).map_err(|error| io(error.into()))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io)
    }

    /// Reads a plan from its file.
    ///
    /// # Errors
    /// [`PlanError::Io`] and [`PlanError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let io = |source| PlanError::Io { path: path.to_owned(), source };
        let malformed = || PlanError::Malformed { path: path.to_owned() };
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(malformed());
        }
        let plan: Self = serde_json::from_slice(&text).map_err(|_| malformed())?;
        if plan.v == 1 && plan.indices.len() <= RECORDS_MAX { Ok(plan) } else { Err(malformed()) }
    }
}

fn add(hash: &mut Sha256, index: u64, leaf: &[u8; 32]) {
    hash.update(index.to_be_bytes());
    hash.update(leaf);
}
