//! Decisions as test cases of Cedar's own command line: `cedar run-tests` asks each question again, without this program.
//!
//! One case a question: may the task run there, on its lane; may the chosen one run without a person. What the judge adds
//! (labels raised by what is found, capabilities, the choice among permitted destinations) stands in a case as facts, and is
//! not asked again. The form is that of `cedar-policy-cli` 4: `request`, `entities`, `decision`, `reason`, `num_errors`.

use std::collections::HashSet;

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, PolicySetError};
use serde::Serialize;
use serde_json::Value;
use tidegate_schemas::decision::{Considering, Facts};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::task::Task;

use crate::bundle::{Bundle, BundleError};
use crate::engine::{Engine, Question, route};
use crate::judge::Judge;

/// One test case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CedarTest {
    /// What it is of, in words.
    pub name: String,
    /// What is asked.
    pub request: CedarRequest,
    /// Who and what there is.
    pub entities: Value,
    /// `allow` or `deny`.
    pub decision: &'static str,
    /// Ids of the policies that determine it.
    pub reason: Vec<String>,
    /// Policies that fail to evaluate, count. The judge denies where there is one.
    pub num_errors: usize,
}

/// What is asked, as Cedar writes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CedarRequest {
    /// Who asks.
    pub principal: String,
    /// What for.
    pub action: String,
    /// Where.
    pub resource: String,
    /// What is known.
    pub context: Value,
}

/// What the cases are asked of.
#[derive(Debug, Clone, PartialEq)]
pub struct CedarBundle {
    /// Policies, templates and links: a policy set in Cedar's JSON form.
    pub policies: Value,
    /// The schema, in Cedar's JSON form.
    pub schema: Value,
}

impl Bundle {
    /// Policies and schema as Cedar's command line reads them (`--policy-format json`, `--schema-format json`).
    ///
    /// # Errors
    /// [`BundleError`] when they cannot be written; a bundle that was read can.
    pub fn for_cedar(&self) -> Result<CedarBundle, BundleError> {
        let parts = self.parts();
        let failed = |error: PolicySetError| BundleError::Content(error.to_string());
        let policies = Engine::new(parts)?.whole()?.to_json().map_err(failed)?;
        Ok(CedarBundle { policies, schema: parts.schema.clone() })
    }
}

impl Judge {
    /// The questions that deciding this task asks, each with Cedar's answer. None where the task cannot be asked about: its
    /// agent is unknown.
    ///
    /// # Errors
    /// Why a part of it cannot be written.
    pub fn cedar_tests(
        &self,
        name: &str,
        task: &Task,
        directory: &Directory,
        facts: &Facts,
    ) -> Result<Vec<CedarTest>, String> {
        let decision = self.decide(task, directory, facts);
        // A task that is turned away unasked has no questions.
        let prepared = self.prepared(task, directory, facts).filter(|_| !decision.considered.is_empty());
        let Some((seat, context)) = prepared else { return Ok(Vec::new()) };
        let (entities, known) = (seat.written()?, written(&context)?);
        let mut tests = Vec::new();
        let specs = self.bundle().destinations();
        for (place, (spec, considered)) in specs.iter().zip(&decision.considered).enumerate() {
            if considered.verdict == Considering::Incapable {
                continue;
            }
            let review = (considered.verdict == Considering::Chosen).then_some(Question::SkipReview);
            for question in [Some(route(spec)), review].into_iter().flatten() {
                let Some(said) = self.engine().spoken(&seat, question, place, &context) else {
                    return Err(format!("`{}` cannot be asked about", spec.name));
                };
                tests.push(CedarTest {
                    name: format!("{name}: {} at {}", question.as_str(), spec.name),
                    request: CedarRequest {
                        principal: said.principal,
                        action: said.action,
                        resource: said.resource,
                        context: known.clone(),
                    },
                    entities: entities.clone(),
                    decision: if said.allowed { "allow" } else { "deny" },
                    reason: said.reason,
                    num_errors: said.errors,
                });
            }
        }
        Ok(tests)
    }
}

/// A context as Cedar writes it: it writes the attributes of entities, so one bears it.
fn written(context: &Context) -> Result<Value, String> {
    let name: EntityTypeName = "Context".parse().map_err(|error| format!("{error}"))?;
    let uid = EntityUid::from_type_name_and_id(name, EntityId::new("context"));
    let bearer = Entity::new(uid, context.clone().into_iter().collect(), HashSet::new());
    let written = bearer.map_err(|error| error.to_string())?.to_json_value();
    Ok(written.map_err(|error| error.to_string())?.get("attrs").cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    //! Reads the cases as `cedar run-tests` does, and asks them.
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;
    use std::sync::Arc;

    use cedar_policy::{
        Authorizer, Context, Decision, Entities, EntityUid, PolicyId, PolicySet, Request, Schema,
        ValidationMode, Validator,
    };

    use super::{CedarBundle, CedarTest};
    use crate::bundle::Bundle;
    use crate::judge::Judge;

    /// What is not as the case says.
    fn differences(schema: &Schema, policies: &PolicySet, test: &CedarTest) -> Vec<String> {
        let uid = |text: &str| text.parse::<EntityUid>().unwrap();
        let action = uid(&test.request.action);
        let context =
            Context::from_json_value(test.request.context.clone(), Some((schema, &action))).unwrap();
        let request = Request::new(
            uid(&test.request.principal),
            action,
            uid(&test.request.resource),
            context,
            Some(schema),
        )
        .unwrap();
        let entities = Entities::from_json_value(test.entities.clone(), Some(schema)).unwrap();
        let response = Authorizer::new().is_authorized(&request, policies, &entities);
        let mut found = Vec::new();
        let said = if response.decision() == Decision::Allow { "allow" } else { "deny" };
        if said != test.decision {
            found.push(format!("{}: {said}", test.name));
        }
        let reason: BTreeSet<&PolicyId> = response.diagnostics().reason().collect();
        let missing = test.reason.iter().filter(|id| !reason.contains(&PolicyId::new(id)));
        found.extend(missing.map(|id| format!("{}: not by {id}", test.name)));
        if response.diagnostics().errors().count() != test.num_errors {
            found.push(format!("{}: errors", test.name));
        }
        found
    }

    #[test]
    fn cedar_tests_are_read_and_passed_as_by_the_command_line() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/default");
        let bundle = Arc::new(Bundle::from_dir(&dir).unwrap());
        let judge = Judge::new(Arc::clone(&bundle)).unwrap();
        let CedarBundle { schema, policies } = bundle.for_cedar().unwrap();
        let schema = Schema::from_json_value(schema).unwrap();
        let policies = PolicySet::from_json_value(policies).unwrap();
        let found = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
        assert!(found.validation_passed_without_warnings(), "the command line refuses a set with warnings");
        let (mut allowed, mut denied) = (0, 0);
        for case in &bundle.cases().rows {
            let (task, facts) = case.request(&bundle.cases().directory).unwrap();
            let tests = judge.cedar_tests(&case.name, &task, &bundle.cases().directory, &facts).unwrap();
            for test in tests {
                if test.decision == "allow" {
                    allowed += 1
                } else {
                    denied += 1
                }
                // As it is written and read.
                let text = serde_json::to_value(&test).unwrap();
                let keys: Vec<&String> = text.as_object().unwrap().keys().collect();
                assert_eq!(keys.len(), 6, "{keys:?}");
                assert_eq!(differences(&schema, &policies, &test), Vec::<String>::new());
                // Negative control: the other decision does not pass.
                let other =
                    CedarTest { decision: if test.decision == "allow" { "deny" } else { "allow" }, ..test };
                assert_eq!(differences(&schema, &policies, &other).len(), 1);
            }
        }
        assert!(allowed > 20 && denied > 20, "{allowed} allowed, {denied} denied");
    }
}
