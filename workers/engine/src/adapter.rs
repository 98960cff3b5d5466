//! A LoRA adapter in the form that PEFT saves (its "checkpoint format" page): `adapter_config.json` and
//! `adapter_model.safetensors`, read with limits and whole, so that what is hashed is what is merged.
//!
//! What it does not do: change weights ([`crate::model`] does that while it loads them), apply several adapters, or keep one beside
//! the weights.

mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::error::LoadError;
use crate::model::{Delta, Deltas};
use config::Config;

/// The two files of a directory.
const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
/// Most bytes of the weights; the ceiling for model files holds, too.
const WEIGHTS_BYTES_MAX: u64 = 2 << 30;
/// Most bytes of the configuration.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Highest rank.
const RANK_MAX: usize = 1024;
/// Most tensors: two for each of seven matrices of 512 layers.
const TENSORS_MAX: usize = 2 * 7 * 512;
/// Most characters of a name that a message repeats.
const SHOWN_CHARS: usize = 96;
/// What all names begin with.
const PREFIX: &str = "base_model.model.model.layers.";
/// What can be changed: the name as trained, and that in a GGUF file.
const MODULES: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// What is known of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// SHA-256 of `adapter_config.json` and then the weights, as one text, lower-case hex.
    pub sha256: String,
    /// Its rank.
    pub rank: usize,
    /// Matrices that it changes.
    pub matrices: usize,
}

/// An adapter that was read.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) deltas: Deltas,
    pub(crate) info: AdapterInfo,
}

/// Why an adapter is not used.
#[derive(Debug, thiserror::Error)]
enum AdapterError {
    #[error("`{file}` can't be read ({source}); name a directory with `{WEIGHTS}` and `{CONFIG}`")]
    Unreadable { file: String, source: std::io::Error },
    #[error(
        "`{file}` has more than the {max} bytes that are allowed; train with a lower rank or fewer modules"
    )]
    TooLarge { file: String, max: u64 },
    #[error(
        "it has SHA-256 {found} and {expected} was expected, that of `cat {CONFIG} {WEIGHTS} | sha256sum`; fetch it again, or name another"
    )]
    WrongHash { found: String, expected: String },
    #[error("`{CONFIG}` is not that of a LoRA adapter ({0}); name another")]
    Config(String),
    #[error(
        "`{CONFIG}` has {name}, which nothing here can apply; train without it, or merge the adapter into the model"
    )]
    Unsupported { name: String },
    #[error(
        "its module `{0}` is none that can be changed; they are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj"
    )]
    Module(String),
    #[error("its rank is {0}, and 1 to {RANK_MAX} are allowed; train with another")]
    Rank(usize),
    #[error("its weights are damaged or cut ({0}); fetch it again")]
    Damaged(String),
    #[error("it has more than {TENSORS_MAX} tensors; name another")]
    TooMany,
    #[error("the tensor `{0}` is not of the form `{PREFIX}N.self_attn.q_proj.lora_A.weight`; name another")]
    Name(String),
    #[error("the tensor `{name}` has the form {found:?} where rank {rank} needs {expected}; fetch it again")]
    Shape { name: String, found: Vec<usize>, rank: usize, expected: &'static str },
    #[error(
        "the tensor `{name}` is of type {dtype:?}, and F32, F16 and BF16 are read; save it as one of them"
    )]
    Type { name: String, dtype: Dtype },
    #[error("the tensor `{0}` holds what is no finite number; train it again")]
    NotFinite(String),
    #[error("`{0}` has only one of lora_A and lora_B; fetch it again")]
    Half(String),
    #[error("`target_modules` names `{0}`, and no weights are of it; fetch it again")]
    Absent(String),
    #[error("its weights are of `{0}`, which `target_modules` does not name; fetch it again")]
    NotTargeted(String),
}

/// Reads an adapter and says what it is. `expected` is the SHA-256 that it must have, hex.
///
/// # Errors
/// It can't be read, is too large, damaged or another than expected, or of a form that can't be merged.
pub fn inspect_adapter(
    path: &Path,
    expected: Option<&str>,
    max_bytes: u64,
) -> Result<AdapterInfo, LoadError> {
    Adapter::read(path, expected, max_bytes).map(|adapter| adapter.info)
}

// === impl Adapter ===

impl Adapter {
    /// Reads the adapter at `path`: its directory, or its weights, with the configuration beside them.
    pub(crate) fn read(path: &Path, expected: Option<&str>, max_bytes: u64) -> Result<Self, LoadError> {
        read(path, expected, max_bytes)
            .map_err(|error| LoadError::Adapter { path: path.to_owned(), reason: error.to_string() })
    }
}

fn read(path: &Path, expected: Option<&str>, max_bytes: u64) -> Result<Adapter, AdapterError> {
    let (config, weights) = files(path);
    let config = bytes(&config, CONFIG_BYTES_MAX)?;
    let weights = bytes(&weights, WEIGHTS_BYTES_MAX.min(max_bytes))?;
    // Neither can end elsewhere and still be read, so one hash is of one pair.
    let mut hasher = Sha256::new();
    hasher.update(&config);
    hasher.update(&weights);
    let sha256 = hex::encode(hasher.finalize());
    if let Some(expected) = expected.filter(|expected| !expected.eq_ignore_ascii_case(&sha256)) {
        let expected = shown(expected);
        return Err(AdapterError::WrongHash { found: sha256, expected });
    }
    let config = Config::read(&config)?;
    let deltas = deltas(&weights, &config)?;
    let info = AdapterInfo { sha256, rank: config.rank, matrices: deltas.len() };
    Ok(Adapter { deltas, info })
}

/// Where the configuration and the weights are.
fn files(path: &Path) -> (PathBuf, PathBuf) {
    if path.is_dir() {
        (path.join(CONFIG), path.join(WEIGHTS))
    } else {
        (path.with_file_name(CONFIG), path.to_owned())
    }
}

fn bytes(path: &Path, max: u64) -> Result<Vec<u8>, AdapterError> {
    let file = || path.file_name().map_or_else(String::new, |name| shown(&name.to_string_lossy()));
    let mut content = Vec::new();
    File::open(path)
        .and_then(|opened| opened.take(max.saturating_add(1)).read_to_end(&mut content))
        .map_err(|source| AdapterError::Unreadable { file: file(), source })?;
    if content.len() as u64 > max {
        return Err(AdapterError::TooLarge { file: file(), max });
    }
    Ok(content)
}

/// The changes, by the names that their matrices have in a GGUF file.
fn deltas(weights: &[u8], config: &Config) -> Result<Deltas, AdapterError> {
    let tensors = SafeTensors::deserialize(weights)
        .map_err(|error| AdapterError::Damaged(shown(&error.to_string())))?;
    if tensors.len() > TENSORS_MAX {
        return Err(AdapterError::TooMany);
    }
    // In one order, so that what is wrong is told in the same words each time.
    let tensors: BTreeMap<_, _> = tensors.iter().collect();
    let mut pairs: BTreeMap<(usize, usize), [Option<Vec<f32>>; 2]> = BTreeMap::new();
    for (name, view) in tensors {
        let (layer, module, side) = place(name)?;
        let factor = factor(name, &view, side, config.rank)?;
        pairs.entry((layer, module)).or_default()[side] = Some(factor);
    }
    config.check_targets(|module| pairs.keys().any(|(_, index)| short(MODULES[*index].0) == module))?;
    let mut deltas = Deltas::new();
    for ((layer, index), factors) in pairs {
        let (module, stored) = MODULES[index];
        let name = format!("layers.{layer}.{module}");
        if !config.targets(short(module)) {
            return Err(AdapterError::NotTargeted(name));
        }
        let [Some(a), Some(b)] = factors else { return Err(AdapterError::Half(name)) };
        let delta = Delta { module: name, rank: config.rank, scale: config.scale, a, b };
        deltas.insert(format!("blk.{layer}.{stored}.weight"), delta);
    }
    if deltas.is_empty() {
        return Err(AdapterError::Damaged("it has no tensors".to_owned()));
    }
    Ok(deltas)
}

/// Layer, index in [`MODULES`] and which factor a tensor is: 0 for A, 1 for B.
fn place(name: &str) -> Result<(usize, usize, usize), AdapterError> {
    let odd = || AdapterError::Name(shown(name));
    let (rest, side) = match (name.strip_suffix(".lora_A.weight"), name.strip_suffix(".lora_B.weight")) {
        (Some(rest), _) => (rest, 0),
        (_, Some(rest)) => (rest, 1),
        (None, None) => return Err(odd()),
    };
    // Outside of the layers there are the embeddings and the output, which nothing here changes.
    let outside = || AdapterError::Module(shown(rest.rsplit('.').next().unwrap_or(rest)));
    let (layer, module) = rest.strip_prefix(PREFIX).ok_or_else(outside)?.split_once('.').ok_or_else(odd)?;
    let number: usize = layer.parse().map_err(|_| odd())?;
    if number.to_string() != layer {
        return Err(odd());
    }
    let index = MODULES.iter().position(|(known, _)| *known == module);
    Ok((number, index.ok_or_else(|| AdapterError::Module(shown(module)))?, side))
}

/// The values of one of the two factors of a change.
fn factor(name: &str, view: &TensorView<'_>, side: usize, rank: usize) -> Result<Vec<f32>, AdapterError> {
    let (at, expected) = if side == 0 { (0, "[rank, inputs]") } else { (1, "[outputs, rank]") };
    let shape = <[usize; 2]>::try_from(view.shape()).ok();
    if !shape.is_some_and(|shape| shape[at] == rank && shape[1 - at] > 0) {
        let found = view.shape().iter().take(4).copied().collect();
        return Err(AdapterError::Shape { name: shown(name), found, rank, expected });
    }
    let halves = || view.data().as_chunks::<2>().0.iter().copied();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::F16 => halves().map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        Dtype::BF16 => halves().map(|bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
        dtype => return Err(AdapterError::Type { name: shown(name), dtype }),
    };
    if values.iter().any(|value| !value.is_finite()) {
        return Err(AdapterError::NotFinite(shown(name)));
    }
    Ok(values)
}

/// A module's name without what it is part of.
fn short(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// What a file says, fit for a message: cut, and without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '`').take(SHOWN_CHARS).collect()
}
