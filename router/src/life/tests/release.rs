//! Several bundles at once: who decides, and what is only judged beside.

use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Shadow;
use tidegate_schemas::release::{Guards, ShareBy};

use super::*;
use crate::Allowance;
use crate::life::dispatch;

/// The default bundle with changes.
fn variant(change: impl FnOnce(&mut Value)) -> Judge {
    let mut archive: Value = serde_json::from_str(World::new().judge.bundle().archive()).unwrap();
    change(&mut archive);
    Judge::new(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap())).unwrap()
}

/// It decides alike, under another hash.
fn alike() -> Judge {
    variant(|archive| archive["manifest"]["version"] = json!("2"))
}

/// It rejects whatever the helpdesk asks.
fn stricter() -> Judge {
    variant(|archive| {
        let blocked = json!({ "id": "blocked", "template": "agent-blocked", "owner": "o",
                              "principal": "Agent::\"acme/helpdesk\"" });
        archive["links"].as_array_mut().unwrap().push(blocked);
    })
}

fn released(world: &mut World, judge: Judge, share_bp: u16, by: ShareBy) {
    let (since, unguarded) = (0, Guards::default());
    world.canary = Some((Canary { hash: judge.bundle().hash(), share_bp, by, since, unguarded }, judge));
}

fn in_flow(flow: usize) -> Value {
    let mut task = public();
    task["workflow"] = json!(format!("flow-{flow}"));
    task
}

#[test]
fn a_canary_decides_about_a_workflow_at_each_of_its_steps_and_nobody_else_s() {
    let mut world = World::new();
    released(&mut world, alike(), 5_000, ShareBy::Workflow);
    let hashes = [world.judge.bundle().hash(), world.canary.as_ref().unwrap().1.bundle().hash()];
    let reason = json!({ "reason": "fallback", "code": "provider_unavailable" });
    let mut drawn = [0_u32; 2];
    for flow in 0..40 {
        let task = in_flow(flow);
        let first = decision(sent(&world.begin(task_at(1, &task)).1)).bundle;
        let which = hashes.iter().position(|hash| *hash == first).unwrap();
        drawn[which] += 1;
        let again = decided_again(&world, &task, &reason);
        assert_eq!((decision(&again).facts.hop, decision(&again).bundle), (1, first), "flow {flow}");
        // Another task of the workflow, under another id and text.
        let other = with_text(&in_flow(flow), "Why is there a tide?");
        assert_eq!(decision(sent(&world.begin(task_at(2, &other)).1)).bundle, first, "flow {flow}");
    }
    assert!(drawn.iter().all(|count| *count > 5), "{drawn:?}");
}

#[test]
fn a_canary_of_all_tenants_decides_also_about_verdicts_and_its_end_leads_back() {
    let mut world = World::new();
    released(&mut world, alike(), 10_000, ShareBy::Tenant);
    let canary = world.canary.as_ref().unwrap().1.bundle().hash();
    let (task, review, verdict) = held(&world, &json!({ "action": "approve" }));
    let position = verdict.position.to_string();
    let approved = judged(&world, task, review, verdict, &position);
    assert_eq!(decision(sent(&approved)).bundle, canary);
    world.canary = None;
    let active = world.judge.bundle().hash();
    assert_eq!(decision(sent(&world.begin(task_at(1, &public())).1)).bundle, active);
}

#[test]
fn a_canary_sends_to_its_own_endpoints_and_lets_its_own_reviewers_decide() {
    let mut world = World::new();
    let endpoint = |world: &World| {
        let (_, step) = world.begin(task_at(1, &public()));
        let ticket = sent(&step).ticket.clone().unwrap();
        (ticket.bundle, ticket.base_url)
    };
    let approve = |world: &World| {
        let (task, review, verdict) = held(world, &json!({ "action": "approve" }));
        is_dead(&judged(world, task, review, verdict, "EVENTS:9"))
    };
    let (_, usual) = endpoint(&world);
    assert!(!approve(&world), "negative control: by the active bundle it is permitted");
    let other = variant(|archive| {
        for place in archive["destinations"].as_array_mut().unwrap() {
            if place["lane"] == "cloud" {
                place["base_url"] = json!("elsewhere");
            }
        }
        archive["policies"].as_object_mut().unwrap().remove("review-by-queue");
    });
    released(&mut world, other, 10_000, ShareBy::Tenant);
    let canary = world.canary.as_ref().unwrap().1.bundle().hash();
    assert_eq!(endpoint(&world), (canary, name("elsewhere")));
    assert_ne!(usual, name("elsewhere"));
    assert!(approve(&world), "nobody may approve by the canary");
}

#[test]
fn a_shadow_is_on_record_beside_the_decision_and_changes_nothing_of_it() {
    let mut world = World::new();
    let plain = sent(&world.begin(task_at(1, &public())).1).clone();
    assert!(!plain.headers.get(header::DECISION).unwrap().contains("shadow"), "negative control");
    world.shadow = Some(stricter());
    let beside = sent(&world.begin(task_at(1, &public())).1).clone();
    let told = decision(&beside);
    let shadow = told.shadow.clone().unwrap();
    let bundle = world.shadow.as_ref().unwrap().bundle().hash();
    let code = Some(Code::PolicyDenied);
    assert_eq!(shadow, Shadow { bundle, outcome: Outcome::Reject, destination: None, code });
    assert!(shadow.differs(told.outcome, told.destination.as_ref().map(|place| &place.name)));
    assert_eq!((&beside.subject, &beside.payload), (&plain.subject, &plain.payload));
    assert_eq!(Decision { shadow: None, ..told }, decision(&plain));
    // Negative control: one that decides alike.
    world.shadow = Some(alike());
    let told = decision(sent(&world.begin(task_at(1, &public())).1));
    let place = told.destination.as_ref().map(|place| &place.name);
    assert!(!told.shadow.clone().unwrap().differs(told.outcome, place), "{told:?}");
}

#[test]
fn a_shadow_is_judged_beside_every_step_but_not_beside_itself() {
    let mut world = World::new();
    world.shadow = Some(stricter());
    let reason = json!({ "reason": "fallback", "code": "provider_unavailable" });
    assert!(decision(&decided_again(&world, &public(), &reason)).shadow.is_some());
    let (_, review, _) = held(&world, &json!({ "action": "approve" }));
    let review: Review = serde_json::from_slice(&review.payload).unwrap();
    assert!(review.decision.shadow.is_some());
    released(&mut world, stricter(), 10_000, ShareBy::Tenant);
    let told = decision(sent(&world.begin(task_at(1, &public())).1));
    assert_eq!((told.outcome, told.shadow), (Outcome::Reject, None), "it is the canary here");
}

#[test]
fn a_shadow_that_takes_too_long_is_left_out_and_the_decision_is_the_same() {
    let mut world = World::new();
    world.shadow = Some(stricter());
    world.allowance = Some(Allowance::default());
    let first = decision(sent(&world.begin(task_at(1, &public())).1));
    assert!(first.shadow.is_some(), "negative control: there is time");
    let busy = world.allowance.as_ref().unwrap();
    busy.took(std::time::Duration::from_millis(100));
    let next = decision(sent(&world.begin(task_at(1, &public())).1));
    assert_eq!(next.shadow, None);
    assert_eq!(Decision { shadow: None, ..first }, next);
}

#[test]
fn a_shadow_that_panics_is_told_as_failed() {
    let world = World::new();
    let bundle = world.judge.bundle().hash();
    let failed = dispatch::beside(bundle, || panic!("a defect of the judge"));
    let code = Some(Code::JudgeFailed);
    assert_eq!(failed, Shadow { bundle, outcome: Outcome::Reject, destination: None, code });
    let decided = decision(sent(&world.begin(task_at(1, &public())).1));
    let well = dispatch::beside(bundle, || decided.clone());
    assert_eq!(well.outcome, decided.outcome, "negative control");
}
