#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate_providers::Failure;
use tidegate_providers::error::Wait;
use tidegate_schemas::decision::Switch;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::Position;
use tidegate_schemas::live::Transition;
use tidegate_schemas::result::{Finish, State, Usage};
use tidegate_schemas::subject::Lane;
use tidegate_schemas::ticket::Verifier;
use tidegate_schemas::trace::TraceParent;

use super::*;
use cloud_work::{CloudWork, name, verifier};

#[path = "../../tests/cell/work.rs"]
mod cloud_work;
mod gates;
mod mixed;

fn arrived(work: &CloudWork) -> Arrived {
    Arrived {
        position: Position::new("WORK_CLOUD", 7),
        subject: work.subject.clone(),
        headers: work.headers(),
        payload: work.bytes.clone().into(),
        span: 0xd3,
    }
}

struct Known {
    verifier: Verifier,
    off: Vec<Switch>,
    canceled: bool,
}

impl Known {
    fn new() -> Self {
        Self { verifier: verifier(), off: Vec::new(), canceled: false }
    }

    fn context(&self) -> Context<'_> {
        Context { now: Timestamp::now(), verifier: &self.verifier, off: &self.off, canceled: self.canceled }
    }
}

/// A life that stands before its first attempt.
fn calling(work: &CloudWork, known: &Known) -> Life {
    let (mut life, step) = Life::begin(&arrived(work), &known.context());
    assert!(matches!(step.action, Action::Look(_)), "{step:?}");
    let step = life.next(Event::Looked(false), &known.context());
    assert!(matches!(step.action, Action::Call(_)), "{step:?}");
    life
}

/// A life whose first attempt was let begin.
fn opened(work: &CloudWork, known: &Known) -> Life {
    let mut life = calling(work, known);
    claim(attempt(&mut life, known));
    let step = life.next(Event::Claimed(Sent::Stored), &known.context());
    assert!(matches!(step.action, Action::Open), "{step:?}");
    life
}

fn attempting() -> Event {
    Event::Attempting("api.example.com".into())
}

fn admitted() -> Event {
    Event::Admitted(Admitted::Through)
}

/// An attempt that breaker and budgets let through.
fn attempt(life: &mut Life, known: &Known) -> Step {
    let step = life.next(attempting(), &known.context());
    assert!(matches!(step.action, Action::Admit(_)), "{step:?}");
    life.next(admitted(), &known.context())
}

fn claim(step: Step) -> Message {
    match step.action {
        Action::Claim(message) => message,
        other => panic!("no claim: {other:?}"),
    }
}

fn sent(step: Step) -> (Message, Value) {
    match step.action {
        Action::Send(message) | Action::Note(message) | Action::Claim(message) => {
            let value = serde_json::from_slice(&message.payload).unwrap();
            (message, value)
        }
        other => panic!("nothing sent: {other:?}"),
    }
}

fn done(step: Step) -> Disposition {
    match step.action {
        Action::Done(disposition) => disposition,
        other => panic!("not done: {other:?}"),
    }
}

fn answer(text: &str) -> Answer {
    Answer {
        text: text.to_owned().into(),
        tool_calls: Vec::new(),
        finish: Finish::Stop,
        usage: Some(Usage { input_tokens: 5, output_tokens: 2, cached_tokens: 1 }),
        cost_usd_micros: Some(17),
        model: "m-1-dated".into(),
        request_id: None,
        first_text_ms: Some(3),
        run_ms: 9,
        attempts: 1,
    }
}

fn error(failure: Failure) -> ProviderError {
    ProviderError {
        failure,
        attempts: 1,
        published: false,
        request_id: None,
        usage: None,
        cost_usd_micros: None,
    }
}

fn called(outcome: Result<Answer, ProviderError>) -> Event {
    Event::Called(outcome.map(Box::new))
}

#[test]
fn work_is_claimed_then_called_then_answered() {
    let (work, known) = (CloudWork::new(1, true), Known::new());
    let (mut life, step) = Life::begin(&arrived(&work), &known.context());
    let Action::Look(subject) = step.action else { panic!("{step:?}") };
    assert_eq!(subject, format!("result.acme.helpdesk.{}", work.hop.id));
    let step = life.next(Event::Looked(false), &known.context());
    let Action::Call(call) = step.action else { panic!("{step:?}") };
    assert_eq!(call.cleared.bytes().as_ref(), work.bytes);
    assert_eq!(call.deltas, format!("delta.acme.helpdesk.{}", work.hop.id));
    let (message, record) = sent(attempt(&mut life, &known));
    assert_eq!(message.subject, "attempt.cloud.acme");
    assert_eq!(message.msg_id, format!("acme/helpdesk/{}/attempt-{}/1", work.hop.id, work.claims.id));
    assert_eq!(message.headers.get(header::CAUSE), Some("WORK_CLOUD:7"));
    assert_eq!((&record["phase"]["phase"], &record["host"]), (&json!("started"), &json!("api.example.com")));
    assert_eq!(record["content"], json!(work.claims.content));
    let step = life.next(Event::Claimed(Sent::Stored), &known.context());
    let [state] = step.tell.as_slice() else { panic!("a transition: {:?}", step.tell) };
    assert_eq!(state.subject, format!("state.acme.helpdesk.{}", work.hop.id));
    let transition: Transition<'_> = serde_json::from_slice(&state.payload).unwrap();
    assert_eq!((transition.state, transition.destination.as_deref()), (State::Working, Some("double-eu")));
    assert!(matches!(step.action, Action::Open));
    let (message, result) = sent(life.next(called(Ok(answer("hello"))), &known.context()));
    assert_eq!(message.subject, subject);
    assert_eq!(result["state"], "completed");
    assert_eq!(result["output"], json!({ "type": "text", "text": "hello", "finish": "stop" }));
    assert_eq!(result["model"], json!({ "requested": "m-1", "answered": "m-1-dated" }));
    assert_eq!((&result["cost_usd_micros"], &result["attempts"]), (&json!(17), &json!(1)));
    assert_eq!((&result["usage"]["cached_tokens"], &result["timings"]["run_ms"]), (&json!(1), &json!(9)));
    assert_eq!(
        (message.headers.get(header::STATE), message.headers.get(header::DESTINATION)),
        (Some("completed"), Some("double-eu"))
    );
    let step = life.next(Event::Sent(Sent::Stored), &known.context());
    let [state, reply] = step.tell.as_slice() else { panic!("a transition and a reply: {:?}", step.tell) };
    assert_eq!(state.subject, format!("state.acme.helpdesk.{}", work.hop.id));
    let transition: Transition<'_> = serde_json::from_slice(&state.payload).unwrap();
    assert_eq!((transition.state, transition.destination.as_deref()), (State::Completed, Some("double-eu")));
    assert_eq!((reply.subject.as_str(), &reply.payload), ("reply.acme.helpdesk.token-1", &message.payload));
    assert_eq!(done(step), Disposition::Ack);
}

#[test]
fn what_a_worker_sends_has_a_span_of_its_own_in_the_task_s_traceparent() {
    let traced = TraceParent::root(7, 9);
    let (work, known) = (CloudWork::new(1, false).with(|work| work.hop.trace = Some(traced)), Known::new());
    let mut life = calling(&work, &known);
    let claim = claim(attempt(&mut life, &known));
    life.next(Event::Claimed(Sent::Stored), &known.context());
    let (result, _) = sent(life.next(called(Ok(answer("hello"))), &known.context()));
    let expired = work.clone().expired();
    let (step, _) = sent(Life::begin(&arrived(&expired), &known.context()).1);
    let expected = traced.child(0xd3).to_string();
    for message in [claim, result, step] {
        assert_eq!(message.headers.get(header::TRACEPARENT), Some(expected.as_str()), "{}", message.subject);
    }
    assert_ne!(work.headers().get(header::TRACEPARENT), Some(expected.as_str()), "negative control");
}

#[test]
fn what_has_a_result_or_was_withdrawn_is_not_called() {
    let work = CloudWork::new(1, false);
    let known = Known::new();
    let (mut life, _) = Life::begin(&arrived(&work), &known.context());
    assert_eq!(done(life.next(Event::Looked(true), &known.context())), Disposition::Ack);
    let known = Known { canceled: true, ..Known::new() };
    let (mut life, _) = Life::begin(&arrived(&work), &known.context());
    assert_eq!(done(life.next(Event::Looked(false), &known.context())), Disposition::Ack);
}

#[test]
fn tickets_that_do_not_permit_end_as_dead_letters_without_a_result() {
    let good = || CloudWork::new(1, false);
    let table: [(&str, CloudWork); 14] = [
        ("signature", good().with(|w| w.signed_by = 4)),
        ("audience", good().with(|w| w.claims.audience = "cell-b".into())),
        ("content", good().with(|w| w.bytes.push(b' '))),
        ("content", good().with(|w| w.salt = tidegate_schemas::digest::Salt::new([6; 32]))),
        ("elsewhere", good().with(|w| w.subject = "work.cloud.double.interactive.beta".into())),
        ("elsewhere", good().with(|w| w.hop.agent = name("billing"))),
        ("elsewhere", good().with(|w| w.hop.id = CloudWork::new(2, false).hop.id)),
        ("elsewhere", good().with(|w| w.claims.provider = name("other"))),
        ("elsewhere", good().with(|w| w.claims.model = "m-2".into())),
        ("elsewhere", good().with(|w| w.claims.region = name("us"))),
        ("elsewhere", good().with(|w| w.claims.tenant = name("beta"))),
        ("elsewhere", good().with(|w| w.claims.decision = uuid::Uuid::from_u128(9))),
        ("elsewhere", good().with(|w| w.decision.content = None)),
        (
            "too_early",
            good().with(|w| {
                w.claims.not_before = Timestamp::now() + jiff::SignedDuration::from_secs(30);
                w.claims.expires = Timestamp::now() + jiff::SignedDuration::from_secs(60);
            }),
        ),
    ];
    let known = Known::new();
    for (word, work) in table {
        let (life, step) = Life::begin(&arrived(&work), &known.context());
        let Disposition::Dead(refused) = done(step) else { panic!("{word}") };
        assert_eq!((refused.code, life.refusal()), (Code::TicketInvalid, Some(word)));
        assert!(!refused.sentence.contains("CANARY"));
    }
    // Negative control: unchanged, it is work.
    let (life, step) = Life::begin(&arrived(&good()), &known.context());
    assert!(matches!(step.action, Action::Look(_)) && life.refusal().is_none());
}

#[test]
fn messages_that_cannot_be_read_end_as_dead_letters() {
    let known = Known::new();
    let without = |gone: &str| {
        let mut message = arrived(&CloudWork::new(1, false));
        let left = message.headers.iter().filter(|(name, _)| *name != gone);
        message.headers = Headers::trusted(left.map(|(n, v)| (n.to_owned(), v.to_owned())));
        message
    };
    for gone in [header::TASK_ID, header::SALT, header::OUTPUT, header::DECISION, header::DEADLINE] {
        let (_, step) = Life::begin(&without(gone), &known.context());
        let Disposition::Dead(refused) = done(step) else { panic!("{gone}") };
        assert_eq!(refused.code, Code::InvalidHeaders, "{gone}");
    }
    let (_, step) = Life::begin(&without(header::TICKET), &known.context());
    assert!(matches!(done(step), Disposition::Dead(refused) if refused.code == Code::TicketInvalid));
    for subject in ["work.local.double.interactive.acme", "work.cloud.other.interactive.acme", "x"] {
        let message = Arrived { subject: subject.into(), ..arrived(&CloudWork::new(1, false)) };
        let (_, step) = Life::begin(&message, &known.context());
        assert!(matches!(done(step), Disposition::Dead(refused) if refused.code == Code::Unattributable));
    }
}

#[test]
fn a_ticket_that_expired_goes_back() {
    let (work, known) = (CloudWork::new(1, false).expired(), Known::new());
    let (mut life, step) = Life::begin(&arrived(&work), &known.context());
    assert_eq!(life.refusal(), Some("expired"));
    let (message, step) = sent(step);
    assert_eq!(message.subject, "step.cloud.acme");
    assert_eq!(
        (&step["reason"], &step["destination"]),
        (&json!({ "reason": "expired" }), &json!("double-eu"))
    );
    assert_eq!(done(life.next(Event::Sent(Sent::Stored), &known.context())), Disposition::Ack);
    // One that expired and was forged does not.
    let forged = work.with(|w| w.signed_by = 4);
    assert!(matches!(done(Life::begin(&arrived(&forged), &known.context()).1), Disposition::Dead(_)));
}

#[test]
fn what_is_off_goes_back_before_the_call_and_before_each_attempt() {
    let covering = [
        Switch { lane: Some(Lane::Cloud), ..Switch::default() },
        Switch { target: Some(name("double")), ..Switch::default() },
        Switch { model: Some("m-1".into()), tenant: Some(name("acme")), ..Switch::default() },
    ];
    let work = CloudWork::new(1, false);
    for switch in covering {
        let known = Known { off: vec![switch.clone()], ..Known::new() };
        let (mut life, _) = Life::begin(&arrived(&work), &known.context());
        let (_, step) = sent(life.next(Event::Looked(false), &known.context()));
        assert_eq!(step["reason"], json!({ "reason": "off" }));
        let mut life = opened(&work, &Known::new());
        assert!(matches!(life.next(attempting(), &known.context()).action, Action::Shut));
        let (_, ended) = sent(life.next(called(Err(error(Failure::Halted))), &known.context()));
        assert_eq!(ended["phase"]["phase"], "returned");
        let (_, step) = sent(life.next(Event::Sent(Sent::Stored), &known.context()));
        assert_eq!((&step["reason"], &step["attempts"]), (&json!({ "reason": "off" }), &json!(1)));
    }
    let other =
        Known { off: vec![Switch { tenant: Some(name("beta")), ..Switch::default() }], ..Known::new() };
    calling(&work, &other);
}

/// A claim may take as long as its stream does; a switch that comes meanwhile counts.
#[test]
fn what_is_switched_off_while_its_attempt_is_claimed_is_not_sent() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let off = Known { off: vec![Switch { lane: Some(Lane::Cloud), ..Switch::default() }], ..Known::new() };
    let mut life = calling(&work, &known);
    claim(attempt(&mut life, &known));
    assert!(matches!(life.next(Event::Claimed(Sent::Stored), &off.context()).action, Action::Shut));
    let (_, step) = sent(life.next(called(Err(error(Failure::Halted))), &off.context()));
    assert_eq!((&step["reason"], &step["attempts"]), (&json!({ "reason": "off" }), &json!(1)));
    assert_eq!(done(life.next(Event::Sent(Sent::Stored), &off.context())), Disposition::Ack);
    opened(&work, &known); // negative control: with nothing off it is
}

#[test]
fn claimed_attempts_are_passed_over_until_none_is_left() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let mut life = calling(&work, &known);
    let mut message = claim(attempt(&mut life, &known));
    for number in 1..=3 {
        assert!(message.msg_id.ends_with(&format!("/{number}")), "{}", message.msg_id);
        let step = life.next(Event::Claimed(Sent::Duplicate), &known.context());
        if number < 3 {
            assert!(matches!(step.action, Action::Admit(_)), "each is counted: {step:?}");
            message = claim(life.next(admitted(), &known.context()));
        } else {
            assert!(matches!(step.action, Action::Shut), "{step:?}");
        }
    }
    let (message, step) = sent(life.next(called(Err(error(Failure::Halted))), &known.context()));
    assert_eq!(message.subject, "step.cloud.acme");
    assert_eq!(step["reason"], json!({ "reason": "fallback", "code": "provider_unavailable" }));
    assert_eq!(step["attempts"], 3);
}

#[test]
fn each_failure_has_its_fate() {
    let back = |code| Fate::Back(StepReason::Fallback { code });
    let table = [
        (Failure::Connect, back(Code::ProviderUnavailable)),
        (Failure::Timeout(Wait::Connect), back(Code::ProviderUnavailable)),
        (Failure::Timeout(Wait::Idle), back(Code::ProviderUnavailable)),
        (Failure::Truncated, back(Code::ProviderUnavailable)),
        (Failure::Status(503), back(Code::ProviderUnavailable)),
        (Failure::Status(429), back(Code::ProviderUnavailable)),
        (Failure::Quota, back(Code::ProviderUnavailable)),
        (Failure::Address, back(Code::ProviderFailed)),
        (Failure::NotPermitted("x"), back(Code::TicketInvalid)),
        (Failure::Expired, Fate::Back(StepReason::Expired)),
        (Failure::Canceled, Fate::Withdrawn),
        (Failure::Halted, Fate::Again),
    ];
    for (failure, expected) in table {
        assert_eq!(fate::of(&error(failure), None), expected, "{failure:?}");
    }
    let table = [
        (Failure::Refused, Code::ProviderRefused),
        (Failure::Status(400), Code::ProviderFailed),
        (Failure::Status(401), Code::ProviderFailed),
        (Failure::ContextTooLong, Code::ContextTooLong),
        (Failure::TooLarge, Code::ProviderFailed),
        (Failure::Redirect, Code::ProviderFailed),
        (Failure::Deadline, Code::DeadlineExceeded),
        (Failure::Silent, Code::DeadlineExceeded),
    ];
    for (failure, code) in table {
        let Fate::Failed(refused) = fate::of(&error(failure), None) else { panic!("{failure:?}") };
        assert_eq!(refused.code, code, "{failure:?}");
    }
    // After text was handed on nothing goes back; a refusal stays one.
    for (failure, code) in
        [(Failure::Broken, Code::ProviderUnavailable), (Failure::Refused, Code::ProviderRefused)]
    {
        let published = ProviderError { published: true, ..error(failure) };
        assert!(matches!(fate::of(&published, None), Fate::Failed(refused) if refused.code == code));
    }
}

#[test]
fn a_failed_call_ends_its_attempt_before_it_goes_back() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let mut life = opened(&work, &known);
    let (message, record) = sent(life.next(Event::Retrying(Failure::Status(503)), &known.context()));
    assert_eq!(record["phase"], json!({ "phase": "retried", "code": "provider_unavailable", "status": 503 }));
    assert!(message.msg_id.ends_with("/1"));
    claim(attempt(&mut life, &known));
    life.next(Event::Claimed(Sent::Stored), &known.context());
    let (message, record) = sent(life.next(called(Err(error(Failure::Connect))), &known.context()));
    assert_eq!(record["phase"], json!({ "phase": "returned", "code": "provider_unavailable" }));
    assert!(message.msg_id.ends_with("/2"));
    let (_, step) = sent(life.next(Event::Sent(Sent::Duplicate), &known.context()));
    assert_eq!(step["attempts"], 2);
    assert_eq!(done(life.next(Event::Sent(Sent::Stored), &known.context())), Disposition::Ack);
}

#[test]
fn a_failed_result_tells_what_was_paid_for() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let usage = Some(Usage { input_tokens: 3, output_tokens: 1, cached_tokens: 0 });
    let refused = ProviderError { usage, cost_usd_micros: Some(8), ..error(Failure::Refused) };
    let (_, result) = sent(opened(&work, &known).next(called(Err(refused)), &known.context()));
    assert_eq!((&result["state"], &result["error"]["code"]), (&json!("failed"), &json!("provider_refused")));
    assert_eq!((&result["usage"]["input_tokens"], &result["cost_usd_micros"]), (&json!(3), &json!(8)));
    let unknown = error(Failure::Status(400));
    let (_, result) = sent(opened(&work, &known).next(called(Err(unknown)), &known.context()));
    assert_eq!(result["cost_usd_micros"], Value::Null, "not known is not 0");
}

#[test]
fn an_answer_that_comes_late_is_recorded() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let mut life = opened(&work, &known);
    life.next(called(Ok(answer("hello"))), &known.context());
    let (message, record) = sent(life.next(Event::Sent(Sent::Taken), &known.context()));
    assert_eq!(message.subject, "attempt.cloud.acme");
    assert_eq!(
        (&record["phase"]["phase"], &record["phase"]["cost_usd_micros"]),
        (&json!("late"), &json!(17))
    );
    assert_eq!(record["phase"]["output"], json!(work.salt.digest(b"hello")));
    assert_eq!(done(life.next(Event::Sent(Sent::Stored), &known.context())), Disposition::Ack);
    // Withdrawn under way: the same, without an output.
    let mut life = opened(&work, &known);
    let (_, record) = sent(life.next(called(Err(error(Failure::Canceled))), &known.context()));
    assert_eq!(record["phase"]["phase"], "late");
    // Withdrawn before any byte left: nothing to tell.
    let mut life = calling(&work, &known);
    assert_eq!(done(life.next(called(Err(error(Failure::Canceled))), &known.context())), Disposition::Ack);
}

#[test]
fn an_answer_that_fits_no_message_fails() {
    let (work, known) = (CloudWork::new(1, false), Known::new());
    let mut life = opened(&work, &known);
    let (first, _) = sent(life.next(called(Ok(answer("hello"))), &known.context()));
    let (second, result) = sent(life.next(Event::Sent(Sent::TooLarge), &known.context()));
    assert_eq!((&result["state"], &result["error"]["code"]), (&json!("failed"), &json!("too_large")));
    assert_eq!(result["usage"]["output_tokens"], 2, "what was paid for is told");
    assert_ne!(first.msg_id, second.msg_id);
}

#[test]
fn answers_take_the_form_that_was_asked_for() {
    let cut = Answer { finish: Finish::Length, ..answer("{\"class\":\"in") };
    let table = [
        ("json", answer("{\"a\":[1]}"), Ok(json!({ "type": "json", "value": { "a": [1] } }))),
        ("class", answer("{\"class\":\"invoice\"}"), Ok(json!({ "type": "class", "class": "invoice" }))),
        ("json", answer("CANARY"), Err("model_failed")),
        ("json", answer("{\"a\":1,\"a\":2}"), Err("model_failed")),
        ("class", answer("{\"label\":\"invoice\"}"), Err("model_failed")),
        ("class", cut, Err("model_failed")),
    ];
    let known = Known::new();
    for (form, answer, expected) in table {
        let work = CloudWork::new(1, false).with(|w| w.form = form);
        let (message, result) = sent(opened(&work, &known).next(called(Ok(answer)), &known.context()));
        match expected {
            Ok(output) => assert_eq!(result["output"], output),
            Err(code) => {
                assert_eq!(result["error"]["code"], code);
                assert_eq!(result["usage"]["output_tokens"], 2);
                assert!(!String::from_utf8_lossy(&message.payload).contains("CANARY"));
            }
        }
    }
}

#[test]
fn an_answer_that_the_schema_does_not_hold_fails_whatever_the_provider_says() {
    let schema = json!({ "type": "object", "properties": { "class": { "type": "string", "enum": ["invoice", "order"] } },
                         "required": ["class"], "additionalProperties": false });
    let held = json!({ "model": "m-1", "max_tokens": 16, "messages": [{ "role": "user", "content": "x" }],
        "response_format": { "type": "json_schema", "json_schema": { "name": "answer", "strict": false, "schema": schema } } });
    let known = Known::new();
    let state = |form: &'static str, held: Option<&Value>, text: &str| {
        let mut work = CloudWork::new(1, false).with(|w| w.form = form);
        if let Some(request) = held {
            work.bytes = request.to_string().into_bytes();
            work.claims.content = work.salt.digest(&work.bytes);
            work.claims.content_bytes = work.bytes.len() as u64;
            work.decision.content = Some(work.claims.content);
        }
        let (_, result) = sent(opened(&work, &known).next(called(Ok(answer(text))), &known.context()));
        (result["state"].clone(), result["error"]["code"].clone())
    };
    let failed = (json!("failed"), json!("model_failed"));
    let completed = (json!("completed"), Value::Null);
    assert_eq!(state("class", Some(&held), "{\"class\":\"order\"}"), completed);
    assert_eq!(state("class", Some(&held), "{\"class\":\"invented\"}"), failed);
    assert_eq!(state("json", Some(&held), "{\"class\":\"order\",\"more\":1}"), failed);
    assert_eq!(
        state("class", None, "{\"class\":\"invented\"}"),
        completed,
        "negative control: held to nothing"
    );
}

#[test]
fn what_is_no_schema_ends_before_a_byte_leaves() {
    let known = Known::new();
    let first = |schema: Value| {
        let request = json!({ "model": "m-1", "max_tokens": 16, "messages": [{ "role": "user", "content": "x" }],
            "response_format": { "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } } });
        let mut work = CloudWork::new(1, false).with(|w| w.form = "json");
        work.bytes = request.to_string().into_bytes();
        work.claims.content = work.salt.digest(&work.bytes);
        work.claims.content_bytes = work.bytes.len() as u64;
        work.decision.content = Some(work.claims.content);
        let (mut life, _) = Life::begin(&arrived(&work), &known.context());
        life.next(Event::Looked(false), &known.context())
    };
    for schema in [
        json!({ "type": "CANARY" }),
        json!({ "$ref": "https://canary.example/CANARY.json" }),
        json!({ "$ref": "file:///CANARY" }),
        json!("CANARY"),
    ] {
        let (message, result) = sent(first(schema));
        assert_eq!(
            (&result["state"], &result["error"]["code"]),
            (&json!("failed"), &json!("invalid_schema"))
        );
        assert!(!String::from_utf8_lossy(&message.payload).contains("CANARY"));
    }
    let asked = first(
        json!({ "type": "object", "$defs": { "a": {} }, "properties": { "b": { "$ref": "#/$defs/a" } } }),
    );
    assert!(matches!(asked.action, Action::Call(_)), "negative control: {asked:?}");
}

/// Every order of answers, right and wrong: no attempt begins but on a claim that was stored, and no message is done but on
/// the word of a stream.
#[test]
fn no_order_of_events_opens_without_a_claim() {
    let (work, known) = (arrived(&CloudWork::new(1, false)), Known::new());
    let context = known.context();
    let events: [fn() -> Event; 12] = [
        || Event::Looked(false),
        || Event::Looked(true),
        attempting,
        admitted,
        || Event::Admitted(Admitted::Broken),
        || Event::Claimed(Sent::Stored),
        || Event::Claimed(Sent::Duplicate),
        || Event::Retrying(Failure::Connect),
        || called(Ok(answer("x"))),
        || called(Err(error(Failure::Connect))),
        || Event::Sent(Sent::Stored),
        || Event::Sent(Sent::Taken),
    ];
    let (mut opens, mut acks) = (0, 0);
    let mut alive = vec![Vec::new()];
    for _ in 0..9 {
        let mut longer = Vec::new();
        for order in &alive {
            for (index, event) in events.iter().enumerate() {
                let (mut life, mut step) = Life::begin(&work, &context);
                order.iter().for_each(|index: &usize| step = life.next(events[*index](), &context));
                let (asked, said) = (format!("{:?}", step.action), format!("{:?}", event()));
                step = life.next(event(), &context);
                match &step.action {
                    Action::Open => {
                        assert!(said == "Claimed(Stored)" && asked.starts_with("Claim("), "{asked} {said}");
                        opens += 1;
                    }
                    Action::Claim(_) => {
                        assert!(said == "Admitted(Through)" && asked.starts_with("Admit("), "{asked} {said}");
                    }
                    Action::Done(Disposition::Ack) => {
                        let stored = said.starts_with("Sent(") && asked.starts_with("Send(");
                        assert!(stored || said == "Looked(true)", "{asked} {said}");
                        acks += 1;
                    }
                    Action::Done(_) => {}
                    _ => {}
                }
                if !matches!(step.action, Action::Done(_)) {
                    longer.push([order.as_slice(), &[index]].concat());
                }
            }
        }
        // Orders that differ only in what came before an attempt behave alike; a sample of each length is enough.
        longer.truncate(64);
        alive = longer;
    }
    assert!(opens > 0 && acks > 0, "the orders reach both: {opens} {acks}");
}
