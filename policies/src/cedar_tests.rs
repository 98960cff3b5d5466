//! Decisions as test cases of Cedar's own command line: `cedar run-tests` asks each question again, without this program.
//!
//! One case a question: may the task run there, on its lane; may the chosen one run without a person. What the judge adds
//! (labels raised by what is found, capabilities, the choice among permitted destinations) stands in a case as facts, and is
//! not asked again. The form is that of `cedar-policy-cli` 4: `request`, `entities`, `decision`, `reason`, `num_errors`. Cases in
//! that form are also read, from a bundle's `cases/*.json` or a file, and asked as the command line asks them.

use std::collections::HashSet;

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, PolicySetError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_schemas::decision::{Considering, Facts};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::task::Task;

use crate::bundle::{Bundle, BundleError};
use crate::engine::{Engine, Question, route};
use crate::judge::Judge;

pub(crate) use ask::Asked;
pub(crate) use read::lists;

mod ask;
mod read;
#[cfg(test)]
mod tests;

/// One test case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CedarTest {
    /// What it is of, in words.
    #[serde(default)]
    pub name: String,
    /// What is asked.
    pub request: CedarRequest,
    /// Who and what there is.
    pub entities: Value,
    /// What Cedar must say.
    pub decision: CedarDecision,
    /// Ids of the policies that determine it.
    pub reason: Vec<String>,
    /// Policies that fail to evaluate, count. The judge denies where there is one.
    pub num_errors: usize,
}

/// Cedar's own answer, without what the judge adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CedarDecision {
    /// Permitted, and by no policy forbidden.
    Allow,
    /// Anything else.
    Deny,
}

/// What is asked, as Cedar writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CedarRequest {
    /// Who asks.
    pub principal: String,
    /// What for.
    pub action: String,
    /// Where.
    pub resource: String,
    /// What is known.
    #[serde(default = "nothing")]
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
                    decision: if said.allowed { CedarDecision::Allow } else { CedarDecision::Deny },
                    reason: said.reason,
                    num_errors: said.errors,
                });
            }
        }
        Ok(tests)
    }
}

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

/// A context as Cedar writes it: it writes the attributes of entities, so one bears it.
fn written(context: &Context) -> Result<Value, String> {
    let name: EntityTypeName = "Context".parse().map_err(|error| format!("{error}"))?;
    let uid = EntityUid::from_type_name_and_id(name, EntityId::new("context"));
    let bearer = Entity::new(uid, context.clone().into_iter().collect(), HashSet::new());
    let written = bearer.map_err(|error| error.to_string())?.to_json_value();
    Ok(written.map_err(|error| error.to_string())?.get("attrs").cloned().unwrap_or_default())
}
