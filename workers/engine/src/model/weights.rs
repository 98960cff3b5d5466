//! Matrices as candle's kernels like them best.
//!
//! The stored type decides the speed: 4- and 5-bit types of the first generation run on scalar kernels, and the fast
//! integer kernels want rows of a multiple of 256. Such matrices are dequantised at load, rows padded with
//! zeros and requantised; padding changes no sum. What an adapter changes is added in between.

use std::borrow::Cow;
use std::fs::File;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

use super::lora::{Delta, Deltas, RowOrder};
use super::q6k;
use crate::gguf::{GgufError, Header, TensorInfo};

const BLOCK: usize = 256;

/// Why weights are not brought into memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WeightsError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error("reading `{name}` failed: {source}")]
    Read { name: String, source: std::io::Error },
    #[error("`{name}` has shape {found:?} where {expected:?} was expected")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("the file holds `{0}`, which the architecture does not have")]
    Unexpected(String),
    #[error(
        "`{module}` changes a matrix of shape {found:?}, and the model's is {expected:?}; name an adapter of this model"
    )]
    Delta { module: String, found: [usize; 2], expected: [usize; 2] },
    #[error("`{module}` is of a layer that the model does not have; name an adapter of this model")]
    NoLayer { module: String },
    #[error("`{module}` is of heads of {size} rows, an odd number; name an adapter of another model")]
    OddHeads { module: String, size: usize },
    #[error("arithmetic: {0}")]
    Candle(#[from] candle_core::Error),
}

/// What to do with a stored matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repack {
    /// Compute with it as it is stored.
    Keep,
    /// Requantise to Q8_0; rows padded to 256 where `padded`.
    Q8_0 { padded: bool },
    /// Requantise to Q6_K, rows padded to 256.
    Q6K,
}

/// The instruction set that decides candle's integer kernels.
pub(crate) fn kernels() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vnni") {
            return "avx512-vnni";
        }
        if std::is_x86_feature_detected!("avxvnni") {
            return "avx-vnni";
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return "avx2";
        }
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "generic" }
}

impl Repack {
    /// The choice for a matrix of `dtype` with rows of `k` weights on `kernels`. With the VNNI instructions padded
    /// Q8_0 is the fastest; without them its kernel is the slow one, and Q6_K is (prompt 2.6 times, decode 1.2).
    pub(crate) fn choose(dtype: GgmlDType, k: usize, kernels: &str) -> Self {
        let slow = matches!(dtype, GgmlDType::Q4_0 | GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1);
        match kernels {
            "avx512-vnni" | "avx-vnni" if slow || (dtype == GgmlDType::Q8_0 && !k.is_multiple_of(BLOCK)) => {
                Self::Q8_0 { padded: true }
            }
            "avx2" if slow => Self::Q6K,
            _ if slow => Self::Q8_0 { padded: false },
            _ => Self::Keep,
        }
    }

    /// The choice for a matrix that is changed: never coarser than 6 bits, in which a small change would drown.
    const fn merged(self, stored: GgmlDType) -> Self {
        match (self, stored) {
            (Self::Keep, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 | GgmlDType::Q8_0) => Self::Keep,
            (Self::Keep, _) => Self::Q8_0 { padded: false },
            (repack, _) => repack,
        }
    }

    const fn target(self, stored: GgmlDType) -> GgmlDType {
        match self {
            Self::Keep => stored,
            Self::Q8_0 { .. } => GgmlDType::Q8_0,
            Self::Q6K => GgmlDType::Q6K,
        }
    }

    const fn pads(self) -> bool {
        matches!(self, Self::Q8_0 { padded: true } | Self::Q6K)
    }
}

/// Reads tensors by name and knows which were taken.
pub(crate) struct Weights<'a> {
    pub(crate) header: &'a Header,
    pub(crate) file: &'a mut File,
    /// Overrides [`Repack::choose`]; measurements and tests.
    pub(crate) forced: Option<Repack>,
    /// What an adapter changes, without that which was added already.
    deltas: Deltas,
    taken: usize,
    /// The types computed with, in the order met.
    pub(crate) computed: Vec<GgmlDType>,
}

impl<'a> Weights<'a> {
    pub(crate) fn new(
        header: &'a Header,
        file: &'a mut File,
        forced: Option<Repack>,
        deltas: Deltas,
    ) -> Self {
        Self { header, file, forced, deltas, taken: 0, computed: Vec::new() }
    }

    fn find(&mut self, name: &str, expected: &[usize]) -> Result<&'a TensorInfo, WeightsError> {
        let info = self.header.tensors.get(name).ok_or_else(|| GgufError::Missing(name.to_owned()))?;
        if info.shape != expected {
            return Err(WeightsError::Shape {
                name: name.to_owned(),
                found: info.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        self.taken += 1;
        Ok(info)
    }

    fn load(&mut self, name: &str, info: &TensorInfo) -> Result<QTensor, WeightsError> {
        let data =
            info.data(self.file).map_err(|source| WeightsError::Read { name: name.to_owned(), source })?;
        let storage = QStorage::from_data(Cow::Owned(data), &Device::Cpu, info.dtype)?;
        Ok(QTensor::new(storage, info.shape.as_slice())?)
    }

    /// A small tensor, dequantised.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, WeightsError> {
        let info = self.find(name, &[len])?;
        Ok(self.load(name, info)?.dequantize(&Device::Cpu)?.to_vec1()?)
    }

    /// A matrix of `n` rows of `k` weights, repacked where that is faster.
    pub(crate) fn matrix(&mut self, name: &str, n: usize, k: usize) -> Result<Matrix, WeightsError> {
        self.matrix_in(name, [n, k], RowOrder::Trained)
    }

    /// As [`Self::matrix`], of rows in this order.
    pub(crate) fn matrix_in(
        &mut self,
        name: &str,
        [n, k]: [usize; 2],
        order: RowOrder,
    ) -> Result<Matrix, WeightsError> {
        let info = self.find(name, &[n, k])?;
        let delta = self.delta(name, [n, k], order)?;
        let stored = self.load(name, info)?;
        let repack = self.forced.unwrap_or_else(|| Repack::choose(info.dtype, k, kernels()));
        let repack = if delta.is_some() { repack.merged(info.dtype) } else { repack };
        let padded_k = if repack.pads() { k.next_multiple_of(BLOCK) } else { k };
        let target = repack.target(info.dtype);
        let weights = if target == info.dtype && padded_k == k && delta.is_none() {
            stored
        } else {
            let mut dense = stored.dequantize(&Device::Cpu)?;
            if let Some(delta) = delta {
                let mut rows = dense.flatten_all()?.to_vec1::<f32>()?;
                delta.add_to(&mut rows, order);
                dense = Tensor::from_vec(rows, (n, k), &Device::Cpu)?;
            }
            if padded_k > k {
                dense = dense.pad_with_zeros(1, 0, padded_k - k)?;
            }
            requantise(&dense, target)?
        };
        if !self.computed.contains(&target) {
            self.computed.push(target);
        }
        Ok(Matrix { product: QMatMul::from_qtensor(weights)?, n, k, padded_k })
    }

    /// What is to be added to a matrix, if anything.
    fn delta(
        &mut self,
        name: &str,
        expected: [usize; 2],
        order: RowOrder,
    ) -> Result<Option<Delta>, WeightsError> {
        let Some(delta) = self.deltas.remove(name) else { return Ok(None) };
        let found = delta.shape();
        match order {
            _ if found != expected => Err(WeightsError::Delta { module: delta.module, found, expected }),
            RowOrder::Paired { size } if !size.is_multiple_of(2) => {
                Err(WeightsError::OddHeads { module: delta.module, size })
            }
            _ => Ok(Some(delta).filter(|delta| !delta.is_nothing())),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// Refuses a file with tensors that nobody asked for, and changes of what is not there: the forward pass would silently leave
    /// them out.
    pub(crate) fn finish(self, known: impl Fn(&str) -> bool) -> Result<Vec<GgmlDType>, WeightsError> {
        if let Some((_, delta)) = self.deltas.into_iter().next() {
            return Err(WeightsError::NoLayer { module: delta.module });
        }
        if self.taken != self.header.tensors.len() {
            let stray = self.header.tensors.keys().find(|name| !known(name));
            return Err(WeightsError::Unexpected(stray.cloned().unwrap_or_default()));
        }
        Ok(self.computed)
    }
}

fn requantise(dense: &Tensor, target: GgmlDType) -> Result<QTensor, candle_core::Error> {
    if target != GgmlDType::Q6K {
        return QTensor::quantize(dense, target);
    }
    let blocks = q6k::quantise(&dense.flatten_all()?.to_vec1::<f32>()?);
    let storage = QStorage::from_data(Cow::Owned(blocks), &Device::Cpu, target)?;
    QTensor::new(storage, dense.shape())
}

/// A weight matrix: `n` outputs from `k` inputs.
pub(crate) struct Matrix {
    product: QMatMul,
    pub(crate) n: usize,
    pub(crate) k: usize,
    padded_k: usize,
}

impl Matrix {
    /// `rows` inputs of `k` each to `rows` outputs of `n` each.
    pub(crate) fn multiply(&self, input: &[f32]) -> Result<Vec<f32>, candle_core::Error> {
        let rows = input.len() / self.k;
        let data = if self.padded_k == self.k {
            input.to_vec()
        } else {
            let mut padded = vec![0f32; rows * self.padded_k];
            for (to, from) in padded.chunks_exact_mut(self.padded_k).zip(input.chunks_exact(self.k)) {
                to[..self.k].copy_from_slice(from);
            }
            padded
        };
        let input = Tensor::from_vec(data, (rows, self.padded_k), &Device::Cpu)?;
        self.product.forward(&input)?.flatten_all()?.to_vec1()
    }

    /// The matrix's rows `ids`, dequantised: the token embeddings.
    pub(crate) fn rows(&self, ids: &[u32]) -> Result<Vec<f32>, candle_core::Error> {
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let rows = self.product.embedding(&ids)?;
        rows.narrow(1, 0, self.k)?.flatten_all()?.to_vec1()
    }
}
