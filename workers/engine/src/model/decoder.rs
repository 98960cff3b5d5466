//! The layers, and one step through them.

use std::fs::File;

use candle_core::quantized::GgmlDType;

use super::Architecture;
use super::attention::{Cache, Heads, Rope, attend};
use super::lora::{Deltas, RowOrder};
use super::math::{add, rms_norm, silu_times};
use super::weights::{Matrix, Repack, Weights, WeightsError};
use crate::gguf::{GgufError, Header};

/// Most layers a file may have.
const MAX_LAYERS: usize = 512;
/// Most values of a hidden state or inner layer.
const MAX_WIDTH: usize = 1 << 18;

/// A loaded decoder; immutable, the state of a conversation is its [`Cache`].
pub(crate) struct Decoder {
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `None` where the embedding serves as the output matrix too.
    output: Option<Matrix>,
    rope: Rope,
    heads: Heads,
    epsilon: f32,
    pub(crate) context_tokens: usize,
    /// The types computed with.
    pub(crate) computed: Vec<GgmlDType>,
}

struct Layer {
    attention_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    attention_output: Matrix,
    /// Norms of each query and key head (Qwen3).
    head_norms: Option<(Vec<f32>, Vec<f32>)>,
    inner_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// The next tokens of one sequence.
pub(crate) struct Rows<'a> {
    pub(crate) cache: &'a mut Cache,
    pub(crate) tokens: &'a [u32],
    /// Whether the logits after the last token are wanted.
    pub(crate) logits: bool,
}

impl Decoder {
    /// Loads the weights, each matrix with its change where `deltas` has one.
    pub(crate) fn load(
        header: &Header,
        file: &mut File,
        forced: Option<Repack>,
        deltas: Deltas,
    ) -> Result<Self, WeightsError> {
        let architecture = Architecture::of(header).map_err(|_| GgufError::Missing("architecture".into()))?;
        let key = |suffix: &str| format!("{}.{suffix}", architecture.name());
        let hidden = limited(header, &key("embedding_length"), MAX_WIDTH)?;
        let inner = limited(header, &key("feed_forward_length"), MAX_WIDTH)?;
        let layer_count = limited(header, &key("block_count"), MAX_LAYERS)?;
        let queries = limited(header, &key("attention.head_count"), hidden)?;
        let groups = limited(header, &key("attention.head_count_kv"), queries)?;
        let size = header.count_opt(&key("attention.key_length")).unwrap_or(hidden / queries);
        let turned = header.count_opt(&key("rope.dimension_count")).unwrap_or(size);
        if !queries.is_multiple_of(groups) || size == 0 || size > MAX_WIDTH || turned != size {
            return Err(GgufError::Missing(key("rope.dimension_count")).into());
        }
        let heads = Heads { queries, groups, size };
        let vocabulary = header.texts("tokenizer.ggml.tokens")?.len();
        #[expect(clippy::cast_possible_truncation, reason = "f32 is the precision computed in")]
        let epsilon = header.float(&key("attention.layer_norm_rms_epsilon")).unwrap_or(1e-5) as f32;

        let mut weights = Weights::new(header, file, forced, deltas);
        let scale = match weights.has("rope_freqs.weight") {
            true => Some(weights.vector("rope_freqs.weight", size / 2)?),
            false => None,
        };
        let rope = Rope::new(
            size,
            header.float(&key("rope.freq_base")).unwrap_or(10_000.0),
            architecture == Architecture::Llama,
            scale.as_deref(),
        );
        let embedding = weights.matrix("token_embd.weight", vocabulary, hidden)?;
        let layers = (0..layer_count)
            .map(|index| Layer::load(&mut weights, index, architecture, heads, (hidden, inner)))
            .collect::<Result<_, _>>()?;
        let norm = weights.vector("output_norm.weight", hidden)?;
        let output = match weights.has("output.weight") {
            true => Some(weights.matrix("output.weight", vocabulary, hidden)?),
            false => None,
        };
        let context_tokens = header.count(&key("context_length"))?;
        let computed = weights.finish(|name| is_known(name, layer_count))?;
        Ok(Self { embedding, layers, norm, output, rope, heads, epsilon, context_tokens, computed })
    }

    /// An empty cache for a new sequence of at most `positions` tokens.
    pub(crate) fn cache(&self, positions: usize) -> Cache {
        Cache::new(self.layers.len(), self.heads, positions)
    }

    /// Feeds each sequence its tokens. Returns, for each, the logits after its last token where wanted.
    ///
    /// INVARIANT: on an error or panic the caches in `batch` are half-written and must be dropped.
    pub(crate) fn step(&self, batch: &mut [Rows<'_>]) -> Result<Vec<Option<Vec<f32>>>, candle_core::Error> {
        let tokens: Vec<u32> = batch.iter().flat_map(|rows| rows.tokens).copied().collect();
        let mut hidden = self.embedding.rows(&tokens)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let attended = self.attention(layer, index, &hidden, batch)?;
            add(&mut hidden, &attended);
            let mut normed = hidden.clone();
            rms_norm(&mut normed, &layer.inner_norm, self.epsilon);
            let mut gate = layer.gate.multiply(&normed)?;
            silu_times(&mut gate, &layer.up.multiply(&normed)?);
            add(&mut hidden, &layer.down.multiply(&gate)?);
        }
        for rows in batch.iter_mut() {
            rows.cache.advance(rows.tokens.len());
        }
        self.logits(&hidden, batch)
    }

    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        hidden: &[f32],
        batch: &mut [Rows<'_>],
    ) -> Result<Vec<f32>, candle_core::Error> {
        let mut normed = hidden.to_vec();
        rms_norm(&mut normed, &layer.attention_norm, self.epsilon);
        let mut queries = layer.query.multiply(&normed)?;
        let mut keys = layer.key.multiply(&normed)?;
        let values = layer.value.multiply(&normed)?;
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            rms_norm(&mut queries, query_norm, self.epsilon);
            rms_norm(&mut keys, key_norm, self.epsilon);
        }
        let Heads { queries: query_heads, groups, size } = self.heads;
        let (query_width, key_width) = (query_heads * size, groups * size);
        let mut output = vec![0f32; queries.len()];
        let mut first = 0;
        for rows in batch.iter_mut() {
            let before = rows.cache.len();
            let last = first + rows.tokens.len();
            let query_span = first * query_width..last * query_width;
            let key_span = first * key_width..last * key_width;
            for (row, query) in queries[query_span.clone()].chunks_exact_mut(query_width).enumerate() {
                self.rope.turn(query, size, before + row);
            }
            for (row, key) in keys[key_span.clone()].chunks_exact_mut(key_width).enumerate() {
                self.rope.turn(key, size, before + row);
            }
            attend(
                rows.cache,
                index,
                self.heads,
                (&queries[query_span.clone()], &keys[key_span.clone()], &values[key_span]),
                &mut output[query_span],
            );
            first = last;
        }
        layer.attention_output.multiply(&output)
    }

    /// The output matrix is the largest: it sees only the rows whose logits are wanted.
    fn logits(
        &self,
        hidden: &[f32],
        batch: &[Rows<'_>],
    ) -> Result<Vec<Option<Vec<f32>>>, candle_core::Error> {
        let width = self.norm.len();
        let mut wanted = Vec::new();
        let mut end = 0;
        for rows in batch {
            end += rows.tokens.len();
            if rows.logits {
                wanted.extend_from_slice(&hidden[(end - 1) * width..end * width]);
            }
        }
        if wanted.is_empty() {
            return Ok(batch.iter().map(|_| None).collect());
        }
        rms_norm(&mut wanted, &self.norm, self.epsilon);
        let output = self.output.as_ref().unwrap_or(&self.embedding);
        let logits = output.multiply(&wanted)?;
        let mut rows_of_logits = logits.chunks_exact(output.n);
        Ok(batch
            .iter()
            .map(|rows| if rows.logits { rows_of_logits.next().map(<[f32]>::to_vec) } else { None })
            .collect())
    }
}

impl Layer {
    fn load(
        weights: &mut Weights<'_>,
        index: usize,
        architecture: Architecture,
        heads: Heads,
        (hidden, inner): (usize, usize),
    ) -> Result<Self, WeightsError> {
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        let Heads { queries, groups, size } = heads;
        let order = match architecture {
            Architecture::Llama => RowOrder::Paired { size },
            Architecture::Qwen3 => RowOrder::Trained,
        };
        let head_norms = match architecture {
            Architecture::Llama => None,
            Architecture::Qwen3 => Some((
                weights.vector(&name("attn_q_norm"), size)?,
                weights.vector(&name("attn_k_norm"), size)?,
            )),
        };
        Ok(Self {
            attention_norm: weights.vector(&name("attn_norm"), hidden)?,
            query: weights.matrix_in(&name("attn_q"), [queries * size, hidden], order)?,
            key: weights.matrix_in(&name("attn_k"), [groups * size, hidden], order)?,
            value: weights.matrix(&name("attn_v"), groups * size, hidden)?,
            attention_output: weights.matrix(&name("attn_output"), hidden, queries * size)?,
            head_norms,
            inner_norm: weights.vector(&name("ffn_norm"), hidden)?,
            gate: weights.matrix(&name("ffn_gate"), inner, hidden)?,
            up: weights.matrix(&name("ffn_up"), inner, hidden)?,
            down: weights.matrix(&name("ffn_down"), hidden, inner)?,
        })
    }
}

fn limited(header: &Header, key: &str, limit: usize) -> Result<usize, WeightsError> {
    let count = header.count(key)?;
    if count == 0 || count > limit {
        return Err(GgufError::Missing(key.to_owned()).into());
    }
    Ok(count)
}

/// Whether [`Decoder::load`] reads a tensor of this name.
fn is_known(name: &str, layers: usize) -> bool {
    if matches!(name, "token_embd.weight" | "output_norm.weight" | "output.weight" | "rope_freqs.weight") {
        return true;
    }
    const PARTS: &[&str] = &[
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "attn_q_norm",
        "attn_k_norm",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    ];
    let layer_and_part = name.strip_prefix("blk.").and_then(|rest| rest.strip_suffix(".weight"));
    layer_and_part.and_then(|rest| rest.split_once('.')).is_some_and(|(layer, part)| {
        layer.parse().is_ok_and(|layer: usize| layer < layers) && PARTS.contains(&part)
    })
}
