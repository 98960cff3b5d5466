//! What retention took from the records that are made anew: the copy says so, and an act on record must.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::CopyError;
use super::state::{Sequences, State};
use crate::complete::Accounts;
use crate::leaf::{Leaf, leaf_hash};
use crate::merkle::Hash;
use crate::segment::{Part, Segment};

/// Segments, followed in the order of their records.
#[derive(Default)]
pub(super) struct Gone {
    segments: Vec<Segment>,
    at: usize,
    spans: BTreeMap<u64, Vec<Sequences>>,
    /// Index of an act → hashes that its leaf must have, each with the first record of the segment that it is about.
    acts: HashMap<u64, Vec<(Hash, u64)>>,
    path: PathBuf,
}

/// What is left of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    All,
    WithoutBody,
    Hash,
}

// === impl Gone ===

impl Gone {
    /// `path` is where the state was read.
    pub(super) fn new(state: &State, path: PathBuf) -> Result<Self, CopyError> {
        let mut gone = Self { segments: state.segments().collect(), path, ..Self::default() };
        gone.spans = state.pruned.as_ref().map(|pruned| pruned.spans.clone()).unwrap_or_default();
        for segment in &gone.segments {
            let records = segment.records.as_ref().map(|pruning| (Part::Records, pruning));
            // Bodies go with their records.
            let bodies = segment.bodies.as_ref().map(|pruning| (Part::Bodies, pruning));
            let Some((part, pruning)) = records.or(bodies) else { continue };
            let says = serde_json::from_str::<Leaf>(&pruning.leaf)
                .is_ok_and(|leaf| leaf.index == pruning.act && segment.is_pruned_by(part, &leaf));
            if !says {
                return Err(gone.unsaid(segment.first));
            }
            let act = (leaf_hash(pruning.leaf.as_bytes()), segment.first);
            gone.acts.entry(pruning.act).or_default().push(act);
        }
        Ok(gone)
    }

    /// What is left of the next record. `false` where the sequences that were pruned with it do not follow.
    pub(super) fn left(&mut self, index: u64, accounts: &mut Accounts) -> (Left, bool) {
        while self.segments.get(self.at).is_some_and(|segment| segment.end <= index) {
            self.at += 1;
        }
        let Some(segment) = self.segments.get(self.at) else { return (Left::All, true) };
        match (&segment.records, &segment.bodies) {
            (Some(_), _) => {
                let begins = self.spans.get(&segment.first).filter(|_| segment.first == index);
                let mut follow = true;
                for Sequences { stream, from, to } in begins.into_iter().flatten() {
                    follow &= accounts.take_pruned(stream, *from, *to);
                }
                (Left::Hash, follow)
            }
            (None, Some(_)) => (Left::WithoutBody, true),
            (None, None) => (Left::All, true),
        }
    }

    /// Compares a record with what is said of it.
    pub(super) fn compare(&mut self, index: u64, hash: &Hash) -> Result<(), CopyError> {
        for (act, first) in self.acts.remove(&index).unwrap_or_default() {
            if act != *hash {
                return Err(self.unsaid(first));
            }
        }
        Ok(())
    }

    /// All records were there.
    pub(super) fn end(self) -> Result<(), CopyError> {
        match self.acts.values().flatten().map(|(_, first)| *first).min() {
            Some(first) => Err(self.unsaid(first)),
            None => Ok(()),
        }
    }

    fn unsaid(&self, index: u64) -> CopyError {
        let what = "is gone, and no act on record says that it was pruned";
        CopyError::Record { index, path: self.path.clone(), what }
    }
}
