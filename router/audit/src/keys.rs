//! Keys of the record: a master key in a file, a key a data subject in the key file, a key a task in the record.
//!
//! A body is sealed with its task's key, which is wrapped by a key derived from *all* the keys of the task's data
//! subjects. Destroying any one of those destroys the body, and leaves every leaf and every proof as it was.

use hmac::{Hmac, Mac as _};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use sha2::Sha256;
use zeroize::Zeroizing;

pub use master::MasterKey;
pub use secret::KeyError;

pub(crate) mod file;
mod master;
pub(crate) mod seal;
pub(crate) mod secret;
pub(crate) mod task;

/// 32 secret bytes, wiped when they go.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Where keys and nonces come from: ChaCha seeded by the system.
pub(crate) struct Entropy(StdRng);

impl Entropy {
    /// Seeded by the system.
    pub(crate) fn from_os() -> Self {
        Self(StdRng::from_os_rng())
    }

    /// The same bytes each time, for tests that compare two records.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn key(&mut self) -> Key {
        let mut key = Zeroizing::new([0; 32]);
        self.0.fill_bytes(key.as_mut());
        key
    }

    pub(crate) fn nonce(&mut self) -> [u8; 24] {
        let mut nonce = [0; 24];
        self.0.fill_bytes(&mut nonce);
        nonce
    }
}

/// `HMAC-SHA-256(key, label ‖ 0x00 ‖ parts, each with its length)`.
pub(crate) fn mac(key: &[u8; 32], label: &str, parts: &[&[u8]]) -> [u8; 32] {
    // HMAC pads a short key with zeros to SHA-256's block (RFC 2104 §2); done here, nothing is left that can fail.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as hmac::Mac>::new((&*block).into());
    mac.update(label.as_bytes());
    mac.update(&[0]);
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The first 16 bytes of a [`mac`].
pub(crate) fn short_mac(key: &[u8; 32], label: &str, parts: &[&[u8]]) -> [u8; 16] {
    let long = mac(key, label, parts);
    let mut short = [0; 16];
    short.copy_from_slice(&long[..16]);
    short
}
