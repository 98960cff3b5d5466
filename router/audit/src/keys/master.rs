//! The master key, under which all other keys of bodies are.

use std::path::Path;

use zeroize::Zeroizing;

use super::{Key, KeyError, mac, secret, short_mac};

/// Wraps the data subjects' keys. Whoever holds it and the record reads the bodies.
///
/// What things are called in the record (references, look-ups) is keyed apart, by a key in the key file: it must stay the
/// same when this one is changed.
#[derive(Clone)]
pub struct MasterKey {
    key: Key,
    /// Keys references; a record that was begun without one uses the master key itself.
    references: Option<Key>,
}

impl MasterKey {
    /// Reads the key.
    ///
    /// # Errors
    /// [`KeyError`] when the file is missing, readable by others, or holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        secret::load(path).map(Self::new)
    }

    /// Makes a new key and writes it, mode 600; refuses to replace a file.
    ///
    /// # Errors
    /// [`KeyError::Io`] when the file is there or cannot be written.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        secret::create(path).map(Self::new)
    }

    /// A key from bytes that the caller keeps safe.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::new(Zeroizing::new(bytes))
    }

    fn new(key: Key) -> Self {
        Self { key, references: None }
    }

    /// Whether both are the same key.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// The same with the record's own key of references.
    pub(crate) fn with_references(self, references: Key) -> Self {
        Self { references: Some(references), ..self }
    }

    /// The key of references.
    pub(crate) fn references(&self) -> &Key {
        self.references.as_ref().unwrap_or(&self.key)
    }

    /// The key that wraps the data subjects' keys.
    pub(crate) fn wrapping(&self) -> Key {
        Zeroizing::new(mac(&self.key, "tidegate record: subject keys", &[]))
    }

    /// What a workflow's name is in a leaf.
    pub(crate) fn workflow_ref(&self, tenant: &str, workflow: &str) -> [u8; 16] {
        short_mac(self.references(), "tidegate record: workflow", &[tenant.as_bytes(), workflow.as_bytes()])
    }

    /// Under which a data subject's key is looked up.
    pub(crate) fn subject_lookup(&self, tenant: &str, subject: &str) -> [u8; 16] {
        short_mac(self.references(), "tidegate record: subject", &[tenant.as_bytes(), subject.as_bytes()])
    }

    /// Names a set of a tenant's data subjects.
    pub(crate) fn set_lookup(&self, tenant: &str, subjects: &[String]) -> [u8; 16] {
        let mut parts: Vec<&[u8]> = vec![tenant.as_bytes()];
        parts.extend(subjects.iter().map(|subject| subject.as_bytes()));
        short_mac(self.references(), "tidegate record: subjects", &parts)
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}
