//! Looking at a model file before it is opened: its size, its hash, its architecture.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::RefusedModel;
use crate::gguf::Header;
use crate::model::Architecture;

const READ_BYTES: usize = 1024 * 1024;

/// What the header of a GGUF file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufInfo {
    /// `general.name`, or empty.
    pub name: String,
    /// `llama` or `qwen3`.
    pub architecture: String,
    /// The type most weights are stored in, such as `Q4_1`.
    pub quantisation: String,
    /// Tokens the model was made for.
    pub context_tokens: usize,
    /// Number of weights.
    pub parameters: u64,
    /// Tokenizer type and `pre`, such as `gpt2/smollm`.
    pub tokenizer: String,
}

/// Hashes a file of at most `max_bytes` and compares with `expected` (SHA-256, hex) where one is given.
/// Returns the hash as lower-case hex.
///
/// # Errors
/// The file can't be read, is too large or has another hash.
pub fn verify_file(path: &Path, expected: Option<&str>, max_bytes: u64) -> Result<String, RefusedModel> {
    let mut file = open(path, max_bytes)?;
    hash(&mut file, path, expected)
}

/// Reads the header of a GGUF file, and nothing of its weights.
///
/// # Errors
/// The file can't be read, is too large, damaged or truncated, or of an architecture or tokenizer that is not supported.
pub fn inspect_gguf(path: &Path, max_bytes: u64) -> Result<GgufInfo, RefusedModel> {
    let mut file = open(path, max_bytes)?;
    let header = Header::read(&mut file).map_err(|error| error.at(path))?;
    let architecture = Architecture::of(&header)?;
    crate::tokenizer::check_supported(&header, path)?;
    Ok(GgufInfo {
        name: header.text("general.name").unwrap_or_default().to_owned(),
        architecture: architecture.name().to_owned(),
        quantisation: crate::model::stored_type(&header),
        context_tokens: header
            .count(&format!("{}.context_length", architecture.name()))
            .map_err(|error| error.at(path))?,
        parameters: header.tensors.values().map(|tensor| tensor.elements() as u64).sum(),
        tokenizer: crate::tokenizer::describe(&header),
    })
}

pub(crate) fn open(path: &Path, max_bytes: u64) -> Result<File, RefusedModel> {
    let unreadable = |source| RefusedModel::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > max_bytes {
        return Err(RefusedModel::TooLarge { path: path.to_owned(), bytes, max_bytes });
    }
    Ok(file)
}

/// Hashes an open file from where it stands, so that what is hashed is what is then read.
pub(crate) fn hash(file: &mut File, path: &Path, expected: Option<&str>) -> Result<String, RefusedModel> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; READ_BYTES];
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(|source| RefusedModel::Unreadable { path: path.to_owned(), source })?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let found = hex::encode(hasher.finalize());
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => Err(RefusedModel::WrongHash {
            path: path.to_owned(),
            expected: expected.to_ascii_lowercase(),
            found,
        }),
        _ => Ok(found),
    }
}

/// The SHA-256 of bytes at hand, lower-case hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Reads an open file from its start.
pub(crate) fn read_again(file: &mut File, path: &Path) -> Result<Vec<u8>, RefusedModel> {
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut content))
        .map_err(|source| RefusedModel::Unreadable { path: path.to_owned(), source })?;
    Ok(content)
}
