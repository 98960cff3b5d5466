//! The few vector operations that are not matrix products, vectorised for the processor at run time.
//!
//! Functions marked `inline(always)` are meant to be called inside [`vectorised`], whose body is compiled once for
//! each instruction set.

use pulp::Arch;

/// Runs `body` compiled for the widest instruction set at hand.
pub(crate) fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(body)
}

const LANES: usize = 16;

/// Dot product; the order of summation is fixed, so results do not depend on the instruction set but for fused
/// multiply-add.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// `to += scale * from`.
#[inline(always)]
pub(crate) fn add_scaled(to: &mut [f32], scale: f32, from: &[f32]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t += scale * f;
    }
}

/// e^x for x ≤ 88, to about 2e-7 relative: range reduction by powers of two and a polynomial of degree 6 (Cephes).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let power = (x * std::f32::consts::LOG2_E).round_ties_even();
    let rest = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let series = 1.987_569_1e-4;
    let series = series * rest + 1.398_2e-3;
    let series = series * rest + 8.333_452e-3;
    let series = series * rest + 4.166_579_6e-2;
    let series = series * rest + 0.166_666_65;
    let series = series * rest + 0.5;
    let series = series * rest * rest + rest + 1.0;
    #[expect(clippy::cast_possible_truncation, reason = "between -126 and 127 by the clamp")]
    let exponent = power as i32;
    series * f32::from_bits((exponent + 127).cast_unsigned() << 23)
}

/// Softmax in place.
#[inline(always)]
pub(crate) fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f32;
    for score in scores.iter_mut() {
        *score = exp(*score - highest);
        sum += *score;
    }
    let scale = 1.0 / sum;
    for score in scores.iter_mut() {
        *score *= scale;
    }
}

/// `gate = silu(gate) * up`.
pub(crate) fn silu_times(gate: &mut [f32], up: &[f32]) {
    vectorised(|| {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = *g / (1.0 + exp(-*g)) * u;
        }
    });
}

/// `to += from`.
pub(crate) fn add(to: &mut [f32], from: &[f32]) {
    vectorised(|| {
        for (t, f) in to.iter_mut().zip(from) {
            *t += f;
        }
    });
}

/// Root-mean-square norm of each row of `weight.len()`, in place.
pub(crate) fn rms_norm(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    vectorised(|| {
        for row in rows.chunks_exact_mut(weight.len()) {
            #[expect(clippy::cast_precision_loss, reason = "row lengths are far below 2^24")]
            let mean = dot(row, row) / row.len() as f32;
            let scale = 1.0 / (mean + epsilon).sqrt();
            for (value, weight) in row.iter_mut().zip(weight) {
                *value *= scale * weight;
            }
        }
    });
}
