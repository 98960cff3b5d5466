//! Low-rank changes of matrices: W + scale · B·A, added once, while the weights are loaded (LoRA, arXiv:2106.09685).
//!
//! B has the rows of the model as it was trained. A GGUF of the architecture `llama` has those of its query and key matrices in
//! another order, and the change is put in that order, too. What it does not do: read files (`crate::adapter`).

use std::collections::BTreeMap;

use super::math::{add_scaled, vectorised};

/// Changes by the name of the matrix in the GGUF file.
pub(crate) type Deltas = BTreeMap<String, Delta>;

/// The change of one matrix.
#[derive(Debug)]
pub(crate) struct Delta {
    /// Its name in the adapter, for messages.
    pub(crate) module: String,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// `rank` rows, one value an input.
    pub(crate) a: Vec<f32>,
    /// One row an output, `rank` values each.
    pub(crate) b: Vec<f32>,
}

/// In which order a file has a matrix's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// As the model was trained.
    Trained,
    /// Of each head of so many rows, an even number, the first half and the second alternate: what llama.cpp's converter makes of
    /// queries and keys of Llama models, whose pairs of rotary positions then are neighbours.
    Paired { size: usize },
}

impl RowOrder {
    /// Where the file has a row of the model as trained.
    fn place(self, row: usize) -> usize {
        match self {
            Self::Trained => row,
            Self::Paired { size } => {
                let (head, within) = (row / size, row % size);
                let (second, pair) = (within / (size / 2), within % (size / 2));
                head * size + 2 * pair + second
            }
        }
    }
}

impl Delta {
    /// Outputs and inputs of the matrix that it changes.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.b.len() / self.rank, self.a.len() / self.rank]
    }

    /// Whether it changes nothing: the weights then stay as stored, to the bit.
    pub(crate) fn is_nothing(&self) -> bool {
        let zero = |values: &[f32]| values.iter().all(|value| *value == 0.0);
        self.scale == 0.0 || zero(&self.a) || zero(&self.b)
    }

    /// Adds it to a matrix of its shape, row after row.
    pub(crate) fn add_to(&self, dense: &mut [f32], order: RowOrder) {
        let [_, width] = self.shape();
        vectorised(|| {
            for (row, factors) in self.b.chunks_exact(self.rank).enumerate() {
                let start = order.place(row) * width;
                let to = &mut dense[start..start + width];
                for (factor, from) in factors.iter().zip(self.a.chunks_exact(width)) {
                    add_scaled(to, self.scale * factor, from);
                }
            }
        });
    }
}
