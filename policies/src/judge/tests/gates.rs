//! Budgets without room and places that keep failing, as facts of a decision.

use serde_json::json;
use tidegate_schemas::breaker::Broken;
use tidegate_schemas::budget::Spent;

use super::*;

const UNTIL: &str = "2099-01-01T00:00:00Z";

fn spent(of: serde_json::Value) -> Vec<Spent> {
    let spent = json!({ "of": of, "window": "day", "unit": "tokens", "until": UNTIL });
    vec![serde_json::from_value(spent).unwrap()]
}

/// The place that the task is sent to on a quiet day, as a worker calls it.
fn broken(at: &Decision) -> Vec<Broken> {
    let name = &at.destination.as_ref().unwrap().name;
    let spec = JUDGE.bundle().destination(name).unwrap();
    let place = json!({ "provider": spec.target, "endpoint": spec.base_url, "model": spec.model });
    vec![serde_json::from_value(json!({ "place": place, "until": UNTIL })).unwrap()]
}

#[test]
fn a_budget_that_is_spent_moves_the_decision() {
    let (task, directory, mut facts) = request("public question leaves");
    let quiet = JUDGE.decide(&task, &directory, &facts);
    assert_eq!(quiet.outcome, Outcome::Cloud, "negative control: on a quiet day it leaves");
    facts.spent = spent(json!({ "scope": "tenant", "tenant": task.tenant }));
    let inside = JUDGE.decide(&task, &directory, &facts);
    assert_eq!(inside.outcome, Outcome::Local);
    let seen = |decision: &Decision, wanted| decision.considered.iter().any(|seen| seen.verdict == wanted);
    assert!(seen(&inside, Considering::Spent) && !seen(&quiet, Considering::Spent), "{inside:?}");
    // One provider's: the next takes it. Another tenant's: nobody's matter.
    let first = &quiet.destination.as_ref().unwrap().name;
    facts.spent =
        spent(json!({ "scope": "provider", "provider": JUDGE.bundle().destination(first).unwrap().target }));
    let next = JUDGE.decide(&task, &directory, &facts);
    assert_eq!((next.outcome, verdict(&next, first.as_str())), (Outcome::Cloud, Considering::Spent));
    facts.spent = spent(json!({ "scope": "tenant", "tenant": "somebody-else" }));
    assert_eq!(JUDGE.decide(&task, &directory, &facts).destination, quiet.destination);
}

#[test]
fn a_place_that_keeps_failing_moves_the_decision() {
    let (task, directory, mut facts) = request("public question leaves");
    let quiet = JUDGE.decide(&task, &directory, &facts);
    facts.broken = broken(&quiet);
    let next = JUDGE.decide(&task, &directory, &facts);
    let first = &quiet.destination.as_ref().unwrap().name;
    assert_eq!((next.outcome, verdict(&next, first.as_str())), (Outcome::Cloud, Considering::Broken));
    assert_ne!(next.destination, quiet.destination);
    // Negative control: another model there is another place.
    facts.broken[0].place.model = "another".to_owned();
    assert_eq!(JUDGE.decide(&task, &directory, &facts).destination, quiet.destination);
}
