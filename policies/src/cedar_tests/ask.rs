//! Asking test cases, as `cedar run-tests` does: Cedar's own authoriser, the whole set of policies, request, context and
//! entities held against the schema. A case's reasons must be among those of the answer, its errors as many.

use std::collections::BTreeSet;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, Schema,
};

use super::{CedarDecision, CedarTest};
use crate::cases::Ran;

/// A test case, ready to be asked.
pub(crate) struct Asked<'a> {
    test: &'a CedarTest,
    put: Result<(Request, Entities), String>,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(test: &'a CedarTest, schema: &Schema) -> Self {
        Self { test, put: put(test, schema) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.test.name
    }

    /// Asks it of a set of policies.
    pub(crate) fn run(&self, policies: &PolicySet) -> Ran {
        let name = self.test.name.clone();
        let (request, entities) = match &self.put {
            Ok(put) => put,
            Err(reason) => return Ran::unasked(name, format!("it cannot be asked: {reason}")),
        };
        let response = Authorizer::new().is_authorized(request, policies, entities);
        let allowed = response.decision() == Decision::Allow;
        let said = if allowed { CedarDecision::Allow } else { CedarDecision::Deny };
        let reason: BTreeSet<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        let failed: Vec<String> = response
            .diagnostics()
            .errors()
            .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string())
            .collect();
        let mut differences = Vec::new();
        if said != self.test.decision {
            differences
                .push(format!("decision: expected {:?}, got {said:?}", self.test.decision).to_lowercase());
        }
        let missing = self.test.reason.iter().filter(|id| !reason.contains(*id));
        differences.extend(missing.map(|id| format!("policies: `{id}` does not determine it")));
        if failed.len() != self.test.num_errors {
            let wanted = self.test.num_errors;
            differences.push(format!(
                "errors: expected {wanted}, got {} ({})",
                failed.len(),
                failed.join(", ")
            ));
        }
        Ran {
            name,
            differences,
            policies: reason.into_iter().chain(failed).collect(),
            decision: None,
            permission: None,
        }
    }
}

fn put(test: &CedarTest, schema: &Schema) -> Result<(Request, Entities), String> {
    let asked = &test.request;
    let uid = |text: &str| text.parse::<EntityUid>().map_err(|error| format!("`{text}`: {error}"));
    let action = uid(&asked.action)?;
    let context = Context::from_json_value(asked.context.clone(), Some((schema, &action)))
        .map_err(|error| error.to_string())?;
    let (principal, resource) = (uid(&asked.principal)?, uid(&asked.resource)?);
    let request = Request::new(principal, action, resource, context, Some(schema))
        .map_err(|error| error.to_string())?;
    let entities = Entities::from_json_value(test.entities.clone(), Some(schema)).map_err(|error| {
        std::error::Error::source(&error).map_or(error.to_string(), |why| format!("{error}: {why}"))
    })?;
    Ok((request, entities))
}
