//! What an agreement is for beside the text: the place as it was described, and the form in which the task leaves.

use tidegate_schemas::decision::Obligation;

use super::*;

/// The default bundle with one field of every cloud destination changed.
fn places(field: &str, value: &Value) -> Judge {
    let mut archive: Value = serde_json::from_str(World::new().judge.bundle().archive()).unwrap();
    for place in archive["destinations"].as_array_mut().unwrap() {
        // A rule names this provider, so it has to be there.
        let is_named = field == "target" && place["target"] == "anthropic";
        if place["lane"] == "cloud" && !is_named {
            place[field] = value.clone();
        }
    }
    Judge::new(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap())).unwrap()
}

/// The review, with what a verdict is held against changed in it.
fn told(review: &Stored, terms: &Value) -> Stored {
    let mut payload: Value = serde_json::from_slice(&review.payload).unwrap();
    let of = &mut payload["decision"]["obligations"][0];
    assert!(of["terms"]["place"].is_string(), "{of}");
    match terms {
        Value::Null => drop(of.as_object_mut().unwrap().remove("terms")),
        Value::Object(fields) => {
            for (field, value) in fields {
                of["terms"][field] = value.clone();
            }
        }
        other => panic!("{other}"),
    }
    Stored { payload: payload.to_string().into_bytes().into(), ..review.clone() }
}

#[test]
fn an_approval_is_for_the_place_as_it_was_described_and_not_for_its_name() {
    let approve = json!({ "action": "approve" });
    let with = |judge: Judge| World { judge, ..World::new() };
    let rows = [
        ("nothing", World::new(), Outcome::Cloud),
        ("its price", with(places("price_in", &json!(160_000))), Outcome::Cloud),
        ("its latency", with(places("latency_ms", &json!(950))), Outcome::Cloud),
        ("its address", with(places("base_url", &json!("elsewhere"))), Outcome::Hold),
        ("its provider", with(places("target", &json!("elsewhere"))), Outcome::Hold),
        ("its model", with(places("model", &json!("another"))), Outcome::Hold),
        ("its region", with(places("region", &json!("uk"))), Outcome::Hold),
        ("its retention", with(places("zero_retention", &json!(true))), Outcome::Hold),
        ("its certificates", with(places("certifications", &json!(["soc2"]))), Outcome::Hold),
    ];
    let (task, review, verdict) = held(&World::new(), &approve);
    let seen: Review = serde_json::from_slice(&review.payload).unwrap();
    let name_of = |decision: &Decision| decision.destination.as_ref().unwrap().name.clone();
    for (changed, now, wanted) in rows {
        let step = judged(&now, task.clone(), review.clone(), verdict.clone(), "EVENTS:9");
        let decided = decision(sent(&step));
        assert_eq!(decided.outcome, wanted, "{changed}: {}", decided.sentence);
        assert_eq!(name_of(&decided), name_of(&seen.decision), "{changed}: by its name it is the same place");
    }
    // One that an earlier router held says nothing of it: it is held again, and says it then.
    let step = judged(&World::new(), task, told(&review, &Value::Null), verdict, "EVENTS:9");
    let again = decision(sent(&step));
    assert_eq!((again.outcome, again.terms()), (Outcome::Hold, seen.decision.terms()));
}

#[test]
fn an_approval_does_not_outlive_a_place_that_is_described_otherwise() {
    let renewed = |now: &World, forget: bool| {
        let then = World::new();
        let (task, review, verdict) = held(&then, &json!({ "action": "approve" }));
        let approved = judged(&then, task.clone(), review, verdict, "EVENTS:9");
        let mut work = kept(sent(&approved), Position::new("WORK_CLOUD", 1));
        if forget {
            let mut decision: Value =
                serde_json::from_str(work.headers.get(header::DECISION).unwrap()).unwrap();
            let approval = decision["facts"]["approval"].as_object_mut().unwrap();
            assert!(approval.remove("terms").is_some());
            work.headers.set(header::DECISION, decision.to_string());
        }
        decision(sent(&sent_back(now, task, work, &json!({ "reason": "expired" })))).outcome
    };
    let with = |judge: Judge| World { judge, ..World::new() };
    assert_eq!(renewed(&World::new(), false), Outcome::Cloud, "negative control");
    assert_eq!(renewed(&with(places("latency_ms", &json!(950))), false), Outcome::Cloud, "negative control");
    assert_eq!(renewed(&with(places("base_url", &json!("elsewhere"))), false), Outcome::Hold);
    assert_eq!(renewed(&World::new(), true), Outcome::Hold, "one that does not say it is for one message");
}

/// A world in which the agent's contacts may be replaced; and, where `raw`, one whose bundle lets the same text leave as it stands.
fn world(raw: bool) -> World {
    let mut world = World::new();
    let tenant = world.directory.tenants.get_mut(&name("acme")).unwrap();
    tenant.agents.get_mut(&name("helpdesk")).unwrap().roles.insert(name("redacted-cloud"));
    world.directory.reviewers.get_mut(&name("alice")).unwrap().queues.insert(name("privacy"));
    let mut archive: Value = serde_json::from_str(world.judge.bundle().archive()).unwrap();
    // One queue for all, so that nothing differs but the form.
    for policy in archive["policies"].as_object_mut().unwrap().values_mut() {
        policy["annotations"].as_object_mut().unwrap().remove("queue");
    }
    if raw {
        for guard in ["findings-stay", "unscanned-stays"] {
            assert!(archive["policies"].as_object_mut().unwrap().remove(guard).is_some());
        }
        let kept_nowhere = json!({ ".": { "left": { "Var": "resource" }, "attr": "zero_retention" } });
        archive["policies"]["raw"] = json!({
            "effect": "permit",
            "principal": { "op": "All" },
            "action": { "op": "==", "entity": { "type": "Action", "id": "RouteCloud" } },
            "resource": { "op": "All" },
            "conditions": [{ "kind": "when", "body": kept_nowhere }],
            "annotations": { "id": "raw", "owner": "o@example.com", "title": "t" },
        });
    }
    // Properties and cases are of the bundle as it ships.
    world.judge = Judge::new(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap())).unwrap();
    world
}

/// A task of high stakes with an e-mail address, as a world holds it, and an approval.
fn contact(world: &World) -> (Stored, Stored, Stored) {
    let labels = json!({ "sensitivity": "public", "purpose": "support", "stakes": "high" });
    let task = task_at(1, &body(&labels, "Write to jane.doe@example.org please"));
    let review = kept(sent(&world.begin(task.clone()).1), Position::new("EVENTS", 8));
    let seen: Review = serde_json::from_slice(&review.payload).unwrap();
    let [Obligation::Review { queue, .. }] = seen.decision.obligations.as_slice() else {
        panic!("{:?}", seen.decision.obligations)
    };
    assert_eq!(review.subject, format!("review.{queue}.acme"));
    let verdict = json!({ "schema_version": 1, "review": "EVENTS:8", "content": seen.content,
                          "action": { "action": "approve" }, "reason": "looked at it" });
    let subject = format!("verdict.{queue}.acme.alice");
    (task, review, stored(&Position::new("EVENTS", 9), &subject, Headers::new(), &verdict))
}

#[test]
fn an_approval_of_what_leaves_redacted_is_none_of_what_leaves_as_it_stands() {
    let outcome = |now: &World, (task, review, verdict): (Stored, Stored, Stored)| {
        decision(sent(&judged(now, task, review, verdict, "EVENTS:9"))).outcome
    };
    let redacted = |review: &Stored| {
        let review: Review = serde_json::from_slice(&review.payload).unwrap();
        let terms = review.decision.terms().unwrap();
        (review.decision.destination.unwrap().name, terms)
    };
    let (safe, raw) = (contact(&world(false)), contact(&world(true)));
    let ((place, by_tokens), (same, as_it_is)) = (redacted(&safe.1), redacted(&raw.1));
    assert_eq!((place, by_tokens.place), (same, as_it_is.place), "at the same place");
    assert_eq!((by_tokens.redacted, as_it_is.redacted), (true, false));
    assert_eq!(outcome(&world(false), safe.clone()), Outcome::Redact, "negative control");
    assert_eq!(outcome(&world(true), raw.clone()), Outcome::Cloud, "negative control");
    assert_eq!(
        outcome(&world(true), safe.clone()),
        Outcome::Hold,
        "nobody agreed that it leaves as it stands"
    );
    assert_eq!(outcome(&world(false), raw), Outcome::Hold);
    // Negative control: it is by this alone that the first is told.
    let (task, review, verdict) = safe;
    let review = told(&review, &json!({ "redacted": false }));
    assert_eq!(outcome(&world(true), (task, review, verdict)), Outcome::Cloud);
}
