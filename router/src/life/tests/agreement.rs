//! A ticket expires, and what was agreed to is held against what would be done now.

use super::*;

/// The default bundle with a note of the policy that asks for the review.
fn noted(note: &str, text: &str) -> Judge {
    let mut archive: Value = serde_json::from_str(World::new().judge.bundle().archive()).unwrap();
    archive["policies"]["review-high-stakes"]["annotations"][note] = json!(text);
    Judge::new(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap())).unwrap()
}

/// What becomes of work that a reviewer let go while one world was so, and of which the ticket expired in another.
fn renewed(then: &World, now: &World, change: impl FnOnce(&mut Stored)) -> (Decision, Decision) {
    let (task, review, verdict) = held(then, &json!({ "action": "approve" }));
    let approved = judged(then, task.clone(), review, verdict, "EVENTS:9");
    let mut work = kept(sent(&approved), Position::new("WORK_CLOUD", 1));
    change(&mut work);
    let again = sent_back(now, task, work, &json!({ "reason": "expired" }));
    (decision(sent(&approved)), decision(sent(&again)))
}

fn place(decision: &Decision) -> String {
    decision.destination.as_ref().map(|place| place.name.to_string()).unwrap()
}

#[test]
fn an_approval_does_not_outlive_the_place_the_queue_the_number_or_the_reviewer() {
    let world = World::new;
    let with = |judge: Judge| World { judge, ..world() };
    let mut closed = world();
    closed.off = vec![Switch { target: Some(name("openai")), ..Switch::default() }];
    let mut moved = world();
    moved.directory.reviewers.get_mut(&name("alice")).unwrap().queues = [name("privacy")].into();
    let rows = [
        ("nothing changed", &world(), &world(), Outcome::Cloud),
        ("what was off stays off", &closed, &closed, Outcome::Cloud),
        ("another place is on", &closed, &world(), Outcome::Hold),
        ("the place is off", &world(), &closed, Outcome::Hold),
        ("a bundle that decides alike", &world(), &with(noted("title", "another")), Outcome::Cloud),
        ("a bundle that asks another queue", &world(), &with(noted("queue", "privacy")), Outcome::Hold),
        ("a bundle that asks two", &world(), &with(noted("quorum", "2")), Outcome::Hold),
        ("a reviewer of other queues", &world(), &moved, Outcome::Hold),
    ];
    for (what, then, now, wanted) in rows {
        let (approved, again) = renewed(then, now, |_| {});
        assert_eq!(approved.outcome, Outcome::Cloud, "{what}");
        assert_eq!(again.outcome, wanted, "{what}: {}", again.sentence);
        let is_there = place(&again) == place(&approved);
        assert!(wanted == Outcome::Hold || is_there, "{what}: {}", place(&again));
    }
    // The second renewal is by the same approval, and one that does not say its queue is for one message.
    let without_queue = |work: &mut Stored| {
        let mut decision: Value = serde_json::from_str(work.headers.get(header::DECISION).unwrap()).unwrap();
        assert_eq!(
            decision["facts"]["approval"].as_object_mut().unwrap().remove("queue"),
            Some(json!("default"))
        );
        work.headers.set(header::DECISION, decision.to_string());
    };
    assert_eq!(renewed(&world(), &world(), without_queue).1.outcome, Outcome::Hold);
}
