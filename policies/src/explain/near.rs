//! Near misses: which permits would have let a task run at a destination, and the conditions of theirs that did not hold.

use cedar_policy::{Context, Effect, Policy, PolicySet};
use serde_json::{Value, json};
use tidegate_schemas::decision::Facts;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::task::Task;

use crate::engine::{self, Question, Seat};
use crate::judge::Judge;

/// Conditions that may fail for a permit to count as nearly met.
const CONDITIONS_MAX: usize = 3;

/// A permit that nearly applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The destination.
    pub destination: Name,
    /// The permit's id.
    pub policy: String,
    /// Its conditions that did not hold, as Cedar writes them. At most three.
    pub conditions: Vec<String>,
}

/// The permits that nearly let this task run, by destination and policy. Slower than deciding: it is for people who ask.
#[must_use]
pub fn near_misses(judge: &Judge, task: &Task, directory: &Directory, facts: &Facts) -> Vec<NearMiss> {
    let Some((seat, context)) = judge.prepared(task, directory, facts) else { return Vec::new() };
    let mut found = Vec::new();
    for (place, spec) in judge.bundle().destinations().iter().enumerate() {
        let question = engine::route(spec);
        let asked = Asked { judge, seat: &seat, context: &context, question, place };
        for policy in seat.slice(question, place).into_iter().flat_map(PolicySet::policies) {
            if policy.effect() != Effect::Permit {
                continue;
            }
            let conditions = asked.unmet(policy).unwrap_or_default();
            if (1..=CONDITIONS_MAX).contains(&conditions.len()) {
                found.push(NearMiss {
                    destination: spec.name.clone(),
                    policy: policy.id().to_string(),
                    conditions,
                });
            }
        }
    }
    found.sort_by(|a, b| (&a.destination, &a.policy).cmp(&(&b.destination, &b.policy)));
    found
}

struct Asked<'a> {
    judge: &'a Judge,
    seat: &'a Seat,
    context: &'a Context,
    question: Question,
    place: usize,
}

impl Asked<'_> {
    /// The conditions of a permit that do not hold, each asked alone.
    fn unmet(&self, policy: &Policy) -> Option<Vec<String>> {
        let whole = policy.to_json().ok()?;
        let mut unmet = Vec::new();
        for clause in whole.get("conditions")?.as_array()? {
            let (kind, body) = (clause.get("kind")?, clause.get("body")?);
            // The parts of an `unless` hold or fail together.
            let parts = if kind == "when" { conjuncts(body) } else { vec![body] };
            for part in parts {
                let mut alone = whole.clone();
                *alone.get_mut("conditions")? = json!([{ "kind": kind, "body": part }]);
                let alone = Policy::from_json(Some(policy.id().clone()), alone).ok()?;
                let text = condition(&alone.to_string());
                let set = PolicySet::from_policies([alone]).ok()?;
                if !self.judge.ask_of(self.seat, self.question, self.place, self.context, &set).allowed {
                    unmet.push(text);
                }
            }
        }
        Some(unmet)
    }
}

fn conjuncts(body: &Value) -> Vec<&Value> {
    let sides = body.get("&&").and_then(|and| Some((and.get("left")?, and.get("right")?)));
    match sides {
        Some((left, right)) => [conjuncts(left), conjuncts(right)].concat(),
        None => vec![body],
    }
}

/// The condition out of a policy's text.
fn condition(policy: &str) -> String {
    let inner =
        policy.split_once("when").or_else(|| policy.split_once("unless")).map_or("", |(_, rest)| rest);
    inner.trim().trim_end_matches(';').trim().trim_start_matches('{').trim_end_matches('}').trim().to_owned()
}
