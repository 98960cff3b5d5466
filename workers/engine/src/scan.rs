//! Personal data in texts: a BERT encoder with a head that gives each token a label (BIO), read in overlapping windows.
//!
//! What it does not do: it judges nothing, and masks nothing. A text that it cannot read it calls [`TextScan::UnknownScript`],
//! never clean.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear};
use candle_transformers::models::bert::{BertModel, Config};
use serde::{Deserialize, Serialize};
use tokenizers::{PaddingParams, Tokenizer};

use crate::embed;
use crate::engine::{EngineConfig, ModelInfo};
use crate::error::{EngineError, LoadError};

use labels::Labels;
use spans::Part;

pub use convert::{Converted, convert_classifier};

mod around;
mod convert;
mod labels;
mod onnx;
mod script;
mod spans;
#[cfg(test)]
mod tests;
mod windows;

/// A span with at least this score is to be masked.
pub const MASK_SCORE: f32 = 0.3;
/// A span with at least this score counts as a finding.
pub const LABEL_SCORE: f32 = 0.5;
/// Tokens in one step, so that conversations under way wait no longer than that (about 0.1 s on one thread).
const TOKENS_PER_STEP: usize = 256;

/// What was found in one text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextScan {
    /// It was read whole; what stands in it, in order, without overlap. Empty: nothing.
    Read(Vec<EntitySpan>),
    /// It holds letters or digits that the model does not know, or a word that is longer than it reads: nobody can say what
    /// stands in it.
    UnknownScript,
}

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntitySpan {
    /// First byte in the text.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
    /// What it is: `person`, `address`, `place`, or the model's own label in lower case.
    pub entity: String,
    /// How sure the model is of its surest token, at least [`MASK_SCORE`].
    pub score: f32,
}

/// A loaded token classifier.
pub(crate) struct ScanModel {
    bert: BertModel,
    head: Linear,
    tokenizer: Tokenizer,
    unknown: u32,
    tokens_max: usize,
    labels: Labels,
    pub(crate) info: Arc<ModelInfo>,
}

/// One request under way.
pub(crate) struct Scanning {
    texts: Vec<String>,
    /// Windows that are still to be read, the last first: text and bytes in it.
    windows: Vec<(usize, std::ops::Range<usize>)>,
    found: Vec<Option<Vec<Part>>>,
    pub(crate) input_tokens: u32,
}

/// Tokens of one window, and the most likely label of each.
pub(crate) struct Labelled {
    /// Bytes in the window.
    pub(crate) offsets: Vec<(usize, usize)>,
    /// Label by its index, and its logits.
    pub(crate) best: Vec<(usize, f32)>,
    /// The label's probability.
    pub(crate) scores: Vec<f32>,
}

// === impl ScanModel ===

impl ScanModel {
    /// Loads the classifier in `directory`; what stands there as ONNX is converted first, unless it was before.
    pub(crate) fn load(directory: &Path, config: &EngineConfig) -> Result<Self, LoadError> {
        let weights_path = directory.join(convert::CONVERTED);
        let failed = |reason: String| LoadError::Weights { path: weights_path.clone(), reason };
        let (weights, sha256) =
            convert::weights(directory, config.scan_sha256.as_deref(), config.max_model_bytes)?;
        let json = embed::read_small(&directory.join("config.json"))?;
        let shape: Config = serde_json::from_slice(&json)
            .map_err(|error| failed(format!("config.json beside it is not that of a BERT model: {error}")))?;
        let labels = Labels::read(&json).map_err(&failed)?;
        let tokenizer = tokenizer(&embed::read_small(&directory.join("tokenizer.json"))?)
            .map_err(|error| failed(format!("tokenizer.json beside it can't be used: {error}")))?;
        let unknown = tokenizer.token_to_id("[UNK]").ok_or_else(|| failed("it has no [UNK]".to_owned()))?;
        let builder = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)
            .map_err(|error| failed(error.to_string()))?;
        let bert = BertModel::load(builder.pp("bert"), &shape).map_err(|error| failed(error.to_string()))?;
        let head = linear(shape.hidden_size, labels.len(), builder.pp("classifier"))
            .map_err(|error| failed(error.to_string()))?;
        let info = ModelInfo {
            kind: "scan".to_owned(),
            name: directory.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            architecture: "bert".to_owned(),
            quantisation: "F32".to_owned(),
            sha256,
            adapter_sha256: None,
            context_tokens: shape.max_position_embeddings,
            threads: candle_core::utils::get_num_threads(),
            kernels: crate::model::kernels().to_owned(),
        };
        let tokens_max = shape.max_position_embeddings;
        Ok(Self { bert, head, tokenizer, unknown, tokens_max, labels, info: Arc::new(info) })
    }

    /// Begins a request. Texts in another script end here, and the rest is cut into windows.
    pub(crate) fn begin(&self, texts: Vec<String>) -> Scanning {
        let known = |text: &String| script::is_known(text).then(Vec::new);
        let found: Vec<Option<Vec<Part>>> = texts.iter().map(known).collect();
        let mut windows = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            if found.get(index).is_some_and(Option::is_some) {
                windows.extend(windows::of(text).into_iter().map(|window| (index, window)));
            }
        }
        windows.reverse();
        Scanning { texts, windows, found, input_tokens: 0 }
    }

    /// Reads the next windows of `request`; true when all are read.
    pub(crate) fn step(&self, request: &mut Scanning) -> Result<bool, EngineError> {
        let mut tokens = 0;
        while tokens < TOKENS_PER_STEP
            && let Some((index, window)) = request.windows.pop()
        {
            let Some(text) = request.texts.get(index).and_then(|text| text.get(window.clone())) else {
                return Err(EngineError::Model { doing: "cutting a text" });
            };
            let Some(Some(found)) = request.found.get_mut(index) else { continue };
            match self.label(&spans::unquoted(text))? {
                Some(labelled) => {
                    tokens += labelled.offsets.len() + 2;
                    found.extend(spans::decode(text, &labelled, &self.labels, window.start));
                }
                None => request.found[index] = None,
            }
        }
        let counted = u32::try_from(tokens).unwrap_or(u32::MAX);
        request.input_tokens = request.input_tokens.saturating_add(counted);
        Ok(request.windows.is_empty())
    }

    /// Labels the tokens of one window; `None` where it holds what the vocabulary does not.
    pub(crate) fn label(&self, window: &str) -> Result<Option<Labelled>, EngineError> {
        let encoding =
            self.tokenizer.encode(window, true).map_err(|_| EngineError::Model { doing: "tokenising" })?;
        let (ids, offsets) = (encoding.get_ids(), encoding.get_offsets());
        let unread = |(id, (start, end)): (&u32, &(usize, usize))| {
            *id == self.unknown
                && window.get(*start..*end).is_none_or(|word| word.chars().any(char::is_alphanumeric))
        };
        if ids.len() > self.tokens_max || ids.iter().zip(offsets).any(unread) {
            return Ok(None);
        }
        let rows = self.logits(ids).map_err(|error| {
            tracing::error!(error = %error, "Labelling failed.");
            EngineError::Model { doing: "labelling" }
        })?;
        let mut labelled = Labelled { offsets: Vec::new(), best: Vec::new(), scores: Vec::new() };
        // Special tokens have no width.
        for (row, at) in rows.iter().zip(offsets).filter(|(_, (start, end))| end > start) {
            let best = best(row);
            labelled.scores.push(1.0 / row.iter().map(|logit| (logit - best.1).exp()).sum::<f32>());
            labelled.best.push(best);
            labelled.offsets.push(*at);
        }
        Ok(Some(labelled))
    }

    fn logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>, candle_core::Error> {
        let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let hidden = self.bert.forward(&ids, &ids.zeros_like()?, None)?;
        self.head.forward(&hidden)?.squeeze(0)?.to_vec2()
    }
}

// === impl Scanning ===

impl Scanning {
    pub(crate) fn into_scans(self) -> Vec<TextScan> {
        let scan = |(text, found): (&String, Option<Vec<Part>>)| match found {
            Some(parts) => TextScan::Read(spans::whole(text, parts)),
            None => TextScan::UnknownScript,
        };
        self.texts.iter().zip(self.found).map(scan).collect()
    }
}

/// The largest logit; the first of equals.
fn best(row: &[f32]) -> (usize, f32) {
    row.iter().copied().enumerate().fold(
        (0, f32::NEG_INFINITY),
        |best, next| {
            if next.1 > best.1 { next } else { best }
        },
    )
}

fn tokenizer(json: &[u8]) -> Result<Tokenizer, tokenizers::Error> {
    let mut tokenizer = Tokenizer::from_bytes(json)?;
    tokenizer.with_padding(None::<PaddingParams>);
    tokenizer.with_truncation(None)?;
    Ok(tokenizer)
}
