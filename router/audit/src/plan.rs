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
use crate::leaf::leaf_hash;
use crate::read::{Filter, Page, Reader, Record};

/// Most records of one plan.
pub const RECORDS_MAX: usize = 1_000_000;
/// Longest plan file, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Version of the form of a plan.
const FORM: u32 = 2;

/// Records to publish again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this form; 2.
    pub v: u32,
    /// What it was made from, and what it must come to again.
    pub head: PlanHead,
    /// When it was made.
    pub made: Timestamp,
    /// SHA-256 over the records' leaf hashes, in order.
    pub leaves: Digest,
    /// What was known, when it was made, of records in it that cannot be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostToPlan>,
    /// Indices of the records, in the order in which they will be published.
    pub indices: Vec<u64>,
}

/// Records of a plan whose messages are gone. They stay in the plan, and are left out when it is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LostToPlan {
    /// Their data subject was erased.
    pub erased: u64,
    /// Retention took them; absent where nobody could look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<u64>,
}

/// A plan without its list, which the record gives again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanHead {
    /// The replay's id: a subject token.
    pub id: Uuid,
    /// Which records.
    pub filter: Filter,
    /// Only those below this index: what the record held when the plan was made.
    pub upto: u64,
    /// Records in it.
    pub records: u64,
    /// SHA-256 over two of them: over the indices (8 bytes each, big-endian), and over the leaf hashes.
    pub hash: Digest,
}

/// A plan that is being made, page by page.
pub struct Planner {
    filter: Filter,
    upto: u64,
    indices: Vec<u64>,
    leaves: Sha256,
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
    #[error("`{}` is not a replay plan of this version, or was changed; make a new plan", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The record is not the one it was made from, or was changed.
    #[error("the record no longer holds what the plan was made from; make a new plan")]
    Stale,
}

// === impl Planner ===

impl Planner {
    /// Begins a plan of what a filter matches below an index. The filter's page and limit are not looked at.
    #[must_use]
    pub fn new(filter: Filter, upto: u64) -> Self {
        let filter = Filter { after: None, limit: None, ..filter };
        Self { filter, upto, indices: Vec::new(), leaves: Sha256::new() }
    }

    /// The question for the first page.
    #[must_use]
    pub fn question(&self) -> Filter {
        Filter { limit: Some(1_000), ..self.filter.clone() }
    }

    /// Adds a page; gives the question for the next one, or none at the end. Gaps are left out.
    ///
    /// # Errors
    /// [`PlanError::TooMany`] above [`RECORDS_MAX`].
    pub fn add(&mut self, page: &Page) -> Result<Option<Filter>, PlanError> {
        for record in self.planned(page) {
            self.indices.push(record.leaf.index);
            self.leaves.update(leaf_hash(record.line.as_bytes()));
        }
        if self.indices.len() > RECORDS_MAX {
            return Err(PlanError::TooMany);
        }
        Ok(page.next.map(|next| Filter { after: Some(next), ..self.question() }))
    }

    /// The records of a page that are in the plan.
    pub fn planned<'a>(&self, page: &'a Page) -> impl Iterator<Item = &'a Record> + use<'a> {
        let upto = self.upto;
        page.records.iter().filter(move |record| record.leaf.body.is_some() && record.leaf.index < upto)
    }

    /// The plan.
    #[must_use]
    pub fn finish(self, id: Uuid, made: Timestamp) -> Plan {
        let Self { filter, upto, indices, leaves } = self;
        let leaves = Digest::from(<[u8; 32]>::from(leaves.finalize()));
        let (records, hash) = (indices.len() as u64, hash(&indices, leaves));
        Plan {
            v: FORM,
            head: PlanHead { id, filter, upto, records, hash },
            made,
            leaves,
            lost: None,
            indices,
        }
    }
}

fn hash(indices: &[u64], leaves: Digest) -> Digest {
    let mut list = Sha256::new();
    indices.iter().for_each(|index| list.update(index.to_be_bytes()));
    let mut both = Sha256::new();
    both.update(list.finalize());
    both.update(leaves.as_bytes());
    Digest::from(<[u8; 32]>::from(both.finalize()))
}

// === impl Plan ===

impl Plan {
    /// Fixes which records a filter matches below an index.
    ///
    /// # Errors
    /// [`PlanError::TooMany`] above [`RECORDS_MAX`]; [`PlanError::Read`].
    pub fn make(
        reader: &Reader,
        filter: Filter,
        upto: u64,
        id: Uuid,
        made: Timestamp,
    ) -> Result<Self, PlanError> {
        let mut planner = Planner::new(filter, upto);
        let mut question = Some(planner.question());
        while let Some(asked) = question {
            question = planner.add(&reader.query(&asked)?)?;
        }
        Ok(planner.finish(id, made))
    }

    /// Makes a plan again from its head.
    ///
    /// # Errors
    /// [`PlanError::Stale`] when the record does not give the same list of the same records.
    pub fn again(reader: &Reader, head: &PlanHead, made: Timestamp) -> Result<Self, PlanError> {
        let plan = Self::make(reader, head.filter.clone(), head.upto, head.id, made)?;
        let whole = reader.status()?.records >= head.upto;
        if whole && plan.head.hash == head.hash && plan.head.records == head.records {
            Ok(plan)
        } else {
            Err(PlanError::Stale)
        }
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
        if plan.v == FORM && plan.indices.len() <= RECORDS_MAX && plan.is_whole() {
            Ok(plan)
        } else {
            Err(malformed())
        }
    }

    /// Whether its list is the one that its hash is of.
    fn is_whole(&self) -> bool {
        let records = self.indices.len() as u64;
        self.head.records == records && self.head.hash == hash(&self.indices, self.leaves)
    }
}
