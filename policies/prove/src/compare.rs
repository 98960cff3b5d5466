//! From one bundle to another: did access to the cloud get wider?
//!
//! Asked of each cloud destination as each bundle has it, so a new destination, a new certification and a new rule all count.
//! What no policy sees is compared beside ([`beside`]): a place's address and abilities, caps. Where it cannot be told what a
//! difference means (schema, what raises labels, queues, redaction, who agrees, a property that is gone), "not wider" is not proven.
//!
//! Access is what may go; where it goes among the places that it may (ranks, what the local lane takes) is none: a backtest
//! tells that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cedar_policy::{Effect, EntityUid, Policy, ValidationMode, Validator};
use serde_json::Value;
use tidegate_policies::Bundle;
use tidegate_policies::destination::DestinationSpec;
use tidegate_schemas::subject::Lane;

use crate::ask::{self, Asking, Question};
use crate::expression::Place;
use crate::solver::{NotProven, Session, Solver};
use crate::suite::Verdict;
use crate::witness::{self, Counterexample, Found};
use crate::world::{Env, World, action_uid};
use crate::{ProveError, assume, expression, pool};

mod beside;

/// What a task may do at a cloud destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Go there.
    Reach,
    /// Go there without a person's agreement.
    Unreviewed,
    /// Cost as much there.
    Cost,
}

/// What changed, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something is permitted that was not.
    Wider,
    /// Nothing more is permitted, and something less.
    Narrower,
    /// The same is permitted.
    Equal,
    /// Nobody knows.
    NotProven,
}

/// One destination and access.
#[derive(Debug)]
pub struct Change {
    /// The destination's name.
    pub destination: String,
    /// What is compared.
    pub access: Access,
    /// That it is not wider: refuted by a task that is permitted now and was not.
    pub not_wider: Verdict,
    /// That it is not narrower either.
    pub not_narrower: Verdict,
}

/// Everything that was compared.
#[derive(Debug)]
pub struct Comparison {
    /// The bundle that is compared with.
    pub against: Arc<Bundle>,
    /// By destination.
    pub changes: Vec<Change>,
    /// Why the whole is not proven, whatever the changes say.
    pub doubt: Option<String>,
    /// How long it took.
    pub took: Duration,
}

struct Asked<'a> {
    new: Option<&'a DestinationSpec>,
    old: Option<&'a DestinationSpec>,
    access: Access,
}

// === impl Access ===

impl Access {
    /// The access as it stands in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reach => "reach",
            Self::Unreviewed => "unreviewed",
            Self::Cost => "cost",
        }
    }

    fn actions(self) -> Vec<EntityUid> {
        let names: &[&str] =
            if self == Self::Reach { &["RouteCloud"] } else { &["RouteCloud", "SkipReview"] };
        names.iter().filter_map(|name| action_uid(name)).collect()
    }
}

// === impl Outcome ===

impl Outcome {
    /// The outcome as it stands in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wider => "wider",
            Self::Narrower => "narrower",
            Self::Equal => "equal",
            Self::NotProven => "not proven",
        }
    }
}

// === impl Change ===

impl Change {
    /// What changed there.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (&self.not_wider, &self.not_narrower) {
            (Verdict::Refuted { .. }, _) => Outcome::Wider,
            (Verdict::NotProven(_), _) | (_, Verdict::NotProven(_)) => Outcome::NotProven,
            (Verdict::Proven, Verdict::Refuted { .. }) => Outcome::Narrower,
            (Verdict::Proven, Verdict::Proven) => Outcome::Equal,
        }
    }
}

// === impl Comparison ===

impl Comparison {
    /// What changed altogether: one that is wider is enough, and so is one that nobody knows.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let any = |wanted: Outcome| self.changes.iter().any(|change| change.outcome() == wanted);
        if any(Outcome::Wider) {
            Outcome::Wider
        } else if any(Outcome::NotProven) || self.doubt.is_some() {
            Outcome::NotProven
        } else if any(Outcome::Narrower) {
            Outcome::Narrower
        } else {
            Outcome::Equal
        }
    }
}

/// Compares a bundle with the one before it.
///
/// # Errors
/// [`ProveError`] when one of the bundles cannot be asked about at all.
pub fn compare(new: &Arc<Bundle>, old: &Arc<Bundle>, solver: &Solver) -> Result<Comparison, ProveError> {
    let started = Instant::now();
    let (now, before) = (World::new(Arc::clone(new))?, World::new(Arc::clone(old))?);
    let fits =
        Validator::new(now.schema.clone()).validate(&before.set, ValidationMode::Strict).validation_passed();
    let mut changes = if fits {
        pool::each(solver, asked(new, old), |session, asked| asked.answer(session, &now, &before))
    } else {
        Vec::new()
    };
    changes.extend(cost(new, old));
    changes.extend(beside::changes(&now, &before));
    let mut doubts = beside::doubts(&now, &before);
    if !fits {
        doubts.push(
            "the other bundle's policies do not fit this bundle's schema, so they cannot be compared"
                .to_owned(),
        );
    }
    doubts.extend(failing(&now, &before, solver));
    let doubt = (!doubts.is_empty()).then(|| doubts.join("; "));
    Ok(Comparison { against: Arc::clone(old), changes, doubt, took: started.elapsed() })
}

/// Policies of the other bundle that are gone or changed and may fail: what they failed on was denied, whatever else permits it.
fn failing(now: &World, before: &World, solver: &Solver) -> Vec<String> {
    let mut others = Vec::new();
    for action in Access::Unreviewed.actions() {
        let kept: BTreeSet<String> = now.policies_for(&action).map(plain).collect();
        others.extend(before.policies_for(&action).filter(|policy| !kept.contains(&plain(policy))).cloned());
    }
    others.sort_by(|a, b| a.id().cmp(b.id()));
    others.dedup_by(|a, b| a.id() == b.id());
    let found = pool::each(solver, others, |session, policy| {
        let verdict = match session {
            Ok(session) => ask::answer(before, session, Question::NeverFails(&policy)),
            Err(error) => Verdict::NotProven(error),
        };
        (!matches!(verdict, Verdict::Proven)).then(|| {
            format!("policy `{}` of the other bundle may fail, and what it fails on was denied", policy.id())
        })
    });
    found.into_iter().flatten().collect()
}

/// Every cloud destination of either bundle.
fn asked<'a>(new: &'a Bundle, old: &'a Bundle) -> Vec<Asked<'a>> {
    let cloud = |bundle: &'a Bundle| bundle.destinations().iter().filter(|spec| spec.lane == Lane::Cloud);
    let same = |bundle: &'a Bundle, spec: &DestinationSpec| {
        bundle.destination(&spec.name).filter(|other| other.lane == Lane::Cloud)
    };
    let now = cloud(new).map(|spec| (Some(spec), same(old, spec)));
    let gone = cloud(old).filter(|spec| same(new, spec).is_none()).map(|spec| (None, Some(spec)));
    now.chain(gone)
        .flat_map(|(new, old)| [Access::Reach, Access::Unreviewed].map(|access| Asked { new, old, access }))
        .collect()
}

/// The most that a task may cost in the cloud is the manifest's, and needs no proof.
fn cost(new: &Bundle, old: &Bundle) -> Option<Change> {
    let most = |bundle: &Bundle| bundle.manifest().cloud_cost_usd_micros_max;
    let (now, before) = (most(new), most(old));
    let refuted = |what: &str| Verdict::Refuted {
        why: format!(
            "the most that a task may cost in the cloud {what} from {before} to {now} millionths of a US dollar"
        ),
        counterexample: None,
    };
    let (not_wider, not_narrower) = match now.cmp(&before) {
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => (refuted("rose"), Verdict::Proven),
        std::cmp::Ordering::Less => (Verdict::Proven, refuted("fell")),
    };
    Some(Change { destination: "all".to_owned(), access: Access::Cost, not_wider, not_narrower })
}

// === impl Asked ===

impl Asked<'_> {
    fn answer(&self, session: Result<&mut Session, NotProven>, now: &World, before: &World) -> Change {
        let name = self.new.or(self.old).map_or("", |spec| spec.name.as_str()).to_owned();
        let (not_wider, not_narrower) = match session {
            Ok(session) => (self.wider(session, now, before), self.narrower(session, now, before)),
            Err(error) => (Verdict::NotProven(error.clone()), Verdict::NotProven(error)),
        };
        Change { destination: name, access: self.access, not_wider, not_narrower }
    }

    fn wider(&self, session: &mut Session, now: &World, before: &World) -> Verdict {
        let (Some(new), asked) = (self.new, self) else { return Verdict::Proven };
        let found = asked.differs(session, now, before, true);
        let verdict = found.and_then(|found| {
            let Some(found) = found else { return Ok(Verdict::Proven) };
            let allowed_now = self.allowed(now, Some(new), &found)?;
            let allowed_before = self.allowed(before, self.old, &found)?;
            if !allowed_now.0 || allowed_before.0 {
                return Err(NotProven::Unconfirmed);
            }
            let before = match self.old {
                Some(_) if allowed_before.1.is_empty() => "where no policy permitted it before".to_owned(),
                Some(_) => format!("and did not before (by {})", allowed_before.1.join(", ")),
                None => "which is new".to_owned(),
            };
            let confirmed =
                format!("Cedar's own authorizer permits it now (by {}), {before}", allowed_now.1.join(", "));
            Ok(Verdict::refuted(Counterexample::new(now, &found, confirmed)))
        });
        verdict.unwrap_or_else(Verdict::NotProven)
    }

    fn narrower(&self, session: &mut Session, now: &World, before: &World) -> Verdict {
        match self.differs(session, now, before, false) {
            Ok(None) => Verdict::Proven,
            Ok(Some(_)) => {
                Verdict::Refuted { why: "less is permitted than before".to_owned(), counterexample: None }
            }
            Err(error) => Verdict::NotProven(error),
        }
    }

    /// A request that one bundle permits and the other does not.
    fn differs(
        &self,
        session: &mut Session,
        now: &World,
        before: &World,
        wider: bool,
    ) -> Result<Option<Found>, NotProven> {
        for at in now.envs_of("RouteCloud") {
            let Some(env) = now.envs.get(at) else { continue };
            let Some(condition) = self.condition(now, before, wider)? else { continue };
            let mut asking = Asking { world: now, session };
            let Some(found) = asking.met(env, &condition)? else { continue };
            return Ok(Some(if wider { plainest(&mut asking, env, found, &condition) } else { found }));
        }
        Ok(None)
    }

    /// That one permits it and the other does not, as one condition; none where they have the same policies for the same
    /// destination. A destination that both have, but not alike, stands in it under two names.
    fn condition(&self, now: &World, before: &World, wider: bool) -> Result<Option<Value>, NotProven> {
        let uid = |spec: Option<&DestinationSpec>| spec.map(witness::destination).transpose();
        let (new, mut old) = (uid(self.new)?, uid(self.old)?);
        let mut parts = vec![expression::parse(&assume::of_task())?];
        if let (Some(spec), Some(new)) = (self.new, &new) {
            parts.push(expression::parse(&format!("resource == {new}"))?);
            parts.push(expression::parse(&assume::is_place(&now.bundle, spec, &new.to_string()))?);
        }
        let entities =
            |world: &World, spec: &DestinationSpec| assume::entities(world.bundle.taxonomy(), spec);
        let alike = match (self.new, self.old) {
            (Some(new), Some(old)) => entities(now, new) == entities(before, old),
            _ => false,
        };
        if let Some(spec) = self.old.filter(|_| !alike) {
            if let (Some(new), Some(old)) = (&new, &mut old) {
                *old = format!("Destination::{:?}", format!("{} before", spec.name))
                    .parse()
                    .map_err(|error| NotProven::Failed(format!("{error}")))?;
                if self.is_switched_alike() {
                    let off = format!("context.off.contains({new}) == context.off.contains({old})");
                    parts.push(expression::parse(&off)?);
                }
            }
            if let Some(old) = &old {
                parts.push(expression::parse(&assume::is_place(&before.bundle, spec, &old.to_string()))?);
            }
        }
        parts.extend(self.over_cost(now, before, new.as_ref(), old.as_ref())?);
        let (mut yes, mut no) = ((now, self.new, new), (before, self.old, old));
        if !wider {
            std::mem::swap(&mut yes, &mut no);
        }
        let mut differ = !alike;
        let mut side = |this: &(&World, Option<&DestinationSpec>, Option<EntityUid>),
                        other: &World,
                        denies: bool| {
            let (world, spec, uid) = this;
            let (Some(spec), Some(uid)) = (spec, uid) else {
                return Ok::<_, ProveError>(expression::any([]));
            };
            let (values, real) = (assume::values(world.bundle.taxonomy(), spec), witness::destination(spec)?);
            let place = Place { uid: uid.clone(), real, values };
            let mut each = Vec::new();
            for action in self.access.actions() {
                let others: BTreeSet<String> = other.policies_for(&action).map(plain).collect();
                let mut own: Vec<&Policy> = world.policies_for(&action).collect();
                let kept = if denies { Effect::Forbid } else { Effect::Permit };
                differ |=
                    own.iter().any(|policy| policy.effect() == kept && !others.contains(&plain(policy)));
                if denies && alike {
                    // What both forbid cannot be why only one denies.
                    own.retain(|policy| {
                        policy.effect() == Effect::Permit || !others.contains(&plain(policy))
                    });
                }
                each.push(expression::allowed(own, &action, &place)?);
            }
            Ok(expression::all(each))
        };
        let (permitted, denied) = (side(&yes, no.0, false)?, expression::not(side(&no, yes.0, true)?));
        parts.extend([permitted, denied]);
        // Only a permit of the one or a forbid of the other can make a difference.
        Ok(differ.then(|| expression::all(parts)))
    }

    /// Whether what is switched off of the one is of the other: a switch names a lane, a target or a model.
    fn is_switched_alike(&self) -> bool {
        let of = |spec: &DestinationSpec| (spec.lane, spec.target.clone(), spec.model.clone());
        self.new.map(of) == self.old.map(of)
    }

    /// Where a task costs too much, as the judge computes it. Left to the solver as it comes where it cannot make a difference:
    /// multiplications take long.
    fn over_cost(
        &self,
        now: &World,
        before: &World,
        new: Option<&EntityUid>,
        old: Option<&EntityUid>,
    ) -> Result<Vec<Value>, ProveError> {
        let prices = |spec: Option<&DestinationSpec>| spec.map(|spec| (spec.price_in, spec.price_out));
        let computes = [now, before].iter().any(|world| world.policies.iter().any(computes));
        if !computes && prices(self.new) == prices(self.old) {
            let both = new.zip(old).filter(|(new, old)| new != old);
            let same = both.map(|(new, old)| {
                expression::parse(&format!(
                    "context.over_cost.contains({new}) == context.over_cost.contains({old})"
                ))
            });
            return same.into_iter().collect();
        }
        let places = [(self.new, new), (self.old, old)];
        let named = places.into_iter().filter_map(|(spec, uid)| spec.zip(uid));
        let rules: BTreeSet<String> =
            named.map(|(spec, uid)| assume::is_over_cost(spec, &uid.to_string())).collect();
        rules.iter().map(|rule| expression::parse(rule)).collect()
    }

    /// Whether Cedar permits it at the destination as the bundle has it, and by which policies.
    fn allowed(
        &self,
        world: &World,
        spec: Option<&DestinationSpec>,
        found: &Found,
    ) -> Result<(bool, Vec<String>), NotProven> {
        let Some(spec) = spec else { return Ok((false, Vec::new())) };
        let entities = witness::real(world, &world.bundle, found)?;
        let mut by = Vec::new();
        for action in self.access.actions() {
            let (allowed, policies) =
                witness::asked_at(world, &entities, found, &action, witness::destination(spec)?)?;
            if !allowed {
                return Ok((false, policies));
            }
            by.extend(policies);
        }
        Ok((true, by))
    }
}

/// Whether a policy computes with a number, which a bundle of the form before may do to find what costs too much.
fn computes(policy: &Policy) -> bool {
    policy.to_json().unwrap_or_default().to_string().contains("\"*\"")
}

/// What a policy says, without what is said about it.
fn plain(policy: &Policy) -> String {
    let mut json = policy.to_json().unwrap_or_default();
    if let Some(entries) = json.as_object_mut() {
        entries.remove("annotations");
    }
    json.to_string()
}

fn plainest(asking: &mut Asking<'_>, env: &Env, found: Found, condition: &Value) -> Found {
    asking
        .plainest(env, found, |asking, more| asking.example(env, &expression::all([condition.clone(), more])))
}
