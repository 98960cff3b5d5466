//! Folding changes no answer, and no failure.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use cedar_policy::{Authorizer, Context, Decision, Policy, PolicySet};
use proptest::prelude::*;

use super::*;
use crate::bundle::Bundle;
use crate::engine::{Circumstances, Engine, Principal, Question, Seat};
use crate::judge::Judge;

static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/default");
    Judge::new(Arc::new(Bundle::from_dir(&dir).unwrap())).unwrap()
});

/// What holds, fails, is known, depends on the task, or overflows.
const ATOMS: [&str; 20] = [
    "true",
    "false",
    "resource.trains_on_data",
    "resource.zero_retention",
    "resource in Region::\"eu\"",
    "resource in [Region::\"eu\", Provider::\"openai\"]",
    "resource is Destination",
    "resource is Destination in Region::\"eu\"",
    "principal in Role::\"role\"",
    "principal.tenant == Tenant::\"tenant\"",
    "resource.certifications.contains(Certification::\"soc2\")",
    "context.residency.containsAny(resource.regions)",
    "context.tokens_in * resource.price_in > context.findings",
    "context has latency_ms_max && resource.latency_ms > context.latency_ms_max",
    "(context.hop + 1) * 9223372036854775807 > 10",
    "context.now > datetime(\"2026-11-01\")",
    "resource.model like \"*mini*\"",
    "{Value: resource.trains_on_data}.Value",
    "{Var: resource.zero_retention, left: {Set: principal in Role::\"role\"}}.left.Set",
    "[Purpose::\"none\", Purpose::\"unknown\"].contains(context.purpose)",
];

fn expression() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(ATOMS.to_vec()).prop_map(|atom| format!("({atom})"));
    atom.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone().prop_map(|(a, b)| format!("({a} && {b})")),
            two.prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("(!{a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

fn engine() -> &'static Engine {
    JUDGE.engine()
}

fn seat() -> Seat {
    Seat::new(engine(), Principal::rehearsal()).unwrap()
}

fn contexts() -> Vec<Context> {
    let plain = Circumstances::rehearsal();
    let mut other = plain.clone();
    (other.settled.hop, other.settled.findings, other.settled.latency_ms_max) = (1, 0, None);
    other.now = "2026-11-24T00:00:00Z".parse().unwrap();
    let mut third = plain.clone();
    third.settled.latency_ms_max = Some(100_000);
    third.settled.labels.residency = ["eu".parse().unwrap()].into();
    [plain, other, third].iter().map(|c| engine().context(c).unwrap()).collect()
}

/// What Cedar says: allowed or not, or that it failed.
fn says(policy: Policy, seat: &Seat, place: usize, context: &Context) -> Option<bool> {
    let request = engine().request(seat, Question::RouteCloud, place, context).unwrap();
    let set = PolicySet::from_policies([policy]).unwrap();
    let response = Authorizer::new().is_authorized(&request, &set, &seat.entities);
    let failed = response.diagnostics().errors().next().is_some();
    (!failed).then(|| response.decision() == Decision::Allow)
}

/// What it says to the policy, and to what folding left of it, everywhere; how much was left.
fn both(text: &str) -> (Vec<[Option<bool>; 2]>, Vec<Value>) {
    let policy = Policy::parse(None, text).unwrap();
    let condition = condition(&policy.to_json().unwrap()).unwrap();
    let (seat, authorizer, mut known) = (seat(), Authorizer::new(), Known::new());
    let (mut said, mut left) = (Vec::new(), Vec::new());
    for place in 0..JUDGE.bundle().destinations().len() {
        let request = engine().request(&seat, Question::RouteCloud, place, &Context::empty()).unwrap();
        let folder = Folder::new(&authorizer, &seat.entities, &request).unwrap();
        let residual = folder.fold(&condition, &mut known);
        for context in contexts() {
            let folded = Policy::from_json(None, permit(&residual)).unwrap();
            said.push([says(policy.clone(), &seat, place, &context), says(folded, &seat, place, &context)]);
        }
        left.push(residual);
    }
    (said, left)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn a_residual_says_what_its_policy_says(when in expression(), unless in expression()) {
        let text = format!(
            "permit (principal is Agent in Tenant::\"tenant\", action in [Action::\"Route\"], resource)
             when {{ {when} }} unless {{ {unless} }};"
        );
        for [policy, residual] in both(&text).0 {
            prop_assert_eq!(policy, residual, "{}", text);
        }
    }
}

#[test]
fn what_can_fail_is_not_dropped() {
    // The control: dropping what stands before `false` would make of a failure a plain no.
    let (said, left) = both(
        "permit (principal, action, resource) when { (context.hop + 1) * 9223372036854775807 > 10 && false };",
    );
    assert!(said.contains(&[None, None]) && left.iter().all(|left| truth(left).is_none()));
    // What cannot fail is.
    let (said, left) = both("permit (principal, action, resource) when { context.tools && false };");
    assert!(said.iter().all(|both| *both == [Some(false); 2]));
    assert!(left.iter().all(|left| truth(left) == Some(false)));
}

#[test]
fn what_is_known_is_folded() {
    let (_, left) = both(
        "permit (principal, action == Action::\"RouteCloud\", resource is Destination)
         when { principal in Role::\"role\" && resource.price_in * context.tokens_in > 7 };",
    );
    let text = left.first().unwrap().to_string();
    assert!(
        !text.contains("principal") && !text.contains("resource") && !text.contains("price_in"),
        "{text}"
    );
    assert_eq!(looks(left.first().unwrap()).at, BTreeSet::from(["tokens_in".to_owned()]));
    // Another action: nothing is left.
    let (_, left) = both("permit (principal, action == Action::\"SkipReview\", resource);");
    assert!(left.iter().all(|left| truth(left) == Some(false)));
}

#[test]
fn needs_are_what_a_condition_is_false_without() {
    let of = |when: &str| {
        let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{ {when} }};"));
        needs(&condition(&policy.unwrap().to_json().unwrap()).unwrap())
    };
    assert_eq!(of("context has latency_ms_max && context.latency_ms_max > 5"), ["latency_ms_max"]);
    assert_eq!(of("context.tools && context has providers && context.hop > 1"), ["providers"]);
    assert!(of("context.tools || context has providers").is_empty());
    // Before it something may fail: then it is not false, but failed.
    assert!(of("context.hop * 9223372036854775807 > 1 && context has providers").is_empty());
}

#[test]
fn a_look_at_the_whole_context_may_be_at_anything() {
    let of = |when: &str| {
        let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{ {when} }};"));
        looks(&condition(&policy.unwrap().to_json().unwrap()).unwrap())
    };
    assert!(of("context == {}").at_all);
    let looks = of("context has providers && context.tools");
    assert!(!looks.at_all && looks.at == ["providers", "tools"].map(str::to_owned).into());
}
