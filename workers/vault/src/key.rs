//! Keys: the master key in its file, what is derived from it, and sealing with XChaCha20-Poly1305.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// 32 secret bytes.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;
/// Bytes that sealing adds: nonce and tag.
pub(crate) const OVERHEAD_BYTES: usize = NONCE_BYTES + 16;
/// Longest key file, bytes: 64 digits and a line end.
const FILE_BYTES_MAX: u64 = 66;

/// Why the master key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not there, or cannot be read.
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

/// Wraps the values' keys, and names what is looked up.
#[derive(Clone)]
pub struct MasterKey(Key);

impl MasterKey {
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
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|_| malformed())?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_end(), key.as_mut()).map_err(|_| malformed())?;
        Ok(Self(key))
    }

    /// A key from bytes that the caller keeps safe.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key that wraps the values' keys.
    pub(crate) fn wrapping(&self) -> Key {
        Zeroizing::new(mac(&self.0, &[b"tidegate vault: keys of values"]))
    }

    /// The key by which scopes and values are looked up.
    pub(crate) fn naming(&self) -> Key {
        Zeroizing::new(mac(&self.0, &[b"tidegate vault: names"]))
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// HMAC-SHA256 of some parts; each with its length before it.
pub(crate) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of every length.
    let Ok(mut mac) = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Seals `plain` to `place`: it opens only with the same key and the same place. None where it cannot be sealed.
pub(crate) fn seal(key: &Key, place: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let cipher = XChaCha20Poly1305::new(key.as_ref().into());
    let text = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: place }).ok()?;
    Some([nonce.as_slice(), &text].concat())
}

/// Opens what [`seal`] sealed; none with another key, at another place, or where it was changed.
pub(crate) fn open(key: &Key, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, text) = sealed.split_at_checked(NONCE_BYTES)?;
    let cipher = XChaCha20Poly1305::new(key.as_ref().into());
    cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: text, aad: place }).ok().map(Zeroizing::new)
}
