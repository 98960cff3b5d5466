//! A bundle as proofs see it: schema, request environments, and every policy as a static one, template links included.

use std::collections::HashSet;
use std::str::FromStr as _;
use std::sync::{Arc, OnceLock};

use cedar_policy::{EntityUid, Policy, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::CompiledPolicySet;
use serde_json::Value;
use tidegate_policies::Bundle;
use tidegate_schemas::subject::Lane;

use crate::solver::NotProven;
use crate::{ProveError, assume, expression};

/// What is to be proven about.
pub(crate) struct World {
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) schema: Schema,
    pub(crate) policies: Vec<Policy>,
    pub(crate) set: PolicySet,
    pub(crate) envs: Vec<Env>,
}

/// One kind of request: types of principal and resource, and an action.
pub(crate) struct Env {
    pub(crate) types: RequestEnv,
    /// The action and the groups that it is in.
    actions: HashSet<EntityUid>,
    /// What holds of every request of this kind, as the judge asks it; the destination may be any.
    pub(crate) assumption: Value,
    /// The whole bundle, compiled once.
    compiled: OnceLock<Result<CompiledPolicySet, NotProven>>,
}

// === impl World ===

impl World {
    pub(crate) fn new(bundle: Arc<Bundle>) -> Result<Self, ProveError> {
        let cedar = bundle.for_cedar()?;
        let unreadable =
            |error: String| ProveError::Defect(format!("the bundle cannot be read back: {error}"));
        let schema = Schema::from_json_value(cedar.schema).map_err(|error| unreadable(error.to_string()))?;
        let linked =
            PolicySet::from_json_value(cedar.policies).map_err(|error| unreadable(error.to_string()))?;
        let mut policies = linked
            .policies()
            .map(|policy| {
                let json = policy.to_json().map_err(|error| unreadable(error.to_string()))?;
                Policy::from_json(Some(policy.id().clone()), json)
                    .map_err(|error| unreadable(error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        policies.sort_by(|a, b| a.id().cmp(b.id()));
        let set =
            PolicySet::from_policies(policies.clone()).map_err(|error| unreadable(error.to_string()))?;
        let envs = envs(&schema)?;
        Ok(Self { bundle, schema, policies, set, envs })
    }

    /// The environments of an action or of a group of actions.
    pub(crate) fn envs_of(&self, action: &str) -> Vec<usize> {
        let Some(uid) = action_uid(action) else { return Vec::new() };
        self.positions(|env| env.actions.contains(&uid))
    }

    /// The environments that a policy's scope leaves open.
    pub(crate) fn envs_for(&self, policy: &Policy) -> Vec<usize> {
        use cedar_policy::{ActionConstraint, PrincipalConstraint, ResourceConstraint};
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Is(name) | PrincipalConstraint::IsIn(name, _) => Some(name),
            PrincipalConstraint::Eq(uid) => Some(uid.type_name().clone()),
            _ => None,
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Is(name) | ResourceConstraint::IsIn(name, _) => Some(name),
            ResourceConstraint::Eq(uid) => Some(uid.type_name().clone()),
            _ => None,
        };
        let action = policy.action_constraint();
        self.positions(|env| {
            let acts = match &action {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(uid) => env.actions.contains(uid),
                ActionConstraint::In(uids) => uids.iter().any(|uid| env.actions.contains(uid)),
            };
            acts && principal.as_ref().is_none_or(|name| name == env.types.principal())
                && resource.as_ref().is_none_or(|name| name == env.types.resource())
        })
    }

    /// The policies that can apply to an action.
    pub(crate) fn policies_for(&self, action: &EntityUid) -> impl Iterator<Item = &Policy> {
        let of_action = self.positions(|env| env.types.action() == action);
        self.policies
            .iter()
            .filter(move |policy| self.envs_for(policy).iter().any(|at| of_action.contains(at)))
    }

    fn positions(&self, wanted: impl Fn(&Env) -> bool) -> Vec<usize> {
        self.envs.iter().enumerate().filter(|(_, env)| wanted(env)).map(|(at, _)| at).collect()
    }

    /// That the resource is this one of the bundle's destinations, for each on the lane where one is named.
    pub(crate) fn real(&self, lane: Option<Lane>) -> Result<Vec<Value>, ProveError> {
        let all = self.bundle.destinations().iter().filter(|spec| lane.is_none_or(|lane| spec.lane == lane));
        all.map(|spec| {
            let is = assume::is_place(&self.bundle, spec, "resource");
            expression::parse(&format!("resource == Destination::{:?} && {is}", spec.name.as_str()))
        })
        .collect()
    }
}

// === impl Env ===

impl Env {
    /// What the bundle permits in it, compiled.
    pub(crate) fn compiled(&self, world: &World) -> Result<&CompiledPolicySet, NotProven> {
        let compile = || {
            CompiledPolicySet::compile(&world.set, &self.types, &world.schema)
                .map_err(|error| NotProven::Failed(error.to_string()))
        };
        self.compiled.get_or_init(compile).as_ref().map_err(Clone::clone)
    }

    /// The action's name.
    pub(crate) fn action(&self) -> &str {
        self.types.action().id().unescaped()
    }

    /// Whether it is one of the judge's questions about a task and a destination.
    pub(crate) fn is_route(&self) -> bool {
        assume::ROUTES.contains(&self.action())
    }
}

fn envs(schema: &Schema) -> Result<Vec<Env>, ProveError> {
    let failed = |error: String| ProveError::Defect(format!("the schema has no usable actions: {error}"));
    let known = schema.action_entities().map_err(|error| failed(error.to_string()))?;
    let mut envs = Vec::new();
    for types in schema.request_envs() {
        let action = types.action().clone();
        let groups = known.ancestors(&action).into_iter().flatten().cloned();
        let actions = groups.chain([action.clone()]).collect();
        let name = action.id().unescaped();
        let assumption = if assume::ROUTES.contains(&name) {
            expression::all([
                expression::parse(&assume::of_task())?,
                expression::parse(&assume::of_any_place(name))?,
            ])
        } else {
            expression::all([])
        };
        envs.push(Env { types, actions, assumption, compiled: OnceLock::new() });
    }
    envs.sort_by_key(|env| (env.types.action().to_string(), env.types.resource().to_string()));
    Ok(envs)
}

/// An action by its name.
pub(crate) fn action_uid(name: &str) -> Option<EntityUid> {
    EntityUid::from_str(&format!("Action::{name:?}")).ok()
}
