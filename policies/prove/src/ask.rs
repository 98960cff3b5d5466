//! One question put to the solver, and its answer held against Cedar.

use std::time::Instant;

use cedar_policy::{Authorizer, Decision, Policy, PolicySet};
use cedar_policy_symcc::{CompiledPolicy, err};
use serde_json::Value;
use tidegate_policies::{Form, Property};
use tidegate_schemas::subject::Lane;

use crate::expression::Place;
use crate::solver::{NotProven, Session};
use crate::suite::Verdict;
use crate::witness::{Counterexample, Found};
use crate::world::{Env, World};
use crate::{ProveError, assume, expression, witness};

/// What is asked about a bundle.
#[derive(Clone, Copy)]
pub(crate) enum Question<'a> {
    /// Does the property hold?
    Holds(&'a Property),
    /// Can the policy fail to evaluate?
    NeverFails(&'a Policy),
    /// Is there a request to which the policy applies?
    Applies(&'a Policy),
}

/// Answers a question. What cannot be put to the solver is not proven.
pub(crate) fn answer(world: &World, session: &mut Session, question: Question<'_>) -> Verdict {
    let mut asking = Asking { world, session };
    let answered = match question {
        Question::Holds(property) => match &property.form {
            Form::Never { action, condition } => asking.never(action, condition),
            Form::OnlyIf { action, when, condition } => {
                let breaks = expression::not(condition.clone());
                asking.never(action, &expression::all(when.iter().cloned().chain([breaks])))
            }
            Form::Reachable { condition } => asking.reachable(property.action(), condition),
        },
        Question::NeverFails(policy) => asking.never_fails(policy),
        Question::Applies(policy) => asking.applies(policy),
    };
    answered.unwrap_or_else(Verdict::NotProven)
}

/// A solver before a bundle.
pub(crate) struct Asking<'a> {
    pub(crate) world: &'a World,
    pub(crate) session: &'a mut Session,
}

impl From<ProveError> for NotProven {
    fn from(error: ProveError) -> Self {
        Self::Failed(error.to_string())
    }
}

fn failed(error: err::Error) -> NotProven {
    let detail = match &error {
        err::Error::PolicyNotWellTyped { errs } => errs.first().map(|first| format!(": {first}")),
        _ => None,
    };
    NotProven::Failed(format!("{error}{}", detail.unwrap_or_default()))
}

impl Asking<'_> {
    /// That no request that meets the condition is permitted.
    fn never(&mut self, action: &str, condition: &Value) -> Result<Verdict, NotProven> {
        let mut says_something = false;
        for at in self.world.envs_of(action) {
            let Some(env) = self.world.envs.get(at) else { continue };
            let condition = expression::all([env.assumption.clone(), condition.clone()]);
            says_something |= self.can_be_met(env, &condition)?;
            let Some(found) = self.permitted(env, &condition)? else { continue };
            let found = self.plainest(env, found, |asking, more| {
                asking.permitted(env, &expression::all([condition.clone(), more]))
            });
            let met = asked(env, &condition)?;
            if !(allows(&self.world.set, &found) && allows(&alone(met)?, &found)) {
                return Err(NotProven::Unconfirmed);
            }
            let by = permitting(&self.world.set, &found);
            let confirmed = format!("Cedar's own authorizer permits it (by {})", by.join(", "));
            return Ok(Verdict::refuted(Counterexample::new(self.world, &found, confirmed)));
        }
        if says_something { Ok(Verdict::Proven) } else { Err(NotProven::Vacuous) }
    }

    /// That a task that meets the condition is permitted at one of the bundle's local destinations that can do it.
    fn reachable(&mut self, action: &str, condition: &Value) -> Result<Verdict, NotProven> {
        let world = self.world;
        for at in world.envs_of(action) {
            let Some(env) = world.envs.get(at) else { continue };
            let (mut real, mut closed) = (vec![expression::parse(&assume::of_task())?], Vec::new());
            for spec in world.bundle.destinations().iter().filter(|spec| spec.lane == Lane::Local) {
                let uid = witness::destination(spec)?;
                if real.len() == 1 {
                    // The proof names its destinations; an example has a resource, and this is one.
                    real.push(expression::parse(&format!("resource == {uid}"))?);
                }
                real.push(expression::parse(&assume::is_place(&world.bundle, spec, &uid.to_string()))?);
                let action = env.types.action();
                let values = assume::values(world.bundle.taxonomy(), spec);
                let place = Place { real: uid.clone(), values, uid };
                let open = expression::allowed(world.policies_for(action), action, &place)?;
                closed.push(expression::not(expression::all([expression::parse(&assume::can(spec))?, open])));
            }
            let met = expression::all(real.into_iter().chain([condition.clone()]));
            if !self.can_be_met(env, &met)? {
                return Err(NotProven::Vacuous);
            }
            let dead_end = expression::all([met].into_iter().chain(closed));
            let Some(found) = self.met(env, &dead_end)? else { continue };
            let found = self.plainest(env, found, |asking, more| {
                asking.example(env, &expression::all([dead_end.clone(), more]))
            });
            let confirmed = witness::closed_everywhere(world, &found)?;
            return Ok(Verdict::refuted(Counterexample::new(world, &found, confirmed)));
        }
        Ok(Verdict::Proven)
    }

    fn never_fails(&mut self, policy: &Policy) -> Result<Verdict, NotProven> {
        for at in self.world.envs_for(policy) {
            let Some(env) = self.world.envs.get(at) else { continue };
            let Some(found) = self.fails(env, policy, &env.assumption)? else { continue };
            let found = self.plainest(env, found, |asking, more| {
                asking.fails(env, policy, &expression::all([env.assumption.clone(), more]))
            });
            let set = alone(policy.clone())?;
            let response = Authorizer::new().is_authorized(&found.request, &set, &found.entities);
            let Some(error) = response.diagnostics().errors().next() else {
                return Err(NotProven::Unconfirmed);
            };
            let confirmed = format!("Cedar's own authorizer fails: {error}");
            return Ok(Verdict::refuted(Counterexample::new(self.world, &found, confirmed)));
        }
        Ok(Verdict::Proven)
    }

    fn applies(&mut self, policy: &Policy) -> Result<Verdict, NotProven> {
        for at in self.world.envs_for(policy) {
            let Some(env) = self.world.envs.get(at) else { continue };
            let assumed = expression::assuming(policy, &env.assumption)?;
            let compiled = self.compiled(env, &assumed)?;
            if !self.session.ask(async |compiler| compiler.check_never_matches_opt(&compiled).await)? {
                return Ok(Verdict::Proven);
            }
        }
        Ok(Verdict::Refuted {
            counterexample: None,
            why: "no request that the judge can ask meets it".to_owned(),
        })
    }

    fn compiled(&self, env: &Env, policy: &Policy) -> Result<CompiledPolicy, NotProven> {
        CompiledPolicy::compile(policy, &env.types, &self.world.schema).map_err(failed)
    }

    /// Whether a request can meet the condition. A condition that can fail is none to prove anything by.
    pub(crate) fn can_be_met(&mut self, env: &Env, condition: &Value) -> Result<bool, NotProven> {
        let compiled = self.compiled(env, &asked(env, condition)?)?;
        if !self.session.ask(async |compiler| compiler.check_never_errors_opt(&compiled).await)? {
            return Err(NotProven::Failed("its condition fails on some requests".to_owned()));
        }
        self.session.ask(async |compiler| Ok(!compiler.check_never_matches_opt(&compiled).await?))
    }

    /// A request that the bundle permits and that meets the condition.
    fn permitted(&mut self, env: &Env, condition: &Value) -> Result<Option<Found>, NotProven> {
        let meets = self.compiled(env, &asked(env, condition)?)?.into_compiled_policyset();
        let bundle = env.compiled(self.world)?;
        self.session
            .ask(async |compiler| compiler.check_disjoint_with_counterexample_opt(bundle, &meets).await)
    }

    /// A request that meets the condition, where no policy in it can fail: one that fails would hide others.
    pub(crate) fn met(&mut self, env: &Env, condition: &Value) -> Result<Option<Found>, NotProven> {
        let compiled = self.compiled(env, &asked(env, condition)?)?;
        if !self.session.ask(async |compiler| compiler.check_never_errors_opt(&compiled).await)? {
            return Err(NotProven::Failed("a policy fails on some of these requests".to_owned()));
        }
        self.session
            .ask(async |compiler| compiler.check_never_matches_with_counterexample_opt(&compiled).await)
    }

    /// Some request that meets the condition.
    pub(crate) fn example(&mut self, env: &Env, condition: &Value) -> Result<Option<Found>, NotProven> {
        let compiled = self.compiled(env, &asked(env, condition)?)?;
        self.session
            .ask(async |compiler| compiler.check_never_matches_with_counterexample_opt(&compiled).await)
    }

    /// A request on which the policy fails.
    fn fails(&mut self, env: &Env, policy: &Policy, assumption: &Value) -> Result<Option<Found>, NotProven> {
        let compiled = self.compiled(env, &expression::assuming(policy, assumption)?)?;
        self.session
            .ask(async |compiler| compiler.check_never_errors_with_counterexample_opt(&compiled).await)
    }

    /// The plainest example that still is one: a destination that the bundle has, a quiet day, no more labels than it takes.
    pub(crate) fn plainest(
        &mut self,
        env: &Env,
        first: Found,
        mut ask: impl FnMut(&mut Self, Value) -> Result<Option<Found>, NotProven>,
    ) -> Found {
        if !env.is_route() || self.session.plain().is_zero() {
            return first;
        }
        let lane = match env.action() {
            "RouteLocal" => Some(Lane::Local),
            "RouteCloud" => Some(Lane::Cloud),
            _ => None,
        };
        let Ok(places) = self.world.real(lane) else { return first };
        let Ok(wishes) =
            assume::PLAIN.iter().map(|text| expression::parse(text)).collect::<Result<Vec<_>, _>>()
        else {
            return first;
        };
        let until = Instant::now() + self.session.plain();
        let (mut kept, mut best) = (Vec::new(), first);
        for wish in wishes {
            // What the example happens to be already needs no solver.
            if meets(env, &wish, &best) {
                kept.push(wish);
                continue;
            }
            if Instant::now() > until {
                break;
            }
            kept.push(wish);
            match ask(self, expression::all(kept.clone())) {
                Ok(Some(found)) => best = found,
                _ => {
                    kept.pop();
                }
            }
        }
        // Last, and one place after the other: a real place costs the solver more than all the rest.
        for place in places {
            let wanted = expression::all(kept.iter().cloned().chain([place]));
            if let Ok(Some(found)) = ask(self, wanted) {
                return found;
            }
        }
        best
    }
}

/// The condition as a policy for this kind of request.
fn asked(env: &Env, condition: &Value) -> Result<Policy, ProveError> {
    expression::permit("asked", env.types.action(), condition)
}

/// Whether an example meets the condition.
fn meets(env: &Env, condition: &Value, found: &Found) -> bool {
    asked(env, condition).and_then(alone).is_ok_and(|set| allows(&set, found))
}

fn allows(set: &PolicySet, found: &Found) -> bool {
    Authorizer::new().is_authorized(&found.request, set, &found.entities).decision() == Decision::Allow
}

/// Ids of the policies that permit it, sorted.
fn permitting(set: &PolicySet, found: &Found) -> Vec<String> {
    let response = Authorizer::new().is_authorized(&found.request, set, &found.entities);
    let mut ids: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    ids.sort_unstable();
    ids
}

/// A set of one policy.
pub(crate) fn alone(policy: Policy) -> Result<PolicySet, ProveError> {
    PolicySet::from_policies([policy]).map_err(|error| ProveError::Defect(error.to_string()))
}
