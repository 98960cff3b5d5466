//! Embeddings equal the reference, alone and side by side.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use support::{EMBED, model, submit};
use tidegate_engine::{Engine, EngineConfig, EngineError, JobInput, OutputContent, StepHook, SubmitError};

#[derive(Deserialize)]
struct Row {
    text: String,
    vector: Vec<f32>,
}

fn embed(engine: &Engine, texts: Vec<String>) -> Vec<Vec<f32>> {
    let reply = submit(engine, JobInput::Embed { texts }, None).reply();
    assert!(reply.pieces.is_empty() && reply.output().usage.input_tokens > 0);
    match reply.outcome.unwrap_or_else(|error| panic!("{error}")).content {
        OutputContent::Embeddings(vectors) => vectors,
        OutputContent::Text(_) | OutputContent::Scanned(_) => panic!("not vectors"),
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn vectors_are_those_of_the_reference() {
    let config = EngineConfig { embed: Some(model(EMBED)), ..EngineConfig::default() };
    let (engine, thread) = Engine::start(config).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/embeddings.json");
    let rows: Vec<Row> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let texts: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();

    let together = embed(&engine, texts.clone());
    for (row, vector) in rows.iter().zip(&together) {
        assert!(
            distance(&row.vector, vector) < 1e-3,
            "{} differs by {}",
            row.text,
            distance(&row.vector, vector)
        );
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4);
    }
    // Padding and order change nothing, over several steps too.
    let many: Vec<String> = texts.iter().cycle().take(40).cloned().collect();
    for (index, vector) in embed(&engine, many).iter().enumerate() {
        assert!(distance(&together[index % rows.len()], vector) < 1e-5);
    }
    // What does not fit is refused, and not embedded by its beginning.
    let long = ["x".to_owned(), "word ".repeat(400)];
    let refused = submit(&engine, JobInput::Embed { texts: long.to_vec() }, None).reply();
    let EngineError::TextTooLong { number: 2, tokens, window_tokens: 256 } = refused.error() else {
        panic!("{:?}", refused.error())
    };
    assert!(*tokens > 400);
    // Negative control: different texts lie apart.
    assert!(distance(&together[0], &together[1]) > 1e-2);
    assert_eq!(engine.models()[0].kind, "embed");
    drop(engine);
    thread.join();
}

/// A panic inside a step fails that job; a step that ends well makes the count begin anew; three in a row end the engine.
#[test]
fn panics_fail_their_jobs_and_three_in_a_row_end_the_engine() {
    let wanted = Arc::new(AtomicU32::new(0));
    let left = wanted.clone();
    let hook = StepHook::new(move || {
        let panics = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(panics.is_err(), "a step that the model does not survive");
    });
    let config = EngineConfig { embed: Some(model(EMBED)), on_step: Some(hook), ..EngineConfig::default() };
    let (engine, thread) = Engine::start(config).unwrap();
    let job = || JobInput::Embed { texts: vec!["Hi".to_owned()] };
    for panics in [1, 2, 2] {
        wanted.store(panics, Ordering::SeqCst);
        for _ in 0..panics {
            assert_eq!(submit(&engine, job(), None).reply().error(), &EngineError::Panicked);
        }
        // Negative control: the same job without the panic.
        assert_eq!(embed(&engine, vec!["Hi".to_owned()]).len(), 1);
    }
    wanted.store(3, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(submit(&engine, job(), None).reply().error(), &EngineError::Panicked);
    }
    thread.join();
    assert!(!engine.is_alive());
    let late = tidegate_engine::Job {
        id: 0,
        input: job(),
        deadline: None,
        cancel: tidegate_engine::CancelFlag::new(),
        events: Box::new(drop),
    };
    assert_eq!(engine.submit(late).unwrap_err(), SubmitError::Stopped);
}
