//! The files of ticket keys: the router's one signing key, and the public keys that cloud workers trust, two while one takes the
//! place of the other.
//!
//! Signing: `<id> <64 hexadecimal digits>`. Trusted: the same a line with the public key, and `until <time>` behind one that is
//! being retired. A file of nothing but 64 digits holds the key [`FIRST_KEY_ID`].

use ed25519_dalek::{SigningKey, VerifyingKey};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::Signer;

#[cfg(test)]
mod tests;

/// Id of a cell's first ticket key.
pub const FIRST_KEY_ID: &str = "ticket-1";
/// What ids of a cell's ticket keys begin with; a number follows.
const KEY_ID_PREFIX: &str = "ticket-";
/// Keys that a file holds, retired ones included, count.
pub(super) const KEYS_MAX: usize = 8;
/// Longest file of keys, bytes.
pub const KEY_FILE_BYTES_MAX: usize = 2_048;
const KEY_ID_BYTES_MAX: usize = 64;

/// A public key that tickets are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// Its id.
    pub id: String,
    /// The key.
    pub key: VerifyingKey,
    /// When it stops to count; none: it stays.
    pub until: Option<Timestamp>,
}

/// A file of keys is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a line must be `<id> <64 hexadecimal digits>`, behind a retired public key `until <time>`; at most 8 keys, each id once"
)]
pub struct BadKeys;

impl TrustedKey {
    /// A key that stays.
    #[must_use]
    pub fn new(id: impl Into<String>, key: VerifyingKey) -> Self {
        Self { id: id.into(), key, until: None }
    }

    /// Whether it counts at a time.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now <= until)
    }

    /// Reads a file of trusted keys: at least one, and each id and key once.
    ///
    /// # Errors
    /// [`BadKeys`]: then none of it is to be trusted.
    pub fn read_all(text: &str) -> Result<Vec<Self>, BadKeys> {
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(BadKeys);
        }
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let keys: Vec<Self> = lines.map(Self::read).collect::<Option<_>>().ok_or(BadKeys)?;
        let twice = |at: usize, key: &Self| {
            keys.iter().take(at).any(|other| other.id == key.id || other.key == key.key)
        };
        let fits = (1..=KEYS_MAX).contains(&keys.len());
        let once = !keys.iter().enumerate().any(|(at, key)| twice(at, key));
        (fits && once).then_some(keys).ok_or(BadKeys)
    }

    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (id, digits, until) = match words.as_slice() {
            [digits] => (FIRST_KEY_ID, *digits, None),
            [id, digits] => (*id, *digits, None),
            [id, digits, "until", time] => (*id, *digits, Some(time.parse().ok()?)),
            _ => return None,
        };
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        let key = VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())?;
        is_id(id).then(|| Self { id: id.to_owned(), key, until })
    }

    /// The file that [`Self::read_all`] reads.
    #[must_use]
    pub fn write_all(keys: &[Self]) -> String {
        let line = |key: &Self| {
            let until = key.until.map(|until| format!(" until {until}")).unwrap_or_default();
            format!("{} {}{until}\n", key.id, hex::encode(key.key.as_bytes()))
        };
        keys.iter().map(line).collect()
    }

    /// The keys after a new one was added: the one that signs now goes on to count, those that are retired the longest are
    /// forgotten where there are too many. None where that would leave no room.
    #[must_use]
    pub fn with_new(keys: &[Self], new: Self) -> Option<Vec<Self>> {
        let mut all = keys.to_vec();
        all.push(new);
        while all.len() > KEYS_MAX {
            let oldest = all.iter().enumerate().filter_map(|(at, key)| Some((key.until?, at))).min()?;
            all.remove(oldest.1);
        }
        Some(all)
    }

    /// The keys after all but one have an end.
    #[must_use]
    pub fn retired(keys: &[Self], but: &str, until: Timestamp) -> Vec<Self> {
        let ends = |key: &Self| match key.id == but {
            true => key.clone(),
            false => Self { until: Some(key.until.map_or(until, |was| was.min(until))), ..key.clone() },
        };
        keys.iter().map(ends).collect()
    }

    /// The id of the key that follows all of these.
    #[must_use]
    pub fn next_id(keys: &[Self]) -> String {
        let number = |key: &Self| key.id.strip_prefix(KEY_ID_PREFIX)?.parse::<u32>().ok();
        let highest = keys.iter().filter_map(number).max().unwrap_or_default();
        format!("{KEY_ID_PREFIX}{}", highest.saturating_add(1))
    }
}

impl Signer {
    /// Reads the file of a signing key.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn read(text: &str) -> Result<Self, BadKeys> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (id, digits) = match words.as_slice() {
            [digits] => (FIRST_KEY_ID, *digits),
            [id, digits] => (*id, *digits),
            _ => return Err(BadKeys),
        };
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, seed.as_mut_slice()).map_err(|_| BadKeys)?;
        let signer = Self::new(id, SigningKey::from_bytes(&seed));
        is_id(id).then_some(signer).ok_or(BadKeys)
    }

    /// What verifiers trust of it.
    #[must_use]
    pub fn trusted(&self) -> TrustedKey {
        TrustedKey::new(self.key_id.clone(), self.key.verifying_key())
    }

    /// The file that [`Self::read`] reads. A secret.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(hex::encode(self.key.as_bytes()));
        Zeroizing::new(format!("{} {}\n", self.key_id, *digits))
    }
}

fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=KEY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}
