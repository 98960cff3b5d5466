//! Where tests find models and fixtures.

#![expect(clippy::panic, reason = "a test without its model must fail clearly")]

use std::path::PathBuf;

use crate::chat::ChatModel;
use crate::engine::EngineConfig;
use crate::model::Repack;

/// A model file of the test set.
pub(crate) fn model(name: &str) -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.models");
    let models = std::env::var_os("TIDEGATE_MODELS").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = models.join(name);
    assert!(
        path.exists(),
        "`{}` is missing: run ./tests/run or deploy/fetch-models, or set TIDEGATE_MODELS",
        path.display()
    );
    path
}

/// The chat model, loaded here.
pub(crate) fn chat(repack: Option<Repack>) -> ChatModel {
    let path = model("SmolLM2-135M-Instruct/model.gguf");
    crate::load::chat(&path, &EngineConfig::default(), repack).unwrap_or_else(|error| panic!("{error}"))
}

/// The rows of a fixture.
pub(crate) fn fixture<Row: serde::de::DeserializeOwned>(name: &str) -> Vec<Row> {
    let path = format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}
