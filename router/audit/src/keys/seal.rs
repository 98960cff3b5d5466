//! Sealing with XChaCha20-Poly1305: 24 random nonce bytes, then ciphertext and tag.

use chacha20poly1305::aead::{Aead as _, AeadInPlace as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};

use super::Entropy;

/// Bytes that sealing adds: nonce and tag.
pub(crate) const OVERHEAD_BYTES: usize = 24 + 16;

/// The bytes do not open: another key, another place, or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unopened;

/// Seals `plain` to `place`: it opens only with the same key and the same place.
pub(crate) fn seal(key: &[u8; 32], place: &[u8], plain: &[u8], entropy: &mut Entropy) -> Vec<u8> {
    seal_with(key, &entropy.nonce(), place, plain)
}

/// Seals with a nonce that was drawn for this alone.
pub(crate) fn seal_with(key: &[u8; 32], nonce: &[u8; 24], place: &[u8], plain: &[u8]) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(key.into());
    let mut out = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
    out.extend_from_slice(nonce);
    out.extend_from_slice(plain);
    let text = out.get_mut(nonce.len()..).unwrap_or_default();
    // Encryption fails only past 256 GiB; what does not open is then noticed by whoever reads it.
    match cipher.encrypt_in_place_detached(XNonce::from_slice(nonce), place, text) {
        Ok(tag) => out.extend_from_slice(&tag),
        Err(_) => out.truncate(nonce.len()),
    }
    out
}

/// Opens what [`seal`] sealed.
pub(crate) fn open(key: &[u8; 32], place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
    let (nonce, text) = sealed.split_at_checked(24).ok_or(Unopened)?;
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: text, aad: place }).map_err(|_| Unopened)
}
