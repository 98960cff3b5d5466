//! A bundle: one version of governance, read once, never changed, named by the SHA-256 of its content.
//!
//! Its content is manifest, taxonomy, Cedar schema, policies, templates and links, destinations, prompts, cases and properties, as canonical JSON:
//! comments, the order of entries and the way files are laid out change neither [`Bundle::archive`] nor [`Bundle::hash`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;

use crate::cases::Cases;
use crate::destination::DestinationSpec;
use crate::engine::Engine;
use crate::judge::Notes;
use crate::prompt::Prompt;
use crate::properties::{self, Property};
use crate::taxonomy::Taxonomy;
use crate::taxonomy::scan::Scanner;

pub(crate) use canonical::written as canonical_text;
pub(crate) use directory::{cedar_files, text_file};
pub(crate) use fault::line_at;
pub use fault::{At, BundleError, Fault, Told};
pub use manifest::{Manifest, REVIEW_HOURS_MAX};
pub use parts::DESTINATIONS_MAX;

mod canonical;
mod directory;
mod fault;
mod lifted;
mod manifest;
mod parts;
mod prompts;
mod rules;
mod statements;
pub(crate) mod supplied;
#[cfg(test)]
pub(crate) mod tests;

/// Version of the archive's form.
pub(crate) const FORMAT: u32 = 2;
/// The form before: fewer rules for what policies may say, and no `over_cost` in the context. It is read where it judged, and
/// never made active again.
const FORMAT_BEFORE: u32 = 1;
/// Largest archive, bytes.
pub const ARCHIVE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of an act that brings a bundle into a cell, what is left for its reason and all but the archive, bytes.
const ACT_BYTES_LEFT: usize = 64 * 1024;

/// One version of governance.
#[derive(Debug)]
pub struct Bundle {
    parts: Parts,
    /// Ids of policies, templates, links and prompts that its directory took from the sibling that it extends.
    taken: BTreeSet<String>,
    archive: String,
    hash: Digest,
}

/// A template, filled in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Id of the policy that it makes.
    pub id: String,
    /// The template's id.
    pub template: String,
    /// What `?principal` stands for, as Cedar writes it: `Tenant::"acme"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// What `?resource` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whom to ask about it.
    pub owner: String,
}

/// Everything a bundle consists of.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parts {
    pub(crate) format: u32,
    pub(crate) manifest: Manifest,
    pub(crate) taxonomy: Taxonomy,
    /// The resolved Cedar schema, the taxonomy's vocabularies included, in Cedar's JSON form.
    pub(crate) schema: Value,
    /// Static policies by `@id`, in Cedar's JSON form.
    pub(crate) policies: BTreeMap<String, Value>,
    /// Templates by `@id`, in Cedar's JSON form.
    pub(crate) templates: BTreeMap<String, Value>,
    pub(crate) links: Vec<Link>,
    pub(crate) destinations: Vec<DestinationSpec>,
    pub(crate) cases: Cases,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) properties: Vec<Property>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) prompts: BTreeMap<Name, Prompt>,
}

// === impl Bundle ===

impl Bundle {
    /// Reads a bundle's directory; its `bundle.toml` says what stands where.
    ///
    /// # Errors
    /// [`BundleError`] with the file and the rule that it breaks. A bundle with an invalid policy is never returned.
    pub fn from_dir(path: &Path) -> Result<Self, BundleError> {
        Self::from_texts(path, &directory::Texts::new())
    }

    /// Reads a bundle's directory with some texts in place of what its files hold.
    pub(crate) fn from_texts(path: &Path, texts: &directory::Texts) -> Result<Self, BundleError> {
        let read = directory::read(path, texts)?;
        let bundle = Self::proposed(read.parts).map_err(|error| read.sources.locate(error))?;
        Ok(Self { taken: read.taken, ..bundle })
    }

    /// Reads an archive, as [`Bundle::archive`] wrote it, to make it active.
    ///
    /// # Errors
    /// [`BundleError`] with the rule that it breaks.
    pub fn from_archive(archive: &str) -> Result<Self, BundleError> {
        Self::proposed(Self::unpacked(archive)?)
    }

    /// Reads an archive that was active once, and that a record or a cell keeps. It may be of the form before, and is held to
    /// the rules of its own: its hash is as it was, and it decides as it did.
    ///
    /// # Errors
    /// [`BundleError`] with the rule that it breaks.
    pub fn from_kept(archive: &str) -> Result<Self, BundleError> {
        let parts = Self::unpacked(archive)?;
        if parts.format == FORMAT_BEFORE { Self::prepared(parts) } else { Self::checked(parts) }
    }

    fn unpacked(archive: &str) -> Result<Parts, BundleError> {
        if archive.len() > ARCHIVE_BYTES_MAX {
            return Err(BundleError::Content(format!(
                "the archive has {} bytes; the limit is {ARCHIVE_BYTES_MAX}",
                archive.len()
            )));
        }
        serde_json::from_str(archive)
            .map_err(|error| BundleError::Content(format!("the archive is no bundle: {error}")))
    }

    /// What is to decide from now on is also held to what is given to policies.
    fn proposed(parts: Parts) -> Result<Self, BundleError> {
        supplied::check(&parts)?;
        let bundle = Self::checked(parts)?;
        bundle.fits().map(|()| bundle)
    }

    /// An act that brings it into a cell is one message, in which its archive is a JSON string.
    fn fits(&self) -> Result<(), BundleError> {
        let failed = |error| BundleError::Content(format!("the bundle cannot be written as JSON: {error}"));
        let bytes = serde_json::to_string(&self.archive).map_err(failed)?.len();
        let most = MESSAGE_BYTES_MAX - ACT_BYTES_LEFT;
        if bytes > most {
            let reason = format!(
                "the bundle has {bytes} bytes as a message carries it, and the limit is {most}: no cell could take it; make its cases, key words or prompts fewer"
            );
            return Err(BundleError::Content(reason));
        }
        Ok(())
    }

    fn checked(parts: Parts) -> Result<Self, BundleError> {
        if parts.format != FORMAT {
            let reason =
                format!("`format` must be {FORMAT}; make the archive again from the bundle's directory");
            return Err(BundleError::Content(reason));
        }
        rules::check(&parts)?;
        Self::prepared(parts)
    }

    /// Everything but the rules for what policies may say.
    fn prepared(mut parts: Parts) -> Result<Self, BundleError> {
        parts.sort();
        parts.check()?;
        Scanner::new(&parts.taxonomy).map_err(|reason| BundleError::file("taxonomy.toml", None, reason))?;
        let engine = Engine::new(&parts)?;
        engine.validate()?;
        if !parts.taxonomy.flags.is_empty() && !engine.knows_flags() {
            let reason = "the taxonomy declares flags that no policy can look at; add `flags: Set<Flag>` to the context";
            return Err(BundleError::file("schema.cedarschema", None, reason));
        }
        if let Some(reason) = properties::fault(&parts.properties, engine.schema()) {
            return Err(BundleError::file("properties.toml", None, reason));
        }
        let archive = canonical::text(&parts)?;
        if archive.len() > ARCHIVE_BYTES_MAX {
            return Err(BundleError::Content(format!("the bundle is larger than {ARCHIVE_BYTES_MAX} bytes")));
        }
        let hash = Digest::plain(archive.as_bytes());
        let bundle = Self { parts, taken: BTreeSet::new(), archive, hash };
        Notes::of(&bundle)?;
        Ok(bundle)
    }

    /// Its content as canonical JSON: keys sorted, no blanks.
    #[must_use]
    pub fn archive(&self) -> &str {
        &self.archive
    }

    /// SHA-256 of its content.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.parts.manifest
    }

    /// Whom alerts name.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.parts.manifest.owner
    }

    /// Where work may run, by name.
    #[must_use]
    pub fn destinations(&self) -> &[DestinationSpec] {
        &self.parts.destinations
    }

    /// The destination of this name.
    #[must_use]
    pub fn destination(&self, name: &Name) -> Option<&DestinationSpec> {
        self.parts.destinations.iter().find(|destination| destination.name == *name)
    }

    /// What labels mean.
    #[must_use]
    pub fn taxonomy(&self) -> &Taxonomy {
        &self.parts.taxonomy
    }

    /// Its own cases.
    #[must_use]
    pub fn cases(&self) -> &Cases {
        &self.parts.cases
    }

    /// What must hold for every request, by id.
    #[must_use]
    pub fn properties(&self) -> &[Property] {
        &self.parts.properties
    }

    /// Its prompts by name.
    #[must_use]
    pub fn prompts(&self) -> &BTreeMap<Name, Prompt> {
        &self.parts.prompts
    }

    /// The prompt of this name.
    #[must_use]
    pub fn prompt(&self, name: &Name) -> Option<&Prompt> {
        self.parts.prompts.get(name)
    }

    /// Ids of its policies, links included, sorted.
    #[must_use]
    pub fn policy_ids(&self) -> Vec<&str> {
        let links = self.parts.links.iter().map(|link| link.id.as_str());
        let mut ids: Vec<&str> = self.parts.policies.keys().map(String::as_str).chain(links).collect();
        ids.sort_unstable();
        ids
    }

    /// Queues in which reviews by it can wait.
    #[must_use]
    pub fn review_queues(&self) -> BTreeSet<Name> {
        let asked = self.policy_ids().into_iter().filter_map(|id| self.annotation(id, "queue"));
        let named = asked.filter_map(|queue| Name::new(queue).ok());
        named.chain([self.parts.manifest.review_queue.clone()]).collect()
    }

    /// The same queues, and how many reviewers each needs at least: as many as the strictest policy that names it asks for.
    #[must_use]
    pub fn reviewers_needed(&self) -> BTreeMap<Name, u8> {
        let mut needed: BTreeMap<Name, u8> =
            self.review_queues().into_iter().map(|queue| (queue, 1)).collect();
        for id in self.policy_ids() {
            let asked = self.annotation(id, "quorum").and_then(|text| text.parse::<u8>().ok());
            let queue = match self.annotation(id, "queue") {
                Some(named) => Name::new(named).ok(),
                None => Some(self.parts.manifest.review_queue.clone()),
            };
            if let Some((asked, needed)) = asked.zip(queue.and_then(|queue| needed.get_mut(&queue))) {
                *needed = asked.max(*needed);
            }
        }
        needed
    }

    /// The same without a policy or link, to try what its loss would change.
    ///
    /// # Errors
    /// [`BundleError`] where it cannot be without it.
    pub fn without(&self, policy: &str) -> Result<Self, BundleError> {
        let mut parts = self.parts.clone();
        parts.policies.remove(policy);
        parts.links.retain(|link| link.id != policy);
        Self::checked(parts)
    }

    /// Whether a policy, template, link or prompt is the sibling's that it extends. An archive does not tell: there all are its own.
    pub(crate) fn takes(&self, id: &str) -> bool {
        self.taken.contains(id)
    }

    /// A policy's annotation: `owner`, `title`, `code`, `queue`, …; a link's `owner` is its own, the rest its template's.
    #[must_use]
    pub fn annotation(&self, policy: &str, key: &str) -> Option<&str> {
        let link = self.parts.links.iter().find(|link| link.id == policy);
        if let Some(link) = link.filter(|_| key == "owner") {
            return Some(&link.owner);
        }
        self.source(policy)?.get("annotations")?.get(key)?.as_str()
    }

    /// A policy, or a link's template, in Cedar's JSON form.
    pub(crate) fn source(&self, policy: &str) -> Option<&Value> {
        match self.parts.links.iter().find(|link| link.id == policy) {
            Some(link) => self.parts.templates.get(&link.template),
            None => self.parts.policies.get(policy),
        }
    }

    /// Whether it is of the form before, and held to fewer rules.
    pub(crate) fn is_of_form_before(&self) -> bool {
        self.parts.format == FORMAT_BEFORE
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }
}

/// What a case of a task is located by.
pub(crate) fn row_key(name: &str) -> String {
    format!("row {name}")
}

/// What a case of a prompt is located by.
pub(crate) fn case_key(name: &str) -> String {
    format!("case {name}")
}
