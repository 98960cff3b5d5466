//! Several reviewers, and what policies say of each.

use super::*;

/// A world with another reviewer.
fn world() -> World {
    let mut world = World::new();
    for who in ["bob", "carol"] {
        let reviewer = Reviewer { queues: [name("default")].into(), nkey: String::new() };
        world.directory.reviewers.insert(name(who), reviewer);
    }
    world
}

/// The same review, of which so many must approve.
fn asking(review: Stored, quorum: u8) -> Stored {
    let mut payload: Value = serde_json::from_slice(&review.payload).unwrap();
    payload["decision"]["obligations"][0]["quorum"] = json!(quorum);
    Stored { payload: payload.to_string().into_bytes().into(), ..review }
}

/// A verdict of another reviewer, at its own place.
fn by(verdict: &Stored, who: &str, sequence: u64) -> Stored {
    let subject = format!("verdict.default.acme.{who}");
    Stored { subject, position: Position::new("EVENTS", sequence), ..verdict.clone() }
}

/// What becomes of a verdict where these have the places already.
fn given(world: &World, task: &Stored, review: &Stored, verdict: Stored, places: &mut Vec<String>) -> Step {
    after(world, task, review, verdict, places, None)
}

/// The same, where another verdict may have the review.
fn after(
    world: &World,
    task: &Stored,
    review: &Stored,
    verdict: Stored,
    places: &mut Vec<String>,
    ended: Option<&str>,
) -> Step {
    let (mut life, step) = world.begin(verdict);
    if is_dead(&step) {
        return step;
    }
    world.next(&mut life, Event::Loaded(vec![Some(review.clone())]));
    let mut step = world.next(&mut life, Event::Loaded(vec![Some(task.clone())]));
    while let Action::Claim { key, value } = &step.action {
        let (key, value) = (key.clone(), value.clone());
        let place = key.strip_prefix("review-8-").map(|place| place.parse::<usize>().unwrap());
        let holder = match place {
            Some(place) => {
                assert!(place <= places.len() + 1, "in order");
                if place > places.len() {
                    places.push(value);
                }
                places[place - 1].clone()
            }
            None => ended.map_or(value, str::to_owned),
        };
        step = world.next(&mut life, Event::Claimed { holder });
    }
    step
}

#[test]
fn as_many_reviewers_as_asked_for_agree_each_once() {
    let world = world();
    let (task, review, verdict) = held(&world, &json!({ "action": "approve" }));
    let alone = given(&world, &task, &review, verdict.clone(), &mut Vec::new());
    assert_eq!(
        decision(sent(&alone)).outcome,
        Outcome::Cloud,
        "negative control: one is enough where one is asked for"
    );

    let review = asking(review, 2);
    let mut places = Vec::new();
    assert!(is_acked(&given(&world, &task, &review, verdict.clone(), &mut places)), "one of two");
    assert!(is_acked(&given(&world, &task, &review, verdict.clone(), &mut places)), "delivered again");
    let twice = by(&verdict, "alice", 10);
    assert!(
        is_acked(&given(&world, &task, &review, twice, &mut places)),
        "the same reviewer twice is one of two"
    );
    let second = given(&world, &task, &review, by(&verdict, "bob", 11), &mut places);
    let agreed = decision(sent(&second));
    let approval = agreed.facts.approval.unwrap();
    assert_eq!(
        (agreed.outcome, approval.reviewer, approval.others),
        (Outcome::Cloud, name("bob"), vec![name("alice")])
    );
    let again = given(&world, &task, &review, by(&verdict, "bob", 11), &mut places);
    assert_eq!(sent(&again).msg_id, sent(&second).msg_id, "delivered again it does the same");
    let late = after(&world, &task, &review, by(&verdict, "carol", 12), &mut places, Some("EVENTS:11"));
    assert!(is_dead(&late), "the review is over");
    // Whoever took the last place may have died before it decided: another one ends it, or the same reviewer.
    for (who, at) in [("carol", 12), ("bob", 13)] {
        let step = given(&world, &task, &review, by(&verdict, who, at), &mut places.clone());
        assert_eq!(decision(sent(&step)).facts.approval.unwrap().reviewer, name(who));
    }
    // Who agreed first may not any more: one who may is not two.
    let mut later = self::world();
    later.directory.reviewers.remove(&name("alice"));
    let step = given(&later, &task, &review, by(&verdict, "bob", 11), &mut places.clone());
    assert!(is_dead(&step), "{step:?}");
    let step = given(&later, &task, &review, by(&verdict, "carol", 12), &mut places);
    assert_eq!(decision(sent(&step)).facts.approval.unwrap().others, [name("bob")], "bob and carol are two");
}

/// The default bundle with a policy that asks for so many.
fn asks_for(quorum: &str) -> Judge {
    let bundle = World::new().judge.bundle().archive().to_owned();
    let mut archive: Value = serde_json::from_str(&bundle).unwrap();
    archive["policies"]["review-high-stakes"]["annotations"]["quorum"] = json!(quorum);
    Judge::new(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap())).unwrap()
}

#[test]
fn an_agreement_is_for_the_place_the_queue_and_the_number_that_it_was_given_for() {
    let approve = json!({ "action": "approve" });
    let outcome = |step: &Step| decision(sent(step)).outcome;
    // By a policy, from the hold on.
    let mut world = world();
    world.judge = asks_for("2");
    let (task, review, verdict) = held(&world, &approve);
    assert!(is_acked(&given(&world, &task, &review, verdict, &mut Vec::new())), "one of two");
    // Held for one; meanwhile two are asked for.
    let (task, review, verdict) = held(&self::world(), &approve);
    let again = given(&world, &task, &review, verdict.clone(), &mut Vec::new());
    assert_eq!(outcome(&again), Outcome::Hold, "it is held again");
    let control = given(&self::world(), &task, &review, verdict, &mut Vec::new());
    assert_eq!(outcome(&control), Outcome::Cloud, "negative control");

    // Held for the local lane while the cloud was closed; meanwhile it is open.
    let mut closed = self::world();
    closed.egress_open = false;
    let (task, review, verdict) = held(&closed, &approve);
    let place = |review: &Stored| {
        let review: Review = serde_json::from_slice(&review.payload).unwrap();
        review.decision.destination.unwrap().lane
    };
    assert_eq!(place(&review), tidegate_schemas::subject::Lane::Local);
    let again = given(&self::world(), &task, &review, verdict.clone(), &mut Vec::new());
    assert_eq!(outcome(&again), Outcome::Hold, "nobody agreed that it leaves");
    let control = given(&closed, &task, &review, verdict, &mut Vec::new());
    assert_eq!(outcome(&control), Outcome::Local, "negative control");
    // What was to leave, and stays after all.
    let (task, review, verdict) = held(&self::world(), &approve);
    assert_eq!(outcome(&given(&closed, &task, &review, verdict, &mut Vec::new())), Outcome::Local);
}

#[test]
fn an_edit_is_nothing_that_several_can_agree_to_and_one_may_reject() {
    let world = world();
    let input = json!({ "messages": [{ "role": "user", "content": "Summarise the loan's terms" }] });
    let (task, review, verdict) = held(&world, &json!({ "action": "edit", "input": input }));
    assert!(is_dead(&given(&world, &task, &asking(review.clone(), 2), verdict.clone(), &mut Vec::new())));
    let alone = given(&world, &task, &review, verdict, &mut Vec::new());
    assert!(sent(&alone).subject.starts_with("work."), "negative control: by one");
    let (task, review, verdict) = held(&world, &json!({ "action": "reject" }));
    let step = given(&world, &task, &asking(review, 3), verdict, &mut Vec::new());
    assert_eq!(result(sent(&step)).error.unwrap().code, Code::ReviewRejected);
}

#[test]
fn policies_say_who_may_let_work_go_on_and_anybody_may_reject() {
    let mut world = world();
    let outcome = |world: &World, action: &str| {
        let (task, review, verdict) = held(world, &json!({ "action": action }));
        let suspended = || {
            let mut later = self::world();
            let agents = &mut later.directory.tenants.get_mut(&name("acme")).unwrap().agents;
            agents.get_mut(&name("helpdesk")).unwrap().roles = [name("suspended")].into();
            later
        };
        let now = given(world, &task, &review, verdict.clone(), &mut Vec::new());
        let then = given(&suspended(), &task, &review, verdict, &mut Vec::new());
        (now, then)
    };
    let (now, then) = outcome(&world, "approve");
    assert!(sent(&now).subject.starts_with("work."), "negative control: permitted");
    let Action::Done(Disposition::Dead(refused)) = &then.action else { panic!("{then:?}") };
    assert_eq!(refused.code, Code::PolicyDenied);
    assert!(refused.sentence.contains("review-suspended"), "{}", refused.sentence);
    let (_, then) = outcome(&world, "reject");
    assert_eq!(result(sent(&then)).error.unwrap().code, Code::ReviewRejected);

    // Whom the directory gives no such queue, no policy helps.
    let (task, review, verdict) = held(&world, &json!({ "action": "approve" }));
    world.directory.reviewers.get_mut(&name("alice")).unwrap().queues = [name("privacy")].into();
    assert!(is_dead(&given(&world, &task, &review, verdict, &mut Vec::new())));
}

#[test]
fn who_agreed_before_is_asked_about_what_would_run_now() {
    let outcome = |forbidden: &str| {
        let mut archive: Value = serde_json::from_str(asks_for("2").bundle().archive()).unwrap();
        archive["policies"]["not-alice"] = json!({
            "effect": "forbid",
            "principal": { "op": "==", "entity": { "type": "Reviewer", "id": "alice" } },
            "action": { "op": "==", "entity": { "type": "Action", "id": "ApproveReview" } },
            "resource": { "op": "All" },
            "conditions": [{ "kind": "when", "body": { "==": {
                "left": { ".": { "left": { "Var": "context" }, "attr": "lane" } },
                "right": { "Value": { "__entity": { "type": "Lane", "id": forbidden } } } } } }],
            "annotations": { "id": "not-alice", "owner": "o@example.com", "title": "t" },
        });
        let judge = || Judge::new(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap())).unwrap();
        let (mut open, mut closed) = (world(), world());
        (open.judge, closed.judge) = (judge(), judge());
        let (task, review, verdict) = held(&open, &json!({ "action": "approve" }));
        let mut places = Vec::new();
        let alone = given(&open, &task, &review, verdict.clone(), &mut places);
        assert!(forbidden == "cloud" || is_acked(&alone), "alice is one of two: {alone:?}");
        // What was to leave stays meanwhile.
        closed.egress_open = false;
        given(&closed, &task, &review, by(&verdict, "bob", 11), &mut places)
    };
    assert_eq!(decision(sent(&outcome("local"))).outcome, Outcome::Hold, "for bob and another one");
    assert!(is_acked(&outcome("cloud")), "alice took no place: bob is one of two");
    // Negative control: a rule that is about nothing of this.
    let step = outcome_of_both();
    assert_eq!(decision(sent(&step)).facts.approval.unwrap().others, [name("alice")]);
}

/// The same where nothing forbids alice anything.
fn outcome_of_both() -> Step {
    let (mut open, mut closed) = (world(), world());
    (open.judge, closed.judge) = (asks_for("2"), asks_for("2"));
    let (task, review, verdict) = held(&open, &json!({ "action": "approve" }));
    let mut places = Vec::new();
    given(&open, &task, &review, verdict.clone(), &mut places);
    closed.egress_open = false;
    given(&closed, &task, &review, by(&verdict, "bob", 11), &mut places)
}

#[test]
fn held_work_waits_as_long_as_the_bundle_says() {
    let waits = |hours: Option<u32>| {
        let mut world = world();
        let mut archive: Value = serde_json::from_str(world.judge.bundle().archive()).unwrap();
        if let Some(hours) = hours {
            archive["manifest"]["review_hours"] = json!(hours);
        }
        world.judge = Judge::new(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap())).unwrap();
        let (_, review, _) = held(&world, &json!({ "action": "approve" }));
        let review: Review = serde_json::from_slice(&review.payload).unwrap();
        review.review_by.duration_since(world.now).as_hours()
    };
    assert_eq!((waits(None), waits(Some(24)), waits(Some(72))), (24, 24, 72));
}
