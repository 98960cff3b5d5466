//! The store's tables, and the form of an entry. Names in them are keyed hashes: without the master key they say nothing.

use redb::{MultimapTableDefinition, TableDefinition};

/// Scope and token → an [`Entry`].
pub(super) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// What names a value in its scope → its token.
pub(super) const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");
/// A task's message → its entries.
pub(super) const TASKS: MultimapTableDefinition<'_, (&str, u64), &[u8]> =
    MultimapTableDefinition::new("tasks");
/// An entry → the tasks' messages that it was in: `TASKS` the other way round, so that an entry takes its rows there with it.
pub(super) const REFS: MultimapTableDefinition<'_, &[u8], (&str, u64)> = MultimapTableDefinition::new("refs");
/// When entries expire, milliseconds since 1970 → the entries.
pub(super) const EXPIRY: MultimapTableDefinition<'_, u64, &[u8]> = MultimapTableDefinition::new("expiry");
/// Rows of the key file that were destroyed and can be used again.
pub(super) const FREE: TableDefinition<'_, u64, ()> = TableDefinition::new("free");
/// Numbers.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Whether each row of `TASKS` stands in `REFS` too, in `META`.
pub(super) const REFERRED: &str = "referred";
/// Rows of the key file, in `META`.
pub(super) const ROWS: &str = "rows";

/// A sealed value.
pub(super) struct Entry {
    /// Row of its key.
    pub(super) row: u64,
    /// When it expires, milliseconds since 1970.
    pub(super) expires_ms: u64,
    /// What names it in `VALUES`.
    pub(super) named: [u8; 32],
    pub(super) sealed: Vec<u8>,
}

impl Entry {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (row, rest) = bytes.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (named, sealed) = rest.split_first_chunk::<32>()?;
        Some(Self {
            row: u64::from_be_bytes(*row),
            expires_ms: u64::from_be_bytes(*expires),
            named: *named,
            sealed: sealed.to_vec(),
        })
    }

    /// The entry's bytes, kept until then.
    pub(super) fn until(&self, expires_ms: u64) -> Vec<u8> {
        [self.row.to_be_bytes().as_slice(), &expires_ms.to_be_bytes(), &self.named, &self.sealed].concat()
    }
}
