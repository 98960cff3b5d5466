//! Sealed bodies, read along with their records and hashed.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::AccessGuard;
use sha2::{Digest as _, Sha256};

use super::hands::Broken;
use super::{Fault, files};
use crate::error::Failure;
use crate::keys::seal::OVERHEAD_BYTES;
use crate::leaf::Leaf;
use crate::read::Reader;
use crate::read::view::{Place, View};
use crate::segment::Part;

/// The bodies of a range.
pub(super) enum Bodies {
    /// Retention took them away.
    Pruned,
    /// They are read in the order of their records.
    Rows(Rows),
    /// Their file cannot be read.
    Broken,
}

/// Rows by index, and the one that was read last.
pub(super) struct Rows {
    rows: redb::Range<'static, u64, &'static [u8]>,
    at: Option<(u64, AccessGuard<'static, &'static [u8]>)>,
}

/// What became of one body.
pub(super) struct Checked {
    pub(super) hashed: bool,
    pub(super) fault: Option<Fault>,
}

/// What is wrong with a sealed body, by what its leaf commits to.
pub(crate) fn fault(leaf: &Leaf, sealed: Option<&[u8]>) -> Option<Fault> {
    match (leaf.body, sealed) {
        (None, None) => None,
        (Some(_), None) => Some(Fault::BodyMissing),
        (None, Some(_)) => Some(Fault::BodyChanged),
        (Some(commitment), Some(sealed)) => {
            let length = commitment.length.saturating_add(OVERHEAD_BYTES as u64);
            let same = length == sealed.len() as u64
                && <[u8; 32]>::from(Sha256::digest(sealed)) == *commitment.sha256.as_bytes();
            (!same).then_some(Fault::BodyChanged)
        }
    }
}

// === impl Bodies ===

impl Bodies {
    /// The bodies of a range, or why their file cannot be read.
    pub(super) fn open(
        reader: &Reader,
        view: &View,
        place: &Place,
        range: Range<u64>,
    ) -> Result<Result<Self, Broken>, Failure> {
        let open = |view: &View, place: &Place| -> Result<Self, Failure> {
            let rows = view.bodies(place)?.range(range.clone())?;
            Ok(rows.map_or(Self::Pruned, |rows| Self::Rows(Rows { rows, at: None })))
        };
        let Place::Segment(segment) = place else { return open(view, place).map(Ok) };
        match catch_unwind(AssertUnwindSafe(|| open(view, place))) {
            Ok(Ok(bodies)) => Ok(Ok(bodies)),
            other => {
                // It may have been pruned meanwhile.
                if files::pruned_since(&reader.begin()?, segment, Part::Bodies)?.is_some() {
                    return Ok(Ok(Self::Pruned));
                }
                Ok(Err(Broken(other.ok().and_then(Result::err))))
            }
        }
    }
}

// === impl Rows ===

impl Rows {
    /// Checks the body of a record. The inner error is that its segment's file cannot be read.
    pub(super) fn check(
        &mut self,
        place: &Place,
        leaf: &Leaf,
        index: u64,
    ) -> Result<Result<Checked, Broken>, Failure> {
        let mut check = || -> Result<Checked, Failure> {
            let sealed = self.get(index)?;
            let hashed = leaf.body.is_some() && sealed.is_some();
            Ok(Checked { hashed, fault: fault(leaf, sealed) })
        };
        if !matches!(place, Place::Segment(_)) {
            return check().map(Ok);
        }
        // A file that was changed at random may break any promise of its format.
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(Ok(checked)) => Ok(Ok(checked)),
            other => Ok(Err(Broken(other.ok().and_then(Result::err)))),
        }
    }

    fn get(&mut self, index: u64) -> Result<Option<&[u8]>, Failure> {
        while self.at.as_ref().is_none_or(|(at, _)| *at < index) {
            let Some(row) = self.rows.next() else { return Ok(None) };
            let (at, sealed) = row?;
            self.at = Some((at.value(), sealed));
        }
        Ok(self.at.as_ref().filter(|(at, _)| *at == index).map(|(_, sealed)| sealed.value()))
    }
}
