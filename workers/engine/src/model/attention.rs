//! Rotary positions, the keys and values of a sequence, and grouped-head attention over them.

use super::math::{add_scaled, dot, softmax, vectorised};

/// Sizes of a layer's attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    /// Heads of keys and values; each serves `queries / groups` query heads.
    pub(crate) groups: usize,
    /// Values a head.
    pub(crate) size: usize,
}

/// The keys and values of one sequence, all layers.
#[derive(Debug)]
pub(crate) struct Cache {
    layers: Vec<LayerCache>,
    len: usize,
}

/// One layer's keys and values: a contiguous run of positions for each head.
#[derive(Debug)]
struct LayerCache {
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

/// Cosines and sines by position and pair.
#[derive(Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f32>,
    /// Pairs are (2i, 2i+1) where true, (i, i + half) where false.
    interleaved: bool,
}

impl Cache {
    /// For at most `positions`: the memory is reserved at once and used as positions come.
    pub(crate) fn new(layers: usize, heads: Heads, positions: usize) -> Self {
        let run = || (0..heads.groups).map(|_| Vec::with_capacity(positions * heads.size)).collect();
        Self { layers: (0..layers).map(|_| LayerCache { keys: run(), values: run() }).collect(), len: 0 }
    }

    /// Positions held.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Counts `rows` further positions, once all layers have appended them.
    pub(crate) const fn advance(&mut self, rows: usize) {
        self.len += rows;
    }
}

impl Rope {
    /// `scale` divides each frequency where the file brings such factors (Llama 3.1 and later).
    pub(crate) fn new(size: usize, base: f64, interleaved: bool, scale: Option<&[f32]>) -> Self {
        let frequencies = (0..size / 2).map(|pair| {
            #[expect(clippy::cast_precision_loss, reason = "head sizes are small")]
            let exponent = -2.0 * pair as f64 / size as f64;
            let factor = scale.and_then(|scale| scale.get(pair)).copied().unwrap_or(1.0);
            #[expect(clippy::cast_possible_truncation, reason = "f32 is the precision computed in")]
            let frequency = base.powf(exponent) as f32;
            frequency / factor
        });
        Self { frequencies: frequencies.collect(), interleaved }
    }

    /// Turns the heads in `row`, of `size` values each, to `position`.
    pub(crate) fn turn(&self, row: &mut [f32], size: usize, position: usize) {
        let half = self.frequencies.len();
        #[expect(clippy::cast_precision_loss, reason = "contexts are far below 2^24")]
        let position = position as f32;
        let turns: Vec<(f32, f32)> =
            self.frequencies.iter().map(|frequency| (position * frequency).sin_cos()).collect();
        for head in row.chunks_exact_mut(size) {
            for (pair, (sin, cos)) in turns.iter().enumerate() {
                let (i, j) = if self.interleaved { (2 * pair, 2 * pair + 1) } else { (pair, pair + half) };
                let (a, b) = (head[i], head[j]);
                head[i] = a * cos - b * sin;
                head[j] = a * sin + b * cos;
            }
        }
    }
}

/// Appends the rows' keys and values to `layer` of the cache and attends: row i sees all positions up to its own.
/// `queries` is rows × queries × size, `keys` and `values` rows × groups × size; the result is shaped like `queries`.
pub(crate) fn attend(
    cache: &mut Cache,
    layer: usize,
    heads: Heads,
    (queries, keys, values): (&[f32], &[f32], &[f32]),
    output: &mut [f32],
) {
    let before = cache.len;
    let layer = &mut cache.layers[layer];
    let width = heads.groups * heads.size;
    for (key_row, value_row) in keys.chunks_exact(width).zip(values.chunks_exact(width)) {
        for group in 0..heads.groups {
            let span = group * heads.size..(group + 1) * heads.size;
            layer.keys[group].extend_from_slice(&key_row[span.clone()]);
            layer.values[group].extend_from_slice(&value_row[span]);
        }
    }
    let row_width = heads.queries * heads.size;
    let shared = heads.queries / heads.groups;
    #[expect(clippy::cast_precision_loss, reason = "head sizes are small")]
    let scale = 1.0 / (heads.size as f32).sqrt();
    vectorised(|| {
        let mut scores = Vec::new();
        for (row, query_row) in queries.chunks_exact(row_width).enumerate() {
            let seen = (before + row + 1) * heads.size;
            for head in 0..heads.queries {
                let group = head / shared;
                let span = row * row_width + head * heads.size..row * row_width + (head + 1) * heads.size;
                let query = &query_row[head * heads.size..(head + 1) * heads.size];
                attend_one(
                    query,
                    (&layer.keys[group][..seen], &layer.values[group][..seen]),
                    scale,
                    &mut scores,
                    &mut output[span],
                );
            }
        }
    });
}

#[inline(always)]
fn attend_one(
    query: &[f32],
    (keys, values): (&[f32], &[f32]),
    scale: f32,
    scores: &mut Vec<f32>,
    output: &mut [f32],
) {
    let size = query.len();
    scores.clear();
    scores.extend(keys.chunks_exact(size).map(|key| dot(query, key) * scale));
    softmax(scores);
    output.fill(0.0);
    for (score, value) in scores.iter().zip(values.chunks_exact(size)) {
        add_scaled(output, *score, value);
    }
}
