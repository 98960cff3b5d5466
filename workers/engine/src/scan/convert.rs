//! From a token classifier as ONNX, quantised to 4 and 8 bits, to safetensors in full precision.
//!
//! The same file always gives the same bytes, so what was converted once is known by its SHA-256 as well, and is converted anew
//! where it is not that.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::onnx::{self, Graph, Initialiser, Node, Values};
use crate::error::{LoadError, RefusedModel};
use crate::verify;

/// The file that is converted.
pub(crate) const SOURCE: &str = "model_q4.onnx";
/// What comes of it, beside it.
pub(crate) const CONVERTED: &str = "model.safetensors";
/// The operation that multiplies with weights of 4 bits, as onnxruntime defines it (`com.microsoft.MatMulNBits`).
const MATMUL: &str = "MatMulNBits";
/// Bits a weight, weights a block, and the value that stands for zero.
const BITS: u64 = 4;
const BLOCK: usize = 32;
const ZERO: f32 = 8.0;

/// What was converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    /// Its size.
    pub bytes: usize,
}

/// Converts the classifier in a directory, and puts the result beside it. `expected` is the SHA-256 that the result must have.
///
/// # Errors
/// The file is missing or no such model, the result is another than expected, or it cannot be written.
pub fn convert_classifier(
    directory: &Path,
    expected: Option<&str>,
    max_bytes: u64,
) -> Result<Converted, LoadError> {
    let (bytes, sha256) = convert(directory, expected, max_bytes)?;
    let path = directory.join(CONVERTED);
    write(&path, &bytes).map_err(|error| failed(&path, format!("it can't be written: {error}")))?;
    Ok(Converted { path, sha256, bytes: bytes.len() })
}

/// The weights and their SHA-256: as they were converted before where that is what is expected, else converted now, and kept
/// where the directory lets us.
pub(crate) fn weights(
    directory: &Path,
    expected: Option<&str>,
    max_bytes: u64,
) -> Result<(Vec<u8>, String), LoadError> {
    let path = directory.join(CONVERTED);
    if path.exists() {
        let mut file = verify::open(&path, max_bytes)?;
        match verify::hash(&mut file, &path, expected) {
            Ok(sha256) => return Ok((verify::read_again(&mut file, &path)?, sha256)),
            Err(RefusedModel::WrongHash { .. }) if directory.join(SOURCE).exists() => {
                tracing::warn!("The converted classifier is not what it must be; it is converted anew.");
            }
            Err(refused) => return Err(refused.into()),
        }
    }
    let (bytes, sha256) = convert(directory, expected, max_bytes)?;
    if let Err(error) = write(&path, &bytes) {
        tracing::debug!(%error, "The converted classifier could not be kept; it is converted at each start.");
    }
    Ok((bytes, sha256))
}

fn convert(directory: &Path, expected: Option<&str>, max_bytes: u64) -> Result<(Vec<u8>, String), LoadError> {
    let path = directory.join(SOURCE);
    let mut file = verify::open(&path, max_bytes)?;
    let onnx = verify::read_again(&mut file, &path)?;
    let damaged = |reason: &str| RefusedModel::Damaged { path: path.clone(), reason: reason.to_owned() };
    let tensors = tensors(&onnx::read(&onnx).map_err(damaged)?).map_err(|reason| failed(&path, reason))?;
    let mut named: Vec<_> = tensors.iter().collect();
    named.sort_by_key(|(name, _)| name.as_str());
    let bytes = safetensors::serialize(named, None).map_err(|error| failed(&path, format!("{error}")))?;
    let found = verify::digest(&bytes);
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => Err(RefusedModel::WrongHash {
            path: directory.join(CONVERTED),
            expected: expected.to_ascii_lowercase(),
            found,
        }
        .into()),
        _ => Ok((bytes, found)),
    }
}

fn failed(path: &Path, reason: String) -> LoadError {
    LoadError::Weights { path: path.to_owned(), reason }
}

/// Every weight by the name that PyTorch gives it.
fn tensors(graph: &Graph) -> Result<HashMap<String, Tensor>, String> {
    let mut tensors = HashMap::new();
    for (name, initialiser) in &graph.tensors {
        let plain = name.starts_with("bert.") || name.starts_with("classifier.");
        if let (true, Values::Floats(floats)) = (plain && !name.ends_with("_scale"), &initialiser.values) {
            tensors.insert(name.clone(), tensor(floats.clone(), &initialiser.dims)?);
        }
        if let Some(weight) = name.strip_suffix("_quantized") {
            tensors.insert(weight.to_owned(), embedding(graph, weight, initialiser)?);
        }
    }
    for node in graph.nodes.iter().filter(|node| node.op == MATMUL) {
        // `/bert/encoder/layer.0/attention/self/query/MatMul_Q4` multiplies by the weight of that layer.
        let layer = node.name.trim_start_matches('/').rsplit_once('/').map(|(layer, _)| layer);
        let layer = layer.ok_or("a multiplication has no name")?;
        tensors.insert(format!("{}.weight", layer.replace('/', ".")), matrix(graph, node)?);
    }
    Ok(tensors)
}

fn tensor(floats: Vec<f32>, dims: &[usize]) -> Result<Tensor, String> {
    Tensor::from_vec(floats, dims, &Device::Cpu).map_err(|error| error.to_string())
}

/// An embedding of 8 bits: one scale and one zero point for all.
fn embedding(graph: &Graph, weight: &str, quantised: &Initialiser) -> Result<Tensor, String> {
    let of = |suffix: &str| graph.tensors.get(&format!("{weight}_{suffix}")).map(|tensor| &tensor.values);
    match (&quantised.values, of("scale"), of("zero_point")) {
        (Values::Bytes(bytes), Some(Values::Floats(scale)), Some(Values::Bytes(zero)))
            if scale.len() == 1 && zero.len() == 1 =>
        {
            let (scale, zero) = (scale[0], f32::from(zero[0]));
            let floats = bytes.iter().map(|byte| (f32::from(*byte) - zero) * scale).collect();
            tensor(floats, &quantised.dims)
        }
        _ => Err(format!("`{weight}` is not quantised by one scale and one zero point")),
    }
}

/// A matrix of 4 bits: rows of blocks, a scale a block, the lower half of a byte first.
fn matrix(graph: &Graph, node: &Node) -> Result<Tensor, String> {
    let odd = || format!("`{}` is not of {BITS} bits in blocks of {BLOCK}", node.name);
    let int = |name: &str| node.ints.get(name).copied();
    let size = |name: &str| int(name).and_then(|size| usize::try_from(size).ok()).ok_or_else(odd);
    let (columns, rows) = (size("K")?, size("N")?);
    let [_, packed, scales] = node.inputs.as_slice() else { return Err(odd()) };
    let of = |name: &String| graph.tensors.get(name).map(|tensor| &tensor.values);
    let (Some(Values::Bytes(packed)), Some(Values::Floats(scales))) = (of(packed), of(scales)) else {
        return Err(odd());
    };
    let fits = int("bits") == Some(BITS)
        && int("block_size") == Some(BLOCK as u64)
        && columns % BLOCK == 0
        && Some(packed.len() * 2) == rows.checked_mul(columns)
        && scales.len() * BLOCK == packed.len() * 2;
    if !fits {
        return Err(odd());
    }
    let mut floats = Vec::with_capacity(rows * columns);
    for (block, scale) in packed.chunks_exact(BLOCK / 2).zip(scales) {
        for byte in block {
            floats.push((f32::from(byte & 0x0f) - ZERO) * scale);
            floats.push((f32::from(byte >> 4) - ZERO) * scale);
        }
    }
    tensor(floats, &[rows, columns])
}

/// Writes a file so that a reader sees all of it or nothing.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let written = std::fs::File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}
