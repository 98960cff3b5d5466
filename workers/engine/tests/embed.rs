//! Embeddings equal the reference, alone and side by side.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use serde::Deserialize;
use support::{EMBED, model, submit};
use tidegate_engine::{Engine, EngineConfig, JobInput, OutputContent};

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
        OutputContent::Text(_) => panic!("not vectors"),
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
    // Negative control: different texts lie apart.
    assert!(distance(&together[0], &together[1]) > 1e-2);
    assert_eq!(engine.models()[0].kind, "embed");
    drop(engine);
    thread.join();
}
