//! The ticket: a signed statement that lets one exact payload go to one exact destination for a short time.
//!
//! One signature may cover several tickets: their claims are the leaves of a Merkle tree whose root is signed, and each carries
//! its inclusion path. Where nothing waits a ticket is the only leaf.
//!
//! On the wire: base64url without padding (RFC 4648 §5) of deterministic CBOR (RFC 8949 §4.2.1), an array of two: the
//! [`Claims`], a map by number in a byte string, and a receipt (RFC 9942 §5.2): a tagged `COSE_Sign1` (RFC 9052 §4.2) with
//! protected header `{1: -8 (EdDSA), 4: key id, 395: 1 (RFC9162_SHA256)}`, one inclusion proof, the root as detached payload,
//! and external data `tidegate ticket v2` and the count of leaves, 8 bytes. Any other form of the same statement is refused, and no other algorithm is known.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use jiff::{SignedDuration, Timestamp};

use self::cose::Parts;
use crate::digest::Salt;
use crate::limits::{CLOCK_SKEW_MS_MAX, TICKET_LIFE_MS_MAX};

pub use claims::Claims;
pub use keys::{BadKeys, FIRST_KEY_ID, KEY_FILE_BYTES_MAX, TrustedKey};

mod claims;
mod cose;
mod keys;
#[cfg(test)]
mod tests;
mod tree;

const VERSION: u32 = 1;
const TICKET_BYTES_MAX: usize = 6 * 1024;

/// Why a ticket does not permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a `COSE_Sign1` of claims, not in its one form, or too long.
    #[error("the ticket is malformed")]
    Malformed,
    /// No trusted key made the signature.
    #[error("the ticket's signature is not from a trusted key")]
    Signature,
    /// The key that made the signature was retired before.
    #[error("the ticket's key was retired")]
    Retired,
    /// For another cell.
    #[error("the ticket is for another cell")]
    Audience,
    /// Used too early, or its times make no sense.
    #[error("the ticket is not valid yet")]
    TooEarly,
    /// Used too late. The work goes back to the router, which decides anew.
    #[error("the ticket has expired")]
    Expired,
    /// The bytes are not those it was signed for.
    #[error("the ticket is for another payload")]
    Content,
}

/// A ticket that verified for one payload. Only [`Verifier::verify`] makes one.
#[derive(Debug, Clone)]
pub struct Verified {
    claims: Claims,
}

impl Verified {
    /// What it says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// A payload that may leave: its ticket verified for exactly these bytes. The one thing a provider's client takes.
#[derive(Clone)]
pub struct Cleared {
    ticket: Verified,
    bytes: bytes::Bytes,
}

impl Cleared {
    /// What permits it.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.ticket.claims
    }

    /// The bytes that may leave.
    #[must_use]
    pub fn bytes(&self) -> &bytes::Bytes {
        &self.bytes
    }
}

impl std::fmt::Debug for Cleared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleared").field("ticket", &self.ticket.claims.id).finish_non_exhaustive()
    }
}

/// Signs tickets; the router's.
pub struct Signer {
    key_id: String,
    key: SigningKey,
}

impl Signer {
    /// A signer with a key and the id under which verifiers know it.
    #[must_use]
    pub fn new(key_id: impl Into<String>, key: SigningKey) -> Self {
        Self { key_id: key_id.into(), key }
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs the claims, as they stand.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        self.sign_all(std::slice::from_ref(claims)).pop().unwrap_or_default()
    }

    /// Signs all claims, as they stand, by one signature; a ticket for each, in the same order. With each doubling of their
    /// count a ticket is 46 bytes longer.
    #[must_use]
    pub fn sign_all(&self, claims: &[Claims]) -> Vec<String> {
        let claims: Vec<Vec<u8>> = claims.iter().map(Claims::to_cbor).collect();
        let Some((root, paths)) = tree::grow(claims.iter().map(|claims| tree::leaf(claims)).collect()) else {
            return Vec::new();
        };
        let protected = cose::protected(&self.key_id);
        let size = claims.len() as u64;
        let signature = self.key.sign(&cose::to_be_signed(&protected, size, &root)).to_bytes();
        let all = claims.iter().zip(paths).zip(0..);
        all.map(|((claims, path), index)| {
            let parts = Parts { claims, protected: &protected, size, index, path, signature: &signature };
            URL_SAFE_NO_PAD.encode(parts.to_cbor())
        })
        .collect()
    }
}

/// Checks tickets; the cloud worker's. Holds public keys only. Copies share them, so that keys change everywhere at once.
#[derive(Debug, Clone)]
pub struct Verifier {
    audience: String,
    keys: Arc<RwLock<Arc<[TrustedKey]>>>,
}

impl Verifier {
    /// A verifier for one cell, with the keys it trusts by id (two while a key is rotated).
    #[must_use]
    pub fn new(audience: impl Into<String>, keys: Vec<(String, VerifyingKey)>) -> Self {
        Self::trusting(audience, keys.into_iter().map(|(id, key)| TrustedKey::new(id, key)).collect())
    }

    /// The same with keys that may have an end.
    #[must_use]
    pub fn trusting(audience: impl Into<String>, keys: Vec<TrustedKey>) -> Self {
        Self { audience: audience.into(), keys: Arc::new(RwLock::new(keys.into())) }
    }

    /// Trusts these keys from now on, and no others.
    pub fn trust(&self, keys: Vec<TrustedKey>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    /// The keys that it trusts, those that are retired included.
    #[must_use]
    pub fn trusted(&self) -> Arc<[TrustedKey]> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks signature, audience, times, the key's end and the digest, in this order: a ticket that ran out is told apart also
    /// where its key was retired meanwhile, as its work goes back and is decided anew.
    ///
    /// # Errors
    /// [`TicketError`] with the first check that fails.
    pub fn verify(
        &self,
        ticket: &str,
        salt: &Salt,
        bytes: bytes::Bytes,
        now: Timestamp,
    ) -> Result<Cleared, TicketError> {
        let (claims, key_counts) = self.read(ticket, now)?;
        if claims.audience != self.audience {
            return Err(TicketError::Audience);
        }
        times(&claims, now)?;
        if !key_counts {
            return Err(TicketError::Retired);
        }
        let fits = claims.content_bytes == bytes.len() as u64 && salt.digest(&bytes) == claims.content;
        if !fits {
            return Err(TicketError::Content);
        }
        Ok(Cleared { ticket: Verified { claims }, bytes })
    }

    /// What was signed by a key that is known, and whether that key counts now.
    fn read(&self, ticket: &str, now: Timestamp) -> Result<(Claims, bool), TicketError> {
        let bytes = decoded(ticket).ok_or(TicketError::Malformed)?;
        let parts = Parts::read(&bytes).ok_or(TicketError::Malformed)?;
        let key_id = cose::key_id(parts.protected).ok_or(TicketError::Malformed)?;
        let signature = Signature::from_slice(parts.signature).map_err(|_| TicketError::Malformed)?;
        let root = tree::root(tree::leaf(parts.claims), parts.size, parts.index, &parts.path)
            .ok_or(TicketError::Malformed)?;
        let keys = self.trusted();
        let known = keys.iter().find(|known| known.id == key_id).ok_or(TicketError::Signature)?;
        let signed =
            known.key.verify_strict(&cose::to_be_signed(parts.protected, parts.size, &root), &signature);
        signed.map_err(|_| TicketError::Signature)?;
        let claims = Claims::read(parts.claims).ok_or(TicketError::Malformed)?;
        // What another version says may narrow what this one does not know.
        if claims.version == VERSION { Ok((claims, known.counts(now))) } else { Err(TicketError::Malformed) }
    }
}

fn decoded(ticket: &str) -> Option<Vec<u8>> {
    (ticket.len() <= TICKET_BYTES_MAX).then(|| URL_SAFE_NO_PAD.decode(ticket).ok())?
}

fn times(claims: &Claims, now: Timestamp) -> Result<(), TicketError> {
    let skew = SignedDuration::from_millis(CLOCK_SKEW_MS_MAX);
    let life = claims.expires.duration_since(claims.not_before);
    if life > SignedDuration::from_millis(TICKET_LIFE_MS_MAX) || life.is_negative() {
        return Err(TicketError::Expired);
    }
    if claims.not_before.duration_since(now) > skew {
        return Err(TicketError::TooEarly);
    }
    if now.duration_since(claims.expires) > skew || now > claims.deadline {
        return Err(TicketError::Expired);
    }
    Ok(())
}
