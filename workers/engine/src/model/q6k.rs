//! Quantising to Q6_K without a search.
//!
//! candle's own quantiser tries nineteen scales for every sixteen weights, which takes seconds for a model whose weights
//! had sixteen levels to begin with. One fitted scale serves them as well (see the tests) in a tenth of the time.
//! The layout of a block is that of ggml: 256 weights as 128 low nibbles, 64 pairs of high bits, 16 scales, one factor.

#[cfg(test)]
mod tests;

use super::math::vectorised;
use half::f16;

const BLOCK: usize = 256;
const GROUP: usize = 16;
/// Bytes of a block.
const BLOCK_BYTES: usize = 128 + 64 + 16 + 2;

/// The blocks of `dense`, whose rows are multiples of 256.
pub(super) fn quantise(dense: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0u8; dense.len() / BLOCK * BLOCK_BYTES];
    vectorised(|| {
        for (block, bytes) in dense.chunks_exact(BLOCK).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
            quantise_block(block, bytes);
        }
    });
    bytes
}

#[inline(always)]
fn quantise_block(block: &[f32], bytes: &mut [u8]) {
    let groups = block.as_chunks::<GROUP>().0;
    let mut fitted = [0f32; BLOCK / GROUP];
    for (scale, group) in fitted.iter_mut().zip(groups) {
        *scale = fit(group);
    }
    let factor = f16::from_f32(largest(&fitted) / -128.0);
    let inverse = if factor == f16::ZERO { 0.0 } else { 1.0 / factor.to_f32() };
    let mut levels = [0u8; BLOCK];
    let mut scales = [0u8; BLOCK / GROUP];
    for (index, group) in groups.iter().enumerate() {
        let scale = rounded(fitted[index] * inverse).clamp(-128.0, 127.0);
        let step = factor.to_f32() * scale;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        scales[index] = low_byte(scale);
        for (level, weight) in levels[index * GROUP..(index + 1) * GROUP].iter_mut().zip(group) {
            *level = low_byte(rounded(weight * inverse).clamp(-32.0, 31.0) + 32.0);
        }
    }
    write(&levels, &scales, factor, bytes);
}

/// The value furthest from zero, with its sign.
#[inline(always)]
fn largest(values: &[f32; GROUP]) -> f32 {
    let mut most = 0f32;
    for value in values {
        most = if value.abs() > most.abs() { *value } else { most };
    }
    most
}

/// The scale for sixteen weights: the largest takes level -32, then least squares for the levels that gives.
#[inline(always)]
fn fit(group: &[f32; GROUP]) -> f32 {
    let largest = largest(group);
    if largest == 0.0 {
        return 0.0;
    }
    let inverse = -32.0 / largest;
    let (mut products, mut squares) = ([0f32; GROUP], [0f32; GROUP]);
    for index in 0..GROUP {
        let level = rounded(group[index] * inverse).clamp(-32.0, 31.0);
        products[index] = group[index] * level;
        squares[index] = level * level;
    }
    let (mut product, mut square) = (0f32, 0f32);
    for index in 0..GROUP {
        product += products[index];
        square += squares[index];
    }
    product / square
}

/// To the nearest whole number, ties to even, for values below 2^22: the sum drops the fraction. The rounding instruction
/// is a function call where the compiler may not assume it.
#[inline(always)]
fn rounded(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}

/// Two's complement of a whole number between -128 and 255.
#[inline(always)]
fn low_byte(value: f32) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    let whole = value as i32;
    whole.to_le_bytes()[0]
}

/// Slices of unknown length on purpose: the compiler unrolls arrays whole, and takes minutes over it.
#[inline(always)]
fn write(levels: &[u8], scales: &[u8], factor: f16, bytes: &mut [u8]) {
    let (low, rest) = bytes.split_at_mut(BLOCK / 2);
    let (high, rest) = rest.split_at_mut(BLOCK / 4);
    for (levels, low) in levels.chunks_exact(128).zip(low.chunks_exact_mut(64)) {
        let (first, second) = levels.split_at(64);
        for ((low, first), second) in low.iter_mut().zip(first).zip(second) {
            *low = (first & 0xF) | (second & 0xF) << 4;
        }
    }
    for (levels, high) in levels.chunks_exact(128).zip(high.chunks_exact_mut(32)) {
        for (at, high) in high.iter_mut().enumerate() {
            *high = levels[at] >> 4
                | levels[at + 32] >> 4 << 2
                | levels[at + 64] >> 4 << 4
                | levels[at + 96] >> 4 << 6;
        }
    }
    let (to_scales, to_factor) = rest.split_at_mut(scales.len());
    to_scales.copy_from_slice(scales);
    to_factor.copy_from_slice(&factor.to_le_bytes());
}
