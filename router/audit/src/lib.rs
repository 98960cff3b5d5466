//! The record: every message of every stream of a cell, in order and without a gap: a redb file that is written, and
//! segments that no longer are.
//!
//! A message becomes a **leaf** (what may be told in the open, as exact bytes) and a sealed **body** (the exact message).
//! [`Store`] writes, one at a time; any number of [`Reader`]s read meanwhile. Pure: files and keys, no network, no
//! runtime, no clock; times come in with the messages.

pub mod store;

pub mod read;
pub mod segment;
pub mod verify;

pub mod checkpoint;
pub mod merkle;

pub mod bundle;
pub mod complete;
pub mod copy;
pub mod export;

pub mod erase;
pub mod hold;
pub mod plain;
pub mod plan;
pub mod replay;
pub mod report;
pub mod retain;
pub mod trim;

pub mod body;
pub mod entry;
pub mod error;
pub mod keys;
pub mod leaf;
pub mod task;

mod find;
#[cfg(test)]
mod fixture;
mod project;
mod table;

pub use body::Body;
pub use checkpoint::{Checkpoint, NoteError, PublicKey, Signer};
pub use copy::CopyError;
pub use entry::{Entry, Gap, GapReason, Item};
pub use erase::{DataSubject, Erasure, ErasureState};
pub use error::{AppendError, ExportError, OpenError, ProveError, ReadError, SegmentError, SegmentFile};
pub use hold::Hold;
pub use keys::{KeyError, MasterKey};
pub use leaf::{Flag, Leaf, RecordKind};
pub use plain::Plain;
pub use plan::{Plan, PlanHead, Planner};
pub use read::{Cursor, Filter, Gone, Opened, Page, Reader, Record, Status};
pub use replay::{Replay, ReplayState};
pub use retain::{Block, Due, Retention};
pub use segment::{Part, Sealed, Sealing};
pub use store::{Appended, Keys, Options, Store};
pub use task::OpenTask;
pub use verify::{Level, Report, Trust};
