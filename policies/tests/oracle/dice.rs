//! Chance that is the same each time: SplitMix64 (Steele, Lea and Flood, 2014) from a seed.

use crate::words::Set;

pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `most`, which is not 0.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.roll() % most as u64) as usize
    }

    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// One to `most` of these.
    pub(crate) fn some(&mut self, from: &[&'static str], most: usize) -> Set {
        let count = self.below(most) + 1;
        (0..count).map(|_| self.pick(from)).collect()
    }

    /// One of the two next to it, or itself.
    pub(crate) fn near(&mut self, number: u64) -> u64 {
        (number + self.below(3) as u64).saturating_sub(1)
    }
}
