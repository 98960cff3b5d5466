//! The index: which records have which term, and from when to when they are.
//!
//! It lags behind the record and can be made from it at any time. Records are taken in blocks of 4,096; a row says where in
//! a block a term occurs. Rows are keyed by block first, so that they are written at the end of their table, whatever the
//! terms are; who looks for a term asks block by block, and combines terms bit by bit. What the index gives are
//! candidates: who asked reads them and looks.

mod places;
pub(crate) mod term;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use places::Places;
pub(crate) use window::Windows;

/// Records of a block.
pub(crate) const BLOCK: u64 = 4_096;

/// The block of a record.
pub(crate) fn block_of(index: u64) -> u64 {
    index / BLOCK
}

/// The place of a record in its block.
pub(crate) fn place_of(index: u64) -> u16 {
    u16::try_from(index % BLOCK).unwrap_or_default()
}
