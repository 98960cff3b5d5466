//! Sentence embeddings: a BERT encoder, the mean over tokens, length 1.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use tokenizers::{Encoding, PaddingParams, Tokenizer, TruncationParams};

use crate::engine::{EngineConfig, ModelInfo};
use crate::error::{EngineError, LoadError, RefusedModel};
use crate::verify;

/// Most tokens of a text: the window that all-MiniLM-L6-v2 was trained and is published with.
const WINDOW_TOKENS: usize = 256;
/// Tokens in one step, padding included, so that conversations under way wait no longer than that (about 0.3 s on one
/// thread). Short texts are many in a step, long ones few: padding costs as much as text.
const TOKENS_PER_STEP: usize = 1024;
/// Most bytes of the two JSON files.
const MAX_JSON_BYTES: u64 = 64 * 1024 * 1024;

/// A loaded embedding model.
pub(crate) struct EmbedModel {
    bert: BertModel,
    tokenizer: Tokenizer,
    pub(crate) info: Arc<ModelInfo>,
}

/// One request under way.
pub(crate) struct Embedding {
    encodings: Vec<Encoding>,
    /// Texts by falling length: a step's texts then need little padding.
    order: Vec<usize>,
    done: usize,
    vectors: Vec<Vec<f32>>,
    pub(crate) input_tokens: u32,
}

impl EmbedModel {
    pub(crate) fn load(directory: &Path, config: &EngineConfig) -> Result<Self, LoadError> {
        let weights_path = directory.join("model.safetensors");
        let mut file = verify::open(&weights_path, config.max_model_bytes)?;
        let sha256 = verify::hash(&mut file, &weights_path, config.embed_sha256.as_deref())?;
        let failed = |reason: String| LoadError::Weights { path: weights_path.clone(), reason };
        let weights = verify::read_again(&mut file, &weights_path)?;
        let shape: Config = serde_json::from_slice(&read_small(&directory.join("config.json"))?)
            .map_err(|error| failed(format!("config.json beside it is not that of a BERT model: {error}")))?;
        let context_tokens = WINDOW_TOKENS.min(shape.max_position_embeddings);
        let tokenizer = tokenizer(&read_small(&directory.join("tokenizer.json"))?)
            .map_err(|error| failed(format!("tokenizer.json beside it can't be used: {error}")))?;
        let builder = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu)
            .map_err(|error| failed(error.to_string()))?;
        let bert = BertModel::load(builder, &shape).map_err(|error| failed(error.to_string()))?;
        let name = directory.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let info = ModelInfo {
            kind: "embed".to_owned(),
            name,
            architecture: "bert".to_owned(),
            quantisation: "F32".to_owned(),
            sha256,
            adapter_sha256: None,
            context_tokens,
            threads: candle_core::utils::get_num_threads(),
            kernels: crate::model::kernels().to_owned(),
        };
        Ok(Self { bert, tokenizer, info: Arc::new(info) })
    }

    pub(crate) fn begin(&self, texts: Vec<String>) -> Result<Embedding, EngineError> {
        let encodings = self
            .tokenizer
            .encode_batch_fast(texts, true)
            .map_err(|_| EngineError::Model { doing: "tokenising" })?;
        // Nobody would notice that a vector is of the beginning alone.
        let window_tokens = self.info.context_tokens;
        let long = encodings.iter().enumerate().find(|(_, encoding)| encoding.len() > window_tokens);
        if let Some((index, encoding)) = long {
            return Err(EngineError::TextTooLong {
                number: index + 1,
                tokens: encoding.len(),
                window_tokens,
            });
        }
        let mut order: Vec<usize> = (0..encodings.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(encodings[index].len()));
        let tokens: usize = encodings.iter().map(Encoding::len).sum();
        Ok(Embedding {
            vectors: vec![Vec::new(); encodings.len()],
            input_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            encodings,
            order,
            done: 0,
        })
    }

    /// Embeds the next texts of `request`; true when all are done.
    pub(crate) fn step(&self, request: &mut Embedding) -> Result<bool, EngineError> {
        let waiting = &request.order[request.done..];
        // The first is the longest.
        let longest = waiting.first().map_or(1, |&index| request.encodings[index].len().max(1));
        let indices = &waiting[..waiting.len().min((TOKENS_PER_STEP / longest).max(1))];
        if !indices.is_empty() {
            let encodings: Vec<&Encoding> = indices.iter().map(|&index| &request.encodings[index]).collect();
            let vectors = self.embed(&encodings).map_err(|error| {
                tracing::error!(error = %error, "Embedding failed.");
                EngineError::Model { doing: "embedding" }
            })?;
            for (&index, vector) in indices.iter().zip(vectors) {
                request.vectors[index] = vector;
            }
            request.done += indices.len();
        }
        Ok(request.done == request.order.len())
    }

    fn embed(&self, encodings: &[&Encoding]) -> Result<Vec<Vec<f32>>, candle_core::Error> {
        let longest = encodings.iter().map(|encoding| encoding.len()).max().unwrap_or(0);
        let padded = |values: fn(&Encoding) -> &[u32]| {
            let rows = encodings.iter().flat_map(|encoding| {
                let padding = longest - encoding.len();
                values(encoding).iter().copied().chain(std::iter::repeat_n(0, padding))
            });
            Tensor::from_vec(rows.collect::<Vec<u32>>(), (encodings.len(), longest), &Device::Cpu)
        };
        let ids = padded(Encoding::get_ids)?;
        let mask = padded(Encoding::get_attention_mask)?;
        let hidden = self.bert.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let mean = hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
        let length = mean.sqr()?.sum_keepdim(1)?.sqrt()?.clamp(1e-12, f64::MAX)?;
        mean.broadcast_div(&length)?.to_vec2()
    }
}

impl Embedding {
    pub(crate) fn into_vectors(self) -> Vec<Vec<f32>> {
        self.vectors
    }
}

fn tokenizer(json: &[u8]) -> Result<Tokenizer, tokenizers::Error> {
    let mut tokenizer = Tokenizer::from_bytes(json)?;
    tokenizer.with_padding(None::<PaddingParams>);
    tokenizer.with_truncation(None::<TruncationParams>)?;
    Ok(tokenizer)
}

pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>, RefusedModel> {
    let mut file = verify::open(path, MAX_JSON_BYTES)?;
    verify::read_again(&mut file, path)
}
