//! Versions by hash, as they are needed: out of the operators' acts in the record, else from whoever can fetch them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_audit::{Filter, Opened, ReadError, Reader, RecordKind};
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::control::{Act, Control};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;

/// Prepared bundles held at once; a record mostly goes from one to the next.
const JUDGES_MAX: usize = 4;
/// Directories held at once.
const DIRECTORIES_MAX: usize = 64;

/// What a version is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A bundle: its archive.
    Bundle,
    /// A directory: its JSON.
    Directory,
}

/// Gives a version that the record does not hold; `None` where it cannot.
pub type Fetch<'a> = dyn FnMut(Version, Digest) -> Option<Vec<u8>> + 'a;

/// What is asked by hash. A version that is none, or whose hash is another, counts as unknown.
pub(super) struct Shelf<'a, 'f> {
    reader: &'a Reader,
    fetch: &'a mut Fetch<'f>,
    /// hash → the record of the act that holds it.
    acts: BTreeMap<Digest, u64>,
    judges: BTreeMap<Digest, Option<Judge>>,
    directories: BTreeMap<Digest, Option<Arc<Directory>>>,
}

impl<'a, 'f> Shelf<'a, 'f> {
    /// Looks through the operators' acts.
    pub(super) fn new(reader: &'a Reader, fetch: &'a mut Fetch<'f>) -> Result<Self, ReadError> {
        let mut page = Filter { kind: Some(RecordKind::Control), limit: Some(1_000), ..Filter::default() };
        let mut acts = BTreeMap::new();
        loop {
            let found = reader.query(&page)?;
            for record in &found.records {
                let hash = match act(reader, record)? {
                    Some(Act::BundleActivate { hash, .. } | Act::BundlePush { hash, .. }) => hash,
                    Some(Act::DirectoryActivate { directory, .. }) => directory.hash(),
                    _ => continue,
                };
                acts.entry(hash).or_insert(record.leaf.index);
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        Ok(Self { reader, fetch, acts, judges: BTreeMap::new(), directories: BTreeMap::new() })
    }

    /// The judge of a bundle.
    pub(super) fn judge(&mut self, hash: Digest) -> Result<Option<&Judge>, ReadError> {
        if !self.judges.contains_key(&hash) {
            let load = |archive: &str| Bundle::from_kept(archive).ok().filter(|bundle| bundle.hash() == hash);
            let recorded = match self.recorded(hash)? {
                Some(Act::BundleActivate { archive, .. } | Act::BundlePush { archive, .. }) => load(&archive),
                _ => None,
            };
            // An act that was refused may name a bundle that it does not hold.
            let bundle = recorded.or_else(|| {
                let bytes = (self.fetch)(Version::Bundle, hash)?;
                load(std::str::from_utf8(&bytes).ok()?)
            });
            let judge = bundle.and_then(|bundle| Judge::new(Arc::new(bundle)).ok());
            if self.judges.len() >= JUDGES_MAX {
                self.judges.clear();
            }
            self.judges.insert(hash, judge);
        }
        Ok(self.judges.get(&hash).and_then(Option::as_ref))
    }

    /// A directory.
    pub(super) fn directory(&mut self, hash: Digest) -> Result<Option<Arc<Directory>>, ReadError> {
        if let Some(known) = self.directories.get(&hash) {
            return Ok(known.clone());
        }
        let found = match self.recorded(hash)? {
            Some(Act::DirectoryActivate { directory, .. }) => Some(*directory),
            _ => (self.fetch)(Version::Directory, hash).and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        };
        let found = found.filter(|directory: &Directory| directory.hash() == hash).map(Arc::new);
        if self.directories.len() >= DIRECTORIES_MAX {
            self.directories.clear();
        }
        self.directories.insert(hash, found.clone());
        Ok(found)
    }

    fn recorded(&self, hash: Digest) -> Result<Option<Act>, ReadError> {
        let Some(index) = self.acts.get(&hash) else { return Ok(None) };
        match self.reader.get(*index)? {
            Some(record) => act(self.reader, &record),
            None => Ok(None),
        }
    }
}

fn act(reader: &Reader, record: &tidegate_audit::Record) -> Result<Option<Act>, ReadError> {
    Ok(match reader.body(record)? {
        Opened::Body(body) => {
            json::read::<Control>(&body.payload, MESSAGE_BYTES_MAX).ok().map(|control| control.act)
        }
        Opened::Nothing | Opened::Sealed | Opened::Pruned | Opened::Erased { .. } | Opened::Lost => None,
    })
}
