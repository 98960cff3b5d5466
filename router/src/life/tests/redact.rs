//! A task that may leave once what was found in it is replaced: there, looked at again, and back.

use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::redact::redact;
use tidegate_schemas::result::{Finish, Output};
use tidegate_schemas::work::{RedactWork, RestoreWork};

use super::*;

const TOKEN: &str = "<EMAIL_k7f3q2xa>";

/// A world in which the agent's contacts may be replaced.
pub(super) fn world() -> World {
    let mut world = World::new();
    let tenant = world.directory.tenants.get_mut(&name("acme")).unwrap();
    tenant.agents.get_mut(&name("helpdesk")).unwrap().roles.insert(name("redacted-cloud"));
    world
}

fn contact(sensitivity: &str) -> Value {
    let labels = json!({ "sensitivity": sensitivity, "purpose": "support" });
    body(&labels, "Write to jane.doe@example.org please")
}

/// What the local lane makes of redaction's work.
fn redacted(work: &Message) -> Value {
    let work: RedactWork = serde_json::from_slice(&work.payload).unwrap();
    let input = redact(&work.input, &work.spans, |_, _| TOKEN.parse().ok()).unwrap();
    json!({ "reason": "redacted", "input": input, "tokens": 1 })
}

pub(super) fn step_of(lane: &str, work: &Stored, reason: &Value) -> Stored {
    let payload = json!({ "schema_version": 1, "destination": "openai-eu", "attempts": 1, "reason": reason });
    let headers = Headers::new().with(header::CAUSE, work.position.to_string());
    stored(&Position::new("STEPS", 1), &format!("step.{lane}.acme"), headers, &payload)
}

/// What follows from a step.
pub(super) fn after(world: &World, task: &Stored, work: &Stored, back: Stored) -> Step {
    let (mut life, _) = world.begin(back);
    let step = world.next(&mut life, Event::Loaded(vec![Some(work.clone())]));
    if is_dead(&step) {
        return step;
    }
    world.next(&mut life, Event::Loaded(vec![Some(task.clone())]))
}

/// The task, and the work of the pool that redacts.
fn to_redact(world: &World) -> (Stored, Stored, Message) {
    let task = task_at(1, &contact("public"));
    let message = sent(&world.begin(task.clone()).1).clone();
    let work = kept(&message, Position::new("WORK_LOCAL", 3));
    (task, work, message)
}

#[test]
fn redact_work_that_fits_no_message_ends_at_once() {
    let world = world();
    let labels = json!({ "sensitivity": "public", "purpose": "support" });
    let state = |contacts: usize| {
        let task = task_at(1, &body(&labels, &"a@b.co ".repeat(contacts)));
        let message = sent(&world.begin(task).1).clone();
        let payload: Value = serde_json::from_slice(&message.payload).unwrap();
        (message.subject.split('.').next().unwrap().to_owned(), payload["error"]["code"].clone())
    };
    assert_eq!(state(70_000), ("result".to_owned(), json!("too_large")));
    assert_eq!(state(10), ("work".to_owned(), Value::Null), "negative control");
}

#[test]
fn redact_goes_first_and_what_would_leave_is_judged_again() {
    let world = world();
    let (task, work, message) = to_redact(&world);
    assert_eq!(message.subject, "work.local.redact.interactive.acme");
    assert_eq!(decision(&message).outcome, Outcome::Redact);
    assert!(message.ticket.is_none(), "no ticket before it was looked at");
    let step = after(&world, &task, &work, step_of("local", &work, &redacted(&message)));
    let leaves = sent(&step);
    let decided = decision(leaves);
    assert!(leaves.subject.starts_with("work.cloud.openai-eu."), "{}", decided.sentence);
    let text = String::from_utf8(leaves.payload.to_vec()).unwrap();
    assert!(text.contains(TOKEN) && !text.contains("jane"), "{text}");
    assert!(leaves.ticket.is_some());
    assert!(decided.facts.redaction.unwrap().is_verified());
    assert_eq!(decided.labels.sensitivity, Sensitivity::Confidential, "the labels of the whole task stay");
}

#[test]
fn redact_that_leaves_something_or_something_else_stays_inside() {
    let world = world();
    let (task, work, message) = to_redact(&world);
    let input = |text: &str| {
        let mut reason = redacted(&message);
        reason["input"]["messages"][0]["content"] = json!(text);
        reason
    };
    let rows = [
        (input("Write to <EMAIL_k7f3q2xa> please"), true),
        (input("Write to jane.doe@example.org please"), false),
        (input("Write to <EMAIL_k7f3q2xa>.doe@example.org please"), false),
        (input("Write to <EMAIL_k7f3q2xa> and tell all about Jane please"), false),
        (json!({ "reason": "fallback", "code": "internal" }), false),
        (json!({ "reason": "off" }), false),
    ];
    for (reason, leaves) in rows {
        let step = after(&world, &task, &work, step_of("local", &work, &reason));
        let subject = &sent(&step).subject;
        assert_eq!(subject.starts_with("work.cloud."), leaves, "{reason}: {subject}");
        assert!(leaves || subject.starts_with("work.local.default."), "{reason}: {subject}");
    }
}

#[test]
fn redact_is_for_whom_a_policy_permits_and_never_for_restricted_data() {
    let subject = |world: &World, task: Value| sent(&world.begin(task_at(1, &task)).1).subject.clone();
    assert!(subject(&world(), contact("public")).starts_with("work.local.redact."), "negative control");
    assert!(subject(&World::new(), contact("public")).starts_with("work.local.default."), "without the role");
    assert!(subject(&world(), contact("restricted")).starts_with("work.local.default."));
    let card = body(&json!({ "sensitivity": "public" }), "jane.doe@example.org pays by 4111 1111 1111 1111");
    assert!(subject(&world(), card).starts_with("work.local.default."));
}

/// Only work that was sent to be redacted comes back so, and only a redacted task's answer is restored.
#[test]
fn redact_steps_that_nobody_asked_for_lead_nowhere() {
    let world = world();
    let (task, work, message) = to_redact(&world);
    let reason = redacted(&message);
    assert!(is_dead(&after(&world, &task, &work, step_of("cloud", &work, &reason))), "another lane");
    let (plain, local, _) = returned(&world, &body(&json!({ "sensitivity": "confidential" }), "Hi"), &reason);
    assert!(local.subject.starts_with("work.local.default."));
    assert!(is_dead(&after(&world, &plain, &local, step_of("local", &local, &reason))), "never sent there");
    let answer = json!({ "reason": "restore", "result": answered("x") });
    let (plain, cloud, _) = returned(&world, &public(), &reason);
    assert!(cloud.subject.starts_with("work.cloud."));
    assert!(
        is_dead(&after(&world, &plain, &cloud, step_of("cloud", &cloud, &answer))),
        "nothing was replaced"
    );
}

/// A result as a cloud worker would make it, of whatever task.
fn answered(text: &str) -> TaskResult {
    let error = tidegate_schemas::result::ResultError {
        code: Code::Internal,
        message: String::new(),
        retry_after_ms: None,
    };
    let id = tidegate_schemas::ids::TaskId(Uuid::from_u128(77));
    let output = Output::Text { text: text.to_owned().into(), tool_calls: Vec::new(), finish: Finish::Stop };
    TaskResult {
        output: Some(output),
        error: None,
        ..TaskResult::ended(name("globex"), name("other"), id, State::Completed, error)
    }
}

#[test]
fn redact_sends_the_answer_home_and_takes_nothing_else_from_the_worker() {
    let world = world();
    let (task, work, message) = to_redact(&world);
    let step = after(&world, &task, &work, step_of("local", &work, &redacted(&message)));
    let cloud = kept(sent(&step), Position::new("WORK_CLOUD", 4));
    let reason = json!({ "reason": "restore", "result": answered("I wrote to <EMAIL_k7f3q2xa>.") });
    let step = after(&world, &task, &cloud, step_of("cloud", &cloud, &reason));
    let home = sent(&step);
    assert_eq!(home.subject, "work.local.restore.interactive.acme");
    let restoring: RestoreWork = serde_json::from_slice(&home.payload).unwrap();
    assert_eq!(restoring.tokens, [TOKEN.parse().unwrap()]);
    let result = restoring.result;
    assert_eq!((result.tenant.as_str(), result.agent.as_str()), ("acme", "helpdesk"), "the router's word");
    let asked: Value = serde_json::from_slice(&task.payload).unwrap();
    assert_eq!(result.task.to_string(), asked["id"].as_str().unwrap());
    assert!(!String::from_utf8(home.payload.to_vec()).unwrap().contains("jane"), "no value goes with it");

    let mut failed = reason;
    failed["result"]["state"] = json!("failed");
    assert!(is_dead(&after(&world, &task, &cloud, step_of("cloud", &cloud, &failed))), "nothing to restore");
}

/// What a reviewer agreed to, before anything was replaced, goes on for that place alone.
#[test]
fn redact_keeps_an_agreement_only_for_the_place_that_it_was_given_for() {
    let after_agreed = |then: &World, now: &World| {
        let labels = json!({ "sensitivity": "public", "purpose": "support", "stakes": "high" });
        let task = task_at(1, &body(&labels, "Write to jane.doe@example.org please"));
        let review = kept(sent(&then.begin(task.clone()).1), Position::new("EVENTS", 8));
        assert_eq!(review.subject, "review.default.acme");
        let seen: Review = serde_json::from_slice(&review.payload).unwrap();
        let verdict = json!({ "schema_version": 1, "review": "EVENTS:8", "content": seen.content,
                              "action": { "action": "approve" }, "reason": "looked at it" });
        let verdict =
            stored(&Position::new("EVENTS", 9), "verdict.default.acme.alice", Headers::new(), &verdict);
        let message = sent(&judged(then, task.clone(), review, verdict, "EVENTS:9")).clone();
        assert_eq!(decision(&message).outcome, Outcome::Redact, "{}", decision(&message).sentence);
        let work = kept(&message, Position::new("WORK_LOCAL", 3));
        let step = after(now, &task, &work, step_of("local", &work, &redacted(&message)));
        (decision(&message).destination, decision(sent(&step)))
    };
    let (place, decided) = after_agreed(&world(), &world());
    assert_eq!(decided.outcome, Outcome::Cloud, "{}", decided.sentence);
    assert_eq!(decided.destination, place);
    // Another place would be taken now: nobody agreed to that one.
    let place = place.unwrap();
    let mut closed = world();
    closed.off = vec![Switch { target: Some(place.target), ..Switch::default() }];
    let (_, decided) = after_agreed(&world(), &closed);
    assert!(decided.outcome != Outcome::Cloud, "{}", decided.sentence);
}
