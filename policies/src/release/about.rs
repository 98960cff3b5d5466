//! What a policy in Cedar's JSON form is about, as far as it says so itself: which actions, and whether it tells places apart.
//!
//! Nothing is evaluated. Each answer is yes only where the text alone shows it; a group of actions that is not known here, or a
//! condition in another shape, is a no.

use serde_json::Value;

/// Actions that let nothing leave, whoever is permitted them.
const INSIDE: [&str; 1] = ["RouteLocal"];
/// Actions that say nothing of where work runs.
const NOT_OF_WORK: [&str; 2] = ["ApproveReview", "Replay"];
/// Actions by which no review is asked for.
const ASK_NOBODY: [&str; 5] = ["RouteLocal", "RouteCloud", "Route", "ApproveReview", "Replay"];

/// Whether it is about an action that lets nothing leave.
pub(super) fn is_inside(policy: &Value) -> bool {
    all(policy, &INSIDE)
}

/// Whether places inside are none of its business: it is about work in the cloud, or about no work. Without it, or by it, no work that
/// ran inside goes elsewhere.
pub(super) fn is_of_the_cloud_alone(policy: &Value) -> bool {
    all(policy, &["RouteCloud"])
        || all(policy, &NOT_OF_WORK)
        || conditions(policy, "when").any(asks_for_the_cloud)
}

/// Whether it says the same of every place, so that as a `forbid` it moves no work from one to another: what it forbids runs nowhere,
/// and what it has a person look at waits for that person wherever it would run.
pub(super) fn is_of_all_places_alike(policy: &Value) -> bool {
    let Some(resource) = policy.get("resource") else { return false };
    let op = resource.get("op").and_then(Value::as_str);
    let any_place = op == Some("All") || (op == Some("is") && resource.get("in").is_none());
    let tells_apart = |body| mentions(body, "resource") || mentions(body, "action");
    let same = match actions(policy) {
        None => false,
        Some(None) => true,
        Some(Some(named)) => {
            let has = |action| named.contains(&action);
            has("Route") || (has("RouteLocal") && has("RouteCloud")) || named == ["SkipReview"]
        }
    };
    any_place
        && same
        && !["when", "unless"].into_iter().flat_map(|kind| conditions(policy, kind)).any(tells_apart)
}

/// Whether it may ask for a review in a queue that it names.
pub(super) fn asks_a_queue(policy: &Value) -> bool {
    policy.pointer("/annotations/queue").is_some() && !all(policy, &ASK_NOBODY)
}

/// Ids of the actions of its scope: `None` where it cannot be read, `Some(None)` where it is about each.
fn actions(policy: &Value) -> Option<Option<Vec<&str>>> {
    let action = policy.get("action")?;
    if action.get("op")?.as_str()? == "All" {
        return Some(None);
    }
    let many = action.get("entities").and_then(Value::as_array).map(Vec::as_slice);
    let one = action.get("entity").map(std::slice::from_ref);
    let entities = many.or(one)?;
    entities
        .iter()
        .map(|entity| entity.get("id").and_then(Value::as_str))
        .collect::<Option<Vec<_>>>()
        .map(Some)
}

/// Whether all that it is about are among these actions.
fn all(policy: &Value, of: &[&str]) -> bool {
    let Some(Some(named)) = actions(policy) else { return false };
    !named.is_empty() && named.iter().all(|action| of.contains(action))
}

/// Bodies of its conditions of a kind.
fn conditions<'a>(policy: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = policy.get("conditions").and_then(Value::as_array).into_iter().flatten();
    all.filter(move |condition| condition.get("kind").and_then(Value::as_str) == Some(kind))
        .filter_map(|condition| condition.get("body"))
}

/// Whether it is so only of places in the cloud: `resource.lane == Lane::"cloud"` alone, or with more by `&&`.
fn asks_for_the_cloud(body: &Value) -> bool {
    let side = |op: &str, side| body.get(op).and_then(|both| both.get(side));
    if let (Some(left), Some(right)) = (side("&&", "left"), side("&&", "right")) {
        return asks_for_the_cloud(left) || asks_for_the_cloud(right);
    }
    let is_lane = |value: &Value| {
        let lane = value.get(".");
        let of = lane.and_then(|lane| lane.pointer("/left/Var")).and_then(Value::as_str);
        let attr = lane.and_then(|lane| lane.get("attr")).and_then(Value::as_str);
        (of, attr) == (Some("resource"), Some("lane"))
    };
    let is_cloud = |value: &Value| {
        let entity = value.pointer("/Value/__entity");
        let part = |key| entity.and_then(|entity| entity.get(key)).and_then(Value::as_str);
        (part("type"), part("id")) == (Some("Lane"), Some("cloud"))
    };
    match (side("==", "left"), side("==", "right")) {
        (Some(left), Some(right)) => (is_lane(left) && is_cloud(right)) || (is_lane(right) && is_cloud(left)),
        _ => false,
    }
}

/// Whether a variable stands in it anywhere.
fn mentions(body: &Value, variable: &str) -> bool {
    match body {
        Value::Object(entries) => entries.iter().any(|(key, value)| {
            (key == "Var" && value.as_str() == Some(variable)) || mentions(value, variable)
        }),
        Value::Array(items) => items.iter().any(|item| mentions(item, variable)),
        _ => false,
    }
}
