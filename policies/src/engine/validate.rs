//! Trying a bundle's policies before any task is judged by them.

use cedar_policy::{PolicySet, PolicySetError, ValidationMode, Validator};

use super::{Circumstances, Engine, Principal, Seat, content};
use crate::bundle::{BundleError, Fault};

/// How many attributes a policy may follow from the request on. Two is what prebuilt entities hold.
pub(crate) const LEVEL_MAX: u32 = 2;

impl Engine {
    /// All policies in one set, for validation.
    pub(crate) fn whole(&self) -> Result<PolicySet, BundleError> {
        let mut set = PolicySet::new();
        let failed = |error: PolicySetError| content(error.to_string());
        for policy in &self.policies {
            set.add(policy.clone()).map_err(failed)?;
        }
        for template in self.templates.values() {
            set.add_template(template.clone()).map_err(failed)?;
        }
        for link in &self.links {
            set.link(link.template.clone(), link.id.clone(), link.values.clone()).map_err(|error| {
                BundleError::policy(link.id.to_string(), format!("link `{}`: {error}", link.id))
            })?;
        }
        Ok(set)
    }

    /// Validates everything against the schema, strictly, warnings counted as errors, and tries one request.
    pub(crate) fn validate(&self) -> Result<(), BundleError> {
        let set = self.whole()?;
        let result =
            Validator::new(self.schema.clone()).validate_with_level(&set, ValidationMode::Strict, LEVEL_MAX);
        if !result.validation_passed_without_warnings() {
            let errors =
                result.validation_errors().map(|e| Fault::new(e.policy_id().to_string(), e.to_string()));
            let warnings =
                result.validation_warnings().map(|w| Fault::new(w.policy_id().to_string(), w.to_string()));
            return Err(BundleError::Policies(errors.chain(warnings).collect()));
        }
        self.check_annotations(&set)?;
        self.check_literals(&set)?;
        self.rehearse()
    }

    fn check_annotations(&self, set: &PolicySet) -> Result<(), BundleError> {
        let statics = set.policies().filter(|policy| policy.is_static());
        let statics =
            statics.map(|p| (p.id(), p.annotation("id"), p.annotation("owner"), p.annotation("title")));
        let templates = set
            .templates()
            .map(|t| (t.id(), t.annotation("id"), t.annotation("owner"), t.annotation("title")));
        for (id, named, owner, title) in statics.chain(templates) {
            let text: &str = id.as_ref();
            if named != Some(text) || !is_id(text) {
                let reason = format!("policy `{id}` needs an `@id` of a-z, 0-9 and `-`");
                return Err(BundleError::policy(text, reason));
            }
            if owner.is_none_or(str::is_empty) || title.is_none_or(str::is_empty) {
                return Err(BundleError::policy(text, format!("policy `{id}` needs `@owner` and `@title`")));
            }
        }
        for link in &self.links {
            let text: &str = link.id.as_ref();
            if !is_id(text) {
                let reason = format!("link `{}` needs an id of a-z, 0-9 and `-`", link.id);
                return Err(BundleError::policy(text, reason));
            }
        }
        Ok(())
    }

    /// A name of a region, pool, provider or destination that the bundle does not have is a slip of the pen.
    fn check_literals(&self, set: &PolicySet) -> Result<(), BundleError> {
        let slots =
            self.links.iter().flat_map(|link| link.values.values().map(move |uid| (&link.id, uid.clone())));
        let literals =
            set.policies().flat_map(|p| p.entity_literals().into_iter().map(move |uid| (p.id(), uid)));
        for (policy, uid) in literals.chain(slots) {
            if self.types.missing(&uid, &self.places) {
                let reason = format!("policy `{policy}` names {uid}, which the bundle does not have");
                return Err(BundleError::policy(policy.to_string(), reason));
            }
        }
        Ok(())
    }

    /// Tries an entity store and a context against the schema, so that a schema that fits no task is found now.
    fn rehearse(&self) -> Result<(), BundleError> {
        let misfit = |error: String| {
            content(format!("the schema does not fit the judge's entities or context: {error}"))
        };
        let seat = Seat::new(self, Principal::rehearsal()).map_err(misfit)?;
        self.context(&Circumstances::rehearsal()).map_err(misfit)?;
        drop(seat);
        Ok(())
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
