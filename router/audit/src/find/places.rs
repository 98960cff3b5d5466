//! Places in a block: a bit each in memory; in a row a list while they are few, else the bits.

use super::BLOCK;

const WORDS: usize = (BLOCK / 64) as usize;
/// Bytes of a row of bits.
const BITS_BYTES: usize = WORDS * 8;
/// Most places of a list: shorter than the bits, by which the two are told apart.
const LIST_MAX: usize = BITS_BYTES / 2 - 1;

/// Some places of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    words: [u64; WORDS],
}

impl Places {
    pub(crate) fn none() -> Self {
        Self { words: [0; WORDS] }
    }

    /// The places from `from` on, before `to`.
    pub(crate) fn between(from: u64, to: u64) -> Self {
        let below = |end: u64, word: u64| match end.saturating_sub(word * 64) {
            whole if whole >= 64 => u64::MAX,
            part => (1 << part) - 1,
        };
        let mut all = Self::none();
        for (number, word) in (0..).zip(&mut all.words) {
            *word = below(to, number) & !below(from, number);
        }
        all
    }

    pub(crate) fn insert(&mut self, place: u16) {
        if let Some(word) = self.words.get_mut(usize::from(place / 64)) {
            *word |= 1 << (place % 64);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Keeps what both have.
    pub(crate) fn and(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    /// Keeps the places whose word of 64 is wanted.
    pub(crate) fn keep_words(&mut self, wanted: impl Fn(usize) -> bool) {
        for (number, word) in self.words.iter_mut().enumerate() {
            if *word != 0 && !wanted(number) {
                *word = 0;
            }
        }
    }

    /// Adds what a row holds. A row of another form adds nothing.
    pub(crate) fn add_row(&mut self, row: &[u8]) {
        if row.len() == BITS_BYTES {
            for (word, bytes) in self.words.iter_mut().zip(row.as_chunks::<8>().0) {
                *word |= u64::from_be_bytes(*bytes);
            }
        } else {
            row.as_chunks::<2>().0.iter().for_each(|place| self.insert(u16::from_be_bytes(*place)));
        }
    }

    /// As a row.
    pub(crate) fn row(&self) -> Vec<u8> {
        let count: u32 = self.words.iter().map(|word| word.count_ones()).sum();
        if count as usize <= LIST_MAX {
            self.iter().flat_map(u16::to_be_bytes).collect()
        } else {
            self.words.iter().flat_map(|word| word.to_be_bytes()).collect()
        }
    }

    /// The places, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> {
        (0_u16..).zip(&self.words).flat_map(|(number, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = u16::try_from(left.trailing_zeros()).ok().filter(|bit| *bit < 64)?;
                left &= left - 1;
                Some(number * 64 + bit)
            })
        })
    }
}
