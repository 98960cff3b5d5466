//! Making a record anew: each leaf and body compared with what commits to it, the tree with what was signed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{Fresh, In, Out, at};
use super::gone::{Gone, Left};
use super::keys::KeyLine;
use super::source::Piece;
use super::state::State;
use super::{CopyError, rows};
use crate::complete::{Account, Accounts};
use crate::error::AppendError;
use crate::leaf::{Leaf, leaf_hash};
use crate::merkle::{Frontier, Hash};
use crate::store;
use crate::store::again::{Again, Old, Rest};

const FOLLOWS: &str = "does not follow what is recorded of its stream";
/// Keys that are written in one transaction.
const KEYS_AT_ONCE: usize = 10_000;

/// A signed head that the records must have.
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) root: Hash,
    /// Where it stands.
    pub(super) path: PathBuf,
}

/// A record that is made, or only checked.
pub(super) struct Maker {
    /// Where it is made; nowhere, when it is only checked.
    made: Option<(Fresh, Again)>,
    frontier: Frontier,
    accounts: Accounts,
    gone: Gone,
    /// In reverse order.
    heads: Vec<Head>,
    /// Records of the last head that fitted.
    good: u64,
    /// Bodies that leaves commit to and that are not there.
    pub(super) bodies_missing: u64,
    keys: Vec<KeyLine>,
}

// === impl Maker ===

impl Maker {
    /// `state` is what no leaf says, and where it was read; `signed` the checkpoints that cover segments, by their size.
    pub(super) fn begin(
        to: Option<&Path>,
        mut heads: Vec<Head>,
        state: Option<(State, PathBuf)>,
        signed: BTreeMap<u64, String>,
    ) -> Result<Self, CopyError> {
        let gone = match &state {
            Some((state, path)) => Gone::new(state, path.clone())?,
            None => Gone::default(),
        };
        let made = match to {
            Some(to) => {
                let fresh = Fresh::begin(to)?;
                let again = Again::begin(fresh.path(), state.map(|(state, _)| state), signed)?;
                Some((fresh, again))
            }
            None => None,
        };
        heads.sort_by_key(|head| std::cmp::Reverse(head.size));
        let (frontier, accounts, keys) = (Frontier::default(), Accounts::default(), Vec::new());
        Ok(Self { made, frontier, accounts, gone, heads, good: 0, bodies_missing: 0, keys })
    }

    /// Records so far.
    pub(super) fn records(&self) -> u64 {
        self.frontier.size()
    }

    pub(super) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Takes the next record.
    pub(super) fn take(&mut self, piece: Piece, path: &Path) -> Result<(), CopyError> {
        self.due()?;
        let index = self.records();
        let bad = |what| Err(CopyError::Record { index, path: path.to_owned(), what });
        let (left, follows) = self.gone.left(index, &mut self.accounts);
        if !follows {
            return bad(FOLLOWS);
        }
        let (line, sealed, told) = match (piece, left) {
            (Piece::Record { line, told, .. }, Left::Hash) => {
                return self.pruned(index, told.unwrap_or(leaf_hash(&line)));
            }
            (Piece::Pruned(hash), Left::Hash) => return self.pruned(index, hash),
            (Piece::Pruned(_), _) => {
                return bad("was pruned: use the backup or the export with bodies that is newest");
            }
            (Piece::Record { line, told, .. }, Left::WithoutBody) => (line, None, told),
            (Piece::Record { line, sealed, told }, Left::All) => (line, sealed, told),
        };
        let hash = leaf_hash(&line);
        if told.is_some_and(|told| told != hash) {
            return bad("was changed: its leaf does not have the hash that its tile holds");
        }
        let Ok(leaf) = serde_json::from_slice::<Leaf>(&line) else { return bad(rows::NO_LEAF) };
        if leaf.index != index {
            return bad("says another index than the one where it stands");
        }
        if !self.accounts.take(&leaf) {
            return bad(FOLLOWS);
        }
        if !rows::fits(leaf.body, sealed.as_deref()) {
            return bad(rows::BODY);
        }
        self.bodies_missing += u64::from(leaf.body.is_some() && sealed.is_none() && left == Left::All);
        self.gone.compare(index, &hash)?;
        self.frontier.push(hash, |_, _| {});
        if let Some((_, again)) = &mut self.made {
            again.take(Old { leaf, hash, line, sealed })?;
        }
        Ok(())
    }

    /// Takes the hash of the next record, which was pruned.
    fn pruned(&mut self, index: u64, hash: Hash) -> Result<(), CopyError> {
        self.gone.compare(index, &hash)?;
        self.frontier.push(hash, |_, _| {});
        match &mut self.made {
            Some((_, again)) => Ok(again.pruned(hash)?),
            None => Ok(()),
        }
    }

    /// Takes a wrapped key.
    pub(super) fn key(&mut self, line: KeyLine) -> Result<(), CopyError> {
        self.keys.push(line);
        if self.keys.len() < KEYS_AT_ONCE { Ok(()) } else { self.flush_keys() }
    }

    fn flush_keys(&mut self) -> Result<(), CopyError> {
        let keys = std::mem::take(&mut self.keys);
        match &mut self.made {
            Some((_, again)) if !keys.is_empty() => Ok(again.keys(&keys).map_err(AppendError::from)?),
            _ => Ok(()),
        }
    }

    /// Copies the key file, and compares it with its sum where it has one.
    pub(super) fn key_file(&mut self, mut file: In) -> Result<(), CopyError> {
        if let Some((fresh, _)) = &self.made {
            let path = store::key_file(fresh.path());
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut out = Out::create(fresh.path(), &name)?;
            while let Some(bytes) = file.some()? {
                out.put(&bytes)?;
            }
            out.finish()?;
        }
        file.end()
    }

    /// All records are there: moves the record to its place.
    pub(super) fn end(mut self, rest: &Rest) -> Result<Vec<Account>, CopyError> {
        self.due()?;
        if let Some(head) = self.heads.pop() {
            return Err(CopyError::Absent { from: self.records(), to: head.size - 1 });
        }
        self.flush_keys()?;
        self.gone.end()?;
        if let Some((fresh, again)) = self.made {
            again.end(rest)?;
            let file = store::file(fresh.path());
            fs::File::open(&file).and_then(|file| file.sync_all()).map_err(at(&file))?;
            fresh.keep()?;
        }
        Ok(self.accounts.into_vec())
    }

    /// Compares with the heads that are signed for exactly the records so far.
    fn due(&mut self) -> Result<(), CopyError> {
        while self.heads.last().is_some_and(|head| head.size <= self.frontier.size()) {
            let Some(Head { size, root, path }) = self.heads.pop() else { break };
            if self.frontier.root() != root {
                return Err(CopyError::Root { from: self.good, to: size.saturating_sub(1), path });
            }
            self.good = size;
        }
        Ok(())
    }
}
