//! The header of a GGUF file, read with limits, before a byte of the weights is touched.
//!
//! Follows the GGUF 3 description (ggml-org/ggml `docs/gguf.md`), little endian, versions 2 and 3. Every count and
//! length is checked against a named limit before memory is taken, and each tensor's place against the file's size.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::quantized::GgmlDType;

use crate::error::RefusedModel;

const MAX_METADATA_ENTRIES: u64 = 4096;
const MAX_KEY_BYTES: u64 = 1024;
const MAX_STRING_BYTES: u64 = 1024 * 1024;
const MAX_ARRAY_ITEMS: u64 = 2 * 1024 * 1024;
const MAX_TENSORS: u64 = 16 * 1024;
const MAX_HEADER_BYTES: u64 = 256 * 1024 * 1024;
const MAX_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

/// A value of the metadata. Numbers are widened: the readers ask for what they need.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    /// An array whose items nothing here reads.
    Other,
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    pub(crate) dtype: GgmlDType,
    /// Rows first, the contiguous dimension last.
    pub(crate) shape: Vec<usize>,
    /// From the start of the file.
    start: u64,
    bytes: u64,
}

/// A header whose every tensor lies inside the file.
#[derive(Debug)]
pub(crate) struct Header {
    metadata: BTreeMap<String, Value>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
}

/// Why a header is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GgufError {
    #[error("it ends early")]
    Truncated(#[from] std::io::Error),
    #[error("it does not begin with the GGUF magic")]
    Magic,
    #[error("GGUF version {0} is not 2 or 3")]
    Version(u32),
    #[error("{what} is beyond its limit of {limit}")]
    Limit { what: &'static str, limit: u64 },
    #[error("value type {0} is unknown")]
    ValueType(u32),
    #[error("tensor type {0} is unknown")]
    TensorType(u32),
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("`{0}` appears twice")]
    Twice(String),
    #[error("the shape of tensor `{0}` is not valid")]
    Shape(String),
    #[error("tensor `{0}` lies beyond the end of the file")]
    OutOfFile(String),
    #[error("`{0}` is missing or has another type")]
    Missing(String),
}

impl GgufError {
    /// The refusal of the file at `path`.
    pub(crate) fn at(self, path: &Path) -> RefusedModel {
        RefusedModel::Damaged { path: path.to_owned(), reason: self.to_string() }
    }
}

// === impl Header ===

impl Header {
    pub(crate) fn read(file: &mut File) -> Result<Self, GgufError> {
        file.seek(SeekFrom::Start(0))?;
        let file_bytes = file.metadata()?.len();
        let mut reader = Reader { inner: BufReader::new(file.take(MAX_HEADER_BYTES)), position: 0 };
        if &reader.bytes::<4>()? != b"GGUF" {
            return Err(GgufError::Magic);
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = reader.count("the number of tensors", MAX_TENSORS)?;
        let entry_count = reader.count("the number of metadata entries", MAX_METADATA_ENTRIES)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entry_count {
            let key = reader.text(MAX_KEY_BYTES)?;
            let value_type = reader.u32()?;
            let value = reader.value(value_type)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(GgufError::Twice(key));
            }
        }
        let tensors = reader.tensors(tensor_count)?;
        let alignment = match metadata.get("general.alignment") {
            Some(Value::Unsigned(bytes)) if bytes.is_power_of_two() && *bytes <= 65_536 => *bytes,
            Some(_) => return Err(GgufError::Missing("general.alignment".to_owned())),
            None => DEFAULT_ALIGNMENT,
        };
        let data_start = reader.position.next_multiple_of(alignment);
        Ok(Self { metadata, tensors: place(tensors, data_start, file_bytes)? })
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, key: &str) -> Result<&[String], GgufError> {
        match self.metadata.get(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            _ => Err(GgufError::Missing(key.to_owned())),
        }
    }

    pub(crate) fn integers(&self, key: &str) -> Result<&[i64], GgufError> {
        match self.metadata.get(key) {
            Some(Value::Integers(items)) => Ok(items),
            _ => Err(GgufError::Missing(key.to_owned())),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.metadata.get(key) {
            Some(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// A count or size, if the key is there; wrong types count as absent.
    pub(crate) fn count_opt(&self, key: &str) -> Option<usize> {
        match self.metadata.get(key) {
            Some(Value::Unsigned(number)) => usize::try_from(*number).ok(),
            Some(Value::Signed(number)) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(crate) fn count(&self, key: &str) -> Result<usize, GgufError> {
        self.count_opt(key).ok_or_else(|| GgufError::Missing(key.to_owned()))
    }

    pub(crate) fn float(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key) {
            Some(Value::Float(number)) => Some(*number),
            _ => None,
        }
    }
}

impl TensorInfo {
    /// Reads the tensor's bytes.
    pub(crate) fn data(&self, file: &mut File) -> Result<Vec<u8>, std::io::Error> {
        let len = usize::try_from(self.bytes).map_err(std::io::Error::other)?;
        let mut data = vec![0u8; len];
        file.seek(SeekFrom::Start(self.start))?;
        file.read_exact(&mut data)?;
        Ok(data)
    }

    /// Number of weights.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A tensor as described, its offset still relative to the data.
struct Described {
    name: String,
    dtype: GgmlDType,
    shape: Vec<usize>,
    offset: u64,
}

fn place(
    described: Vec<Described>,
    data_start: u64,
    file_bytes: u64,
) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    let mut tensors = BTreeMap::new();
    for Described { name, dtype, shape, offset } in described {
        let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let row = shape.last().copied().unwrap_or(0);
        let (Some(elements), block) = (elements, dtype.block_size()) else {
            return Err(GgufError::Shape(name));
        };
        if elements == 0 || !row.is_multiple_of(block) {
            return Err(GgufError::Shape(name));
        }
        let bytes = ((elements / block) as u64).checked_mul(dtype.type_size() as u64);
        let start = data_start.checked_add(offset);
        let (Some(bytes), Some(start)) = (bytes, start) else { return Err(GgufError::OutOfFile(name)) };
        if start.checked_add(bytes).is_none_or(|end| end > file_bytes) {
            return Err(GgufError::OutOfFile(name));
        }
        if tensors.insert(name.clone(), TensorInfo { dtype, shape, start, bytes }).is_some() {
            return Err(GgufError::Twice(name));
        }
    }
    Ok(tensors)
}

/// Little-endian reading that knows where it is.
struct Reader<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Reader<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut buffer = [0u8; N];
        self.inner.read_exact(&mut buffer)?;
        self.position += N as u64;
        Ok(buffer)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, GgufError> {
        let count = self.u64()?;
        if count > limit { Err(GgufError::Limit { what, limit }) } else { Ok(count) }
    }

    fn text(&mut self, limit: u64) -> Result<String, GgufError> {
        let len = self.count("the length of a text", limit)?;
        let mut buffer = Vec::new();
        let read = (&mut self.inner).take(len).read_to_end(&mut buffer)? as u64;
        self.position += read;
        if read < len {
            return Err(GgufError::Truncated(std::io::ErrorKind::UnexpectedEof.into()));
        }
        String::from_utf8(buffer).map_err(|_| GgufError::Utf8)
    }

    fn value(&mut self, value_type: u32) -> Result<Value, GgufError> {
        if value_type == 9 {
            return self.array();
        }
        self.scalar(value_type)
    }

    /// The scalar types by their numbers in the format.
    fn scalar(&mut self, value_type: u32) -> Result<Value, GgufError> {
        Ok(match value_type {
            0 => Value::Unsigned(self.bytes::<1>()?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Bool(self.bytes::<1>()?[0] != 0),
            8 => Value::Text(self.text(MAX_STRING_BYTES)?),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(GgufError::ValueType(other)),
        })
    }

    fn array(&mut self) -> Result<Value, GgufError> {
        let item_type = self.u32()?;
        let count = self.count("the length of an array", MAX_ARRAY_ITEMS)?;
        let (mut texts, mut integers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            // Arrays of arrays do not occur in the supported architectures: `scalar` refuses them.
            match self.scalar(item_type)? {
                Value::Text(text) => texts.push(text),
                Value::Unsigned(number) => integers.push(i64::try_from(number).unwrap_or(i64::MAX)),
                Value::Signed(number) => integers.push(number),
                _ => {}
            }
        }
        Ok(match item_type {
            8 => Value::Texts(texts),
            0..=5 | 10 | 11 => Value::Integers(integers),
            _ => Value::Other,
        })
    }

    fn tensors(&mut self, count: u64) -> Result<Vec<Described>, GgufError> {
        let mut tensors = Vec::new();
        for _ in 0..count {
            let name = self.text(MAX_KEY_BYTES)?;
            let dimensions = self.u32()?;
            if dimensions == 0 || dimensions > MAX_DIMENSIONS {
                return Err(GgufError::Shape(name));
            }
            let mut shape = Vec::new();
            for _ in 0..dimensions {
                let size = usize::try_from(self.u64()?).map_err(|_| GgufError::Shape(name.clone()))?;
                shape.push(size);
            }
            // The format names the contiguous dimension first.
            shape.reverse();
            let dtype = tensor_type(self.u32()?)?;
            tensors.push(Described { name, dtype, shape, offset: self.u64()? });
        }
        Ok(tensors)
    }
}

fn tensor_type(number: u32) -> Result<GgmlDType, GgufError> {
    Ok(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        other => return Err(GgufError::TensorType(other)),
    })
}
