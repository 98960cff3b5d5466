//! Asking whether an operator may replay: rarely asked, so of the whole set of policies, each request held against the schema.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityUid, PolicySet, Request};

use super::types::{long, type_name, uid};
use super::{Answer, Engine};
use crate::permission::ReplayRequest;

/// Whose records are of no tenant: the cell's own.
const CELL: &str = "cell";

impl Engine {
    /// What the policies answer for each tenant, and for the cell where it is asked about. A schema that does not know the
    /// action permits nothing.
    pub(crate) fn ask_replay(&self, asked: &ReplayRequest<'_>) -> Vec<Answer> {
        let failed = || vec![Answer { errored: true, ..Answer::default() }];
        let (Ok(set), Ok(tenant), Ok(cell)) = (self.whole(), type_name("Tenant"), type_name("Cell")) else {
            return failed();
        };
        let tenants = asked.tenants.iter().map(|name| uid(&tenant, name.as_str()));
        let resources: Vec<EntityUid> = tenants.chain(asked.cell.then(|| uid(&cell, CELL))).collect();
        let answers = resources.into_iter().map(|resource| self.ask_one(asked, resource, &set));
        answers.collect::<Option<Vec<_>>>().filter(|answers| !answers.is_empty()).unwrap_or_else(failed)
    }

    fn ask_one(&self, asked: &ReplayRequest<'_>, resource: EntityUid, set: &PolicySet) -> Option<Answer> {
        let operator = uid(&type_name("Operator").ok()?, asked.operator.as_str());
        let action = uid(&type_name("Action").ok()?, "Replay");
        let target = uid(&type_name("ReplayTo").ok()?, asked.target.as_str());
        let pairs = HashMap::from([
            ("to".to_owned(), cedar_policy::RestrictedExpression::new_entity_uid(target)),
            ("records".to_owned(), long(asked.records)),
        ]);
        let context = Context::from_pairs(pairs).ok()?;
        let entities =
            [operator.clone(), resource.clone()].map(|uid| Entity::new_no_attrs(uid, HashSet::new()));
        let entities = Entities::from_entities(entities, None).ok()?;
        let request = Request::new(operator, action, resource, context, Some(&self.schema)).ok()?;
        Some(Answer::of(&self.authorizer.is_authorized(&request, set, &entities)))
    }
}
