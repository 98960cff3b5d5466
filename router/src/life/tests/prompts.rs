//! Tasks by a prompt: each bundle decides, signs and sends by its own rendering, at every step.

use tidegate_schemas::release::{Guards, ShareBy};

use super::*;

/// The default bundle whose prompt says something else.
fn other() -> Judge {
    let archive = World::new()
        .judge
        .bundle()
        .archive()
        .replace("You answer questions in one or two short sentences.", "You answer questions in one word.");
    Judge::new(Arc::new(Bundle::from_archive(&archive).unwrap())).unwrap()
}

fn by_prompt(labels: &Value, variables: &Value) -> Value {
    let mut task = body(labels, "");
    task["input"] = json!({ "prompt": { "name": "answer", "variables": variables } });
    task
}

fn asks() -> Value {
    by_prompt(&json!({ "sensitivity": "public" }), &json!({ "question": "What is a {{ notes }} tide?" }))
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

/// The prompt's version by a judge.
fn version(judge: &Judge) -> String {
    judge.bundle().prompt(&name("answer")).unwrap().hash().to_string()
}

fn decided_by(message: &Message) -> String {
    decision(message).prompt.unwrap().hash.to_string()
}

fn canary(world: &mut World, judge: Judge) {
    let hash = judge.bundle().hash();
    let of_all =
        Canary { hash, share_bp: 10_000, by: ShareBy::Tenant, since: 0, unguarded: Guards::default() };
    world.canary = Some((of_all, judge));
}

#[test]
fn what_is_judged_signed_and_sent_is_one_rendering_and_no_variable_is_a_template() {
    let world = World::new();
    let work = sent(&world.begin(task_at(1, &asks())).1).clone();
    assert!(work.subject.starts_with("work.cloud."), "{}", work.subject);
    assert!(text(&work).contains("What is a {{ notes }} tide?") && text(&work).contains("You answer"));
    let salt = Salt::try_from(work.headers.get(header::SALT).unwrap().to_owned()).unwrap();
    let ticket = world.signer.sign(work.ticket.as_ref().unwrap());
    let cleared = world.verifier.verify(&ticket, &salt, work.payload.clone(), world.now).unwrap();
    assert_eq!(Some(cleared.claims().content), decision(&work).content);
    assert_eq!(decided_by(&work), version(&world.judge));
    // Local work is the rendered input too, never the prompt's name.
    let internal = by_prompt(&json!({ "sensitivity": "internal" }), &json!({ "question": "Why?" }));
    let local = sent(&world.begin(task_at(1, &internal)).1).clone();
    assert!(
        local.subject.starts_with("work.local.") && text(&local).contains("messages"),
        "{}",
        text(&local)
    );
    assert!(!text(&local).contains("\"prompt\""), "{}", text(&local));
}

#[test]
fn a_prompt_that_the_bundle_lacks_is_a_rejected_result_with_its_decision() {
    let world = World::new();
    let mut task = asks();
    task["input"]["prompt"]["name"] = json!("nobody-s");
    let message = sent(&world.begin(task_at(1, &task)).1).clone();
    let answer = result(&message);
    assert_eq!((answer.state, answer.error.unwrap().code), (State::Rejected, Code::UnknownPrompt));
    assert_eq!((decision(&message).outcome, answer.prompt), (Outcome::Reject, None));
    assert!(!text(&message).contains("nobody-s"), "quotes nothing of it");
    let bad = by_prompt(&json!({ "sensitivity": "public" }), &json!({ "Question": "x" }));
    let answer = result(sent(&world.begin(task_at(1, &bad)).1));
    assert_eq!(answer.error.unwrap().code, Code::InvalidField, "at the door");
}

#[test]
fn a_canary_and_a_shadow_render_by_their_own_versions() {
    let mut world = World::new();
    world.shadow = Some(other());
    let beside = sent(&world.begin(task_at(1, &asks())).1).clone();
    assert!(decision(&beside).shadow.is_some() && text(&beside).contains("short sentences"));
    assert_eq!(decided_by(&beside), version(&world.judge), "negative control: the active one's");
    canary(&mut world, other());
    let drawn = sent(&world.begin(task_at(1, &asks())).1).clone();
    assert!(text(&drawn).contains("in one word") && !text(&drawn).contains("short sentences"));
    assert_eq!(decided_by(&drawn), version(&other()));
    // What comes back is rendered by who decides about it, and again says by which version.
    let reason = json!({ "reason": "fallback", "code": "provider_unavailable" });
    let again = decided_again(&world, &asks(), &reason);
    assert!(text(&again).contains("in one word"));
    assert_eq!((decision(&again).facts.hop, decided_by(&again)), (1, version(&other())));
}

/// A task by a prompt that is held, its review, and an approval of it.
fn held(world: &World, action: &Value) -> (Stored, Stored, Stored) {
    let labels = json!({ "sensitivity": "public", "stakes": "high" });
    let task = task_at(1, &by_prompt(&labels, &json!({ "question": "Grant the loan?" })));
    let review = kept(sent(&world.begin(task.clone()).1), Position::new("EVENTS", 8));
    let seen: Review = serde_json::from_slice(&review.payload).unwrap();
    let shown = seen.rendered.unwrap().expose().to_string();
    assert!(shown.contains("You answer") && shown.contains("Grant the loan?"), "{shown}");
    let verdict = verdict_on(&review, action);
    (task, review, verdict)
}

/// What a reviewer says of a review.
fn verdict_on(review: &Stored, action: &Value) -> Stored {
    let seen: Review = serde_json::from_slice(&review.payload).unwrap();
    let verdict = json!({ "schema_version": 1, "review": "EVENTS:8", "content": seen.content, "action": action,
                          "reason": "looked at it" });
    stored(&Position::new("EVENTS", 9), "verdict.default.acme.alice", Headers::new(), &verdict)
}

#[test]
fn an_approval_is_for_the_version_of_the_prompt_that_was_seen() {
    let mut world = World::new();
    let (task, review, verdict) = held(&world, &json!({ "action": "approve" }));
    let approved = judged(&world, task.clone(), review.clone(), verdict.clone(), "EVENTS:9");
    let work = kept(sent(&approved), Position::new("WORK_CLOUD", 1));
    assert_eq!(decision(sent(&approved)).outcome, Outcome::Cloud, "negative control");
    let expired = json!({ "reason": "expired" });
    let renewed = sent_back(&world, task.clone(), work.clone(), &expired);
    assert_eq!(decision(sent(&renewed)).outcome, Outcome::Cloud, "negative control: a new ticket is enough");
    // Meanwhile another version decides: what it makes of the task was seen by nobody.
    canary(&mut world, other());
    let step = judged(&world, task.clone(), review.clone(), verdict, "EVENTS:9");
    assert_eq!(decision(sent(&step)).outcome, Outcome::Hold);
    let back = sent_back(&world, task.clone(), work, &expired);
    assert_eq!(decision(sent(&back)).outcome, Outcome::Hold);
    // What a reviewer wrote in its place was seen by the one who wrote it.
    let input = json!({ "messages": [{ "role": "user", "content": "Summarise the loan's terms" }] });
    let edit = json!({ "action": "edit", "input": input });
    let verdict = verdict_on(&review, &edit);
    let step = judged(&world, task, review, verdict, "EVENTS:9");
    assert_eq!((decision(sent(&step)).outcome, decision(sent(&step)).prompt), (Outcome::Cloud, None));
}

#[test]
fn a_worker_with_another_model_sends_the_work_back_and_the_task_fails_of_that() {
    let world = World::new();
    let internal = by_prompt(&json!({ "sensitivity": "confidential" }), &json!({ "question": "Why?" }));
    let pinned = decision(sent(&world.begin(task_at(1, &internal)).1)).destination.unwrap().model_sha256;
    assert!(pinned.is_some(), "the work says which weights");
    let answer =
        result(&decided_again(&world, &internal, &json!({ "reason": "fallback", "code": "wrong_model" })));
    assert_eq!((answer.state, answer.error.unwrap().code), (State::Failed, Code::WrongModel));
    assert_eq!((answer.output, answer.model), (None, None));
}
