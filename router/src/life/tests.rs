#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::decision::{Decision, Outcome, Switch};
use tidegate_schemas::digest::Salt;
use tidegate_schemas::directory::{Agent, Directory, Reviewer, Tenant};
use tidegate_schemas::flag::FlagSettings;
use tidegate_schemas::header;
use tidegate_schemas::ids::ReplyToken;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::release::Canary;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::review::Review;
use tidegate_schemas::ticket::{Signer, Verifier};
use tidegate_schemas::trace::TraceParent;
use uuid::Uuid;

use super::*;
use crate::recent::Recent;

mod agreement;
mod by_model;
mod flags;
mod gates;
mod prompts;
mod redact;
mod release;
mod reviews;
mod scan;
mod session;
mod terms;

const NOW: &str = "2026-11-23T12:00:00Z";

struct World {
    judge: Judge,
    canary: Option<(Canary, Judge)>,
    shadow: Option<Judge>,
    allowance: Option<crate::Allowance>,
    directory: Directory,
    signer: Signer,
    verifier: Verifier,
    off: Vec<Switch>,
    flags: FlagSettings,
    signs: bool,
    egress_open: bool,
    now: Timestamp,
    wait_ms: BTreeMap<Name, u64>,
    in_flight: BTreeMap<Name, u64>,
    gates: crate::Gates,
    span: u64,
    recent: Recent,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl World {
    fn new() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/bundles/default");
        let judge = Judge::new(Arc::new(Bundle::from_dir(&dir).unwrap())).unwrap();
        let mut directory = Directory::empty();
        let agent = Agent { roles: [name("agent")].into(), ..Agent::default() };
        let tenant = Tenant { agents: [(name("helpdesk"), agent)].into(), ..Tenant::default() };
        directory.tenants.insert(name("acme"), tenant);
        let reviewer = Reviewer { queues: [name("default")].into(), nkey: String::new() };
        directory.reviewers.insert(name("alice"), reviewer);
        let key = SigningKey::from_bytes(&[7; 32]);
        let verifier = Verifier::new("cell", vec![("k".into(), key.verifying_key())]);
        let signer = Signer::new("k", key);
        Self {
            judge,
            canary: None,
            shadow: None,
            allowance: None,
            directory,
            signer,
            verifier,
            off: Vec::new(),
            flags: FlagSettings::new(),
            signs: true,
            egress_open: true,
            now: NOW.parse().unwrap(),
            wait_ms: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            gates: crate::Gates::OPEN,
            span: 6,
            recent: Recent::default(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let random = Randomness {
            decision: Uuid::from_u128(1),
            ticket: Uuid::from_u128(2),
            salt: [9; 32],
            trace: 5,
            span: self.span,
        };
        work(&Context {
            now: self.now,
            random,
            directory: &self.directory,
            directory_hash: self.directory.hash(),
            bench: Bench {
                active: &self.judge,
                canary: self.canary.as_ref().map(|(canary, judge)| (*canary, judge)),
                shadow: self.shadow.as_ref(),
                allowance: self.allowance.as_ref(),
            },
            signs: self.signs,
            cell: "cell",
            off: &self.off,
            flags: &self.flags,
            flags_revision: 3,
            release_revision: 4,
            wait_ms: &self.wait_ms,
            in_flight: &self.in_flight,
            gates: &self.gates,
            recent: &self.recent,
            egress_open: self.egress_open,
        })
    }

    fn begin(&self, message: Stored) -> (Life, Step) {
        self.with(|context| Life::begin(message, None, context))
    }

    fn next(&self, life: &mut Life, event: Event) -> Step {
        self.with(|context| life.next(event, context))
    }
}

/// An id that is fresh at [`NOW`].
fn fresh_id() -> String {
    let seconds = NOW.parse::<Timestamp>().unwrap().as_second();
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, u64::try_from(seconds).unwrap(), 0);
    Uuid::new_v7(stamp).to_string()
}

fn stored(position: &Position, subject: &str, headers: Headers, payload: &Value) -> Stored {
    let time = NOW.parse().unwrap();
    let payload = payload.to_string().into_bytes().into();
    Stored { position: position.clone(), subject: subject.into(), headers, payload, time }
}

fn task_at(sequence: u64, body: &Value) -> Stored {
    stored(&Position::new("TASKS_acme", sequence), "task.acme.helpdesk.chat", Headers::new(), body)
}

fn body(labels: &Value, text: &str) -> Value {
    json!({ "id": fresh_id(), "labels": labels, "reply": "r1",
            "input": { "messages": [{ "role": "user", "content": text }] } })
}

fn public() -> Value {
    body(&json!({ "sensitivity": "public" }), "What is a tide?")
}

fn sent(step: &Step) -> &Message {
    match &step.action {
        Action::Send(message) => message,
        other => panic!("not sent: {other:?}"),
    }
}

fn decision(message: &Message) -> Decision {
    serde_json::from_str(message.headers.get(header::DECISION).unwrap()).unwrap()
}

fn result(message: &Message) -> TaskResult {
    serde_json::from_slice(&message.payload).unwrap()
}

fn is_dead(step: &Step) -> bool {
    matches!(&step.action, Action::Done(Disposition::Dead(_)))
}

fn is_acked(step: &Step) -> bool {
    step.action == Action::Done(Disposition::Ack)
}

/// The message as the stream holds it once it was sent.
fn kept(message: &Message, position: Position) -> Stored {
    Stored {
        position,
        subject: message.subject.clone(),
        headers: message.headers.clone(),
        payload: message.payload.clone(),
        time: NOW.parse().unwrap(),
    }
}

/// Loading keeps a `forbid` that can fail out; a `permit` that fails denies all the same, and is told.
#[test]
fn a_policy_that_fails_denies_is_on_record_and_raises_the_alarm() {
    let mut world = World::new();
    let sent_by = |world: &World| sent(&world.begin(task_at(1, &public())).1).clone();
    let before = sent_by(&world);
    assert!(before.subject.starts_with("work.cloud."), "negative control: {}", before.subject);
    assert!(crate::alarm::failed(&before.headers).is_none(), "negative control");
    let mut archive: Value = serde_json::from_str(world.judge.bundle().archive()).unwrap();
    let hop = json!({ ".": { "left": { "Var": "context" }, "attr": "tokens_in" } });
    let product = json!({ "*": { "left": hop, "right": { "Value": i64::MAX } } });
    archive["policies"]["broken"] = json!({
        "effect": "permit",
        "principal": { "op": "All" },
        "action": { "op": "==", "entity": { "type": "Action", "id": "RouteCloud" } },
        "resource": { "op": "All" },
        "conditions": [{ "kind": "when", "body": { ">": { "left": product, "right": { "Value": 1 } } } }],
        "annotations": { "id": "broken", "owner": "broken@example.com", "title": "t" },
    });
    world.judge = Judge::new(Arc::new(Bundle::from_archive(&archive.to_string()).unwrap())).unwrap();
    let after = sent_by(&world);
    assert!(after.subject.starts_with("work.local."), "{}", after.subject);
    let (on_record, policies) = crate::alarm::failed(&after.headers).unwrap();
    assert_eq!(on_record, decision(&after));
    assert_eq!(policies, ["broken".to_owned()].into());
}

#[test]
fn a_public_task_becomes_cloud_work_whose_ticket_is_for_exactly_its_bytes() {
    let world = World::new();
    let (mut life, step) = world.begin(task_at(1, &public()));
    let work = sent(&step).clone();
    assert!(work.subject.starts_with("work.cloud."), "{}", work.subject);
    let salt = Salt::try_from(work.headers.get(header::SALT).unwrap().to_owned()).unwrap();
    let ticket = &world.signer.sign(work.ticket.as_ref().unwrap());
    let cleared = world.verifier.verify(ticket, &salt, work.payload.clone(), world.now).unwrap();
    assert_eq!(Some(cleared.claims().content), decision(&work).content);
    let other = [work.payload.as_ref(), b" "].concat();
    assert!(world.verifier.verify(ticket, &salt, other.into(), world.now).is_err());
    let text = String::from_utf8(work.payload.to_vec()).unwrap();
    assert!(
        !text.contains("helpdesk") && !text.contains("acme"),
        "cloud work is the request and nothing else"
    );
    let end = world.next(&mut life, Event::Sent(Sent::Stored(Position::new("WORK_CLOUD", 1))));
    assert!(is_acked(&end));
    assert!(end.tell.is_empty(), "who takes the work up tells that it is being worked on");
}

#[test]
fn a_ticket_permits_only_as_many_attempts_as_its_cap_pays_for() {
    let world = World::new();
    let attempts = |cap: Option<u64>| {
        let mut task = public();
        task["input"]["sampling"] = json!({ "max_tokens": 1_000 });
        if let Some(cap) = cap {
            task["limits"] = json!({ "cost_usd_micros_max": cap });
        }
        let (_, step) = world.begin(task_at(1, &task));
        let work = sent(&step).clone();
        let ticket = &world.signer.sign(work.ticket.as_ref()?);
        let salt = Salt::try_from(work.headers.get(header::SALT).unwrap().to_owned()).unwrap();
        let cleared = world.verifier.verify(ticket, &salt, work.payload, world.now).unwrap();
        Some((cleared.claims().attempts_max, cleared.claims().cost_usd_micros_max))
    };
    let (usual, bundle_cap) = attempts(None).unwrap();
    assert_eq!(usual, 3, "negative control: {bundle_cap:?} pays for all");
    // The least cap by which one attempt may run at all; twice as much pays for two.
    let least = (1..100_000).find(|cap| attempts(Some(*cap)).is_some()).unwrap();
    assert_eq!(attempts(Some(least)), Some((1, Some(least))));
    assert_eq!(attempts(Some(2 * least)).map(|(attempts, _)| attempts), Some(2));
}

/// A public task that names a parent, and the work that it becomes when this result of the parent is found.
fn child_of(world: &World, parent: Option<Stored>) -> (Stored, Message) {
    let id = TaskId::from_position(&Position::new("TASKS_acme", 77));
    let mut task = public();
    task["parent_task"] = json!(id);
    let task = task_at(1, &task);
    let (mut life, step) = world.begin(task.clone());
    assert_eq!(step.action, Action::Load(vec![Place::Parent { tenant: name("acme"), task: id }]));
    let step = world.next(&mut life, Event::Loaded(vec![parent]));
    (task, sent(&step).clone())
}

#[test]
fn labels_of_a_parents_result_are_inherited_whatever_the_child_declares() {
    let world = World::new();
    let parent = |labels: Value| {
        let headers = Headers::new().with(header::LABELS, labels.to_string());
        Some(stored(&Position::new("RESULTS", 1), "result.acme.other.x", headers, &json!({})))
    };
    let unlabelled =
        Some(stored(&Position::new("RESULTS", 1), "result.acme.other.x", Headers::new(), &json!({})));
    let rows = [
        ("a public parent", parent(json!({ "sensitivity": "public" })), true),
        ("a restricted parent", parent(json!({ "sensitivity": "restricted" })), false),
        (
            "a parent with health data",
            parent(json!({ "sensitivity": "public", "categories": ["health"] })),
            false,
        ),
        ("labels that cannot be read", parent(json!({ "sensitivity": 3 })), false),
        ("a result without labels", unlabelled, false),
        ("no result", None, false),
    ];
    for (what, parent, leaves) in rows {
        let (_, work) = child_of(&world, parent);
        assert_eq!(work.subject.starts_with("work.cloud."), leaves, "{what}");
        assert!(decision(&work).facts.inherited.is_some(), "{what}: a fact of the decision");
    }
    // What was inherited stays when the work comes back.
    let (task, work) = child_of(&world, parent(json!({ "sensitivity": "confidential" })));
    let work = kept(&work, Position::new("WORK_LOCAL", 3));
    let headers = Headers::new().with(header::CAUSE, work.position.to_string());
    let reason = json!({ "schema_version": 1, "destination": "local-chat", "attempts": 1,
        "reason": { "reason": "fallback", "code": "model_failed" } });
    let (mut life, _) = world.begin(stored(&Position::new("STEPS", 1), "step.local.acme", headers, &reason));
    world.next(&mut life, Event::Loaded(vec![Some(work)]));
    let step = world.next(&mut life, Event::Loaded(vec![Some(task)]));
    let again = decision(sent(&step));
    assert_eq!(again.facts.hop, 1);
    assert_eq!(again.labels.sensitivity, Sensitivity::Confidential);
}

#[test]
fn without_a_signer_or_with_a_finding_nothing_is_cloud_work() {
    let mut world = World::new();
    let card = body(&json!({ "sensitivity": "public" }), "my card is 4111 1111 1111 1111");
    let table = [(false, public()), (true, card), (true, body(&json!({ "sensitivity": "internal" }), "x"))];
    for (signs, task) in table {
        world.signs = signs;
        let (_, step) = world.begin(task_at(1, &task));
        let message = sent(&step);
        assert!(!message.subject.starts_with("work.cloud."), "{}", message.subject);
    }
}

#[test]
fn while_the_record_is_down_nothing_is_cloud_work_and_local_work_goes_on() {
    let mut world = World::new();
    let subject = |world: &World| sent(&world.begin(task_at(1, &public())).1).subject.clone();
    assert!(subject(&world).starts_with("work.cloud."), "negative control");
    world.egress_open = false;
    assert!(subject(&world).starts_with("work.local."));
    world.off = vec![Switch { lane: Some(tidegate_schemas::subject::Lane::Local), ..Switch::default() }];
    let answer = result(sent(&world.begin(task_at(1, &public())).1));
    let error = answer.error.unwrap();
    assert_eq!((answer.state, error.code), (State::Rejected, Code::LaneOff));
    assert!(error.message.contains("record are not well"), "the reason is told: {}", error.message);
}

#[test]
fn bad_tasks_are_answered_with_their_code() {
    let world = World::new();
    let unknown =
        stored(&Position::new("TASKS_acme", 4), "task.acme.stranger.chat", Headers::new(), &public());
    let kind = |kind: &str| {
        stored(
            &Position::new("TASKS_acme", 4),
            &format!("task.acme.helpdesk.{kind}"),
            Headers::new(),
            &public(),
        )
    };
    let table = [
        (task_at(4, &json!("hello")), Code::InvalidField),
        (task_at(4, &body(&json!({}), "x")), Code::InvalidField),
        (unknown, Code::UnknownPrincipal),
        (kind("paint"), Code::UnknownKind),
        (kind("Chat"), Code::UnknownKind),
    ];
    for (message, code) in table {
        let (mut life, step) = world.begin(message);
        let answer = result(sent(&step));
        assert_eq!(answer.state, State::Rejected);
        assert_eq!(answer.error.unwrap().code, code);
        let end = world.next(&mut life, Event::Sent(Sent::Stored(Position::new("RESULTS", 1))));
        assert!(is_acked(&end));
        let told = |subject: &str| end.tell.iter().any(|told| told.subject == subject);
        let task = answer.task;
        let agent = answer.agent;
        assert!(told(&format!("state.acme.{agent}.{task}")), "{code}");
        assert!(task.to_string() != fresh_id() || told(&format!("reply.acme.{agent}.r1")), "{code}");
    }
    let refused = Refused::new(Code::InvalidHeaders, "a header stands twice");
    let (_, step) = world.with(|c| Life::begin(task_at(5, &public()), Some(refused), c));
    assert_eq!(result(sent(&step)).error.unwrap().code, Code::InvalidHeaders);
}

#[test]
fn who_is_overloaded_says_when_to_come_again() {
    let internal = body(&json!({ "sensitivity": "confidential" }), "x");
    let answer = |world: &World| {
        let (_, step) = world.begin(task_at(1, &internal));
        result(sent(&step)).error.map(|error| (error.code, error.retry_after_ms))
    };
    let mut world = World::new();
    // An idle queue that may not run it, and the queue that would have to: longer than the deadline of 5 minutes.
    world.wait_ms = [(name("embed"), 1), (name("default"), 420_000)].into();
    assert_eq!(
        answer(&world),
        Some((Code::Overloaded, Some(420_000))),
        "what was too long, not what was short"
    );
    world.wait_ms = [(name("embed"), 1)].into();
    world.in_flight = [(name("acme"), 8)].into();
    world.directory.tenants.get_mut(&name("acme")).unwrap().quota.in_flight_max = 7;
    assert_eq!(answer(&world), Some((Code::Overloaded, Some(1_000))), "no queue says when a quota has room");
    world.in_flight.clear();
    let (_, step) = world.begin(task_at(1, &internal));
    assert!(sent(&step).subject.starts_with("work.local."), "negative control");
}

#[test]
fn a_withdrawal_of_no_task_s_id_is_a_dead_letter_that_says_so() {
    let world = World::new();
    let cancel = |id: &str| {
        let subject = format!("cancel.acme.helpdesk.{id}");
        stored(&Position::new("TASKS_acme", 5), &subject, Headers::new(), &json!(0))
    };
    let own = sent(&world.begin(cancel("order-9")).1).subject.clone();
    let id = TaskId::named(&name("acme"), &name("helpdesk"), "order-9").unwrap().0;
    assert_eq!(own, format!("result.acme.helpdesk.{id}"), "negative control: an identifier of its own");
    let (_, step) = world.begin(cancel("a.b"));
    let Action::Done(Disposition::Dead(refused)) = step.action else { panic!("{:?}", step.action) };
    assert_eq!(refused.code, Code::InvalidField);
    assert!(refused.sentence.contains("UUID"), "{refused}");
}

/// Each hop is a child of the one before, and no hop begins a trace anew.
#[test]
fn a_traceparent_goes_through_all_hops() {
    let parent = |headers: &Headers| headers.get(header::TRACEPARENT).map(str::to_owned).unwrap();
    let trace = |parent: &str| parent.parse::<TraceParent>().unwrap().trace_id();
    let theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut world = World::new();
    for brought in [Some(theirs), None] {
        world.span = 6;
        let headers = Headers::new().with_some(header::TRACEPARENT, brought);
        let task = Stored { headers: headers.clone(), ..task_at(1, &public()) };
        let (_, step) = world.begin(task.clone());
        let work = kept(sent(&step), Position::new("WORK_CLOUD", 3));
        let first = parent(&work.headers);
        assert!(brought.is_none_or(|theirs| trace(theirs) == trace(&first) && theirs != first), "{first}");
        // Back by a worker, under its own span; by one that says another trace, the router's own goes on.
        for (said, followed) in
            [(first.parse::<TraceParent>().unwrap().child(0xd3), true), (TraceParent::root(99, 1), false)]
        {
            world.span = 8;
            let (_, _, mut back) = returned(&world, &public(), &json!({ "reason": "expired" }));
            back.headers.set(header::TRACEPARENT, said.to_string());
            let (mut life, _) = world.begin(back);
            world.next(&mut life, Event::Loaded(vec![Some(work.clone())]));
            let step = world.next(&mut life, Event::Loaded(vec![Some(task.clone())]));
            let second = parent(&sent(&step).headers);
            assert_eq!(trace(&second), trace(&first), "{followed}");
            assert_ne!(second, first);
        }
        // What is refused is answered within the trace.
        let broken = Stored { payload: Bytes::from_static(b"{"), ..task };
        let (_, step) = world.begin(broken);
        let answered = sent(&step).headers.get(header::TRACEPARENT);
        assert_eq!(answered.map(trace), brought.map(trace));
        assert!(answered.is_none() || answered != brought);
    }
    // What was held goes on in the trace of its review.
    let (task, review, verdict) = held(&world, &json!({ "action": "approve" }));
    let before = parent(&review.headers);
    world.span = 12;
    let after = parent(&sent(&judged(&world, task, review, verdict, "EVENTS:9")).headers);
    assert_eq!(trace(&before), trace(&after));
    assert_ne!(before, after);
}

#[test]
fn a_task_past_its_deadline_fails() {
    let mut world = World::new();
    world.now = "2026-11-23T12:05:01Z".parse().unwrap();
    let (_, step) = world.begin(task_at(1, &public()));
    assert_eq!(result(sent(&step)).error.unwrap().code, Code::PastDeadline);
}

#[test]
fn an_id_used_again_is_answered_again_or_refused() {
    let world = World::new();
    let first = public();
    let (_, step) = world.begin(task_at(1, &first));
    let work = kept(sent(&step), Position::new("WORK_CLOUD", 1));
    let duplicate = || Event::Sent(Sent::Duplicate(Position::new("WORK_CLOUD", 1)));

    let (mut own, _) = world.begin(task_at(1, &first));
    assert!(matches!(world.next(&mut own, duplicate()).action, Action::Load(_)));
    assert!(
        is_acked(&world.next(&mut own, Event::Loaded(vec![Some(work.clone())]))),
        "our own, delivered again"
    );

    let outcome = TaskResult::ended(
        name("acme"),
        name("helpdesk"),
        TaskId(first["id"].as_str().unwrap().parse().unwrap()),
        State::Completed,
        outgoing::error_of(Code::Internal, ""),
    );
    let done = kept(&outgoing::result(&outcome, Headers::new(), None, "x"), Position::new("RESULTS", 1));
    let (mut elsewhere, mut unanswered) = (first.clone(), first.clone());
    elsewhere["reply"] = json!("r2");
    unanswered.as_object_mut().unwrap().remove("reply");
    let mut other = with_text(&first, "other");
    other["reply"] = json!("r2");
    let table = [
        (first.clone(), Some("r1"), true),
        (elsewhere, Some("r2"), true),
        (unanswered, None, true),
        (with_text(&first, "other"), Some("r1"), false),
        (other, Some("r2"), false),
    ];
    for (second, token, same) in table {
        let (mut life, _) = world.begin(task_at(2, &second));
        world.next(&mut life, duplicate());
        world.next(&mut life, Event::Loaded(vec![Some(work.clone())]));
        let both = Event::Loaded(vec![Some(task_at(1, &first)), Some(done.clone())]);
        let step = world.next(&mut life, both);
        if same {
            assert!(is_acked(&step));
            let replied: Vec<_> =
                step.tell.iter().map(|told| (told.subject.as_str(), &told.payload)).collect();
            let reply = token.map(subject_of_reply);
            let expected: Vec<_> = reply.iter().map(|subject| (subject.as_str(), &done.payload)).collect();
            assert_eq!(replied, expected, "the first result, where the second waits");
        } else {
            let refused = result(sent(&step));
            assert_eq!(refused.error.unwrap().code, Code::IdConflict);
            assert_eq!(refused.task, TaskId::from_position(&Position::new("TASKS_acme", 2)));
            let end = world.next(&mut life, Event::Sent(Sent::Stored(Position::new("RESULTS", 2))));
            let reply = token.map(subject_of_reply);
            assert!(
                end.tell.iter().any(|told| Some(&told.subject) == reply.as_ref()),
                "who waits is answered"
            );
        }
    }
}

/// The second message would go elsewhere, or is none: no stream tells that its id was used.
#[test]
fn an_id_used_again_is_known_though_the_second_message_would_go_elsewhere() {
    let first = public();
    let local = with_text(&first, "my card is 4111 1111 1111 1111");
    let broken = json!({ "id": first["id"], "reply": "r2", "labels": 3 });
    for (what, second) in [("local", local), ("broken", broken)] {
        let world = World::new();
        let (life, step) = world.begin(task_at(1, &first));
        assert!(sent(&step).subject.starts_with("work.cloud."));
        let (_, control) = world.begin(task_at(2, &second));
        let control = sent(&control).clone();
        assert!(!control.subject.starts_with("work.cloud."), "negative control, {what}: {}", control.subject);
        let (tenant, agent, task) = life.named().unwrap();
        world.recent.note(tenant, agent, task, 1);

        let (mut life, step) = world.begin(task_at(2, &second));
        let result = Place::Result { tenant: name("acme"), agent: name("helpdesk"), task };
        let at = Place::At(Position::new("TASKS_acme", 1));
        assert_eq!(step.action, Action::Load(vec![at, result]), "{what}");
        let step = world.next(&mut life, Event::Loaded(vec![Some(task_at(1, &first)), None]));
        let refused = self::result(sent(&step));
        assert_eq!(refused.error.unwrap().code, Code::IdConflict, "{what}");
        assert_eq!(refused.task, TaskId::from_position(&Position::new("TASKS_acme", 2)), "{what}");
        // Our own message delivered again is no other one.
        assert!(sent(&world.begin(task_at(1, &first)).1).subject.starts_with("work.cloud."), "{what}");
    }
}

#[test]
fn an_id_from_the_future_is_looked_up_as_an_old_one_is() {
    let world = World::new();
    let looked_up = |ahead_s: i64| {
        let seconds = u64::try_from(world.now.as_second() + ahead_s).unwrap();
        let stamp = uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0);
        let mut task = public();
        task["id"] = json!(Uuid::new_v7(stamp).to_string());
        matches!(world.begin(task_at(1, &task)).1.action, Action::Load(_))
    };
    assert!(looked_up(3_600) && looked_up(-3_600));
    assert!(!looked_up(0) && !looked_up(5), "negative control: a clock that is a little ahead");
}

fn subject_of_reply(token: &str) -> String {
    tidegate_schemas::subject::reply(&name("acme"), &name("helpdesk"), &ReplyToken::new(token).unwrap())
}

fn with_text(body: &Value, text: &str) -> Value {
    let mut other = body.clone();
    other["input"]["messages"][0]["content"] = json!(text);
    other
}

/// Work that was dispatched, and a step that brings it back.
fn returned(world: &World, task: &Value, reason: &Value) -> (Stored, Stored, Stored) {
    let task = task_at(1, task);
    let (_, step) = world.begin(task.clone());
    let message = sent(&step);
    let lane = if message.subject.starts_with("work.cloud") { "cloud" } else { "local" };
    let stream = if lane == "cloud" { "WORK_CLOUD" } else { "WORK_LOCAL" };
    let work = kept(message, Position::new(stream, 3));
    let destination = decision(message).destination.unwrap().name;
    let mut payload = json!({ "schema_version": 1, "destination": destination, "attempts": 1 });
    payload["reason"] = reason.clone();
    let headers = Headers::new().with(header::CAUSE, work.position.to_string());
    let back = stored(&Position::new("STEPS", 1), &format!("step.{lane}.acme"), headers, &payload);
    (task, work, back)
}

fn decided_again(world: &World, task: &Value, reason: &Value) -> Message {
    let (task, work, back) = returned(world, task, reason);
    let (mut life, step) = world.begin(back);
    assert_eq!(step.action, Action::Load(vec![Place::At(work.position.clone())]));
    let step = world.next(&mut life, Event::Loaded(vec![Some(work)]));
    assert_eq!(step.action, Action::Load(vec![Place::At(task.position.clone())]));
    let step = world.next(&mut life, Event::Loaded(vec![Some(task)]));
    sent(&step).clone()
}

#[test]
fn narrowing_local_work_that_failed_never_goes_to_the_cloud() {
    let mut world = World::new();
    // The task may go to the cloud; only a switch keeps it local at first.
    world.off = vec![Switch { lane: Some(tidegate_schemas::subject::Lane::Cloud), ..Switch::default() }];
    let reason = json!({ "reason": "fallback", "code": "model_failed" });
    let (task, work, back) = returned(&world, &public(), &reason);
    assert!(work.subject.starts_with("work.local"));
    world.off.clear();
    let (_, control) = world.begin(task.clone());
    assert!(sent(&control).subject.starts_with("work.cloud"), "negative control: by itself it would leave");
    let (mut life, _) = world.begin(back);
    world.next(&mut life, Event::Loaded(vec![Some(work)]));
    let step = world.next(&mut life, Event::Loaded(vec![Some(task)]));
    let answer = result(sent(&step));
    assert_eq!((answer.state, answer.error.unwrap().code), (State::Failed, Code::ModelFailed));
}

#[test]
fn cloud_work_that_failed_tries_another_destination_and_an_expired_ticket_is_renewed() {
    let world = World::new();
    let fallback =
        decided_again(&world, &public(), &json!({ "reason": "fallback", "code": "provider_unavailable" }));
    let expired = decided_again(&world, &public(), &json!({ "reason": "expired" }));
    let first = decision(sent(&world.begin(task_at(1, &public())).1)).destination.unwrap().name;
    let of = |message: &Message| decision(message).destination.map(|d| d.name);
    assert_ne!(of(&fallback), Some(first.clone()));
    assert_eq!(of(&expired), Some(first));
    assert_eq!(decision(&expired).facts.hop, 1);
    assert_ne!(expired.msg_id, sent(&world.begin(task_at(1, &public())).1).msg_id);
}

#[test]
fn a_step_of_another_tenant_or_without_a_cause_leads_nowhere() {
    let world = World::new();
    let (_, work, mut back) = returned(&world, &public(), &json!({ "reason": "expired" }));
    back.subject = "step.cloud.globex".into();
    let (mut life, _) = world.begin(back.clone());
    assert!(is_dead(&world.next(&mut life, Event::Loaded(vec![Some(work)]))));
    back.headers = Headers::new();
    assert!(is_dead(&world.begin(back).1));
}

/// A task that is held, its review, and a verdict about it.
fn held(world: &World, action: &Value) -> (Stored, Stored, Stored) {
    let task = task_at(1, &body(&json!({ "sensitivity": "public", "stakes": "high" }), "Grant the loan?"));
    let (_, step) = world.begin(task.clone());
    let message = sent(&step);
    assert_eq!(decision(message).outcome, Outcome::Hold, "{}", decision(message).sentence);
    assert_eq!(message.subject, "review.default.acme");
    let review = kept(message, Position::new("EVENTS", 8));
    let seen: Review = serde_json::from_slice(&review.payload).unwrap();
    let verdict = json!({ "schema_version": 1, "review": "EVENTS:8", "content": seen.content, "action": action,
                          "reason": "looked at it" });
    let verdict = stored(&Position::new("EVENTS", 9), "verdict.default.acme.alice", Headers::new(), &verdict);
    (task, review, verdict)
}

fn judged(world: &World, task: Stored, review: Stored, verdict: Stored, holder: &str) -> Step {
    let (mut life, step) = world.begin(verdict);
    if is_dead(&step) {
        return step;
    }
    let step = world.next(&mut life, Event::Loaded(vec![Some(review)]));
    if is_dead(&step) {
        return step;
    }
    let step = world.next(&mut life, Event::Loaded(vec![Some(task)]));
    if is_dead(&step) {
        return step;
    }
    assert!(matches!(step.action, Action::Claim { .. }), "only a verdict that leads somewhere is claimed");
    world.next(&mut life, Event::Claimed { holder: holder.into() })
}

/// What the router does with work that a cloud worker sends back.
fn sent_back(world: &World, task: Stored, work: Stored, reason: &Value) -> Step {
    let step = json!({ "schema_version": 1, "reason": reason, "destination": "openai-eu", "attempts": 1 });
    let headers = Headers::new().with(header::CAUSE, work.position.to_string());
    let step = stored(&Position::new("STEPS", 1), "step.cloud.acme", headers, &step);
    let (mut life, step) = world.begin(step);
    assert!(matches!(step.action, Action::Load(_)), "{step:?}");
    world.next(&mut life, Event::Loaded(vec![Some(work)]));
    world.next(&mut life, Event::Loaded(vec![Some(task)]))
}

#[test]
fn an_approval_is_for_what_was_seen_and_where_it_was_to_go() {
    let world = World::new();
    let expired = json!({ "reason": "expired" });
    let outcome = |step: &Step| decision(sent(step)).outcome;
    let (task, review, verdict) = held(&world, &json!({ "action": "approve" }));
    let work = kept(
        sent(&judged(&world, task.clone(), review, verdict, "EVENTS:9")),
        Position::new("WORK_CLOUD", 1),
    );
    assert!(work.subject.starts_with("work.cloud."), "{}", work.subject);
    let again = sent_back(&world, task.clone(), work.clone(), &expired);
    assert_eq!(
        outcome(&again),
        Outcome::Cloud,
        "negative control: approved as it is, a new ticket is enough"
    );
    let failed = json!({ "reason": "fallback", "code": "provider_unavailable" });
    assert_ne!(
        outcome(&sent_back(&world, task, work, &failed)),
        Outcome::Cloud,
        "another place was not agreed to"
    );

    let input = json!({ "messages": [{ "role": "user", "content": "Summarise the loan's terms" }] });
    let (task, review, verdict) = held(&world, &json!({ "action": "edit", "input": input }));
    let work = kept(
        sent(&judged(&world, task.clone(), review, verdict, "EVENTS:9")),
        Position::new("WORK_CLOUD", 1),
    );
    assert!(work.subject.starts_with("work.cloud."), "the edit goes out");
    assert_eq!(
        outcome(&sent_back(&world, task, work, &expired)),
        Outcome::Hold,
        "what was edited away does not"
    );
}

#[test]
fn a_task_that_was_withdrawn_first_has_that_result_and_no_other() {
    let world = World::new();
    let mut body = public();
    body["id"] = json!("order-17");
    let task = task_at(6, &body);
    let (mut life, step) = world.begin(task);
    let Action::Load(places) = &step.action else { panic!("an id of its own is looked up: {step:?}") };
    let Some(Place::Result { task: id, .. }) = places.first() else { panic!("{places:?}") };
    let cancel = stored(
        &Position::new("TASKS_acme", 5),
        &format!("cancel.acme.helpdesk.{id}"),
        Headers::new(),
        &json!(0),
    );
    let (_, canceled) = world.begin(cancel);
    let canceled = kept(sent(&canceled), Position::new("RESULTS", 1));
    let step = world.next(&mut life, Event::Loaded(vec![Some(canceled)]));
    assert!(is_acked(&step), "no second result: {step:?}");
    assert!(step.tell.iter().any(|told| told.subject == "reply.acme.helpdesk.r1"), "who waits is answered");
}

#[test]
fn a_verdict_decides_exactly_what_was_held() {
    let world = World::new();
    let approve = json!({ "action": "approve" });
    let (task, review, verdict) = held(&world, &approve);
    let step = judged(&world, task.clone(), review.clone(), verdict.clone(), "EVENTS:9");
    assert!(sent(&step).subject.starts_with("work."), "{}", sent(&step).subject);
    assert_eq!(decision(sent(&step)).facts.approval.unwrap().reviewer, name("alice"));

    let other_task = task_at(1, &with_text(&serde_json::from_slice(&task.payload).unwrap(), "Deny it?"));
    assert!(
        is_dead(&judged(&world, other_task, review.clone(), verdict.clone(), "EVENTS:9")),
        "another payload"
    );
    assert!(
        is_dead(&judged(&world, task.clone(), review.clone(), verdict.clone(), "EVENTS:7")),
        "a second verdict"
    );
    let mut stranger = verdict.clone();
    stranger.subject = "verdict.default.acme.mallory".into();
    assert!(is_dead(&judged(&world, task.clone(), review.clone(), stranger, "EVENTS:9")), "not a reviewer");
    let mut elsewhere = verdict.clone();
    elsewhere.subject = "verdict.default.globex.alice".into();
    assert!(
        is_dead(&judged(&world, task.clone(), review.clone(), elsewhere, "EVENTS:9")),
        "another tenant's"
    );
    let mut late = World::new();
    late.now = "2026-11-24T12:00:01Z".parse().unwrap();
    assert!(is_dead(&judged(&late, task, review, verdict, "EVENTS:9")), "after review_by");
}

#[test]
fn a_reviewer_may_reject_or_edit_but_not_lower_labels() {
    let world = World::new();
    let (task, review, verdict) = held(&world, &json!({ "action": "reject" }));
    let step = judged(&world, task, review, verdict, "EVENTS:9");
    assert_eq!(result(sent(&step)).error.unwrap().code, Code::ReviewRejected);

    let input = json!({ "messages": [{ "role": "user", "content": "Summarise the loan's terms" }] });
    let strict = json!({ "sensitivity": "restricted", "stakes": "high" });
    let (task, review, verdict) =
        held(&world, &json!({ "action": "edit", "input": input, "labels": strict }));
    let step = judged(&world, task, review, verdict, "EVENTS:9");
    assert!(sent(&step).subject.starts_with("work.local."), "judged again, on the stricter labels");

    let lower = json!({ "sensitivity": "public", "stakes": "low" });
    let (task, review, verdict) = held(&world, &json!({ "action": "edit", "input": input, "labels": lower }));
    assert!(is_dead(&judged(&world, task, review, verdict, "EVENTS:9")));
}

#[test]
fn a_withdrawal_cancels_and_tells_the_worker() {
    let world = World::new();
    let subject = format!("cancel.acme.helpdesk.{}", fresh_id());
    let cancel = || {
        let headers = Headers::new().with("tidegate-reply", "here");
        stored(&Position::new("TASKS_acme", 5), &subject, headers, &json!(0))
    };
    let (mut life, step) = world.begin(cancel());
    assert_eq!(result(sent(&step)).state, State::Canceled);
    assert!(step.tell.is_empty(), "nobody is told before it is durable");
    let stored_at = Position::new("RESULTS", 1);
    let told = world.next(&mut life, Event::Sent(Sent::Stored(stored_at)));
    assert!(is_acked(&told) && told.tell.iter().any(|told| told.subject.starts_with("notice.cancel.acme.")));
    assert!(told.tell.iter().any(|told| told.subject == "reply.acme.helpdesk.here"), "who waits is answered");

    let (mut life, _) = world.begin(cancel());
    let ended = world.next(&mut life, Event::Sent(Sent::Taken));
    assert!(is_acked(&ended) && ended.tell.is_empty(), "it had ended already");
}
