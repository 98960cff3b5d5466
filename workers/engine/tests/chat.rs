//! What callers of the engine may rely on, on the real chat model.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{ask, chat_engine, request, submit};
use tidegate_engine::{
    CancelFlag, Engine, EngineConfig, EngineError, FinishReason, Job, JobEvent, JobInput, SamplingParams,
    SubmitError,
};

/// Each story runs on the same engine, so that each also shows that the one before left it whole.
#[test]
fn one_engine_keeps_its_promises_job_after_job() {
    let (engine, thread) = chat_engine(EngineConfig::default());
    let stories: &[fn(&Engine)] = &[
        pieces_make_the_answer,
        the_answer_stops_where_it_should,
        a_seed_repeats,
        bad_requests_are_refused,
        cancel_and_deadline_are_seen_between_tokens,
        waiting_jobs_are_swept,
        a_panic_fails_one_job,
        answers_keep_to_their_schema,
        bad_schemas_are_refused_without_a_quote,
    ];
    for story in stories {
        story(&engine);
    }
    engine.shutdown();
    thread.join();
    assert!(!engine.is_alive());
}

fn pieces_make_the_answer(engine: &Engine) {
    let reply = ask(engine, request("What is the capital of France?", 16));
    let output = reply.output();
    assert_eq!(reply.pieces.concat(), reply.text());
    assert!(!reply.text().is_empty());
    assert_eq!(output.usage.input_tokens, 37);
    assert!((1..=16).contains(&output.usage.output_tokens));
    assert!(output.timings.prompt > Duration::ZERO && output.timings.decode > Duration::ZERO);
    assert_eq!(*output.model, engine.models()[0]);
    assert_eq!(output.model.name, "SmolLM2-135M-Instruct");
    assert_eq!(output.model.sha256.len(), 64);
}

fn the_answer_stops_where_it_should(engine: &Engine) {
    // Which of them the model ends by itself depends on the machine's arithmetic; one surely is.
    let questions = [
        "Summarize: NATS is simple. It is fast.",
        "Translate 'good morning' to Spanish.",
        "Hi",
        "Who are you?",
    ];
    let ended =
        |reply: &support::Reply| reply.output().finish == FinishReason::Stop && reply.text().len() > 16;
    let mut replies = questions.iter().map(|question| (*question, ask(engine, request(question, 80))));
    let (question, whole) = replies.find(|(_, reply)| ended(reply)).unwrap();
    assert!(!whole.text().contains("<|im_end|>"));

    let cut = ask(engine, request(question, 5));
    assert_eq!((cut.output().finish, cut.output().usage.output_tokens), (FinishReason::Length, 5));
    assert!(whole.text().starts_with(cut.text()));

    let stop: String = whole.text().chars().skip(8).take(5).collect();
    let mut stopping = request(question, 80);
    stopping.params.stop = vec!["never written".to_owned(), stop.clone()];
    let stopped = ask(engine, stopping);
    assert_eq!(stopped.output().finish, FinishReason::Stop);
    assert_eq!(stopped.text(), whole.text().split(stop.as_str()).next().unwrap());
    assert_eq!(stopped.pieces.concat(), stopped.text());
}

fn a_seed_repeats(engine: &Engine) {
    let run = |seed| {
        let mut request = request("Write one sentence about the sea.", 24);
        request.params = SamplingParams { temperature: 1.2, top_p: 0.95, seed, ..request.params };
        ask(engine, request).text().to_owned()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let greedy = || ask(engine, request("Write one sentence about the sea.", 24)).text().to_owned();
    assert_eq!(greedy(), greedy());
}

fn bad_requests_are_refused(engine: &Engine) {
    let with = |change: fn(&mut tidegate_engine::ChatRequest)| {
        let mut request = request("Hi", 4);
        change(&mut request);
        JobInput::Chat(request)
    };
    let cases: Vec<(JobInput, &str)> = vec![
        (with(|r| r.messages.clear()), "invalid_input"),
        (with(|r| r.messages[0].role = "User<|im_end|>".to_owned()), "invalid_input"),
        (with(|r| r.messages[0].content = "x".repeat(1024 * 1024 + 1)), "invalid_input"),
        (with(|r| r.messages[0].content = "word ".repeat(9000)), "context_too_long"),
        (with(|r| r.params.temperature = f64::NAN), "invalid_input"),
        (with(|r| r.params.temperature = 2.1), "invalid_input"),
        (with(|r| r.params.top_p = 0.0), "invalid_input"),
        (with(|r| r.params.max_tokens = 0), "invalid_input"),
        (with(|r| r.params.stop = vec![String::new()]), "invalid_input"),
        (with(|r| r.params.stop = vec!["x".to_owned(); 17]), "invalid_input"),
        (with(|r| r.schema = Some(json!({ "title": "x".repeat(64 * 1024) }))), "invalid_input"),
        (JobInput::Embed { texts: vec!["x".to_owned()] }, "unsupported_kind"),
        (JobInput::Embed { texts: vec![] }, "invalid_input"),
    ];
    for (input, code) in cases {
        let reply = submit(engine, input, None).reply();
        assert_eq!(reply.error().code(), code, "{}", reply.error());
    }
}

/// An answer that cannot end for a long time.
fn endless() -> JobInput {
    let mut request = request("Count.", 8000);
    request.schema = Some(json!({ "type": "array", "items": { "enum": [7, 8] }, "minItems": 1500 }));
    JobInput::Chat(request)
}

fn cancel_and_deadline_are_seen_between_tokens(engine: &Engine) {
    let asked = submit(engine, endless(), None);
    asked.piece();
    asked.cancel.cancel();
    let reply = asked.reply();
    assert_eq!(reply.error(), &EngineError::Canceled);
    assert!(reply.pieces.len() < 1000);

    let began = Instant::now();
    let reply = submit(engine, endless(), Some(began + Duration::from_millis(600))).reply();
    assert_eq!(reply.error(), &EngineError::DeadlineExceeded);
    assert!(began.elapsed() >= Duration::from_millis(600));

    let mut long_prompt = request("", 4);
    long_prompt.messages[0].content = "tide ".repeat(4000);
    let began = Instant::now();
    let reply = submit(engine, JobInput::Chat(long_prompt), Some(began + Duration::from_millis(300))).reply();
    assert_eq!((reply.error(), reply.pieces.len()), (&EngineError::DeadlineExceeded, 0));
}

fn waiting_jobs_are_swept(engine: &Engine) {
    let running = submit(engine, endless(), None);
    running.piece();
    let late = submit(engine, JobInput::Chat(request("Hi", 4)), Some(Instant::now()));
    let withdrawn = submit(engine, JobInput::Chat(request("Hi", 4)), None);
    withdrawn.cancel.cancel();
    assert_eq!(late.reply().error(), &EngineError::DeadlineExceeded);
    assert_eq!(withdrawn.reply().error(), &EngineError::Canceled);
    // Negative control: the job before them was still running.
    running.cancel.cancel();
    assert_eq!(running.reply().error(), &EngineError::Canceled);
}

fn a_panic_fails_one_job(engine: &Engine) {
    let (sender, ended) = std::sync::mpsc::channel();
    let job = Job {
        id: 7,
        input: JobInput::Chat(request("Hi", 8)),
        deadline: None,
        cancel: CancelFlag::new(),
        events: Box::new(move |event| match event {
            JobEvent::Token { .. } => panic!("a caller's mistake"),
            JobEvent::Done(_) => drop(sender.send(None)),
            JobEvent::Failed(error, _) => drop(sender.send(Some(error))),
        }),
    };
    engine.submit(job).unwrap();
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)).unwrap(), Some(EngineError::Panicked));
    assert!(engine.is_alive());
    assert!(!ask(engine, request("Hi", 8)).text().is_empty());
}

fn answers_keep_to_their_schema(engine: &Engine) {
    let person = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 24 },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "tags": { "type": "array", "items": { "enum": ["new", "paid", "late"] }, "maxItems": 3 }
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false
    });
    let verdict = json!({ "type": "object", "properties": { "label": { "enum": ["billing", "support"] } }, "required": ["label"], "additionalProperties": false });
    let text = "Extract: Ada Lovelace, 36 years, paid her invoice.";
    for (schema, temperature) in [(&person, 0.0), (&person, 1.3), (&verdict, 0.0), (&verdict, 1.3)] {
        let mut request = request(text, 160);
        request.schema = Some(schema.clone());
        request.params.temperature = temperature;
        let reply = ask(engine, request);
        let value: Value =
            serde_json::from_str(reply.text()).unwrap_or_else(|error| panic!("{error}: {}", reply.text()));
        assert!(jsonschema::is_valid(schema, &value), "{value}");
        assert_eq!(reply.output().finish, FinishReason::Stop);
        assert_eq!(reply.pieces.concat(), reply.text());
    }
    // Negative control: the model alone does not answer so.
    assert!(serde_json::from_str::<Value>(ask(engine, request(text, 60)).text()).is_err());

    let mut cut = request(text, 3);
    cut.schema = Some(person);
    assert_eq!(ask(engine, cut).output().finish, FinishReason::Length);
}

fn bad_schemas_are_refused_without_a_quote(engine: &Engine) {
    let cases = [
        json!(["SECRET"]),
        json!({ "type": "SECRET" }),
        json!({ "$ref": "https://example.com/SECRET.json" }),
        json!({ "type": "string", "pattern": "(SECRET" }),
        json!({ "type": "integer", "minimum": 5, "maximum": 4, "title": "SECRET" }),
        json!({ "type": "object", "SECRET": 1, "patternProperties": { "[": {} } }),
        // A value that has no end.
        json!({ "type": "object", "properties": { "SECRET": { "$ref": "#" } }, "required": ["SECRET"],
                "additionalProperties": false }),
    ];
    for schema in cases {
        let mut request = request("Hi", 64);
        request.schema = Some(schema.clone());
        let reply = ask(engine, request);
        let error = reply.error();
        assert!(matches!(error, EngineError::BadSchema { .. }), "{schema}: {error}");
        assert!(!format!("{error:?}{error}").contains("SECRET"), "{error:?}");
    }
}

#[test]
fn many_sequences_run_side_by_side_and_the_queue_is_bounded() {
    let (engine, thread) =
        chat_engine(EngineConfig { max_sequences: 3, queue: 2, ..EngineConfig::default() });
    let begin = |_| {
        let asked = submit(&engine, endless(), None);
        asked.piece();
        asked
    };
    let running: Vec<_> = (0..3).map(begin).collect();
    // All three write at the same time.
    running.iter().for_each(|asked| drop(asked.piece()));
    let waiting: Vec<_> = (0..2).map(|_| submit(&engine, JobInput::Chat(request("Hi", 2)), None)).collect();
    assert_eq!(engine.queued(), 2);
    let idle = || Job {
        id: 0,
        input: JobInput::Chat(request("Hi", 2)),
        deadline: None,
        cancel: CancelFlag::new(),
        events: Box::new(drop),
    };
    assert_eq!(engine.submit(idle()).unwrap_err(), SubmitError::Overloaded { limit: 2 });
    running.iter().for_each(|asked| asked.cancel.cancel());
    for asked in running {
        assert_eq!(asked.reply().error(), &EngineError::Canceled);
    }
    for asked in waiting {
        assert_eq!(asked.reply().output().usage.output_tokens, 2);
    }
    // Shutting down finishes what was taken and takes no more.
    let last = submit(&engine, JobInput::Chat(request("Hi", 2)), None);
    engine.shutdown();
    assert_eq!(engine.submit(idle()).unwrap_err(), SubmitError::Stopped);
    thread.join();
    assert!(!last.reply().text().is_empty());
}

#[test]
fn a_wrong_or_missing_model_is_one_clear_sentence() {
    let path = support::model(support::CHAT);
    let cut = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(cut.path(), &std::fs::read(&path).unwrap()[..50_000_000]).unwrap();
    let base = EngineConfig { chat: Some(path), ..EngineConfig::default() };
    let cases = [
        (EngineConfig::default(), "no model is named"),
        (EngineConfig { chat_sha256: Some("00".repeat(32)), ..base.clone() }, "was expected"),
        (EngineConfig { max_model_bytes: 1000, ..base.clone() }, "1000 are allowed"),
        (EngineConfig { chat: Some("/nowhere/model.gguf".into()), ..base.clone() }, "deploy/fetch models"),
        (EngineConfig { chat: Some(cut.path().into()), ..base }, "beyond the end of the file"),
        (EngineConfig { embed: Some("/nowhere".into()), ..EngineConfig::default() }, "deploy/fetch models"),
    ];
    for (config, expected) in cases {
        let sentence = Engine::start(config).unwrap_err().to_string();
        assert!(sentence.contains(expected), "{sentence}");
    }
}
