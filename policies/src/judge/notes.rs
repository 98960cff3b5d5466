//! What policies say beside permit and forbid, as annotations: `@title`, `@code`, `@queue`, `@quorum`,
//! `@cost_cap_usd_micros`.

use std::collections::HashMap;

use tidegate_schemas::code::Code;
use tidegate_schemas::ids::Name;

use crate::bundle::{Bundle, BundleError};

/// Annotations by policy id, read once.
#[derive(Clone)]
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
    /// How many must approve in it.
    pub(crate) quorum: Option<u8>,
    /// The most that work it permits may cost.
    pub(crate) cost_cap: Option<u64>,
}

/// Most reviewers that a policy may ask for, count.
const QUORUM_MAX: u64 = 9;

/// Largest cap, millionths of a US dollar.
const CAP_MAX: u64 = 1_000_000_000_000;

/// A number as annotations write it: digits only.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= CAP_MAX)
}

/// The same as bundles of the form before may write it.
fn number_before(text: &str) -> Option<u64> {
    text.parse().ok()
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
                return Err(BundleError::policy(id, reserved));
            }
            let fault = |key: &str, form: &str| {
                BundleError::policy(id, format!("policy `{id}`: `@{key}` is malformed; it must be {form}"))
            };
            let code = match bundle.annotation(id, "code") {
                None => None,
                Some("lane_off") => Some(Code::LaneOff),
                Some("policy_denied") => Some(Code::PolicyDenied),
                Some(_) => return Err(fault("code", "lane_off or policy_denied")),
            };
            let queue = bundle.annotation(id, "queue").map(Name::new).transpose();
            let read = if bundle.is_of_form_before() { number_before } else { number };
            let cap = bundle.annotation(id, "cost_cap_usd_micros").map(read);
            let quorum = bundle.annotation(id, "quorum").map(|text| {
                number(text)
                    .filter(|count| (1..=QUORUM_MAX).contains(count))
                    .and_then(|count| count.try_into().ok())
            });
            let note = Note {
                title: bundle.annotation(id, "title").unwrap_or_default().to_owned(),
                owner: bundle.annotation(id, "owner").unwrap_or_default().to_owned(),
                code,
                queue: queue.map_err(|_| fault("queue", "the name of a queue, of a-z, 0-9 and `-`"))?,
                quorum: quorum
                    .map(|count| count.ok_or_else(|| fault("quorum", "1 to 9 reviewers")))
                    .transpose()?,
                cost_cap: cap
                    .map(|cap| cap.ok_or_else(|| fault("cost_cap_usd_micros", "digits, up to 10^12")))
                    .transpose()?,
            };
            notes.insert(id.to_owned(), note);
        }
        Ok(Self(notes))
    }

    pub(crate) fn get(&self, policy: &str) -> Option<&Note> {
        self.0.get(policy)
    }
}
