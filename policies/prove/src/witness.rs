//! Counterexamples: a request from the solver's model, held against Cedar's own authorizer.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use cedar_policy::{Authorizer, Decision, Entities, EntityUid, Request};
use serde::Serialize;
use serde_json::Value;
use tidegate_policies::destination::DestinationSpec;
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::subject::Lane;

use crate::solver::NotProven;
use crate::world::World;
use crate::{ProveError, ask, assume, expression, runnable};

/// What the solver found: a request, and who and what there is.
pub(crate) type Found = cedar_policy_symcc::Env;

/// A request for which something does not hold.
#[derive(Debug, Clone, Serialize)]
pub struct Counterexample {
    /// Who asks.
    pub principal: String,
    /// What the principal is in, sorted.
    pub groups: Vec<String>,
    /// What for.
    pub action: String,
    /// Where.
    pub resource: String,
    /// What is known.
    pub context: Value,
    /// Who and what there is, in Cedar's JSON form.
    pub entities: Value,
    /// What Cedar's own authorizer says of it.
    pub confirmed: String,
    /// The same as a task, where a task can be that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Runnable>,
    /// Why it is no task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_task: Option<String>,
}

/// A counterexample as something that an author can run.
#[derive(Debug, Clone, Serialize)]
pub struct Runnable {
    /// Whose it is.
    pub tenant: String,
    /// Who publishes it.
    pub agent: String,
    /// Its kind.
    pub kind: String,
    /// The task's envelope, as `tidegate policy explain` reads it.
    pub envelope: Value,
    /// The case, for a file in `cases/`; it expects what the judge decides now.
    pub case: String,
    /// Who there must be, for `cases/directory.toml`.
    pub directory: String,
    /// What the judge decides, its own rules included.
    pub decided: String,
}

impl Counterexample {
    pub(crate) fn new(world: &World, found: &Found, confirmed: String) -> Self {
        let request = &found.request;
        let name = |uid: Option<&EntityUid>| uid.map(ToString::to_string).unwrap_or_default();
        let groups: BTreeSet<String> = groups(found).iter().map(ToString::to_string).collect();
        let (task, no_task) = match Judge::new(world.bundle.clone()) {
            Ok(judge) => match runnable::task(&judge, found) {
                Ok(task) => (Some(task), None),
                Err(why) => (None, Some(why)),
            },
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            principal: name(request.principal()),
            groups: groups.into_iter().collect(),
            action: name(request.action()),
            resource: name(request.resource()),
            context: context(found),
            entities: found.entities.to_json_value().unwrap_or_default(),
            confirmed,
            task,
            no_task,
        }
    }
}

/// What the principal is in.
pub(crate) fn groups(found: &Found) -> Vec<EntityUid> {
    let principal = found.request.principal();
    let ancestors = principal.and_then(|uid| found.entities.ancestors(uid));
    ancestors.into_iter().flatten().cloned().collect()
}

pub(crate) fn context(found: &Found) -> Value {
    found.request.context().and_then(|context| context.to_json_value().ok()).unwrap_or_default()
}

/// A destination's name in Cedar.
pub(crate) fn destination(spec: &DestinationSpec) -> Result<EntityUid, ProveError> {
    EntityUid::from_str(&format!("Destination::{:?}", spec.name.as_str()))
        .map_err(|error| ProveError::Defect(error.to_string()))
}

/// The model's principals among the destinations of the bundle, as the bundle has them.
pub(crate) fn real(world: &World, bundle: &Bundle, found: &Found) -> Result<Entities, NotProven> {
    let failed = |error: String| NotProven::Failed(format!("the model's entities cannot be used: {error}"));
    let model = found.entities.to_json_value().map_err(|error| failed(error.to_string()))?;
    let replaced = ["Destination", "Region", "Pool", "Provider", "Action"];
    let of_model = model.as_array().into_iter().flatten().filter(|entity| {
        let kind = entity.pointer("/uid/type").and_then(Value::as_str).unwrap_or_default();
        !replaced.contains(&kind)
    });
    let mut seen = BTreeSet::new();
    let places = bundle.destinations().iter().flat_map(|spec| assume::entities(bundle.taxonomy(), spec));
    let all: Vec<Value> =
        of_model.cloned().chain(places).filter(|entity| seen.insert(entity["uid"].to_string())).collect();
    Entities::from_json_value(Value::Array(all), Some(&world.schema))
        .map_err(|error| failed(error.to_string()))
}

/// Asks Cedar about an action at one of the bundle's destinations: whether it is permitted, and the policies that determine it.
pub(crate) fn asked_at(
    world: &World,
    entities: &Entities,
    found: &Found,
    action: &EntityUid,
    place: EntityUid,
) -> Result<(bool, Vec<String>), NotProven> {
    let request = &found.request;
    let (Some(principal), Some(context)) = (request.principal(), request.context()) else {
        return Err(NotProven::Unconfirmed);
    };
    let request = Request::new(principal.clone(), action.clone(), place, context.clone(), None)
        .map_err(|error| NotProven::Failed(error.to_string()))?;
    let response = Authorizer::new().is_authorized(&request, &world.set, entities);
    let mut by: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    by.sort_unstable();
    Ok((response.decision() == Decision::Allow, by))
}

/// Holds a dead end against Cedar: each local destination, as the bundle has it, is closed to the task. Says why.
pub(crate) fn closed_everywhere(world: &World, found: &Found) -> Result<String, NotProven> {
    let entities = real(world, &world.bundle, found)?;
    let Some(action) = found.request.action() else { return Err(NotProven::Unconfirmed) };
    let mut told = Vec::new();
    for spec in world.bundle.destinations().iter().filter(|spec| spec.lane == Lane::Local) {
        let can = expression::permit("asked", action, &expression::parse(&assume::can(spec))?)?;
        let can = Authorizer::new().is_authorized(&found.request, &ask::alone(can)?, &found.entities);
        if can.decision() == Decision::Deny {
            told.push(format!("`{}` cannot do it", spec.name));
            continue;
        }
        let (allowed, by) = asked_at(world, &entities, found, action, destination(spec)?)?;
        if allowed {
            return Err(NotProven::Unconfirmed);
        }
        let by =
            if by.is_empty() { "no policy permits it".to_owned() } else { format!("by {}", by.join(", ")) };
        told.push(format!("Cedar's own authorizer denies `{}` ({by})", spec.name));
    }
    if told.is_empty() {
        told.push("the bundle has no local destination".to_owned());
    }
    Ok(told.join("; "))
}
