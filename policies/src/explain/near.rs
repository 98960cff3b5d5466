//! Near misses: which permits would have let a task run at a destination, and the conditions of theirs that did not hold.
//!
//! Every permit for the action is looked at, its scope too: a role that an agent lacks is a condition like any other. Where what
//! was found could be replaced, permits to replace it are looked at as well. Facts are what policies see, so never the task's text.

use std::collections::BTreeMap;

use cedar_policy::{Context, Effect, EvalResult, Policy, PolicySet};
use serde::Serialize;
use serde_json::Value;
use tidegate_schemas::decision::{Considering, Decision, Facts};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Task;

use crate::engine::{self, Answer, Question, Seat, conjuncts};
use crate::judge::Judge;

/// Conditions that may fail for a permit to count as nearly met.
const CONDITIONS_MAX: usize = 3;

/// A permit that nearly applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearMiss {
    /// The destination.
    pub destination: Name,
    /// The permit's id.
    pub policy: String,
    /// Its conditions that did not hold. At most three.
    pub conditions: Vec<Unmet>,
}

/// A condition that was false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmet {
    /// The condition, as Cedar writes it.
    pub condition: String,
    /// What it saw: each attribute that it looks at, and its value as Cedar writes it.
    pub saw: BTreeMap<String, String>,
}

/// The permits that nearly let this task run where it was not permitted, by destination and policy. Slower than deciding: it
/// is for people who ask.
#[must_use]
pub fn near_misses(judge: &Judge, task: &Task, directory: &Directory, facts: &Facts) -> Vec<NearMiss> {
    let decision = judge.decide(task, directory, facts);
    let prepared = judge.prepared(task, directory, facts);
    let (Some((seat, context)), Ok(whole)) = (prepared, judge.engine().whole()) else { return Vec::new() };
    let redacts = judge.could_be_redacted(&decision);
    let mut found = Vec::new();
    for (place, spec) in judge.bundle().destinations().iter().enumerate() {
        if !denied(&decision, &spec.name) {
            continue;
        }
        let leaves_redacted = redacts && spec.lane == Lane::Cloud;
        let ways = [Some(Way::Route(engine::route(spec))), leaves_redacted.then_some(Way::Redacted)];
        for way in ways.into_iter().flatten() {
            let asked = Asked { judge, seat: &seat, context: &context, way, place };
            for policy in whole.policies().filter(|policy| policy.effect() == Effect::Permit) {
                let conditions = asked.unmet(policy).unwrap_or_default();
                if (1..=CONDITIONS_MAX).contains(&conditions.len()) {
                    let (destination, policy) = (spec.name.clone(), policy.id().to_string());
                    found.push(NearMiss { destination, policy, conditions });
                }
            }
        }
    }
    found.sort_by(|a, b| (&a.destination, &a.policy).cmp(&(&b.destination, &b.policy)));
    found
}

/// Whether policies kept the task from this destination.
fn denied(decision: &Decision, destination: &Name) -> bool {
    let kept = [Considering::Forbidden, Considering::NotPermitted, Considering::Errored];
    let mut considered = decision.considered.iter();
    considered.any(|considered| considered.destination == *destination && kept.contains(&considered.verdict))
}

/// How a task could get to a place.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// As it is.
    Route(Question),
    /// Once what was found in it is replaced.
    Redacted,
}

struct Asked<'a> {
    judge: &'a Judge,
    seat: &'a Seat,
    context: &'a Context,
    way: Way,
    place: usize,
}

impl Asked<'_> {
    /// The conditions of a permit that do not hold, each asked alone. None for a permit of another action.
    fn unmet(&self, policy: &Policy) -> Option<Vec<Unmet>> {
        let whole = engine::condition(&policy.to_json().ok()?)?;
        let mut unmet = Vec::new();
        for part in conjuncts(&whole) {
            let alone = Policy::from_json(None, engine::permit(part)).ok()?;
            let text = alone.to_string();
            let set = PolicySet::from_policies([alone]).ok()?;
            let answer = self.answer(&set);
            // What fails alone is guarded by a part that is false, and is named.
            if answer.allowed || answer.errored {
                continue;
            }
            if of_action(part) {
                return None;
            }
            unmet.push(Unmet { condition: condition(&text), saw: self.saw(part) });
        }
        Some(unmet)
    }

    fn answer(&self, set: &PolicySet) -> Answer {
        let (seat, place, context) = (self.seat, self.place, self.context);
        match self.way {
            Way::Route(question) => self.judge.ask_of(seat, question, place, context, set),
            Way::Redacted => self.judge.engine().ask_redaction_of(seat, place, context, set),
        }
    }

    /// The attributes that an expression looks at, with their values.
    fn saw(&self, expr: &Value) -> BTreeMap<String, String> {
        let mut saw = BTreeMap::new();
        self.look(expr, &mut saw);
        saw
    }

    fn look(&self, expr: &Value, saw: &mut BTreeMap<String, String>) {
        match expr {
            Value::Object(map) => {
                let of = map.get(".").or_else(|| map.get("has"));
                let named = of.and_then(|of| {
                    let var = of.get("left")?.get("Var")?.as_str()?;
                    Some((var, of.get("attr")?.as_str()?))
                });
                match named {
                    Some((var, name)) => {
                        let value = self.value(var, name).unwrap_or_else(|| "absent".to_owned());
                        saw.insert(format!("{var}.{name}"), value);
                    }
                    None => map.values().for_each(|side| self.look(side, saw)),
                }
                if let Some(var) = map.get("Var").and_then(Value::as_str).filter(|var| *var != "context") {
                    saw.extend(self.entity(var).map(|uid| (var.to_owned(), uid)));
                }
            }
            Value::Array(list) => list.iter().for_each(|side| self.look(side, saw)),
            _ => {}
        }
    }

    fn value(&self, var: &str, name: &str) -> Option<String> {
        if var == "context" {
            return self.context.get(name).map(|value| written(&value));
        }
        let value = self.judge.engine().attribute(self.seat, self.place, var, name)?;
        Some(written(&value))
    }

    /// Who asks, or where: by the names that a policy's scope uses.
    fn entity(&self, var: &str) -> Option<String> {
        self.judge.engine().named(self.seat, self.place, var).map(|uid| uid.to_string())
    }
}

/// A value as Cedar writes it, sets in order.
fn written(value: &EvalResult) -> String {
    match value {
        EvalResult::Set(set) => {
            let mut all: Vec<String> = set.iter().map(written).collect();
            all.sort_unstable();
            format!("[{}]", all.join(", "))
        }
        other => other.to_string(),
    }
}

/// Whether a part asks for the action.
fn of_action(part: &Value) -> bool {
    let sides = part.as_object().and_then(|map| map.values().next());
    sides
        .and_then(|sides| sides.get("left"))
        .and_then(|left| left.get("Var"))
        .is_some_and(|var| var == "action")
}

/// The condition out of a policy's text.
fn condition(policy: &str) -> String {
    let inner = policy.split_once("when").map_or("", |(_, rest)| rest);
    let inner = inner.trim().trim_end_matches(';').trim();
    inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner).trim().to_owned()
}
