//! Where tests find models and fixtures.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::io::Write;
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
        "`{}` is missing: run ./tests/run or deploy/fetch models, or set TIDEGATE_MODELS",
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

/// Builds small files.
#[derive(Clone, Default)]
pub(crate) struct GgufFile {
    entries: Vec<u8>,
    entry_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    pub(crate) data: Vec<u8>,
}

fn write_text(to: &mut Vec<u8>, value: &str) {
    to.extend((value.len() as u64).to_le_bytes());
    to.extend(value.as_bytes());
}

impl GgufFile {
    pub(crate) fn entry(mut self, key: &str, value_type: u32, value: &[u8]) -> Self {
        write_text(&mut self.entries, key);
        self.entries.extend(value_type.to_le_bytes());
        self.entries.extend(value);
        self.entry_count += 1;
        self
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        let mut bytes = Vec::new();
        write_text(&mut bytes, value);
        self.entry(key, 8, &bytes)
    }

    pub(crate) fn number(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn float(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    /// An array of texts.
    pub(crate) fn texts(self, key: &str, values: &[String]) -> Self {
        let mut bytes = [8u32.to_le_bytes().to_vec(), (values.len() as u64).to_le_bytes().to_vec()].concat();
        values.iter().for_each(|value| write_text(&mut bytes, value));
        self.entry(key, 9, &bytes)
    }

    /// A tensor with its weights at the end of the data.
    pub(crate) fn weights(mut self, name: &str, shape: &[u64], weights: &[f32]) -> Self {
        let offset = self.data.len().next_multiple_of(32);
        self.data.resize(offset, 0);
        self.data.extend(weights.iter().flat_map(|weight| weight.to_le_bytes()));
        self.tensor(name, shape, 0, offset as u64)
    }

    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], dtype: u32, offset: u64) -> Self {
        write_text(&mut self.tensors, name);
        self.tensors.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        shape.iter().for_each(|size| self.tensors.extend(size.to_le_bytes()));
        self.tensors.extend(dtype.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.entry_count.to_le_bytes());
        bytes.extend(&self.entries);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A tensor of an adapter: name, shape and values.
pub(crate) type Factor = (String, Vec<usize>, Vec<f32>);

/// An adapter's weights as a safetensors file.
pub(crate) fn factors(factors: &[Factor]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = factors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = factors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// A directory with an adapter.
pub(crate) fn adapter(config: &serde_json::Value, weights: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("adapter_config.json"), config.to_string()).unwrap();
    std::fs::write(directory.path().join("adapter_model.safetensors"), weights).unwrap();
    directory
}

pub(crate) fn on_disk(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}
