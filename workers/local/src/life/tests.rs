#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use serde_json::json;
use tidegate_engine::{FinishReason, ModelInfo, OutputContent, Timings, Usage};
use tidegate_schemas::attempt::{Attempt, Phase};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Decision;
use tidegate_schemas::header;
use tidegate_schemas::live::Transition;
use tidegate_schemas::result::{Output as Made, State, TaskResult};
use tidegate_schemas::step::{Step as StepWire, StepReason};
use tidegate_schemas::subject::Lane;
use tidegate_schemas::trace::TraceParent;

use super::*;
use crate::local_work::{Given, OWNERS, chat, classify, embed, extract, name};

mod scan;

/// Span of a delivery.
const SPAN: u64 = 0xd3;

fn arrived(given: &Given) -> Arrived {
    Arrived {
        position: Position::new("WORK_LOCAL", 9),
        subject: given.subject(),
        headers: given.headers(),
        payload: given.payload(),
        delivered: 1,
        published: Timestamp::now(),
        span: SPAN,
    }
}

fn models() -> Models {
    Models { chat: true, embed: true, ..Models::default() }
}

fn context<'a>(models: &'a Models, off: &'a [Switch]) -> Context<'a> {
    Context { now: Timestamp::now(), off, canceled: false, models }
}

/// Begins with both models and nothing off.
fn begin(message: &Arrived) -> (Life, Step) {
    Life::begin(message, &context(&models(), &[]))
}

fn next(life: &mut Life, event: Event) -> Step {
    life.next(event, &context(&models(), &[]))
}

fn sent(step: Step) -> Message {
    match step.action {
        Action::Send(message) => message,
        _ => panic!("expected a message"),
    }
}

fn done(step: Step) -> Disposition {
    match step.action {
        Action::Done(disposition) => disposition,
        _ => panic!("expected the end"),
    }
}

fn result(message: &Message) -> TaskResult {
    assert!(message.subject.starts_with("result."), "{}", message.subject);
    serde_json::from_slice(&message.payload).unwrap()
}

/// The code of a result's payload.
fn code_of(payload: &[u8]) -> Option<Code> {
    let result: TaskResult = serde_json::from_slice(payload).unwrap();
    result.error.map(|error| error.code)
}

fn output(content: OutputContent, finish: FinishReason) -> Output {
    let model = ModelInfo {
        kind: "chat".to_owned(),
        name: "SmolLM2-135M-Instruct".to_owned(),
        architecture: "llama".to_owned(),
        quantisation: "Q4_1 as Q8_0".to_owned(),
        sha256: "ab".repeat(32),
        adapter_sha256: None,
        context_tokens: 2048,
        threads: 1,
        kernels: "avx2".to_owned(),
    };
    let usage = Usage { input_tokens: 10, output_tokens: 4 };
    let timings = Timings {
        queued: Duration::ZERO,
        prompt: Duration::from_millis(20),
        decode: Duration::from_millis(30),
    };
    Output { content, finish, usage, timings, model: model.into() }
}

fn said(text: &str) -> Event {
    Event::Ran(Ran::Finished(Box::new(output(OutputContent::Text(text.to_owned()), FinishReason::Stop))))
}

fn running(given: &Given) -> Life {
    let (life, step) = begin(&arrived(given));
    assert!(matches!(step.action, Action::Run(_)));
    life
}

#[test]
fn the_straight_road() {
    let given = chat("Hi", 8, true).replying_to("tok_1");
    let (mut life, step) = begin(&arrived(&given));
    assert!(step.tell.is_empty(), "it is not being worked on before the engine has taken it");
    let Action::Run(run) = step.action else { panic!("expected a run") };
    assert_eq!(run.working.subject, format!("state.acme.helpdesk.{}", given.id()));
    let transition: Transition<'_> = serde_json::from_slice(&run.working.payload).unwrap();
    assert_eq!((transition.state, transition.destination.as_deref()), (State::Working, Some("local-chat")));
    assert_eq!(run.deltas.as_ref().unwrap().subject, format!("delta.acme.helpdesk.{}", given.id()));
    assert_eq!(run.deadline, given.hop.deadline);
    assert_eq!(run.attempt.subject, "attempt.local.acme");
    assert_eq!(run.attempt.msg_id, format!("acme/helpdesk/{}/attempt-hop0/1", given.id()));
    assert_eq!(run.attempt.headers.get(header::CAUSE), Some("WORK_LOCAL:9"));
    let attempt: Attempt = serde_json::from_slice(&run.attempt.payload).unwrap();
    assert_eq!((attempt.phase, attempt.attempt, attempt.target.as_str()), (Phase::Started, 1, "default"));
    let JobInput::Chat(request) = run.input else { panic!("expected a conversation") };
    assert_eq!((request.messages[0].role.as_str(), request.messages[0].content.as_str()), ("user", "Hi"));
    assert_eq!(request.params.max_tokens, 8);

    let message = sent(next(&mut life, said("Hello")));
    let bytes = given.salt.digest(&message.payload);
    assert_eq!(message.msg_id, format!("acme/helpdesk/{}/result-{bytes}/1", given.id()));
    for (header, value) in [
        (header::CAUSE, "WORK_LOCAL:9"),
        (header::STATE, "completed"),
        (header::SENSITIVITY, "internal"),
        (header::DESTINATION, "local-chat"),
        (header::COST, "0"),
    ] {
        assert_eq!(message.headers.get(header), Some(value), "{header}");
    }
    let made = result(&message);
    assert_eq!((made.state, made.attempts, made.usage.output_tokens), (State::Completed, 1, 4));
    assert_eq!(made.timings.run_ms, 50);
    assert!(matches!(made.output, Some(Made::Text { text, .. }) if text.expose() == "Hello"));
    let model = made.model.unwrap();
    assert_eq!(model.sha256.unwrap().to_string(), "ab".repeat(32));
    assert_eq!(
        (model.quantisation.as_deref(), model.kernels.as_deref()),
        (Some("Q4_1 as Q8_0"), Some("avx2"))
    );

    let end = next(&mut life, Event::Sent(Sent::Stored));
    let [state, reply] = end.tell.as_slice() else { panic!("a transition and a reply: {:?}", end.tell) };
    assert_eq!(state.subject, format!("state.acme.helpdesk.{}", given.id()));
    let transition: Transition<'_> = serde_json::from_slice(&state.payload).unwrap();
    assert_eq!((transition.state, transition.destination.as_deref()), (State::Completed, Some("local-chat")));
    assert_eq!(reply.subject, "reply.acme.helpdesk.tok_1");
    assert_eq!(reply.payload, message.payload);
    assert_eq!(done(end), Disposition::Ack);
}

#[test]
fn what_a_worker_sends_has_a_span_of_its_own_in_the_task_s_traceparent() {
    let traced = |mut given: Given| {
        given.hop.trace = Some(TraceParent::root(7, 9));
        given
    };
    let expected = TraceParent::root(7, 9).child(SPAN).to_string();
    let given = traced(chat("Hi", 8, false));
    let (mut life, step) = begin(&arrived(&given));
    let Action::Run(run) = step.action else { panic!("expected a run") };
    let answer = sent(next(&mut life, said("Hello")));
    let late = sent(next(&mut life, Event::Sent(Sent::Taken)));
    let none = Models { chat: false, ..models() };
    let back = sent(Life::begin(&arrived(&given), &context(&none, &[])).1);
    let Disposition::Dead { result: Some((_, dead)), .. } =
        Life::poisoned(&arrived(&given), Timestamp::now())
    else {
        panic!("expected a result")
    };
    for message in [run.attempt, answer, late, back, *dead] {
        assert_eq!(message.headers.get(header::TRACEPARENT), Some(expected.as_str()), "{}", message.subject);
    }
    assert_ne!(given.headers().get(header::TRACEPARENT), Some(expected.as_str()), "negative control");
    // Where nobody traces, nothing is made up.
    assert_eq!(
        sent(next(&mut running(&chat("Hi", 8, false)), said("Hello"))).headers.get(header::TRACEPARENT),
        None
    );
}

#[test]
fn only_what_the_router_judged_becomes_work() {
    let given = chat("Hi", 8, false);
    let good = arrived(&given);
    let without = |name: &str| {
        let headers = good.headers.iter().filter(|(n, _)| *n != name);
        let headers = Headers::trusted(headers.map(|(n, v)| (n.to_owned(), v.to_owned())));
        Arrived { headers, ..good.clone() }
    };
    let with = |name: &'static str, value: &str| Arrived {
        headers: good.headers.clone().with(name, value),
        ..good.clone()
    };
    let elsewhere = good.subject.replace("default", "embed");
    let changed = Bytes::from(String::from_utf8(good.payload.to_vec()).unwrap().replace("Hi", "Ho"));
    let salted = |payload: &'static [u8]| {
        let digest = given.salt.digest(payload).to_string();
        let decision = good.headers.get(header::DECISION).unwrap();
        let old = given.salt.digest(&good.payload).to_string();
        let mut bent = with(header::DECISION, &decision.replace(&old, &digest));
        bent.payload = Bytes::from_static(payload);
        bent
    };
    // what is bent, the code, whether the task can still be told
    let rows = [
        ("no task id", without(header::TASK_ID), Code::InvalidHeaders, false),
        ("no deadline", without(header::DEADLINE), Code::InvalidHeaders, false),
        ("a bad hop", with(header::HOP, "first"), Code::InvalidHeaders, false),
        ("no decision", without(header::DECISION), Code::InvalidHeaders, true),
        ("a broken decision", with(header::DECISION, "{}"), Code::InvalidHeaders, true),
        ("no salt", without(header::SALT), Code::InvalidHeaders, true),
        ("another salt", with(header::SALT, &"00".repeat(32)), Code::Unattributable, true),
        ("another payload", Arrived { payload: changed, ..good.clone() }, Code::Unattributable, true),
        ("another pool", Arrived { subject: elsewhere, ..good.clone() }, Code::Unattributable, true),
        (
            "no subject of work",
            Arrived { subject: "step.local.acme".to_owned(), ..good.clone() },
            Code::Unattributable,
            false,
        ),
        ("no JSON", salted(b"{\"CANARY"), Code::InvalidJson, true),
        ("no work", salted(b"{\"CANARY\":1}"), Code::InvalidField, true),
    ];
    for (what, message, code, told) in rows {
        let (_, step) = begin(&message);
        let Disposition::Dead { refused, result, owners, .. } = done(step) else {
            panic!("{what}: expected a dead letter")
        };
        assert_eq!(refused.code, code, "{what}");
        assert_eq!(result.is_some(), told, "{what}");
        if let Some((_, message)) = result {
            assert_eq!(code_of(&message.payload), Some(code), "{what}");
            assert!(
                !String::from_utf8_lossy(&message.payload).contains("CANARY"),
                "{what} quotes the payload"
            );
        }
        let named = message.headers.get(header::DECISION).is_some_and(|text| text != "{}");
        assert_eq!(owners.to_string(), if named { OWNERS } else { "" }, "{what}");
    }
    // The control: unbent it runs.
    assert!(matches!(begin(&good).1.action, Action::Run(_)));
}

#[test]
fn reasons_not_to_run() {
    let late = chat("Hi", 8, false).due_in_ms(-1);
    let message = sent(begin(&arrived(&late)).1);
    assert_eq!(result(&message).error.unwrap().code, Code::DeadlineExceeded);

    let given = chat("Hi", 8, false);
    let all = models();
    let withdrawn = Context { canceled: true, ..context(&all, &[]) };
    assert_eq!(done(Life::begin(&arrived(&given), &withdrawn).1), Disposition::Ack);

    let switch =
        |lane, tenant: &str| Switch { lane: Some(lane), tenant: Some(name(tenant)), ..Switch::default() };
    let only_embed = Models { chat: false, ..models() };
    let only_chat = Models { embed: false, ..models() };
    let other = Models { names: ["Qwen3-1.7B".to_owned()].into_iter().collect(), ..models() };
    let incapable = StepReason::Fallback { code: Code::NoCapableDestination };
    let pool = |target: &str| Switch { target: Some(name(target)), ..Switch::default() };
    let model = |model: &str| Switch { model: Some(model.to_owned()), ..Switch::default() };
    let rows: [(Given, &Models, Vec<Switch>, Option<StepReason>); 11] = [
        (chat("Hi", 8, false), &all, vec![pool(given.pool)], Some(StepReason::Off)),
        (chat("Hi", 8, false), &all, vec![pool("another")], None),
        (chat("Hi", 8, false), &all, vec![model(given.model)], Some(StepReason::Off)),
        (chat("Hi", 8, false), &all, vec![model("another")], None),
        (chat("Hi", 8, false), &all, vec![switch(Lane::Local, "acme")], Some(StepReason::Off)),
        (chat("Hi", 8, false), &all, vec![switch(Lane::Local, "beta")], None),
        (chat("Hi", 8, false), &all, vec![switch(Lane::Cloud, "acme")], None),
        (chat("Hi", 8, false), &only_embed, vec![], Some(incapable.clone())),
        (embed(&["a"]), &only_chat, vec![], Some(incapable.clone())),
        (embed(&["a"]), &only_embed, vec![], None),
        (chat("Hi", 8, false), &other, vec![], Some(incapable)),
    ];
    for (given, models, off, expected) in rows {
        let (mut life, step) = Life::begin(&arrived(&given), &context(models, &off));
        let Some(reason) = expected else {
            assert!(matches!(step.action, Action::Run(_)));
            continue;
        };
        let message = sent(step);
        assert_eq!(message.subject, "step.local.acme");
        assert_eq!(message.headers.get(header::CAUSE), Some("WORK_LOCAL:9"), "the router follows it back");
        let wire: StepWire = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((wire.reason, wire.attempts), (reason, 0));
        assert_eq!(done(next(&mut life, Event::Sent(Sent::Duplicate))), Disposition::Ack);
    }
}

#[test]
fn what_is_delivered_again_or_waited_is_looked_up_first() {
    let given = chat("Hi", 8, false);
    let waited = Arrived { published: Timestamp::now() - SignedDuration::from_secs(2), ..arrived(&given) };
    let (mut life, step) = begin(&waited);
    assert!(matches!(step.action, Action::Look { .. }));
    assert!(done(next(&mut life, Event::Looked(true))) == Disposition::Ack, "it was withdrawn meanwhile");
    assert!(matches!(begin(&arrived(&given)).1.action, Action::Run(_)), "negative control: it is new");
    let again = Arrived { delivered: 2, ..arrived(&given) };
    let (mut life, step) = begin(&again);
    assert!(matches!(step.action, Action::Look { .. }));
    assert_eq!(done(next(&mut life, Event::Looked(true))), Disposition::Ack);

    let (mut life, _) = begin(&again);
    let Action::Run(run) = next(&mut life, Event::Looked(false)).action else { panic!("expected a run") };
    assert!(run.attempt.msg_id.ends_with("/attempt-hop0/2"), "{}", run.attempt.msg_id);
    assert_eq!(result(&sent(next(&mut life, said("Hello")))).attempts, 2);
}

#[test]
fn outputs_have_the_form_of_their_kind() {
    let schema = json!({ "type": "object" });
    let text = |text: &str| OutputContent::Text(text.to_owned());
    let vectors = || OutputContent::Embeddings(vec![vec![0.6, 0.8]]);
    // work, what the engine made, why it stopped, the failure's code
    let rows = [
        (extract("x", &schema), text("{\"city\":\"Paris\"}"), FinishReason::Stop, None),
        (extract("x", &schema), text("{\"city\":\"Pa"), FinishReason::Length, Some("max_tokens")),
        (extract("x", &schema), text("CANARY"), FinishReason::Stop, Some("before its JSON")),
        (classify("x", &["a", "b"]), text("{\"class\":\"b\"}"), FinishReason::Stop, None),
        (classify("x", &["a", "b"]), text("{\"CANARY\":\"b\"}"), FinishReason::Stop, Some("before its JSON")),
        (embed(&["x"]), vectors(), FinishReason::Stop, None),
        (embed(&["x"]), text("CANARY"), FinishReason::Stop, Some("another form")),
        (chat("x", 8, false), vectors(), FinishReason::Stop, Some("another form")),
        (chat("x", 8, false), text("cut"), FinishReason::Length, None),
    ];
    for (given, content, finish, failed) in rows {
        let mut life = running(&given);
        let message = sent(next(&mut life, Event::Ran(Ran::Finished(Box::new(output(content, finish))))));
        let made = result(&message);
        assert_eq!(made.usage.output_tokens, 4, "tokens are counted whatever came of them");
        match failed {
            None => assert!(made.state == State::Completed && made.output.is_some() && made.error.is_none()),
            Some(word) => {
                let error = made.error.unwrap();
                assert_eq!((made.state, error.code), (State::Failed, Code::ModelFailed));
                assert!(error.message.contains(word), "{}", error.message);
            }
        }
        assert!(!String::from_utf8_lossy(&message.payload).contains("CANARY"));
    }
}

#[test]
fn what_the_engine_says_has_a_code() {
    let reason = "x".to_owned();
    let rows = [
        (EngineError::ContextTooLong { prompt_tokens: 9, context_tokens: 8 }, Code::ContextTooLong),
        (EngineError::BadSchema { reason: reason.clone() }, Code::InvalidSchema),
        (EngineError::InvalidInput { reason: "x" }, Code::InvalidField),
        (EngineError::Template { reason }, Code::InvalidField),
        (EngineError::Model { doing: "computing" }, Code::ModelFailed),
        (EngineError::Panicked, Code::ModelFailed),
        (EngineError::DeadlineExceeded, Code::DeadlineExceeded),
    ];
    for (error, code) in rows {
        let mut life = running(&chat("Hi", 8, false));
        let made = result(&sent(next(&mut life, Event::Ran(Ran::Failed(error, None)))));
        assert_eq!((made.state, made.error.unwrap().code), (State::Failed, code));
        assert_eq!(done(next(&mut life, Event::Sent(Sent::Stored))), Disposition::Ack);
    }
    let later = [
        Ran::Failed(EngineError::ShutDown, None),
        Ran::NotTaken(SubmitError::Overloaded { limit: 1 }),
        Ran::NotTaken(SubmitError::Stopped),
    ];
    for ran in later {
        let mut life = running(&chat("Hi", 8, false));
        assert!(matches!(done(next(&mut life, Event::Ran(ran))), Disposition::Retry { after_ms: 1.. }));
    }
    let mut life = running(&chat("Hi", 8, false));
    let gone = Event::Ran(Ran::Failed(EngineError::UnsupportedKind { kind: "chat" }, None));
    assert_eq!(sent(next(&mut life, gone)).subject, "step.local.acme");
}

#[test]
fn who_comes_second_says_so() {
    let phase = |message: &Message| {
        assert_eq!(message.subject, "attempt.local.acme");
        serde_json::from_slice::<Attempt>(&message.payload).unwrap().phase
    };
    // The subject was taken.
    let given = chat("Hi", 8, false);
    let mut life = running(&given);
    sent(next(&mut life, said("Hello")));
    let late = sent(next(&mut life, Event::Sent(Sent::Taken)));
    let Phase::Late { usage, cost_usd_micros, output } = phase(&late) else { panic!("expected late") };
    assert_eq!((usage.output_tokens, cost_usd_micros), (4, Some(0)));
    assert_eq!(output, Some(given.salt.digest(b"Hello")));
    assert!(late.msg_id.ends_with("/late-hop0/1"), "{}", late.msg_id);
    assert_eq!(done(next(&mut life, Event::Sent(Sent::Stored))), Disposition::Ack);

    // The id was known: it names the message's bytes, so it was this run's, and the producer is told again.
    let mut life = running(&given.clone().replying_to("tok_1"));
    let first = sent(next(&mut life, said("Hello")));
    let step = next(&mut life, Event::Sent(Sent::Duplicate));
    assert_eq!(step.tell.last().unwrap().payload, first.payload);
    assert_eq!(done(step), Disposition::Ack);
    // Negative control: another run of the same delivery has an id of its own, and finds the subject taken.
    let other = sent(next(&mut running(&given), said("Hallo")));
    assert_ne!(first.msg_id, other.msg_id);

    // Withdrawn while it ran.
    let mut life = running(&chat("Hi", 8, false));
    let Output { usage, timings, model, .. } =
        self::output(OutputContent::Text(String::new()), FinishReason::Stop);
    let ran = Ran::Failed(EngineError::Canceled, Some(Box::new(Spent { usage, timings, model })));
    let late = sent(next(&mut life, Event::Ran(ran)));
    let Phase::Late { output: None, usage: told, .. } = phase(&late) else { panic!("late: {late:?}") };
    assert_eq!((told.input_tokens, told.output_tokens), (10, 4), "what it cost until then");
}

#[test]
fn an_output_too_large_fails_with_a_sentence() {
    let mut life = running(&embed(&["x"]));
    let vectors = OutputContent::Embeddings(vec![vec![1.0]]);
    sent(next(&mut life, Event::Ran(Ran::Finished(Box::new(output(vectors, FinishReason::Stop))))));
    let small = sent(next(&mut life, Event::Sent(Sent::TooLarge)));
    assert_eq!(code_of(&small.payload), Some(Code::TooLarge));
    assert_eq!(done(next(&mut life, Event::Sent(Sent::Stored))), Disposition::Ack);
}

#[test]
fn an_answer_out_of_turn_loses_nothing() {
    let mut life = running(&chat("Hi", 8, false));
    assert!(matches!(done(next(&mut life, Event::Sent(Sent::Stored))), Disposition::Retry { .. }));
}

#[test]
fn poison_is_told_from_headers_alone() {
    let mut message = arrived(&chat("Hi", 8, false).replying_to("tok_1"));
    message.payload = Bytes::from_static(b"\xff\xff");
    let dead = |message: &Arrived| match Life::poisoned(message, Timestamp::now()) {
        Disposition::Dead { refused, result, tell, owners } => (refused.code, result, tell, owners),
        _ => panic!("expected a dead letter"),
    };
    let (code, told, tell, owners) = dead(&message);
    let (task, told) = told.unwrap();
    assert_eq!(tell[0].subject, format!("state.acme.helpdesk.{task}"));
    assert_eq!((tell[1].subject.as_str(), &tell[1].payload), ("reply.acme.helpdesk.tok_1", &told.payload));
    assert_eq!((code, code_of(&told.payload)), (Code::Poison, Some(Code::Poison)));
    assert_eq!((result(&told).task, owners.to_string().as_str()), (task, OWNERS));
    assert!(result(&told).decision.is_some(), "the decision behind it is named");
    // Negative control: where no header tells the task, nobody's result is made up.
    message.headers = Headers::new();
    let (code, result, tell, owners) = dead(&message);
    assert_eq!(
        (code, result.is_none(), tell.is_empty(), owners.is_empty()),
        (Code::Poison, true, true, true)
    );
}

/// Every order of answers, right and wrong: a message is done only on the word of a stream, and the model runs only where
/// it was not known that somebody else had finished.
#[test]
fn no_order_of_events_ends_without_the_word_of_a_stream() {
    let given = chat("Hi", 8, false);
    let events: [fn() -> Event; 10] = [
        || Event::Looked(false),
        || Event::Looked(true),
        || said("Hello"),
        || Event::Ran(Ran::Failed(EngineError::Panicked, None)),
        || Event::Ran(Ran::Failed(EngineError::Canceled, None)),
        || Event::Ran(Ran::NotTaken(SubmitError::Stopped)),
        || Event::Sent(Sent::Stored),
        || Event::Sent(Sent::Duplicate),
        || Event::Sent(Sent::Taken),
        || Event::Sent(Sent::TooLarge),
    ];
    let (mut acks, mut retries) = (0, 0);
    for delivered in [1, 2] {
        let message = Arrived { delivered, ..arrived(&given) };
        let mut alive = vec![Vec::new()];
        for _ in 0..6 {
            let mut longer = Vec::new();
            for order in &alive {
                for (index, event) in events.iter().enumerate() {
                    let (mut life, mut step) = begin(&message);
                    order.iter().for_each(|index: &usize| step = next(&mut life, events[*index]()));
                    let asked = word(&step.action);
                    let said = event();
                    let by_stream = matches!(said, Event::Sent(_)) && asked == "send";
                    let is_known = matches!(said, Event::Looked(true)) && asked == "look";
                    match next(&mut life, said).action {
                        Action::Done(Disposition::Ack) => {
                            assert!(by_stream || is_known, "{asked} {order:?} {index}");
                            acks += 1;
                        }
                        Action::Done(_) => retries += 1,
                        action => {
                            let runs = matches!(action, Action::Run(_));
                            assert!(!runs || (asked == "look" && !is_known), "{order:?} {index}");
                            longer.push([order.as_slice(), &[index]].concat());
                        }
                    }
                }
            }
            longer.truncate(64);
            alive = longer;
        }
    }
    assert!(acks > 0 && retries > 0, "the orders reach both: {acks} {retries}");
}

fn word(action: &Action) -> &'static str {
    match action {
        Action::Look { .. } => "look",
        Action::Run(_) => "run",
        Action::Send(_) => "send",
        Action::Done(_) => "done",
    }
}

/// The work of a destination that pins these weights.
fn pinned(given: &Given, sha256: Option<Digest>) -> Arrived {
    let mut message = arrived(given);
    let text = message.headers.get(header::DECISION).unwrap();
    let mut decision: Decision = serde_json::from_str(text).unwrap();
    decision.destination.as_mut().unwrap().model_sha256 = sha256;
    let before = message.headers.clone();
    let others = before.iter().filter(|(name, _)| *name != header::DECISION);
    let headers = others.fold(Headers::new(), |headers, (name, value)| headers.with(name.to_owned(), value));
    message.headers = headers.with(header::DECISION, serde_json::to_string(&decision).unwrap());
    message
}

#[test]
fn other_weights_than_those_that_are_pinned_answer_nothing() {
    let (ours, theirs) = (Digest::from([1; 32]), Digest::from([2; 32]));
    let models = Models { chat_sha256: Some(ours), embed_sha256: Some(theirs), ..models() };
    let rows = [
        (chat("Hi", 8, false), Some(ours), true),
        (chat("Hi", 8, false), Some(theirs), false),
        (embed(&["a"]), Some(theirs), true),
        (embed(&["a"]), Some(ours), false),
        (chat("Hi", 8, false), None, true),
    ];
    for (given, sha256, runs) in rows {
        let (_, step) = Life::begin(&pinned(&given, sha256), &context(&models, &[]));
        if runs {
            assert!(matches!(step.action, Action::Run(_)), "{sha256:?}");
            continue;
        }
        let message = sent(step);
        assert_eq!(message.subject, "step.local.acme");
        let wire: StepWire = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(wire.reason, StepReason::Fallback { code: Code::WrongModel });
    }
    // A worker that does not know its own weights is none that the bundle knows.
    let unknown = Models { chat_sha256: None, ..models };
    let (_, step) = Life::begin(&pinned(&chat("Hi", 8, false), Some(ours)), &context(&unknown, &[]));
    assert!(matches!(step.action, Action::Send(_)));
}

#[test]
fn other_adapters_than_the_one_that_is_pinned_answer_nothing() {
    let (weights, adapter, other) = (Digest::from([1; 32]), Digest::from([2; 32]), Digest::from([3; 32]));
    let with = |chat_adapter_sha256| Models {
        chat_sha256: Some(weights),
        embed_sha256: Some(weights),
        chat_adapter_sha256,
        ..models()
    };
    let pin = |given: &Given, sha256, adapter| {
        let mut message = pinned(given, sha256);
        let text = message.headers.get(header::DECISION).unwrap();
        let mut decision: Decision = serde_json::from_str(text).unwrap();
        decision.destination.as_mut().unwrap().adapter_sha256 = adapter;
        let text = serde_json::to_string(&decision).unwrap();
        let before = message.headers.clone();
        let others = before.iter().filter(|(name, _)| *name != header::DECISION);
        message.headers =
            others.fold(Headers::new(), |headers, (name, value)| headers.with(name.to_owned(), value));
        message.headers = message.headers.with(header::DECISION, text);
        message
    };
    // What the bundle pins beside the weights, what is merged here, whether it runs.
    let rows = [
        (Some(adapter), Some(adapter), true),
        (Some(adapter), None, false),
        (Some(adapter), Some(other), false),
        (None, Some(adapter), false),
        (None, None, true),
    ];
    for (pinned, merged, runs) in rows {
        let work = pin(&chat("Hi", 8, false), Some(weights), pinned);
        let (_, step) = Life::begin(&work, &context(&with(merged), &[]));
        assert_eq!(matches!(step.action, Action::Run(_)), runs, "{pinned:?} {merged:?}");
        if !runs {
            let wire: StepWire = serde_json::from_slice(&sent(step).payload).unwrap();
            assert_eq!(wire.reason, StepReason::Fallback { code: Code::WrongModel });
        }
    }
    let runs = |work: &Arrived, merged| {
        matches!(Life::begin(work, &context(&with(merged), &[])).1.action, Action::Run(_))
    };
    // Embeddings are made by another model: its weights are what they were.
    assert!(runs(&pin(&embed(&["a"]), Some(weights), None), Some(adapter)));
    assert!(!runs(&pin(&embed(&["a"]), Some(weights), Some(adapter)), Some(adapter)));
    // Where nothing is pinned any weights answer; an adapter alone is a pin, too.
    assert!(runs(&pin(&chat("Hi", 8, false), None, None), Some(adapter)));
    assert!(
        !runs(&pin(&chat("Hi", 8, false), None, Some(adapter)), Some(adapter)),
        "of weights that nobody named"
    );
}

#[test]
fn a_result_names_the_adapter_that_was_merged() {
    let adapter = Digest::from([9; 32]);
    for named in [None, Some(adapter)] {
        let mut life = running(&chat("Hi", 8, false));
        let mut made = output(OutputContent::Text("Hello".to_owned()), FinishReason::Stop);
        let info = ModelInfo { adapter_sha256: named.map(|hash| hash.to_string()), ..(*made.model).clone() };
        made.model = info.into();
        let message = sent(next(&mut life, Event::Ran(Ran::Finished(Box::new(made)))));
        let model = result(&message).model.unwrap();
        assert_eq!((model.adapter_sha256, model.sha256.is_some()), (named, true));
    }
}
