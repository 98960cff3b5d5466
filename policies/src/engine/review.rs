//! Asking whether a reviewer may let held work go on: rarely asked, so of the whole set of policies, held against the schema.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, Request, RestrictedExpression};

use super::types::{type_name, uid};
use super::{Answer, Engine, Principal};
use crate::permission::ReviewRequest;

/// The action.
const ACTION: &str = "ApproveReview";

impl Engine {
    /// Whether the bundle's schema knows verdicts at all. Bundles from before they could be ruled on do not.
    pub(crate) fn rules_reviews(&self) -> bool {
        type_name("Action").is_ok_and(|action| {
            let action = uid(&action, ACTION);
            self.schema.actions().any(|known| *known == action)
        })
    }

    /// What the policies answer to a reviewer who wants this principal's work to go on.
    pub(crate) fn ask_review(&self, asked: &ReviewRequest<'_>, principal: &Principal) -> Answer {
        let failed = || Answer { errored: true, ..Answer::default() };
        self.review(asked, principal).unwrap_or_else(failed)
    }

    fn review(&self, asked: &ReviewRequest<'_>, principal: &Principal) -> Option<Answer> {
        let set = self.whole().ok()?;
        let action = uid(&type_name("Action").ok()?, ACTION);
        let queue = uid(&type_name("ReviewQueue").ok()?, asked.queue.as_str());
        let reviewer = uid(&type_name("Reviewer").ok()?, asked.reviewer.as_str());
        let (resource, _, mut entities) = principal.entities(&self.types).ok()?;
        entities.push(Entity::new_no_attrs(queue.clone(), HashSet::new()));
        entities.push(Entity::new_no_attrs(reviewer.clone(), HashSet::from([queue.clone()])));
        let word = |kind, word| self.types.words.value(kind, word);
        let pairs = HashMap::from([
            ("queue".to_owned(), RestrictedExpression::new_entity_uid(queue)),
            ("edited".to_owned(), RestrictedExpression::new_bool(asked.edited)),
            ("lane".to_owned(), word("Lane", asked.lane.as_str())?),
            ("sensitivity".to_owned(), word("Sensitivity", asked.sensitivity.as_str())?),
            ("stakes".to_owned(), word("Stakes", asked.stakes.as_str())?),
        ]);
        let context = Context::from_pairs(pairs).ok()?;
        let entities = Entities::from_entities(entities, Some(&self.schema)).ok()?;
        let request = Request::new(reviewer, action, resource, context, Some(&self.schema)).ok()?;
        Some(Answer::of(&self.authorizer.is_authorized(&request, &set, &entities)))
    }
}
