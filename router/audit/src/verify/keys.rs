//! Keys of the record's bodies: each must open, or an act on record must say why it does not.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;

use super::{Fault, Report, records_at_most};
use crate::erase::act_on;
use crate::error::{Failure, ReadError};
use crate::keys::MasterKey;
use crate::keys::file::KeyFile;
use crate::keys::task::Wrapped;
use crate::leaf::Leaf;
use crate::read::Reader;
use crate::read::view::Place;
use crate::store::{self, ring};
use crate::table;

/// Records read in one transaction.
const CHUNK: u64 = 4_096;
/// The key file, as a place.
const KEY_FILE: &str = "keys.bin";

/// The key file of a record, and what of it does not open.
struct Rows<'a> {
    reader: &'a Reader,
    file: KeyFile,
    shut: BTreeSet<u64>,
}

impl Reader {
    /// Opens each key of the bodies of a record that was verified, from the first record that was read there. What does not
    /// open, and is named by no erasure on record, stands in the report. Bodies that were pruned need none.
    ///
    /// # Errors
    /// [`ReadError::WrongKey`] when the master key opens nothing; [`ReadError::KeyChanged`] when the record went over to another
    /// one meanwhile; else as [`Self::verify`].
    pub fn verify_keys(
        &self,
        master: &MasterKey,
        report: &mut Report,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), ReadError> {
        report.keys = Some(0);
        let Some(rows) = self.rows(master, report)? else { return Ok(()) };
        let records = self.status()?.records.min(records_at_most(&*self.begin()?)?);
        let mut seen = BTreeSet::new();
        let (from, mut at) = (report.from, report.from);
        while at < records {
            let end = records.min(at + CHUNK);
            for leaf in self.with_bodies(at..end)? {
                let Some(commitment) = leaf.body.filter(|body| seen.insert(body.key)) else { continue };
                let lost = !rows.opens(commitment.key)? && !rows.was_erased(commitment.key, &leaf)?;
                if lost && !rows.is_current()? {
                    return Err(ReadError::KeyChanged);
                }
                if lost {
                    report.add(Some(leaf.index), Some(leaf.position().to_string()), Fault::KeyLost);
                }
            }
            at = end;
            progress(at - from, records - from);
        }
        report.keys = Some(seen.len() as u64);
        Ok(())
    }

    /// The key file with the rows that do not open. `None` where the file is of no use, which the report says then.
    fn rows(&self, master: &MasterKey, report: &mut Report) -> Result<Option<Rows<'_>>, ReadError> {
        let count = |name: &str| -> Result<Option<u64>, ReadError> {
            let txn = self.begin()?;
            let meta = txn.open_table(table::META).map_err(Failure::from)?;
            Ok(meta.get(name).map_err(Failure::from)?.map(|row| row.value()))
        };
        let all = count(table::META_KEY_ROWS)?.unwrap_or(0);
        if all == 0 {
            return Ok(None);
        }
        let Ok(file) = KeyFile::read_only(&store::key_file(self.dir()), master.wrapping(), all) else {
            report.add(None, Some(KEY_FILE.to_owned()), Fault::KeyFile);
            return Ok(None);
        };
        let (mut shut, mut destroyed) = (BTreeSet::new(), 0);
        for row in 0..all {
            if file.key(row).map_err(ReadError::of_file)?.is_err() {
                destroyed += u64::from(file.is_destroyed(row).map_err(ReadError::of_file)?);
                shut.insert(row);
            }
        }
        // Of a file whose rows were all destroyed nothing tells which key it was for.
        if shut.len() as u64 == all && destroyed < all {
            return Err(ReadError::WrongKey);
        }
        let own = [
            (Some(ring::CELL_ROW), "the cell's own key"),
            (count(table::META_REFERENCES)?, "the key of references"),
        ];
        for (row, name) in own {
            if row.is_some_and(|row| shut.contains(&row)) {
                report.add(None, Some(name.to_owned()), Fault::KeyLost);
            }
        }
        Ok(Some(Rows { reader: self, file, shut }))
    }

    /// Leaves of a range whose bodies are not pruned. A part that cannot be read is the verification's to tell.
    fn with_bodies(&self, range: std::ops::Range<u64>) -> Result<Vec<Leaf>, ReadError> {
        let (txn, mut leaves) = (self.begin()?, Vec::new());
        for (part, place) in txn.places(range)? {
            if matches!(&place, Place::Segment(segment) if segment.bodies.is_some()) {
                continue;
            }
            let Some(rec) = txn.records(&place)? else { continue };
            for row in rec.range(part).map_err(Failure::from)? {
                let (_, row) = row.map_err(Failure::from)?;
                leaves.extend(serde_json::from_slice::<Leaf>(row.value().get(32..).unwrap_or_default()).ok());
            }
        }
        Ok(leaves)
    }
}

// === impl Rows ===

impl Rows<'_> {
    fn wrapped(&self, key: u64) -> Result<Option<Wrapped>, ReadError> {
        let txn = self.reader.begin()?;
        let keys = txn.open_table(table::KEYS).map_err(Failure::from)?;
        let wrapped = keys.get(key).map_err(Failure::from)?;
        Ok(wrapped.and_then(|bytes| Wrapped::decode(bytes.value())))
    }

    /// Whether a key that bodies are sealed with can be had.
    fn opens(&self, key: u64) -> Result<bool, ReadError> {
        let Some(wrapped) = self.wrapped(key)? else { return Ok(false) };
        let mut subjects = Vec::new();
        for row in wrapped.rows.iter().filter(|row| !self.shut.contains(row)) {
            subjects.extend(self.file.key(*row).map_err(ReadError::of_file)?.ok());
        }
        Ok(subjects.len() == wrapped.rows.len() && wrapped.open(key, &subjects).is_ok())
    }

    /// Whether an act on record destroyed it; looked for after it did not open.
    fn was_erased(&self, key: u64, leaf: &Leaf) -> Result<bool, ReadError> {
        let Some(wrapped) = self.wrapped(key)? else { return Ok(false) };
        let txn = self.reader.begin()?;
        for row in wrapped.rows {
            if act_on(&txn, row, leaf)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the file is still the record's: it is written anew where keys are destroyed or sealed under another master key.
    fn is_current(&self) -> Result<bool, ReadError> {
        let named = std::fs::metadata(store::key_file(self.reader.dir())).map_err(ReadError::of_file)?;
        Ok(named.ino() == self.file.inode().map_err(ReadError::of_file)?)
    }
}
