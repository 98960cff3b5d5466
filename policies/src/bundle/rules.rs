//! What a policy must not say although Cedar takes it.

use serde_json::Value;

use super::fault::BundleError;
use super::{Parts, lifted};

/// Annotations that mean something here. Any other is refused: a cap under a misspelt name would be no cap.
const ANNOTATIONS: [&str; 7] = ["id", "owner", "title", CODE, QUEUE, QUORUM, COST_CAP];
const CODE: &str = "code";
const QUEUE: &str = "queue";
const QUORUM: &str = "quorum";
const COST_CAP: &str = "cost_cap_usd_micros";

/// Operators that compute and so can fail, by their names in Cedar's JSON form. Cedar skips a policy that fails, a `forbid`
/// too; the judge then denies, but a limit that fails is no limit. What a rule needs computed is a fact of the context.
const COMPUTING: [(&str, &str); 8] = [
    ("+", "+"),
    ("-", "-"),
    ("*", "*"),
    ("neg", "-"),
    ("offset", ".offset"),
    ("durationSince", ".durationSince"),
    ("toDate", ".toDate"),
    ("toTime", ".toTime"),
];

/// The first rule that a policy or template breaks.
pub(super) fn check(parts: &Parts) -> Result<(), BundleError> {
    let has_flags = !parts.taxonomy.flags.is_empty();
    let all = parts.policies.iter().chain(&parts.templates);
    let broken = all.filter_map(|(id, policy)| Some((id, broken(policy, has_flags)?))).next();
    broken.map_or(Ok(()), |(id, rule)| Err(BundleError::policy(id, format!("policy `{id}` {rule}"))))
}

fn broken(policy: &Value, has_flags: bool) -> Option<String> {
    let forbids = policy.get("effect").is_some_and(|effect| effect == "forbid");
    let annotations = policy.get("annotations").and_then(Value::as_object);
    for name in annotations.into_iter().flat_map(serde_json::Map::keys) {
        if !ANNOTATIONS.contains(&name.as_str()) {
            let known = ANNOTATIONS.map(|name| format!("`@{name}`")).join(", ");
            return Some(format!("has the unknown annotation `@{name}`; there are {known}"));
        }
        if forbids && name == COST_CAP {
            return Some(format!("has `@{name}`, which caps what a `permit` lets through; it forbids"));
        }
        if !forbids && [CODE, QUEUE, QUORUM].contains(&name.as_str()) {
            return Some(format!("has `@{name}`, which tells of what a `forbid` stops; it permits"));
        }
    }
    if forbids && has_flags && policy.get("conditions").is_some_and(lifted::by_a_flag) {
        let rule = "forbids where a feature flag is off, and a flag that is on may only forbid more; ask `context.flags.contains(…)` in its `when`, and not negated";
        return Some(rule.to_owned());
    }
    let computing = policy.get("conditions").filter(|_| forbids).and_then(computes)?;
    Some(format!(
        "computes with `{computing}`, and a `forbid` that fails is skipped by Cedar; compare facts of the context instead"
    ))
}

/// The first operator that computes.
fn computes(expr: &Value) -> Option<&'static str> {
    match expr {
        Value::Array(list) => list.iter().find_map(computes),
        Value::Object(map) if map.len() == 1 && map.contains_key("Value") => None,
        // A record's keys are its author's; one may be named like an operator.
        Value::Object(map) if map.len() == 1 && map.contains_key("Record") => {
            map.values().filter_map(Value::as_object).flat_map(serde_json::Map::values).find_map(computes)
        }
        Value::Object(map) => {
            let own = map.keys().find_map(|op| COMPUTING.iter().find(|(name, _)| name == op));
            own.map(|(_, sign)| *sign).or_else(|| map.values().find_map(computes))
        }
        _ => None,
    }
}
