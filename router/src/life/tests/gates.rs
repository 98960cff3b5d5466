//! Budgets that leave no room and breakers that are open: facts of each decision, and of the next one where a worker was kept back.

use tidegate_schemas::breaker::Broken;
use tidegate_schemas::budget::{Budget, Spent};
use tidegate_schemas::decision::Considering;
use tidegate_schemas::subject::Lane;

use super::*;

fn spent(scope: Value) -> Spent {
    let spent =
        json!({ "of": scope, "window": "minute", "unit": "requests", "until": "2026-11-23T12:01:00Z" });
    serde_json::from_value(spent).unwrap()
}

fn tenant() -> Value {
    json!({ "scope": "tenant", "tenant": "acme" })
}

/// The place that public work goes to first.
fn first(world: &World) -> (tidegate_policies::DestinationSpec, Broken) {
    let made = decision(sent(&world.begin(task_at(1, &public())).1));
    let spec = world.judge.bundle().destination(&made.destination.unwrap().name).unwrap().clone();
    let place = json!({ "provider": spec.target, "endpoint": spec.base_url, "model": spec.model });
    let broken = json!({ "place": place, "until": "2026-11-23T12:00:30Z" });
    (spec, serde_json::from_value(broken).unwrap())
}

fn local_off(world: &mut World) {
    world.off = vec![Switch { lane: Some(Lane::Local), ..Switch::default() }];
}

#[test]
fn budget_that_is_spent_keeps_work_inside_or_rejects_it_by_name() {
    let mut world = World::new();
    let subject = |world: &World| sent(&world.begin(task_at(1, &public())).1).subject.clone();
    assert!(subject(&world).starts_with("work.cloud."), "negative control");
    world.gates.spent = vec![spent(tenant())];
    assert!(subject(&world).starts_with("work.local."), "a narrower place");
    local_off(&mut world);
    let answer = result(sent(&world.begin(task_at(1, &public())).1));
    let error = answer.error.unwrap();
    assert_eq!((answer.state, error.code), (State::Rejected, Code::BudgetSpent));
    assert_eq!(error.retry_after_ms, Some(60_000), "when its window ends");
    assert!(error.message.contains("requests a minute of tenant `acme`"), "{}", error.message);
    // What is more than a whole limit has no room later either, and is told so.
    world.gates.spent = vec![Spent { never: true, ..spent(tenant()) }];
    let error = result(sent(&world.begin(task_at(1, &public())).1)).error.unwrap();
    assert_eq!((error.code, error.retry_after_ms), (Code::BudgetSpent, None));
    assert!(error.message.contains("never") && error.message.contains("ask for less"), "{}", error.message);
    // Another's budget is nothing to it.
    world.gates.spent = vec![spent(json!({ "scope": "tenant", "tenant": "globex" }))];
    assert!(subject(&world).starts_with("work.cloud."));
    world.gates.spent = vec![spent(json!({ "scope": "agent", "tenant": "acme", "agent": "billing" }))];
    assert!(subject(&world).starts_with("work.cloud."));
    world.now = "2026-11-23T12:01:00Z".parse().unwrap();
    world.gates.spent = vec![spent(tenant())];
    assert!(subject(&world).starts_with("work.cloud."), "the window has ended");
}

#[test]
fn breaker_of_a_place_keeps_work_from_it_and_from_no_other() {
    let mut world = World::new();
    let (spec, broken) = first(&world);
    world.gates.broken = vec![broken.clone()];
    let message = sent(&world.begin(task_at(1, &public())).1).clone();
    let made = decision(&message);
    let seen = |name: &Name| made.considered.iter().find(|seen| seen.destination == *name).unwrap().verdict;
    assert_eq!(seen(&spec.name), Considering::Broken);
    assert_eq!(made.facts.broken, std::slice::from_ref(&broken), "a fact of the decision");
    let others = made.considered.iter().filter(|seen| seen.verdict == Considering::Broken).count();
    let same = |other: &&tidegate_policies::DestinationSpec| {
        (&other.target, &other.base_url, &other.model) == (&spec.target, &spec.base_url, &spec.model)
    };
    assert_eq!(others, world.judge.bundle().destinations().iter().filter(same).count());
    // Another model at the same provider, or the same model elsewhere, is another place.
    for change in
        [json!({ "model": "another" }), json!({ "endpoint": "elsewhere" }), json!({ "provider": "nobody" })]
    {
        let mut place = serde_json::to_value(&broken.place).unwrap();
        place.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        world.gates.broken = vec![Broken { place: serde_json::from_value(place).unwrap(), ..broken.clone() }];
        let made = decision(sent(&world.begin(task_at(1, &public())).1));
        assert_eq!(made.destination.unwrap().name, spec.name);
    }
    // Where nothing else may run it, it is told when to come again.
    local_off(&mut world);
    let all = world.judge.bundle().destinations().iter().filter(|spec| spec.lane == Lane::Cloud);
    let of = |spec: &tidegate_policies::DestinationSpec| Broken {
        place: tidegate_schemas::breaker::Place {
            provider: spec.target.clone(),
            endpoint: spec.base_url.clone().unwrap(),
            model: spec.model.clone(),
        },
        until: broken.until,
    };
    world.gates.broken = all.map(of).collect();
    let error = result(sent(&world.begin(task_at(1, &public())).1)).error.unwrap();
    assert_eq!((error.code, error.retry_after_ms), (Code::ProviderUnavailable, Some(30_000)));
    assert!(error.message.contains("keeps failing"), "{}", error.message);
}

#[test]
fn budget_limits_go_with_the_work_that_counts_in_them() {
    let mut world = World::new();
    let budgets = |world: &World| {
        let message = sent(&world.begin(task_at(1, &public())).1).clone();
        let text = message.headers.get(header::BUDGETS).map(ToOwned::to_owned);
        text.map(|text| serde_json::from_str::<Vec<Budget>>(&text).unwrap())
    };
    assert_eq!(budgets(&world), None);
    let (spec, _) = first(&world);
    let caps: tidegate_schemas::budget::Caps =
        serde_json::from_value(json!({ "day": { "requests": 9 } })).unwrap();
    world.directory.provider_budgets = [(spec.target.clone(), caps.clone())].into();
    world.directory.provider_budgets.insert(name("nobody"), caps.clone());
    let acme = world.directory.tenants.get_mut(&name("acme")).unwrap();
    acme.quota.budgets.clone_from(&caps);
    acme.agents.get_mut(&name("helpdesk")).unwrap().budgets.clone_from(&caps);
    let keys: Vec<String> = budgets(&world).unwrap().iter().map(|budget| budget.of.key()).collect();
    assert_eq!(keys, ["tenant.acme", "agent.acme.helpdesk", &format!("provider.{}", spec.target)]);
}

#[test]
fn budget_that_left_a_worker_no_room_is_a_fact_of_the_next_decision_and_nothing_wider() {
    let world = World::new();
    let task = task_at(1, &public());
    let work = sent(&world.begin(task.clone()).1).clone();
    assert!(work.subject.starts_with("work.cloud."));
    let step = |lane: &str| {
        let reason = json!({ "reason": "spent", "budget": spent(tenant()) });
        let step = json!({ "schema_version": 1, "reason": reason, "destination": "openai", "attempts": 0 });
        let headers = Headers::new().with(header::CAUSE, "WORK_CLOUD:7");
        stored(&Position::new("STEPS", 3), &format!("step.{lane}.acme"), headers, &step)
    };
    let again = |lane: &str| {
        let (mut life, _) = world.begin(step(lane));
        let sent_work = kept(&work, Position::new("WORK_CLOUD", 7));
        let next = world.next(&mut life, Event::Loaded(vec![Some(sent_work)]));
        match next.action {
            Action::Load(_) => world.next(&mut life, Event::Loaded(vec![Some(task.clone())])),
            _ => next,
        }
    };
    let message = sent(&again("cloud")).clone();
    assert!(message.subject.starts_with("work.local."), "{}", message.subject);
    let made = decision(&message);
    assert_eq!((made.facts.spent.len(), made.facts.hop), (1, 1));
    assert!(made.facts.tried.is_empty(), "nothing was tried");
    // The local lane counts in no budget: who says so there is not believed.
    assert!(matches!(again("local").action, Action::Done(Disposition::Dead(_))));
}
