//! The local worker on a real nats-server with the real default models.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cell;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cell::work::{Given, OWNERS, chat, classify, embed, extract, name};
use cell::{Cell, Gate, PATIENCE, Running, engine, heard, until};
use serde_json::json;
use tidegate_bus::{CancellationToken, Health, Outbound, Role};
use tidegate_engine::Engine;
use tidegate_local::{LocalConfig, RunError};
use tidegate_schemas::attempt::Phase;
use tidegate_schemas::code::Code;
use tidegate_schemas::control::{FLAGS_BUCKET, FLAGS_KEY};
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::result::{Output, ResultError, State, TaskResult};
use tidegate_schemas::step::{Step, StepReason};
use tidegate_schemas::subject::{RESULTS, STEPS, WORK_LOCAL, notice_cancel};

/// Jobs that the engine lets wait: fewer than the pools have in flight, so that it is busy now and then.
const QUEUE: usize = 32;
/// How long the server waits for an acknowledgement: as in a cell, and so short that it delivers again what is under way.
const USUAL: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(400);

/// One test, because the models load once: each story also shows that the one before it left the worker whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_keeps_its_promises_message_after_message() {
    let gate = Gate::default();
    let (cell, (engine, thread)) = tokio::join!(Cell::start(), engine(&gate, QUEUE));
    let worker = cell.worker(&engine, LocalConfig::default()).await;
    a_conversation_streams_and_ends(&cell).await;
    answers_keep_to_their_schema(&cell).await;
    many_vectors_wait_while_the_engine_is_busy(&cell, &gate, &worker).await;
    a_withdrawal_stops_the_tokens(&cell).await;
    a_deadline_is_kept_between_tokens(&cell).await;
    what_cannot_be_work_is_given_up_once(&cell).await;
    who_comes_second_says_so(&cell).await;
    a_switch_sends_work_back(&cell).await;
    a_message_has_one_seat(&cell, &gate, &worker).await;
    what_is_delivered_again_and_again_is_given_up(&cell, &gate).await;
    a_panic_of_the_model_fails_one_task(&cell, &gate).await;
    let report = worker.health.report();
    assert!(report.ready && report.panicked == 0, "{report:?}");
    a_drain_ends_what_runs_and_gives_back_the_rest(&cell, &gate, &engine, worker).await;
    a_model_that_panics_again_and_again_ends_the_worker(&cell, &gate, &engine).await;
    tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
}

async fn a_conversation_streams_and_ends(cell: &Cell) {
    let given = chat("What is the capital of France?", 8, true).replying_to("tok_1");
    let mut deltas = cell.deltas(&given).await;
    let mut replies = cell.heard_by_agent("reply.helpdesk.tok_1").await;
    let work = cell.send(&given).await;
    let mut text = String::new();
    for index in 0.. {
        let delta = heard(&mut deltas).await;
        assert_eq!((&delta["attempt"], &delta["index"]), (&json!(1), &json!(index)));
        if delta["last"] == true {
            break;
        }
        text.push_str(delta["text"].as_str().unwrap());
    }
    let result = cell.result(&given).await;
    assert_eq!(result.state, State::Completed);
    let Some(Output::Text { text: whole, .. }) = &result.output else { panic!("expected text") };
    assert_eq!(whole.expose(), &text, "the pieces make the answer");
    assert!(!text.is_empty());
    assert_eq!(result.destination.as_ref().unwrap().name.as_str(), "local-chat");
    let model = result.model.as_ref().unwrap();
    assert!(model.answered == "SmolLM2-135M-Instruct" && model.sha256.is_some());
    assert!(result.usage.input_tokens > 20 && (1..=8).contains(&result.usage.output_tokens));
    assert!(result.timings.total_ms >= result.timings.run_ms && result.timings.run_ms > 0);

    let subject = format!("result.acme.helpdesk.{}", given.id());
    let stored = cell.router.last_for_subject(RESULTS, &subject).await.unwrap().unwrap();
    assert_eq!(stored.header(header::CAUSE), Some(work.position().to_string().as_str()));
    assert_eq!(stored.header(header::SENSITIVITY), Some("internal"));
    assert_eq!(
        heard(&mut replies).await,
        serde_json::from_slice::<serde_json::Value>(&stored.payload).unwrap()
    );
    let attempts = cell.attempts(&given).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!((&attempts[0].phase, attempts[0].target.as_str()), (&Phase::Started, "default"));
}

async fn answers_keep_to_their_schema(cell: &Cell) {
    let schema = json!({
        "type": "object",
        "properties": { "city": { "type": "string", "maxLength": 12 }, "people": { "type": "integer" } },
        "required": ["city", "people"], "additionalProperties": false,
    });
    let given = extract("Paris has two million inhabitants.", &schema);
    let kinds = classify("The invoice is wrong, I want my money back.", &["billing", "praise"]);
    for given in [&given, &kinds] {
        cell.send(given).await;
    }
    let result = cell.result(&given).await;
    let Some(Output::Json { value }) = &result.output else { panic!("expected JSON: {:?}", result.error) };
    assert!(value.expose()["city"].is_string() && value.expose()["people"].is_number());
    let result = cell.result(&kinds).await;
    let Some(Output::Class { class }) = &result.output else {
        panic!("expected a class: {:?}", result.error)
    };
    assert!(["billing", "praise"].contains(&class.expose().as_str()));
    // Negative control: a schema that cannot be held to is not passed over in silence.
    let bad = extract("x", &json!({ "type": "strange" }));
    cell.send(&bad).await;
    assert_eq!(cell.result(&bad).await.error.unwrap().code, Code::InvalidSchema);
}

async fn many_vectors_wait_while_the_engine_is_busy(cell: &Cell, gate: &Gate, worker: &Running) {
    const TASKS: usize = 96;
    let given: Vec<_> = (0..TASKS).map(|_| embed(&["The cat sits on the mat."])).collect();
    assert_eq!(worker.health.report().retried, 0, "so far there was room");
    gate.shut();
    for published in futures::future::join_all(given.iter().map(|given| cell.send(given))).await {
        assert!(!published.duplicate);
    }
    until("work is put off", async || (worker.health.report().retried > 0).then_some(())).await;
    gate.open();
    let mut vectors = HashSet::new();
    for given in &given {
        let result = cell.result(given).await;
        let Some(Output::Embeddings { vectors: made }) = &result.output else { panic!("expected vectors") };
        let length: f32 = made[0].iter().map(|x| x * x).sum();
        assert!(made.len() == 1 && made[0].len() == 384 && (length - 1.0).abs() < 1e-3);
        vectors.insert(made[0].iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    }
    assert_eq!(vectors.len(), 1, "the same text has the same vector");
    cell.drained("embed").await;
}

async fn a_withdrawal_stops_the_tokens(cell: &Cell) {
    let given = chat("Tell me a very long story about the sea.", 4_000, true);
    let other = chat("Hi", 4, false);
    let mut deltas = cell.deltas(&given).await;
    cell.send(&given).await;
    cell.send(&other).await;
    heard(&mut deltas).await;
    // As the router does it: the canceled result first, then the notice.
    publish_result(cell, &canceled(&given)).await;
    let notice = notice_cancel(&name("acme"), given.id());
    cell.router.publish_core(&notice, &Headers::new(), Bytes::new()).await.unwrap();
    let late = cell.late(&given).await;
    assert!(matches!(late, Phase::Late { output: None, .. }), "it did not run to its end: {late:?}");
    assert_eq!(cell.result(&given).await.state, State::Canceled);
    // Negative control: the task beside it was not withdrawn.
    assert_eq!(cell.result(&other).await.state, State::Completed);
}

fn canceled(given: &Given) -> TaskResult {
    let message = "the producer withdrew the task".into();
    let error = ResultError { code: Code::Canceled, message, retry_after_ms: None };
    TaskResult::ended(name("acme"), name("helpdesk"), given.id(), State::Canceled, error)
}

async fn publish_result(cell: &Cell, result: &TaskResult) {
    let subject = format!("result.acme.helpdesk.{}", result.task);
    let outbound = Outbound::new(subject, serde_json::to_vec(result).unwrap());
    cell.router.publish(outbound.with_id(format!("{}/first", result.task))).await.unwrap();
}

async fn a_deadline_is_kept_between_tokens(cell: &Cell) {
    let running = chat("Tell me a very long story about the sea.", 4_000, true).due_in_ms(1_500);
    let mut deltas = cell.deltas(&running).await;
    cell.send(&running).await;
    assert_eq!(heard(&mut deltas).await["last"], false, "it had begun to answer");
    let past = chat("Hi", 4, false).due_in_ms(-1);
    cell.send(&past).await;
    for given in [&running, &past] {
        let result = cell.result(given).await;
        assert_eq!((result.state, result.error.unwrap().code), (State::Failed, Code::DeadlineExceeded));
        let (ran, tokens) = (result.timings.run_ms > 0, result.usage.output_tokens > 0);
        let began = given.id() == running.id();
        assert_eq!((ran, tokens, result.model.is_some()), (began, began, began), "what it cost until then");
    }
    assert!(cell.attempts(&past).await.is_empty(), "what is late does not begin");
    let long = chat(&"word ".repeat(9_000), 4, false);
    cell.send(&long).await;
    assert_eq!(cell.result(&long).await.error.unwrap().code, Code::ContextTooLong);
    // Negative control: what has time runs.
    let given = chat("Hi", 4, false);
    cell.send(&given).await;
    assert_eq!(cell.result(&given).await.state, State::Completed);
}

async fn what_cannot_be_work_is_given_up_once(cell: &Cell) {
    let given = chat("CANARY Hi", 4, false);
    let changed = String::from_utf8(given.payload().to_vec()).unwrap().replace("Hi", "Ho");
    let outbound = Outbound::new(given.subject(), changed).with_id("changed").with_headers(given.headers());
    let published = cell.router.publish(outbound).await.unwrap();
    let result = cell.result(&given).await;
    assert_eq!((result.state, result.error.as_ref().unwrap().code), (State::Failed, Code::Unattributable));
    let letter = cell.letter(&published).await;
    assert_eq!((letter.code, letter.task), (Code::Unattributable, Some(given.id())));
    assert_eq!(letter.owners.to_string(), OWNERS);
    for shown in [serde_json::to_string(&letter).unwrap(), serde_json::to_string(&result).unwrap()] {
        assert!(!shown.contains("CANARY"), "{shown}");
    }
    let nameless = Outbound::new(given.subject(), given.payload()).with_id("nameless");
    let published = cell.router.publish(nameless).await.unwrap();
    let letter = cell.letter(&published).await;
    assert_eq!((letter.code, letter.task), (Code::InvalidHeaders, None));
    cell.drained("default").await;
    assert!(cell.attempts(&given).await.is_empty(), "nothing of it ran");
}

async fn who_comes_second_says_so(cell: &Cell) {
    let given = chat("Hi", 4, false);
    publish_result(cell, &canceled(&given)).await;
    cell.send(&given).await;
    let Phase::Late { usage, output, .. } = cell.late(&given).await else { panic!("expected late") };
    assert!(usage.output_tokens > 0 && output.is_some(), "what was made is on record");
    assert_eq!(cell.result(&given).await.state, State::Canceled);
}

async fn a_switch_sends_work_back(cell: &Cell) {
    let off = json!({ "event": 1, "switches": [{ "lane": "local", "target": "embed" }] });
    cell.router.kv_put(FLAGS_BUCKET, FLAGS_KEY, off.to_string()).await.unwrap();
    // The switch acts within a second; until it does, work still runs.
    let begun = Instant::now();
    let step = loop {
        assert!(begun.elapsed() < PATIENCE, "the switch does not act");
        let given = embed(&["Is it off?"]);
        let work = cell.send(&given).await.position().to_string();
        let found = until("a result or a step", async || {
            if cell.result_now(given.id()).await.is_some() {
                return Some(None);
            }
            let stored = cell.router.last_for_subject(STEPS, "step.local.acme").await.unwrap()?;
            (stored.header(header::CAUSE) == Some(work.as_str())).then_some(Some(stored))
        })
        .await;
        if let Some(stored) = found {
            break stored;
        }
    };
    let step: Step = serde_json::from_slice(&step.payload).unwrap();
    assert_eq!(step.reason, StepReason::Off);
    // Negative control: the other pool goes on.
    let chatting = chat("Hi", 2, false);
    cell.send(&chatting).await;
    assert_eq!(cell.result(&chatting).await.state, State::Completed);
    let on = json!({ "event": 2, "switches": [] });
    cell.router.kv_put(FLAGS_BUCKET, FLAGS_KEY, on.to_string()).await.unwrap();
}

/// The server delivers a message again while this worker has it.
async fn a_message_has_one_seat(cell: &Cell, gate: &Gate, worker: &Running) {
    cell.drained("default").await;
    cell.wait_for_ack(SHORT).await;
    let before = worker.health.report();
    gate.shut();
    let given = chat("Hi", 4, false);
    cell.send(&given).await;
    until("it is delivered again and put off", async || {
        let now = worker.health.report();
        (now.redelivered > before.redelivered && now.retried > before.retried).then_some(())
    })
    .await;
    cell.wait_for_ack(USUAL).await;
    gate.open();
    let result = cell.result(&given).await;
    assert_eq!((result.state, result.attempts), (State::Completed, 1));
    cell.drained("default").await;
    let attempts = cell.attempts(&given).await;
    assert_eq!(attempts.len(), 1, "it ran once: {attempts:?}");
}

/// More deliveries than anybody can explain: a dead letter and one failed result, and the answer that comes after is late.
async fn what_is_delivered_again_and_again_is_given_up(cell: &Cell, gate: &Gate) {
    cell.wait_for_ack(SHORT).await;
    gate.shut();
    let given = chat("CANARY", 4, false).replying_to("tok_2");
    let mut replies = cell.heard_by_agent("reply.helpdesk.tok_2").await;
    let published = cell.send(&given).await;
    let letter = cell.letter(&published).await;
    assert_eq!(heard(&mut replies).await["error"]["code"], json!("poison"), "who waits is told");
    assert_eq!((letter.code, letter.task, letter.delivered), (Code::Poison, Some(given.id()), 6));
    assert_eq!(letter.owners.to_string(), OWNERS);
    let result = cell.result(&given).await;
    assert_eq!((result.state, result.error.unwrap().code), (State::Failed, Code::Poison));
    cell.wait_for_ack(USUAL).await;
    gate.open();
    assert!(matches!(cell.late(&given).await, Phase::Late { output: Some(_), .. }));
    cell.drained("default").await;
    // Negative control: with as much time as it takes, the same is delivered once and answered.
    let given = chat("CANARY", 4, false);
    cell.send(&given).await;
    assert_eq!(cell.result(&given).await.state, State::Completed);
}

async fn a_panic_of_the_model_fails_one_task(cell: &Cell, gate: &Gate) {
    for (poison, next) in [(chat("Hi", 4, false), chat("Hi", 4, false)), (embed(&["Hi"]), embed(&["Hi"]))] {
        gate.panics(1);
        cell.send(&poison).await;
        let result = cell.result(&poison).await;
        assert_eq!((result.state, result.error.unwrap().code), (State::Failed, Code::ModelFailed));
        // Negative control: the same input without the panic, on the same engine.
        cell.send(&next).await;
        assert_eq!(cell.result(&next).await.state, State::Completed);
        cell.drained(poison.pool).await;
        assert_eq!(cell.attempts(&poison).await.len(), 1, "it is not tried again");
    }
}

async fn a_drain_ends_what_runs_and_gives_back_the_rest(
    cell: &Cell,
    gate: &Gate,
    engine: &Engine,
    worker: Running,
) {
    let given = chat("Hi", 4, true);
    let mut deltas = cell.deltas(&given).await;
    cell.send(&given).await;
    heard(&mut deltas).await;
    worker.stop().await;
    let result = cell.result_now(given.id()).await.unwrap();
    assert_eq!((result.state, result.attempts), (State::Completed, 1), "what runs may end");

    let hasty = cell.worker(engine, LocalConfig { drain_ms: 300, ..LocalConfig::default() }).await;
    let given = chat("Tell me a long story about the sea.", 16, true);
    let mut deltas = cell.deltas(&given).await;
    cell.send(&given).await;
    heard(&mut deltas).await;
    gate.shut();
    let begun = Instant::now();
    hasty.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "a drain has a limit");
    assert!(cell.result_now(given.id()).await.is_none(), "given back, not finished");
    gate.open();
    let next = cell.worker(engine, LocalConfig::default()).await;
    let result = cell.result(&given).await;
    assert_eq!((result.state, result.attempts), (State::Completed, 2), "another worker finished it");
    cell.drained("default").await;
    next.stop().await;
}

async fn a_model_that_panics_again_and_again_ends_the_worker(cell: &Cell, gate: &Gate, engine: &Engine) {
    let worker = cell.worker(engine, LocalConfig::default()).await;
    gate.panics(3);
    let poison: Vec<_> = (0..3).map(|_| chat("Hi", 4, false)).collect();
    for given in &poison {
        cell.send(given).await;
        assert_eq!(cell.result(given).await.error.unwrap().code, Code::ModelFailed);
    }
    let ended = worker.ended().await;
    assert!(matches!(ended, Err(RunError::EngineStopped)), "{ended:?}");
    // What comes now is not taken by a worker without an engine: it is there for the next one.
    let given = chat("Hi", 4, false);
    cell.send(&given).await;
    let bus = cell.bus(Role::Local.into()).await;
    let (stop, health) = (CancellationToken::new(), Health::new(Role::Local));
    let run = tidegate_local::run(bus, LocalConfig::default(), engine.clone(), stop, health);
    let ended = tokio::time::timeout(PATIENCE, run).await.unwrap();
    assert!(matches!(ended, Err(RunError::EngineStopped)), "{ended:?}");
    assert!(cell.result_now(given.id()).await.is_none());
    let state = cell.router.consumer_info(WORK_LOCAL, "default").await.unwrap();
    assert_eq!(state.ack_pending + state.pending, 1, "nothing is lost");
}
