//! A model's scan: what is sent to be scanned, what a scan opens, and what is no scan.

use tidegate_schemas::scan::ModelScan;

use super::*;

const TEXT: &str = "Summarise the release notes in three bullets.";

fn internal(text: &str) -> Value {
    body(&json!({ "sensitivity": "internal" }), text)
}

fn pinned(world: &World) -> String {
    let model = world.judge.bundle().taxonomy().model_scan.as_ref().unwrap();
    model.sha256.unwrap().to_string()
}

fn scanned(world: &World, findings: &Value) -> Value {
    json!({ "reason": "scanned", "model": pinned(world), "findings": findings })
}

fn first(world: &World, task: &Value) -> Message {
    sent(&world.begin(task_at(1, task)).1).clone()
}

#[test]
fn scan_comes_first_where_one_that_finds_nothing_could_let_the_task_leave() {
    let mut world = World::new();
    let work = first(&world, &internal(TEXT));
    assert_eq!(work.subject, "work.local.scan.interactive.acme");
    let told = decision(&work);
    assert_eq!((told.outcome, told.facts.model_scan), (Outcome::Local, ModelScan::Open));
    assert_eq!(told.destination.unwrap().region.as_str(), "eu", "where the local lane is");
    let rows = [
        ("public text leaves without", public(), "work.cloud."),
        (
            "confidential text of an agent that is not cleared",
            body(&json!({ "sensitivity": "confidential" }), TEXT),
            "work.local.default.",
        ),
        ("restricted text", body(&json!({ "sensitivity": "restricted" }), TEXT), "work.local.default."),
        ("text in which something is found", internal("write to anna@example.org"), "work.local.default."),
        ("text that is longer than is scanned", internal(&"word ".repeat(14_000)), "result."),
    ];
    for (what, task, subject) in rows {
        assert!(
            first(&world, &task).subject.starts_with(subject),
            "{what}: {}",
            first(&world, &task).subject
        );
    }
    world.egress_open = false;
    assert!(first(&world, &internal(TEXT)).subject.starts_with("work.local.default."), "nothing may leave");
    world.egress_open = true;
    world.wait_ms = [(name("scan"), 60_000)].into();
    assert!(
        first(&world, &internal(TEXT)).subject.starts_with("work.local.default."),
        "its queue is too long"
    );
    world.wait_ms.clear();
    world.off = vec![Switch { target: Some(name("scan")), ..Switch::default() }];
    assert!(first(&world, &internal(TEXT)).subject.starts_with("work.local.default."), "it is switched off");
}

#[test]
fn scan_that_found_nothing_lets_internal_text_leave_and_a_finding_keeps_it() {
    let world = World::new();
    let after = |findings: Value| decided_again(&world, &internal(TEXT), &scanned(&world, &findings));
    let clean = after(json!({}));
    assert!(clean.subject.starts_with("work.cloud."), "{}", clean.subject);
    let told = decision(&clean);
    assert_eq!(told.facts.hop, 1);
    assert!(matches!(told.scan, tidegate_schemas::decision::Scan::Model(_)));
    assert_eq!(told.determining, ["cloud-internal-scanned", "review-default"]);
    let with_name = after(json!({ "person": 1 }));
    assert!(with_name.subject.starts_with("work.local.default."), "{}", with_name.subject);
    assert_eq!(decision(&with_name).findings, [(name("person"), 1)].into());
    let town = after(json!({ "place": 1 }));
    assert!(town.subject.starts_with("work.cloud."), "a town is no finding");
    let unlisted = after(json!({ "blood_group": 1 }));
    assert!(unlisted.subject.starts_with("work.local.default."));
    assert_eq!(decision(&unlisted).labels.sensitivity, Sensitivity::Restricted);
}

#[test]
fn scan_that_failed_leaves_the_task_as_restricted_as_before_and_is_not_asked_again() {
    let world = World::new();
    for code in ["model_failed", "deadline_exceeded", "overloaded", "no_capable_destination", "wrong_model"] {
        let again = decided_again(&world, &internal(TEXT), &json!({ "reason": "scan_failed", "code": code }));
        assert!(again.subject.starts_with("work.local.default."), "{code}: {}", again.subject);
        let told = decision(&again);
        assert_eq!((told.facts.model_scan, told.facts.tried.len()), (ModelScan::Closed, 0), "{code}");
    }
    for reason in ["off", "expired"] {
        let again = decided_again(&world, &internal(TEXT), &json!({ "reason": reason }));
        assert!(again.subject.starts_with("work.local.default."), "{reason}: {}", again.subject);
    }
}

/// Each is a way to have a text taken for scanned that no model of the bundle's has read.
#[test]
fn scan_is_believed_only_of_the_bundles_model_from_the_local_lane_about_the_text_that_was_sent() {
    let world = World::new();
    let clean = scanned(&world, &json!({}));
    let decide = |task: Stored, work: Stored, back: Stored| {
        let (mut life, _) = world.begin(back);
        let step = world.next(&mut life, Event::Loaded(vec![Some(work)]));
        match step.action {
            Action::Load(_) => sent(&world.next(&mut life, Event::Loaded(vec![Some(task)]))).subject.clone(),
            _ => "dead".to_owned(),
        }
    };
    let (task, work, back) = returned(&world, &internal(TEXT), &clean);
    assert!(decide(task.clone(), work.clone(), back.clone()).starts_with("work.cloud."), "negative control");
    // Another text than was scanned.
    let mut other: Value = serde_json::from_slice(&task.payload).unwrap();
    other["input"]["messages"][0]["content"] = json!("Ask Maria Fernandez.");
    let other = Stored { payload: other.to_string().into_bytes().into(), ..task.clone() };
    assert!(!decide(other, work.clone(), back.clone()).starts_with("work.cloud."));
    // A cloud worker that says so.
    let cloud = Stored { subject: "step.cloud.acme".into(), ..back };
    assert_eq!(decide(task, work, cloud), "dead");
    // Other weights.
    let others = json!({ "reason": "scanned", "model": "00".repeat(32), "findings": {} });
    let (task, work, back) = returned(&world, &internal(TEXT), &others);
    assert!(!decide(task, work, back).starts_with("work.cloud."));
    // Work that was never sent to be scanned.
    let mut unscanned = World::new();
    unscanned.off = vec![Switch { target: Some(name("scan")), ..Switch::default() }];
    let (task, work, back) = returned(&unscanned, &internal(TEXT), &clean);
    assert!(work.subject.starts_with("work.local.default."));
    assert!(!decide(task, work, back).starts_with("work.cloud."));
}

#[test]
fn scan_stays_true_when_what_left_comes_back_and_is_decided_for_another_place() {
    let world = World::new();
    let task = internal(TEXT);
    let clean = decided_again(&world, &task, &scanned(&world, &json!({})));
    let work = kept(&clean, Position::new("WORK_CLOUD", 4));
    let headers = Headers::new().with(header::CAUSE, work.position.to_string());
    let place = decision(&clean).destination.unwrap().name;
    let payload = json!({ "schema_version": 1, "destination": place, "attempts": 3,
        "reason": { "reason": "fallback", "code": "provider_unavailable" } });
    let (mut life, _) = world.begin(stored(&Position::new("STEPS", 2), "step.cloud.acme", headers, &payload));
    world.next(&mut life, Event::Loaded(vec![Some(work)]));
    let again = world.next(&mut life, Event::Loaded(vec![Some(task_at(1, &task))]));
    let told = decision(sent(&again));
    assert!(matches!(told.facts.model_scan, ModelScan::Done { .. }));
    assert_ne!(told.destination.map(|destination| destination.name), Some(place));
}
