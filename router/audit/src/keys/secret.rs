//! A secret key in a file: 64 hexadecimal digits that only the file's owner may read.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Entropy, Key};

/// Longest key file, bytes: the digits and a line end.
const FILE_BYTES_MAX: u64 = 66;

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not there, or cannot be read or written.
    #[error("cannot use the key file `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("the key file `{}` has mode {mode:o}; set it to 600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("the key file `{}` must hold 64 hexadecimal digits", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a key.
pub(crate) fn load(path: &Path) -> Result<Key, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let malformed = || KeyError::Malformed { path: path.to_owned() };
    let file = std::fs::File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|_| malformed())?;
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), key.as_mut()).map_err(|_| malformed())?;
    Ok(key)
}

/// Makes a new key and writes it, mode 600; refuses to replace a file.
pub(crate) fn create(path: &Path) -> Result<Key, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let key = Entropy::from_os().key();
    let text = Zeroizing::new(hex::encode(key.as_ref()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok(key)
}
