//! The decoder: a compact forward pass for Llama and Qwen3 over candle's quantised matrix products.
//!
//! A step takes any number of rows of any number of sequences (prompt chunks and single tokens side by side); each
//! sequence brings its own [`Cache`]. Activations are flat `f32` slices, row after row.

mod attention;
mod decoder;
mod lora;
mod math;
mod q6k;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use attention::Cache;
pub(crate) use decoder::{Decoder, Rows};
pub(crate) use lora::{Delta, Deltas};
pub(crate) use weights::{Repack, WeightsError, kernels};

use crate::error::RefusedModel;
use crate::gguf::Header;

/// The architectures with a forward pass here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    Llama,
    Qwen3,
}

/// What is refused by name, and why.
const REFUSED: &[(&str, &str)] = &[
    ("gemma", "its activation and norms differ and have no forward pass here"),
    ("gemma2", "its soft-capped attention has no forward pass here"),
    ("gemma3", "its sliding-window attention and GELU have no correct forward pass here"),
    ("qwen2", "its attention biases have no forward pass here"),
    ("qwen3moe", "mixtures of experts have no forward pass here"),
    ("phi3", "its fused projections have no forward pass here"),
];

impl Architecture {
    pub(crate) fn of(header: &Header) -> Result<Self, RefusedModel> {
        let name = header.text("general.architecture").unwrap_or("unnamed");
        let refuse = |reason| {
            Err(RefusedModel::Architecture { architecture: name.chars().take(64).collect(), reason })
        };
        let architecture = match name {
            "llama" => Self::Llama,
            "qwen3" => Self::Qwen3,
            other => {
                let reason = REFUSED.iter().find(|(refused, _)| *refused == other);
                return refuse(reason.map_or("there is no forward pass for it here", |(_, why)| why));
            }
        };
        if header.count_opt(&format!("{name}.expert_count")).is_some_and(|experts| experts > 0) {
            return refuse("mixtures of experts have no forward pass here");
        }
        match header.text(&format!("{name}.rope.scaling.type")) {
            None | Some("none") => Ok(architecture),
            Some(_) => refuse("its scaling of rotary positions has no forward pass here"),
        }
    }

    /// The name in the file, which prefixes its metadata keys.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// The type that most weights of the file are stored in.
pub(crate) fn stored_type(header: &Header) -> String {
    let mut weights = std::collections::HashMap::new();
    for tensor in header.tensors.values() {
        *weights.entry(tensor.dtype).or_insert(0usize) += tensor.elements();
    }
    let most = weights.into_iter().max_by_key(|(_, elements)| *elements);
    most.map_or_else(String::new, |(dtype, _)| format!("{dtype:?}"))
}
