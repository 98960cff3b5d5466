//! Signed heads, held against a tree that grows again from its leaves.

use super::Checkpoint;
use crate::merkle::{Frontier, Hash};

/// A tree, and the heads that it must have.
#[derive(Debug, Default)]
pub(crate) struct Held {
    tree: Frontier,
    heads: Vec<(Checkpoint, bool)>,
    /// Heads that are larger than the tree, the smallest last.
    ahead: Vec<usize>,
}

// === impl Held ===

impl Held {
    /// Heads that are known by their places in this list.
    pub(crate) fn new(heads: impl IntoIterator<Item = Checkpoint>) -> Self {
        let heads: Vec<_> = heads.into_iter().map(|head| (head, false)).collect();
        let mut ahead: Vec<usize> = (0..heads.len()).collect();
        ahead.sort_by_key(|at| std::cmp::Reverse(heads.get(*at).map(|(head, _)| head.size)));
        let mut held = Self { tree: Frontier::default(), heads, ahead };
        held.due();
        held
    }

    /// Takes the next leaf's hash.
    pub(crate) fn push(&mut self, hash: Hash) {
        self.tree.push(hash, |_, _| {});
        self.due();
    }

    /// A head, and whether the leaves so far gave its root.
    pub(crate) fn head(&self, at: usize) -> Option<(&Checkpoint, bool)> {
        self.heads.get(at).map(|(head, fits)| (head, *fits))
    }

    /// The smallest head from place `first` of the list on that the leaves did not give.
    pub(crate) fn refuted(&self, first: usize) -> Option<&Checkpoint> {
        let heads = self.heads.iter().skip(first).filter(|(_, fits)| !fits).map(|(head, _)| head);
        heads.min_by_key(|head| head.size)
    }

    fn due(&mut self) {
        while let Some(at) = self.ahead.last()
            && let Some((head, fits)) = self.heads.get_mut(*at)
            && head.size == self.tree.size()
        {
            *fits = head.root == self.tree.root();
            self.ahead.pop();
        }
    }
}
