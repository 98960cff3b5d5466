//! The record: every message of every stream of a cell, in order and without a gap, in one redb file.
//!
//! A message becomes a **leaf** (what may be told in the open, as exact bytes) and a sealed **body** (the exact message).
//! Pure: files and keys, no network, no runtime, no clock; times come in with the messages.

pub mod body;
pub mod entry;
pub mod error;
pub mod keys;
pub mod leaf;

mod project;
mod table;
