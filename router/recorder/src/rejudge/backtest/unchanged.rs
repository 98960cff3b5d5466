//! What stays as it was: how much of it for other reasons, and a digest to hold against another run's.

use serde::{Serialize, Serializer};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Decision, Obligation, Outcome, PromptUsed};
use tidegate_schemas::digest::Digest;

use super::change::{Place, Terms};
use super::tally::Capped;
use crate::rejudge::compare::{self, Part};

/// Decisions with the same outcome at the same place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Unchanged {
    /// All of them.
    pub decisions: u64,
    /// Of those, equal in everything that acts: policies, obligations, code and prompt too.
    pub equal: u64,
    /// Of those, determined by other policies.
    pub other_policies: u64,
    /// Of those, with other obligations, or another code.
    pub other_terms: u64,
    /// Of those, rendered from another version of their prompt.
    pub other_prompt: u64,
    /// Which policies determine more or fewer of them.
    pub policies: Capped<String, Exchanged>,
    /// Hash over them: two runs that print the same found the same unchanged.
    pub digest: Chain,
}

/// A policy where the outcome is unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Exchanged {
    /// Decisions that it determined and no longer does.
    pub gone: u64,
    /// Decisions that it did not determine and now does.
    pub come: u64,
}

/// A hash over decisions in their order: `h' = SHA-256(h ‖ index ‖ before ‖ after)`, from 32 zero bytes on, the index as 8
/// bytes, big endian, before and after the SHA-256 of what acts of each decision, as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain(Digest);

/// What acts of a decision. Its id, time, facts and sentence do not, nor which bundle judged.
#[derive(Serialize)]
struct Effect<'a> {
    outcome: Outcome,
    place: Option<Place<'a>>,
    policies: &'a [String],
    obligations: &'a [Obligation],
    code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a PromptUsed>,
}

/// The digest of what acts of a decision.
pub(super) fn effect(decision: &Decision, terms: Terms<'_>) -> Digest {
    let effect = Effect {
        outcome: decision.outcome,
        place: Place::of(decision, terms),
        policies: &decision.determining,
        obligations: &decision.obligations,
        code: decision.code,
        prompt: decision.prompt.as_ref(),
    };
    // Names, numbers and words: always JSON.
    Digest::plain(&serde_json::to_vec(&effect).unwrap_or_default())
}

// === impl Chain ===

impl Chain {
    /// Goes on by one decision.
    pub(super) fn follow(&mut self, index: u64, before: Digest, after: Digest) {
        let index = index.to_be_bytes();
        let link = [&self.0.as_bytes()[..], &index, before.as_bytes(), after.as_bytes()].concat();
        self.0 = Digest::plain(&link);
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self(Digest::from([0; 32]))
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

// === impl Unchanged ===

impl Unchanged {
    /// Adds a decision that stays what and where it was.
    pub(super) fn add(&mut self, recorded: &Decision, judged: &Decision) {
        self.decisions += 1;
        let parts = compare::in_effect(recorded, judged);
        let has = |part: Part| parts.contains(&part);
        let (policies, terms) = (has(Part::Policies), has(Part::Obligations) || has(Part::Code));
        let prompt = has(Part::Prompt);
        self.other_prompt += u64::from(prompt);
        self.equal += u64::from(!policies && !terms && !prompt);
        self.other_policies += u64::from(policies);
        self.other_terms += u64::from(terms);
        if !policies {
            return;
        }
        for id in recorded.determining.iter().filter(|id| !judged.determining.contains(id)) {
            self.policies.of(id).gone += 1;
        }
        for id in judged.determining.iter().filter(|id| !recorded.determining.contains(id)) {
            self.policies.of(id).come += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_schemas::decision::Obligation;

    use super::super::change::tests::decision;
    use super::{Chain, Exchanged, Unchanged, effect};

    #[test]
    fn policies_that_change_under_the_same_outcome_are_named() {
        let before = decision("local", Some("local-chat"), &["a", "b"]);
        let mut unchanged = Unchanged::default();
        unchanged.add(&before, &before);
        unchanged.add(&before, &decision("local", Some("local-chat"), &["b", "c"]));
        let mut capped = before.clone();
        capped.obligations = vec![Obligation::CostCap { usd_micros_max: 1 }];
        unchanged.add(&before, &capped);
        let counts = (unchanged.decisions, unchanged.equal, unchanged.other_policies, unchanged.other_terms);
        assert_eq!(counts, (3, 1, 1, 1));
        let named = &unchanged.policies.named;
        assert_eq!(named.get("a"), Some(&Exchanged { gone: 1, come: 0 }));
        assert_eq!(named.get("c"), Some(&Exchanged { gone: 0, come: 1 }));
        assert_eq!(named.get("b"), None, "negative control");
    }

    #[test]
    fn the_digest_is_of_what_acts_and_of_the_order() {
        let one = decision("local", Some("local-chat"), &["a"]);
        let mut said = one.clone();
        said.sentence = "otherwise".to_owned();
        said.owner = "another".to_owned();
        assert_eq!(effect(&one, None), effect(&said, None), "words and owners do not act");
        let other = decision("local", Some("local-chat"), &["b"]);
        assert_ne!(effect(&one, None), effect(&other, None), "negative control");
        let chain = |links: &[u64]| {
            let mut chain = Chain::default();
            for index in links {
                chain.follow(*index, effect(&one, None), effect(&other, None));
            }
            chain
        };
        assert_eq!(chain(&[1, 2]), chain(&[1, 2]));
        assert_ne!(chain(&[1, 2]), chain(&[2, 1]));
        assert_ne!(chain(&[1]), chain(&[1, 2]));
        assert_ne!(chain(&[]), chain(&[0]));
    }
}
