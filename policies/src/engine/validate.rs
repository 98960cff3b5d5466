//! Trying a bundle's policies before any task is judged by them.

use cedar_policy::ffi::DetailedError;
use cedar_policy::{PolicySet, PolicySetError, ValidationError, ValidationMode, Validator};

use super::{Circumstances, Engine, Linked, Principal, Seat, content};
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
            let Some(template) = self.templates.get(AsRef::<str>::as_ref(&link.template)) else {
                return Err(self.of_no_template(link));
            };
            set.link(link.template.clone(), link.id.clone(), link.values.clone()).map_err(|_| {
                let slots: Vec<String> = template.slots().map(|slot| format!("`{slot}`")).collect();
                BundleError::policy(
                    link.id.to_string(),
                    format!(
                        "link `{}` must fill in what its template `{}` leaves open, and nothing else: {}",
                        link.id,
                        link.template,
                        slots.join(", ")
                    ),
                )
            })?;
        }
        Ok(set)
    }

    fn of_no_template(&self, link: &Linked) -> BundleError {
        let known: Vec<String> = self.templates.keys().map(|id| format!("`{id}`")).collect();
        let known = if known.is_empty() { "no policy has `?principal`".to_owned() } else { known.join(", ") };
        let reason = format!(
            "link `{}` names the template `{}`, which the bundle does not have; there are {known}",
            link.id, link.template
        );
        BundleError::Policy(Fault::new(link.id.to_string(), reason).about([link.template.to_string()]))
    }

    /// Validates everything against the schema, strictly, warnings counted as errors, and tries one request.
    pub(crate) fn validate(&self) -> Result<(), BundleError> {
        let set = self.whole()?;
        let result =
            Validator::new(self.schema.clone()).validate_with_level(&set, ValidationMode::Strict, LEVEL_MAX);
        if !result.validation_passed_without_warnings() {
            let errors = result.validation_errors().map(misfit);
            let warnings = result.validation_warnings().map(|warning| {
                let reason = format!("{warning}; change what it asks, or take the policy out");
                Fault::new(warning.policy_id().to_string(), reason)
            });
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
                let reason = format!(
                    "policy `{policy}` names {uid}, which the bundle does not have; regions stand in `taxonomy.toml`, the rest in `destinations.toml`"
                );
                let word = uid.id().unescaped().to_owned();
                return Err(BundleError::Policy(Fault::new(policy.to_string(), reason).about([word])));
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

/// What does not fit the schema, what to do about it, and by which words it is found.
fn misfit(error: &ValidationError) -> Fault {
    let reason = error.to_string();
    let help = DetailedError::from(error).help.map_or_else(String::new, |help| format!("; {help}"));
    let advice = match error {
        ValidationError::InvalidEnumEntity(_) => {
            "the words that there are stand in `taxonomy.toml`, or in `schema.cedarschema` behind `enum`"
        }
        ValidationError::UnsafeOptionalAttributeAccess(_) => "ask `has` for it first",
        _ => "what a policy may ask stands in `schema.cedarschema`",
    };
    let quoted = |sign: char| reason.split(sign).skip(1).step_by(2);
    let words: Vec<String> = quoted('`')
        .skip(1)
        .chain(quoted('"'))
        .map(|text| text.rsplit("::").next().unwrap_or(text).trim_matches('"').to_owned())
        .collect();
    let told = format!("{reason}{help}; {advice}");
    Fault::new(error.policy_id().to_string(), told).about(words)
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
