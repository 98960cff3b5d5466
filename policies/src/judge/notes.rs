//! What policies say beside permit and forbid, as annotations: `@title`, `@code`, `@queue`, `@cost_cap_usd_micros`.

use std::collections::HashMap;

use tidegate_schemas::code::Code;
use tidegate_schemas::ids::Name;

use crate::bundle::{Bundle, BundleError};

/// Annotations by policy id, read once.
pub(crate) struct Notes(HashMap<String, Note>);

/// A policy's annotations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    /// One plain phrase that says the rule.
    pub(crate) title: String,
    /// Whom to ask about it.
    pub(crate) owner: String,
    /// The code of a rejection that this policy alone causes.
    pub(crate) code: Option<Code>,
    /// The queue of a review that it asks for.
    pub(crate) queue: Option<Name>,
    /// The most that work it permits may cost.
    pub(crate) cost_cap: Option<u64>,
}

impl Notes {
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, BundleError> {
        let mut notes = HashMap::new();
        for id in bundle.policy_ids() {
            if id.starts_with(super::consider::FLOOR) {
                let reserved = format!(
                    "policy `{id}`: ids that begin with `{}` are the judge's own",
                    super::consider::FLOOR
                );
                return Err(BundleError::Content(reserved));
            }
            let fault = |key: &str| BundleError::Content(format!("policy `{id}`: `@{key}` is malformed"));
            let code = match bundle.annotation(id, "code") {
                None => None,
                Some("lane_off") => Some(Code::LaneOff),
                Some("policy_denied") => Some(Code::PolicyDenied),
                Some(_) => return Err(fault("code")),
            };
            let queue =
                bundle.annotation(id, "queue").map(Name::new).transpose().map_err(|_| fault("queue"))?;
            let cap = bundle.annotation(id, "cost_cap_usd_micros").map(str::parse).transpose();
            let note = Note {
                title: bundle.annotation(id, "title").unwrap_or_default().to_owned(),
                owner: bundle.annotation(id, "owner").unwrap_or_default().to_owned(),
                code,
                queue,
                cost_cap: cap.map_err(|_| fault("cost_cap_usd_micros"))?,
            };
            notes.insert(id.to_owned(), note);
        }
        Ok(Self(notes))
    }

    pub(crate) fn get(&self, policy: &str) -> Option<&Note> {
        self.0.get(policy)
    }
}
