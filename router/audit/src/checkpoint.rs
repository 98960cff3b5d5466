//! Checkpoints: signed tree heads in the form of C2SP tlog-checkpoint and signed-note, Ed25519 (RFC 8032).
//!
//! The key's name is the log's origin. A record that had to begin anew goes on under the origin `<name>/<epoch>`, so there
//! are never two signed histories under one. A note has exactly one form here: whatever else is refused.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::keys::{KeyError, secret};
use crate::merkle::Hash;

pub(crate) mod bound;
pub(crate) mod held;
pub(crate) mod notes;
pub(crate) mod sink;
#[cfg(test)]
mod tests;
pub(crate) mod thin;

/// Longest signed note, bytes: a checkpoint and the signatures of some witnesses.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
/// Longest name of a log, bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// Ed25519, as the first byte of a key (C2SP signed-note).
const ED25519: u8 = 1;

/// What a checkpoint says: so many leaves have this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

/// Signs a record's checkpoints. For nothing else: a key has one use.
#[derive(Clone)]
pub struct Signer {
    name: String,
    key: SigningKey,
}

/// The public half, by which anybody verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

/// Why a note is not a checkpoint of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is no signed note, or no checkpoint.
    #[error("it is not a signed checkpoint")]
    Malformed,
    /// Another log's.
    #[error("it is of another log: its origin is `{0}`")]
    Origin(String),
    /// No signature of this key.
    #[error("it is not signed by this record's key")]
    Unsigned,
    /// The signature does not fit.
    #[error("its signature does not fit: it was changed, or another key signed it")]
    Signature,
}

/// A public key must be `<name>+<key id>+<key>`, as C2SP signed-note has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a public key must be a line `<name>+<8 hexadecimal digits>+<base64>`")]
pub struct BadKey;

/// The newest note of a checkpoint file, which is read only. None where there is no file or nothing in it.
///
/// # Errors
/// When it cannot be read, or holds something else.
pub fn newest(path: &Path) -> std::io::Result<Option<String>> {
    sink::newest(path)
}

/// The checkpoint that somebody keeps in a file: a signed note alone, or the newest of a copy of a checkpoint file.
///
/// # Errors
/// When it cannot be read.
pub fn kept(path: &Path) -> std::io::Result<String> {
    sink::kept(path)
}

// === impl Checkpoint ===

impl Checkpoint {
    /// The note's text, which is what is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// What a note says, whoever signed it.
    #[must_use]
    pub fn unverified(note: &str) -> Option<Self> {
        let (text, _) = note.split_once("\n\n")?;
        Self::parse(&format!("{text}\n"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root: Hash = STANDARD.decode(root).ok()?.try_into().ok()?;
        let found = Self { origin: origin.to_owned(), size: size.parse().ok()?, root };
        (found.text() == text).then_some(found)
    }
}

// === impl Signer ===

impl Signer {
    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`] when the file is missing, readable by others, or holds something else.
    pub fn load(path: &Path, name: &str) -> Result<Self, KeyError> {
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(&*secret::load(path)?) })
    }

    /// Makes a key and writes it, mode 600; refuses to replace a file.
    ///
    /// # Errors
    /// [`KeyError::Io`] when the file is there or cannot be written.
    pub fn create(path: &Path, name: &str) -> Result<Self, KeyError> {
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(&*secret::create(path)?) })
    }

    /// A key from bytes that the caller keeps safe.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32], name: &str) -> Self {
        Self { name: name.to_owned(), key: SigningKey::from_bytes(bytes) }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs a checkpoint of an epoch. The same one gives the same note each time.
    pub(crate) fn sign(&self, epoch: u64, size: u64, root: Hash) -> String {
        let origin = origin(&self.name, epoch);
        let id = key_id(&origin, &self.key.verifying_key());
        let text = Checkpoint { origin: origin.clone(), size, root }.text();
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        format!("{text}\n\u{2014} {origin} {}\n", STANDARD.encode([&id[..], &signature].concat()))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// The log's name: its first origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key as a line for the origin of an epoch, as other programs take it.
    #[must_use]
    pub fn line(&self, epoch: u64) -> String {
        let origin = origin(&self.name, epoch);
        let id = hex::encode(key_id(&origin, &self.key));
        format!("{origin}+{id}+{}", STANDARD.encode(typed(&self.key)))
    }

    /// Reads a note: its signature by this key, and what it says. Other signatures are left to those who know their keys.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed);
        }
        let (text, signatures) = note.split_once("\n\n").ok_or(NoteError::Malformed)?;
        let text = format!("{text}\n");
        let found = Checkpoint::parse(&text).ok_or(NoteError::Malformed)?;
        if self.epoch(&found.origin).is_none() {
            return Err(NoteError::Origin(found.origin));
        }
        let (id, mut signed) = (key_id(&found.origin, &self.key), false);
        for line in signatures.strip_suffix('\n').ok_or(NoteError::Malformed)?.split('\n') {
            let (name, bytes) = signature(line).ok_or(NoteError::Malformed)?;
            let Some(ours) = bytes.strip_prefix(&id).filter(|_| name == found.origin) else { continue };
            let ours = Signature::from_slice(ours).map_err(|_| NoteError::Malformed)?;
            self.key.verify_strict(text.as_bytes(), &ours).map_err(|_| NoteError::Signature)?;
            signed = true;
        }
        if signed { Ok(found) } else { Err(NoteError::Unsigned) }
    }

    /// The epoch of an origin of this log.
    #[must_use]
    pub fn epoch(&self, found: &str) -> Option<u64> {
        let epoch = match found.strip_prefix(&self.name)?.strip_prefix('/') {
            Some(number) => number.parse().ok()?,
            None => 1,
        };
        (origin(&self.name, epoch) == found).then_some(epoch)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line(1))
    }
}

/// Reads the line of the first epoch's origin.
impl std::str::FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(line: &str) -> Result<Self, BadKey> {
        let (name, rest) = line.split_once('+').ok_or(BadKey)?;
        let (_, key) = rest.split_once('+').ok_or(BadKey)?;
        let key = STANDARD.decode(key).map_err(|_| BadKey)?;
        let key = key.strip_prefix(&[ED25519]).and_then(|key| key.try_into().ok()).ok_or(BadKey)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| BadKey)?;
        let found = Self { name: name.to_owned(), key };
        // One form only, with the id that fits.
        if !is_name(name) || found.line(1) != line { Err(BadKey) } else { Ok(found) }
    }
}

/// The origin of an epoch, from 1.
fn origin(name: &str, epoch: u64) -> String {
    if epoch <= 1 { name.to_owned() } else { format!("{name}/{epoch}") }
}

fn is_name(name: &str) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    fits && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// The key with its type before it.
fn typed(key: &VerifyingKey) -> Vec<u8> {
    [&[ED25519], key.as_bytes().as_slice()].concat()
}

/// `SHA-256(name ‖ 0x0A ‖ type ‖ key)`, its first four bytes.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n']).chain_update(typed(key)).finalize();
    let mut id = [0; 4];
    id.copy_from_slice(&digest[..4]);
    id
}

/// Name and bytes of a signature line.
fn signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(bytes).ok()?;
    (is_name(name) && bytes.len() > 4).then_some((name, bytes))
}
