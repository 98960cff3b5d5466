//! Quantising to Q6_K without a search.
//!
//! candle's own quantiser tries nineteen scales for every sixteen weights, which takes seconds for a model whose weights
//! had sixteen levels to begin with. One fitted scale serves them as well (see the tests).
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
    let mut bytes = Vec::with_capacity(dense.len() / BLOCK * BLOCK_BYTES);
    vectorised(|| {
        for block in dense.as_chunks::<BLOCK>().0 {
            quantise_block(block, &mut bytes);
        }
    });
    bytes
}

#[inline(always)]
fn quantise_block(block: &[f32; BLOCK], bytes: &mut Vec<u8>) {
    let mut fitted = [0f32; BLOCK / GROUP];
    for (scale, group) in fitted.iter_mut().zip(block.as_chunks::<GROUP>().0) {
        *scale = fit(group);
    }
    let largest =
        fitted.iter().fold(0f32, |most, scale| if scale.abs() > most.abs() { *scale } else { most });
    let factor = f16::from_f32(largest / -128.0);
    let inverse = if factor == f16::ZERO { 0.0 } else { 1.0 / factor.to_f32() };
    let scales = fitted.map(|scale| rounded(scale * inverse, -128.0, 127.0));
    let mut levels = [0u8; BLOCK];
    for (index, group) in block.as_chunks::<GROUP>().0.iter().enumerate() {
        let step = factor.to_f32() * f32::from(scales[index]);
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        for (level, weight) in levels[index * GROUP..].iter_mut().zip(group) {
            *level = (rounded(weight * inverse, -32.0, 31.0) + 32).cast_unsigned();
        }
    }
    write(&levels, &scales, factor, bytes);
}

/// The scale for sixteen weights: the largest takes level -32, then least squares for the levels that gives.
#[inline(always)]
fn fit(group: &[f32; GROUP]) -> f32 {
    let largest =
        group.iter().fold(0f32, |most, weight| if weight.abs() > most.abs() { *weight } else { most });
    if largest == 0.0 {
        return 0.0;
    }
    let inverse = -32.0 / largest;
    let (mut product, mut square) = (0f32, 0f32);
    for weight in group {
        let level = (weight * inverse).round_ties_even().clamp(-32.0, 31.0);
        product += weight * level;
        square += level * level;
    }
    product / square
}

#[inline(always)]
fn rounded(value: f32, low: f32, high: f32) -> i8 {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the range of the type")]
    let rounded = value.round_ties_even().clamp(low, high) as i8;
    rounded
}

#[inline(always)]
fn write(levels: &[u8; BLOCK], scales: &[i8; BLOCK / GROUP], factor: f16, bytes: &mut Vec<u8>) {
    let halves = levels.as_chunks::<128>().0;
    for half in halves {
        bytes.extend((0..64).map(|at| (half[at] & 0xF) | (half[at + 64] & 0xF) << 4));
    }
    for half in halves {
        bytes.extend((0..32).map(|at| {
            half[at] >> 4 | half[at + 32] >> 4 << 2 | half[at + 64] >> 4 << 4 | half[at + 96] >> 4 << 6
        }));
    }
    bytes.extend(scales.map(i8::cast_unsigned));
    bytes.extend(factor.to_le_bytes());
}
