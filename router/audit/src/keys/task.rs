//! A task's key: random, wrapped by a key that only all its data subjects' keys together give.

use zeroize::Zeroizing;

use super::seal::{Unopened, open, seal};
use super::{Entropy, Key, mac, short_mac};

/// A task's key as the record keeps it: rows of the subjects' keys, then the wrapped key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrapped {
    /// Rows of the key file, one a subject.
    pub(crate) rows: Vec<u64>,
    /// Nonce, ciphertext and tag.
    pub(crate) sealed: Vec<u8>,
}

impl Wrapped {
    /// Wraps a task's key. `subjects` are row and key, in the order of the task's list.
    pub(crate) fn new(id: u64, key: &Key, subjects: &[(u64, Key)], entropy: &mut Entropy) -> Self {
        let keys: Vec<&Key> = subjects.iter().map(|(_, key)| key).collect();
        let sealed = seal(&together(&keys), &place(id), key.as_ref(), entropy);
        Self { rows: subjects.iter().map(|(row, _)| *row).collect(), sealed }
    }

    /// Opens the task's key with its subjects' keys, in order.
    pub(crate) fn open(&self, id: u64, subjects: &[Key]) -> Result<Key, Unopened> {
        let keys: Vec<&Key> = subjects.iter().collect();
        let plain = Zeroizing::new(open(&together(&keys), &place(id), &self.sealed)?);
        let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| Unopened)?;
        Ok(Zeroizing::new(bytes))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::try_from(self.rows.len()).unwrap_or(u8::MAX)];
        for row in &self.rows {
            out.extend_from_slice(&row.to_be_bytes());
        }
        out.extend_from_slice(&self.sealed);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first()?;
        let (rows, sealed) = rest.split_at_checked(usize::from(*count) * 8)?;
        let rows = rows.chunks_exact(8).map(|row| row.try_into().map(u64::from_be_bytes));
        Some(Self { rows: rows.collect::<Result<_, _>>().ok()?, sealed: sealed.to_vec() })
    }
}

/// What a data subject is called in a leaf: unlinkable once its key is gone.
pub(crate) fn subject_ref(key: &Key, subject: &str) -> String {
    hex::encode(short_mac(key, "tidegate record: subject reference", &[subject.as_bytes()]))
}

/// One key out of all: with any one missing, nothing is known of it.
fn together(keys: &[&Key]) -> Key {
    let parts: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
    Zeroizing::new(mac(&[0; 32], "tidegate record: task key", &parts))
}

fn place(id: u64) -> [u8; 24] {
    let mut place = *b"tidegate task k\0\0\0\0\0\0\0\0\0";
    place[16..].copy_from_slice(&id.to_be_bytes());
    place
}
