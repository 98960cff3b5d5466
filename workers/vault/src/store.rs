//! The store: tokens and sealed values, by scope. One writer; redb's process lock is the lease of whoever serves.
//!
//! INVARIANT: a key row is durable before the entry that names it, and destroyed before the entry is gone: whatever a crash
//! leaves, no value can be read whose erasing was answered.

use std::path::{Path, PathBuf};

use redb::{
    Database, MultimapTable, ReadableDatabase as _, ReadableMultimapTable as _, ReadableTable as _,
    ReadableTableMetadata as _, Table,
};
use tidegate_schemas::redact::Token;
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::vault::{Issue, Issued, Resolve, Resolved, Scope, VALUE_BYTES_MAX, VALUES_MAX};
use zeroize::Zeroizing;

use crate::key::{Key, MasterKey, mac, open, seal};
use keys::KeyFile;
use table::{ENTRIES, EXPIRY, Entry, FREE, META, REFERRED, REFS, ROWS, TASKS, VALUES};

mod keys;
mod table;
#[cfg(test)]
mod tests;

/// Draws for a token that no other value of the scope has; 40 bits seldom meet.
const DRAWS_MAX: usize = 16;
/// Entries that one sweep removes, count.
const SWEEP_MAX: usize = 4_096;

/// Why the store cannot do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds it.
    #[error("another vault holds `{}`; this one stands by", path.display())]
    Held {
        /// The store.
        path: PathBuf,
    },
    /// The store cannot be read or written.
    #[error("the vault's store failed: {0}")]
    Store(String),
    /// The key file cannot be read or written.
    #[error("the vault's key file failed: {0}")]
    Keys(#[from] std::io::Error),
    /// More than the vault takes.
    #[error("a request has at most {VALUES_MAX} values of {VALUE_BYTES_MAX} bytes")]
    TooMuch,
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Store(error.to_string())
            }
        }
    )*};
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

/// The store, opened.
pub struct Store {
    database: Database,
    keys: KeyFile,
    naming: Key,
    ttl_ms: u64,
}

/// The tables of one write.
struct Writing<'t> {
    entries: Table<'t, &'static [u8], &'static [u8]>,
    values: Table<'t, &'static [u8], &'static [u8]>,
    tasks: MultimapTable<'t, (&'static str, u64), &'static [u8]>,
    refs: MultimapTable<'t, &'static [u8], (&'static str, u64)>,
    expiry: MultimapTable<'t, u64, &'static [u8]>,
    free: Table<'t, u64, ()>,
    meta: Table<'t, &'static str, u64>,
}

// === impl Store ===

impl Store {
    /// Opens the store in a directory, and makes it if need be. Values stay for `ttl_ms` after they were last given a token.
    ///
    /// # Errors
    /// [`StoreError::Held`] while another process has it; else what is wrong with it.
    pub fn open(directory: &Path, master: &MasterKey, ttl_ms: u64) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("vault.redb");
        let database = Database::create(&path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Held { path: path.clone() },
            error => StoreError::Store(error.to_string()),
        })?;
        let writing = database.begin_write()?;
        let rows = {
            let mut tables = Writing::open(&writing)?;
            tables.refer()?;
            tables.meta.get(ROWS)?.map_or(0, |rows| rows.value())
        };
        writing.commit()?;
        let keys = KeyFile::open(&directory.join("keys.bin"), master.wrapping(), rows)?;
        Ok(Self { database, keys, naming: master.naming(), ttl_ms })
    }

    /// Tokens for values: the same one for the same value within a scope.
    ///
    /// # Errors
    /// [`StoreError`]; no token was given out then.
    pub fn issue(&mut self, asked: &Issue, now_ms: u64) -> Result<Issued, StoreError> {
        let fits = |secret: &tidegate_schemas::vault::Secret| {
            (1..=VALUE_BYTES_MAX).contains(&secret.value.expose().len())
        };
        if asked.values.len() > VALUES_MAX || !asked.values.iter().all(fits) {
            return Err(StoreError::TooMuch);
        }
        let scope = self.scope(&asked.scope);
        let expires_ms = now_ms.saturating_add(self.ttl_ms);
        let writing = self.database.begin_write()?;
        let mut tokens = Vec::with_capacity(asked.values.len());
        {
            let mut tables = Writing::open(&writing)?;
            for secret in &asked.values {
                let value = secret.value.expose();
                let named = mac(
                    &self.naming,
                    &[b"value", &scope, secret.entity.as_str().as_bytes(), value.as_bytes()],
                );
                let known = self.known(&tables, &scope, &named, now_ms)?;
                let (token, entry) = match known {
                    Some((token, entry)) => (token, entry),
                    None => self.add(&mut tables, (&scope, &named), secret, expires_ms)?,
                };
                let key = entry_key(&scope, &token);
                tables.keep(&key, &entry, expires_ms)?;
                let task = (asked.task.stream.as_str(), asked.task.sequence);
                tables.tasks.insert(task, key.as_slice())?;
                tables.refs.insert(key.as_slice(), task)?;
                tokens.push(token);
            }
        }
        self.keys.sync()?;
        writing.commit()?;
        Ok(Issued { tokens })
    }

    /// The values of tokens, for those that were issued in this scope.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn resolve(&self, asked: &Resolve, now_ms: u64) -> Result<Resolved, StoreError> {
        if asked.tokens.len() > VALUES_MAX {
            return Err(StoreError::TooMuch);
        }
        let scope = self.scope(&asked.scope);
        let entries = self.database.begin_read()?.open_table(ENTRIES)?;
        let mut values = Vec::with_capacity(asked.tokens.len());
        for token in &asked.tokens {
            let key = entry_key(&scope, token);
            let found = entries.get(key.as_slice())?.and_then(|entry| Entry::read(entry.value()));
            values.push(match found.filter(|entry| entry.expires_ms > now_ms) {
                Some(entry) => self.value(&key, &entry)?,
                None => None,
            });
        }
        Ok(Resolved { values })
    }

    /// Destroys every value that was given a token for one of these tasks' messages. Says how many.
    ///
    /// # Errors
    /// [`StoreError`]; done again, it goes on where it was.
    pub fn erase(&mut self, stream: &str, ranges: &[(u64, u64)]) -> Result<u64, StoreError> {
        let mut keys = Vec::new();
        {
            let tasks = self.database.begin_read()?.open_multimap_table(TASKS)?;
            for (first, last) in ranges {
                for found in tasks.range((stream, *first)..=(stream, *last))? {
                    for key in found?.1 {
                        keys.push(key?.value().to_vec());
                    }
                }
            }
        }
        self.remove(keys)
    }

    /// Destroys what has expired, at most so many at once. Says how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sweep(&mut self, now_ms: u64) -> Result<u64, StoreError> {
        let mut keys = Vec::new();
        {
            let expiry = self.database.begin_read()?.open_multimap_table(EXPIRY)?;
            'all: for found in expiry.range(..=now_ms)? {
                for key in found?.1 {
                    keys.push(key?.value().to_vec());
                    if keys.len() >= SWEEP_MAX {
                        break 'all;
                    }
                }
            }
        }
        self.remove(keys)
    }

    /// How many values are held, those that have expired and were not yet destroyed among them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn held(&self) -> Result<u64, StoreError> {
        Ok(self.database.begin_read()?.open_table(ENTRIES)?.len()?)
    }

    fn scope(&self, scope: &Scope) -> [u8; 32] {
        mac(&self.naming, &[b"scope", scope.key().as_bytes()])
    }

    /// The token that a value has already, while it can be read.
    fn known(
        &self,
        tables: &Writing<'_>,
        scope: &[u8; 32],
        named: &[u8; 32],
        now_ms: u64,
    ) -> Result<Option<(Token, Entry)>, StoreError> {
        let Some(token) = tables.values.get(named.as_slice())? else { return Ok(None) };
        let token = std::str::from_utf8(token.value()).ok().and_then(|text| text.parse::<Token>().ok());
        let Some(token) = token else { return Ok(None) };
        let key = entry_key(scope, &token);
        let entry = tables.entries.get(key.as_slice())?.and_then(|entry| Entry::read(entry.value()));
        let Some(entry) = entry.filter(|entry| entry.expires_ms > now_ms) else { return Ok(None) };
        Ok(self.value(&key, &entry)?.map(|_| (token, entry)))
    }

    fn add(
        &self,
        tables: &mut Writing<'_>,
        (scope, named): (&[u8; 32], &[u8; 32]),
        secret: &tidegate_schemas::vault::Secret,
        expires_ms: u64,
    ) -> Result<(Token, Entry), StoreError> {
        let mut drawn = None;
        for _ in 0..DRAWS_MAX {
            let token = Token::new(&secret.entity, rand::random());
            if tables.entries.get(entry_key(scope, &token).as_slice())?.is_none() {
                drawn = Some(token);
                break;
            }
        }
        let token = drawn.ok_or_else(|| StoreError::Store("no token is free".to_owned()))?;
        let row = tables.row()?;
        let key: Key = Zeroizing::new(rand::random());
        self.keys.write(row, &key)?;
        let sealed = seal(&key, &entry_key(scope, &token), secret.value.expose().as_bytes());
        let sealed = sealed.ok_or_else(|| StoreError::Store("a value could not be sealed".to_owned()))?;
        tables.values.insert(named.as_slice(), token.as_str().as_bytes())?;
        Ok((token, Entry { row, expires_ms, named: *named, sealed }))
    }

    fn value(&self, key: &[u8], entry: &Entry) -> Result<Option<Sensitive<String>>, StoreError> {
        let Some(own) = self.keys.read(entry.row)? else { return Ok(None) };
        let plain = open(&own, key, &entry.sealed);
        Ok(plain.and_then(|plain| String::from_utf8(plain.to_vec()).ok()).map(Sensitive::new))
    }

    fn remove(&mut self, keys: Vec<Vec<u8>>) -> Result<u64, StoreError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let writing = self.database.begin_write()?;
        let mut rows = Vec::new();
        {
            let mut tables = Writing::open(&writing)?;
            for key in &keys {
                tables.forget(key)?;
                let entry = tables.entries.remove(key.as_slice())?.and_then(|old| Entry::read(old.value()));
                let Some(entry) = entry else { continue };
                tables.unname(&entry.named, key)?;
                tables.expiry.remove(entry.expires_ms, key.as_slice())?;
                tables.free.insert(entry.row, ())?;
                rows.push(entry.row);
            }
        }
        self.keys.destroy(&rows)?;
        self.keys.sync()?;
        writing.commit()?;
        Ok(rows.len() as u64)
    }
}

impl<'t> Writing<'t> {
    fn open(writing: &'t redb::WriteTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            entries: writing.open_table(ENTRIES)?,
            values: writing.open_table(VALUES)?,
            tasks: writing.open_multimap_table(TASKS)?,
            refs: writing.open_multimap_table(REFS)?,
            expiry: writing.open_multimap_table(EXPIRY)?,
            free: writing.open_table(FREE)?,
            meta: writing.open_table(META)?,
        })
    }

    /// Makes `REFS` for a store that was written before there was one. Rows of what is gone go too.
    fn refer(&mut self) -> Result<(), StoreError> {
        if self.meta.get(REFERRED)?.is_some() {
            return Ok(());
        }
        let mut gone = Vec::new();
        for found in self.tasks.iter()? {
            let (task, keys) = found?;
            for key in keys {
                let key = key?;
                if self.entries.get(key.value())?.is_some() {
                    self.refs.insert(key.value(), task.value())?;
                } else {
                    let (stream, sequence) = task.value();
                    gone.push((stream.to_owned(), sequence, key.value().to_vec()));
                }
            }
        }
        for (stream, sequence, key) in gone {
            self.tasks.remove((stream.as_str(), sequence), key.as_slice())?;
        }
        self.meta.insert(REFERRED, 1)?;
        Ok(())
    }

    /// Takes a value's name from an entry, unless a newer entry of the same value has it.
    fn unname(&mut self, named: &[u8; 32], key: &[u8]) -> Result<(), StoreError> {
        let is_own = self.values.get(named.as_slice())?.is_some_and(|token| key.ends_with(token.value()));
        if is_own {
            self.values.remove(named.as_slice())?;
        }
        Ok(())
    }

    /// Forgets which tasks an entry was in.
    fn forget(&mut self, key: &[u8]) -> Result<(), StoreError> {
        for task in self.refs.remove_all(key)? {
            self.tasks.remove(task?.value(), key)?;
        }
        Ok(())
    }

    /// A row of the key file that is free.
    fn row(&mut self) -> Result<u64, StoreError> {
        if let Some((row, _)) = self.free.pop_first()? {
            return Ok(row.value());
        }
        let rows = self.meta.get(ROWS)?.map_or(0, |rows| rows.value());
        self.meta.insert(ROWS, rows + 1)?;
        Ok(rows)
    }

    /// Writes an entry that is kept until then.
    fn keep(&mut self, key: &[u8], entry: &Entry, expires_ms: u64) -> Result<(), StoreError> {
        self.expiry.remove(entry.expires_ms, key)?;
        self.expiry.insert(expires_ms, key)?;
        self.entries.insert(key, entry.until(expires_ms).as_slice())?;
        Ok(())
    }
}

/// Under which a token's entry stands.
fn entry_key(scope: &[u8; 32], token: &Token) -> Vec<u8> {
    [scope.as_slice(), token.as_str().as_bytes()].concat()
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}
