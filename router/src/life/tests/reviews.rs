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
            None => value,
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
    assert!(is_dead(&given(&world, &task, &review, twice, &mut places)), "the same reviewer twice");
    let second = given(&world, &task, &review, by(&verdict, "bob", 11), &mut places);
    let agreed = decision(sent(&second));
    let approval = agreed.facts.approval.unwrap();
    assert_eq!(
        (agreed.outcome, approval.reviewer, approval.others),
        (Outcome::Cloud, name("bob"), vec![name("alice")])
    );
    let again = given(&world, &task, &review, by(&verdict, "bob", 11), &mut places);
    assert_eq!(sent(&again).msg_id, sent(&second).msg_id, "delivered again it does the same");
    assert!(is_dead(&given(&world, &task, &review, by(&verdict, "carol", 12), &mut places)), "one too many");
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
