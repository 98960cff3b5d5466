//! Checking a bundle before it may become active: it parses, validates strictly with no warning and at most two levels of
//! attributes, every policy has `@id`, `@owner` and `@title`, and its own cases pass.

use std::path::Path;
use std::sync::Arc;

use tidegate_schemas::digest::Digest;

use crate::bundle::{Bundle, BundleError};
use crate::cases::{self, Ran};
use crate::judge::Judge;

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The bundle's hash.
    pub hash: Digest,
    /// Static policies, count.
    pub policies: usize,
    /// Templates, count.
    pub templates: usize,
    /// Links, count.
    pub links: usize,
    /// Prompts, count.
    pub prompts: usize,
    /// Destinations, count.
    pub destinations: usize,
    /// Cases as they ran.
    pub cases: Vec<Ran>,
}

/// Reads and checks a bundle's directory.
///
/// # Errors
/// [`BundleError`] with the first rule that it breaks. Cases that do not pass are in the report.
pub fn dir(path: &Path) -> Result<(Arc<Bundle>, Report), BundleError> {
    let bundle = Arc::new(Bundle::from_dir(path)?);
    let report = bundle_cases(&bundle)?;
    Ok((bundle, report))
}

/// Runs a bundle's own cases.
///
/// # Errors
/// [`BundleError`] when the bundle cannot be prepared.
pub fn bundle_cases(bundle: &Arc<Bundle>) -> Result<Report, BundleError> {
    let judge = Judge::new(Arc::clone(bundle))?;
    let parts = bundle.parts();
    Ok(Report {
        hash: bundle.hash(),
        policies: parts.policies.len(),
        templates: parts.templates.len(),
        links: parts.links.len(),
        prompts: parts.prompts.len(),
        destinations: parts.destinations.len(),
        cases: cases::run(&judge),
    })
}

impl Report {
    /// Whether every case passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.cases.iter().all(|case| case.differences.is_empty())
    }
}
