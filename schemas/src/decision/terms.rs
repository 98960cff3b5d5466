//! What an agreement is for, beside the text that was seen: how held work would go on.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Decision, Obligation};
use crate::digest::Digest;

/// How held work would go on. Who agrees agrees to this, and to no other place or form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Terms {
    /// SHA-256 of what the bundle says of the destination as a place for data to go: address, model, region and what it promises;
    /// not its price, its speed or whom to ask about it.
    pub place: Digest,
    /// Whether what was found in the task would be replaced by tokens before it leaves.
    pub redacted: bool,
}

impl Decision {
    /// How the task would go on once somebody agrees; none where nobody is asked, or where an earlier router did not say.
    #[must_use]
    pub fn terms(&self) -> Option<Terms> {
        self.obligations.iter().find_map(|obligation| match obligation {
            Obligation::Review { terms, .. } => *terms,
            Obligation::CostCap { .. } => None,
        })
    }

    /// As a router told it that did not say the terms yet, where `recorded` has none: what was not told is nothing that differs.
    #[must_use]
    pub fn told_as(&self, recorded: &Self) -> Cow<'_, Self> {
        if self.terms().is_none() || recorded.terms().is_some() {
            return Cow::Borrowed(self);
        }
        let mut told = self.clone();
        for obligation in &mut told.obligations {
            if let Obligation::Review { terms, .. } = obligation {
                *terms = None;
            }
        }
        Cow::Owned(told)
    }
}
