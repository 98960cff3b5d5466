//! The master key: 64 hexadecimal digits in a file that only its owner may read.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Entropy, Key, mac, short_mac};

/// Wraps the data subjects' keys. Whoever holds it and the record reads the bodies.
#[derive(Clone)]
pub struct MasterKey(Key);

/// Why a master key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not there, or cannot be read or written.
    #[error("cannot use the master key file `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("the master key file `{}` has mode {mode:o}; set it to 600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("the master key file `{}` must hold 64 hexadecimal digits", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl MasterKey {
    /// Longest key file, bytes: the digits and a line end.
    const FILE_BYTES_MAX: u64 = 66;

    /// Reads the key.
    ///
    /// # Errors
    /// [`KeyError`] when the file is missing, readable by others, or holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let malformed = || KeyError::Malformed { path: path.to_owned() };
        let file = std::fs::File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(Self::FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|_| malformed())?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_end(), key.as_mut()).map_err(|_| malformed())?;
        Ok(Self(key))
    }

    /// Makes a new key and writes it, mode 600; refuses to replace a file.
    ///
    /// # Errors
    /// [`KeyError::Io`] when the file is there or cannot be written.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let key = Entropy::from_os().key();
        let text = Zeroizing::new(hex::encode(key.as_ref()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(io)?;
        file.sync_all().map_err(io)?;
        Ok(Self(key))
    }

    /// A key from bytes that the caller keeps safe.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key that wraps the data subjects' keys.
    pub(crate) fn wrapping(&self) -> Key {
        Zeroizing::new(mac(&self.0, "tidegate record: subject keys", &[]))
    }

    /// What a workflow's name is in a leaf.
    pub(crate) fn workflow_ref(&self, tenant: &str, workflow: &str) -> [u8; 16] {
        short_mac(&self.0, "tidegate record: workflow", &[tenant.as_bytes(), workflow.as_bytes()])
    }

    /// Under which a data subject's key is looked up.
    pub(crate) fn subject_lookup(&self, tenant: &str, subject: &str) -> [u8; 16] {
        short_mac(&self.0, "tidegate record: subject", &[tenant.as_bytes(), subject.as_bytes()])
    }

    /// Names a set of a tenant's data subjects.
    pub(crate) fn set_lookup(&self, tenant: &str, subjects: &[String]) -> [u8; 16] {
        let mut parts: Vec<&[u8]> = vec![tenant.as_bytes()];
        parts.extend(subjects.iter().map(|subject| subject.as_bytes()));
        short_mac(&self.0, "tidegate record: subjects", &parts)
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}
