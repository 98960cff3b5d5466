//! Rules for a bundle's parts that Cedar cannot know.

use super::{BundleError, FORMAT, FORMAT_BEFORE, Parts, case_key, row_key};
use crate::prompt;

/// Most destinations, count.
pub const DESTINATIONS_MAX: usize = 256;

// === impl Parts ===

impl Parts {
    pub(super) fn sort(&mut self) {
        self.taxonomy.sort();
        self.links.sort();
        self.destinations.sort_by(|a, b| a.name.cmp(&b.name));
        self.cases.sort();
        self.properties.sort_by(|a, b| a.id.cmp(&b.id));
    }

    /// Checks what Cedar cannot know.
    pub(super) fn check(&self) -> Result<(), BundleError> {
        if ![FORMAT_BEFORE, FORMAT].contains(&self.format) {
            return Err(BundleError::Content(format!("`format` must be {FORMAT_BEFORE} or {FORMAT}")));
        }
        if let Some(reason) = self.manifest.fault() {
            return Err(BundleError::file("bundle.toml", None, reason));
        }
        let cycle = || self.taxonomy.cycle().filter(|_| self.format == FORMAT);
        if let Some(fault) = self.taxonomy.fault().or_else(cycle) {
            return Err(BundleError::file("taxonomy.toml", None, fault));
        }
        if let Some((case, fault)) = self.cases.flags_fault(&self.taxonomy) {
            return Err(BundleError::policy(row_key(case), fault));
        }
        prompt::check(&self.prompts)?;
        self.check_prompt_cases()?;
        self.check_destinations().map_err(|reason| BundleError::file("destinations.toml", None, reason))
    }

    /// Each case of a prompt renders. What comes out is held against the case when cases are run.
    fn check_prompt_cases(&self) -> Result<(), BundleError> {
        if self.cases.prompts.is_empty() {
            return Ok(());
        }
        let failed = |error: minijinja::Error| BundleError::Content(error.kind().to_string());
        let compiled = prompt::Prompts::new(&self.prompts, &self.manifest.owner).map_err(failed)?;
        for case in &self.cases.prompts {
            let kind = self.prompts.get(&case.prompt).map(|prompt| prompt.kind);
            let fault = |reason: String| {
                BundleError::policy(case_key(&case.name), format!("case `{}`: {reason}", case.name))
            };
            if kind.is_none() {
                return Err(fault(format!("there is no prompt `{}`", case.prompt)));
            }
            if let Some(reason) = case.fault() {
                return Err(fault(reason));
            }
            case.rendered(kind, &compiled)
                .map_err(|refused| fault(format!("the prompt does not render: {}", refused.sentence)))?;
        }
        Ok(())
    }

    fn check_destinations(&self) -> Result<(), String> {
        if self.destinations.is_empty() || self.destinations.len() > DESTINATIONS_MAX {
            return Err(format!("there must be 1 to {DESTINATIONS_MAX} destinations"));
        }
        if let Some(twice) =
            self.destinations.windows(2).find(|pair| matches!(pair, [a, b] if a.name == b.name))
        {
            return Err(format!("`{}` stands twice", twice.first().map_or("", |d| d.name.as_str())));
        }
        for spec in &self.destinations {
            if let Some(fault) = spec.fault() {
                return Err(format!("`{}` {fault}", spec.name));
            }
            if !self.taxonomy.regions.contains_key(&spec.region) {
                return Err(format!(
                    "`{}` is in region `{}`, which the taxonomy does not know",
                    spec.name, spec.region
                ));
            }
            let unknown = spec.certifications.iter().find(|c| !self.taxonomy.certifications.contains(*c));
            if let Some(certification) = unknown {
                return Err(format!(
                    "`{}` is certified for `{certification}`, which the taxonomy does not know",
                    spec.name
                ));
            }
        }
        Ok(())
    }
}
