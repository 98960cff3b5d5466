//! A record made anew from leaves and sealed bodies that were made before. What finds them follows from the leaves: the same
//! indices, tasks, positions and tiles come out.

use std::path::Path;

use redb::Database;

use super::rows::{Rows, Tables};
use super::{Heads, Options, Store, indices, tree, write};
use crate::copy::keys::{Counts, KeyLine};
use crate::error::{Failure, OpenError};
use crate::leaf::Leaf;
use crate::merkle::{Hash, Tree};
use crate::project::{Effect, effect};
use crate::table;

/// Records and bytes of one transaction. Larger than an append's: nobody waits for it.
const RECORDS_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 << 20;

/// A record that is made anew, in a directory of its own.
pub(crate) struct Again {
    db: Database,
    heads: Heads,
    tree: Tree,
    held: Vec<Old>,
    bytes: usize,
}

/// A record that was made before.
pub(crate) struct Old {
    pub(crate) leaf: Leaf,
    pub(crate) hash: Hash,
    pub(crate) line: Vec<u8>,
    pub(crate) sealed: Option<Vec<u8>>,
}

/// What is no leaf of it.
pub(crate) struct Rest {
    /// Which history it is.
    pub(crate) epoch: u64,
    /// The history that began with each break, and what was signed before.
    pub(crate) breaks: Vec<(u64, String)>,
    /// Epoch, size and note of each checkpoint.
    pub(crate) notes: Vec<((u64, u64), String)>,
    pub(crate) keys: Counts,
}

// === impl Again ===

impl Again {
    /// Begins an empty record.
    pub(crate) fn begin(dir: &Path) -> Result<Self, OpenError> {
        let db = Store::database(dir, &Options::default())?;
        let (heads, tree) = (Heads::default(), Tree::default());
        Ok(Self { db, heads, tree, held: Vec::new(), bytes: 0 })
    }

    /// Takes the next record.
    pub(crate) fn take(&mut self, old: Old) -> Result<(), Failure> {
        self.bytes += old.line.len() + old.sealed.as_ref().map_or(0, Vec::len);
        self.held.push(old);
        if self.held.len() >= RECORDS_MAX || self.bytes >= BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Takes wrapped keys.
    pub(crate) fn keys(&mut self, lines: &[KeyLine]) -> Result<(), Failure> {
        let txn = write(&self.db)?;
        {
            let (mut keys, mut key_of) = (txn.open_table(table::KEYS)?, txn.open_table(table::KEY_OF)?);
            let mut subjects = txn.open_table(table::SUBJECTS)?;
            for line in lines {
                match line {
                    KeyLine::Key { key, wrapped, place } => {
                        keys.insert(key, hex::decode(wrapped).unwrap_or_default().as_slice())?;
                        if let Some(place) = place.as_deref().and_then(bytes::<32>) {
                            key_of.insert(&place, key)?;
                        }
                    }
                    KeyLine::Subject { subject, row } => {
                        if let Some(subject) = bytes::<16>(subject) {
                            subjects.insert(&subject, row)?;
                        }
                    }
                    KeyLine::Counts(_) => {}
                }
            }
        }
        Ok(txn.commit()?)
    }

    /// Writes what is left, and closes the record.
    pub(crate) fn end(mut self, rest: &Rest) -> Result<(), Failure> {
        self.flush()?;
        let txn = write(&self.db)?;
        {
            let mut meta = txn.open_table(table::META)?;
            let before = self.heads.clone();
            self.heads.keys = self.heads.keys.max(rest.keys.keys);
            self.heads.save(&txn, &before, rest.keys.rows, &mut meta)?;
            if rest.epoch > 1 {
                meta.insert(table::META_EPOCH, rest.epoch)?;
            }
            let mut breaks = txn.open_table(table::BREAKS)?;
            for (epoch, note) in &rest.breaks {
                breaks.insert(epoch, note.as_bytes())?;
            }
            let mut notes = txn.open_table(table::CHECKPOINTS)?;
            for (place, note) in &rest.notes {
                notes.insert(place, note.as_bytes())?;
            }
        }
        Ok(txn.commit()?)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let held = std::mem::take(&mut self.held);
        self.bytes = 0;
        if held.is_empty() {
            return Ok(());
        }
        let txn = write(&self.db)?;
        let meta = txn.open_table(table::META)?;
        let (mut tables, mut rows, before) = (Tables::open(&txn, meta)?, Rows::default(), self.heads.clone());
        for old in held {
            self.add(old, &tables, &mut rows)?;
        }
        rows.write(&txn, &mut tables)?;
        tree::save(&txn, &mut self.tree)?;
        self.heads.save(&txn, &before, 0, &mut tables.meta)?;
        drop(tables);
        Ok(txn.commit()?)
    }

    fn add(&mut self, old: Old, tables: &Tables<'_>, rows: &mut Rows) -> Result<(), Failure> {
        let Old { leaf, hash, line, sealed } = old;
        let (heads, index) = (&mut self.heads, leaf.index);
        let last = match leaf.detail {
            Some(crate::leaf::Detail::Gap { to, .. }) => to,
            _ => leaf.source.sequence,
        };
        let stream = indices::stream(heads, &leaf.source.stream, last);
        // A number is given once, also where its key is no part of the copy.
        heads.keys = heads.keys.max(leaf.body.map_or(0, |body| body.key + 1));
        if let (Some(tenant), Some(agent), Some(task)) = (&leaf.tenant, &leaf.agent, leaf.task) {
            let place = table::task_key(task, indices::tenant(heads, tenant), agent.as_str());
            if let Some(row) = indices::task(rows, tables, &place, index)? {
                // What was odd about it stands in the leaf.
                let effect = effect(&leaf);
                let counted = row.step(effect, index, &mut Vec::new());
                row.touch(stream, leaf.source.sequence);
                heads.accepted += u64::from(counted.accepted);
                heads.ended += u64::from(counted.ended);
                if let (Effect::Submitted(_), Some(body)) = (effect, leaf.body) {
                    row.key.get_or_insert(body.key);
                }
            }
        }
        indices::add(rows, heads, &leaf, stream);
        self.tree.push(hash);
        rows.rec.push((index, [hash.as_slice(), &line].concat()));
        rows.body.extend(sealed.map(|sealed| (index, sealed)));
        Ok(())
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}
