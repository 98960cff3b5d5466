//! Merged adapters against models as they were trained: weights with Hugging Face's names and order of rows, W + scale · B·A in
//! plain f32, computed by candle's own models of that form. The engine sees the GGUF of the same weights and the adapter.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, qwen3};
use serde_json::json;

use super::super::{Decoder, Deltas, Repack, Rows, WeightsError};
use crate::adapter::Adapter;
use crate::gguf::Header;
use crate::testing::{Factor, GgufFile, adapter, factors, on_disk};

const LAYERS: usize = 2;
const HIDDEN: usize = 64;
const INNER: usize = 96;
const HEADS: usize = 4;
const GROUPS: usize = 2;
const VOCABULARY: usize = 80;
const TOKENS: [u32; 9] = [3, 14, 15, 9, 2, 6, 5, 35, 79];
const MATRICES: [(&str, &str); 7] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Values from a fixed sequence, within 0.2 of `around`.
struct Random(u32);

impl Random {
    fn values(&mut self, count: usize, around: f32) -> Vec<f32> {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            around + f32::from(u16::try_from(*state >> 16).unwrap()) / 65_535.0 * 0.4 - 0.2
        };
        (0..count).map(|_| next(&mut self.0)).collect()
    }
}

/// Weights as trained, by Hugging Face's names.
#[derive(Clone)]
struct Trained {
    architecture: &'static str,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// Values a head: Llama's heads fill the hidden state, Qwen3's need not.
fn size(architecture: &str) -> usize {
    if architecture == "llama" { HIDDEN / HEADS } else { 32 }
}

/// Outputs and inputs of each matrix of a layer, in the order of [`MATRICES`].
fn shapes(architecture: &str) -> [[usize; 2]; 7] {
    let size = size(architecture);
    [
        [HEADS * size, HIDDEN],
        [GROUPS * size, HIDDEN],
        [GROUPS * size, HIDDEN],
        [HIDDEN, HEADS * size],
        [INNER, HIDDEN],
        [INNER, HIDDEN],
        [HIDDEN, INNER],
    ]
}

fn trained(architecture: &'static str) -> Trained {
    let mut random = Random(7);
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: Vec<usize>, around: f32| {
        let values = random.values(shape.iter().product(), around);
        tensors.insert(name, (shape, values));
    };
    add("model.embed_tokens.weight".into(), vec![VOCABULARY, HIDDEN], 0.0);
    add("lm_head.weight".into(), vec![VOCABULARY, HIDDEN], 0.0);
    add("model.norm.weight".into(), vec![HIDDEN], 1.0);
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for ((module, _), shape) in MATRICES.iter().zip(shapes(architecture)) {
            add(name(module), shape.to_vec(), 0.0);
        }
        add(name("input_layernorm"), vec![HIDDEN], 1.0);
        add(name("post_attention_layernorm"), vec![HIDDEN], 1.0);
        if architecture == "qwen3" {
            add(name("self_attn.q_norm"), vec![size(architecture)], 1.0);
            add(name("self_attn.k_norm"), vec![size(architecture)], 1.0);
        }
    }
    Trained { architecture, tensors }
}

/// Rows as llama.cpp's converter leaves them: each head's rows seen as two halves, and these interleaved.
fn interleaved(values: &[f32], width: usize, size: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for head in values.chunks_exact(size * width) {
        let (first, second) = head.split_at(size / 2 * width);
        for (one, other) in first.chunks_exact(width).zip(second.chunks_exact(width)) {
            out.extend_from_slice(one);
            out.extend_from_slice(other);
        }
    }
    out
}

/// The GGUF of these weights.
fn gguf(trained: &Trained) -> GgufFile {
    let architecture = trained.architecture;
    let number = |value: usize| u32::try_from(value).unwrap();
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    let tokens: Vec<String> = (0..VOCABULARY).map(|token| format!("t{token}")).collect();
    let size = size(architecture);
    let mut file = GgufFile::default()
        .text("general.architecture", architecture)
        .texts("tokenizer.ggml.tokens", &tokens)
        .number(&key("block_count"), number(LAYERS))
        .number(&key("context_length"), 64)
        .number(&key("embedding_length"), number(HIDDEN))
        .number(&key("feed_forward_length"), number(INNER))
        .number(&key("attention.head_count"), number(HEADS))
        .number(&key("attention.head_count_kv"), number(GROUPS))
        .number(&key("attention.key_length"), number(size))
        .number(&key("rope.dimension_count"), number(size))
        .float(&key("attention.layer_norm_rms_epsilon"), 1e-6)
        .float(&key("rope.freq_base"), 10_000.0);
    let mut names = vec![
        ("model.embed_tokens".to_owned(), "token_embd".to_owned()),
        ("lm_head".to_owned(), "output".to_owned()),
        ("model.norm".to_owned(), "output_norm".to_owned()),
    ];
    let norms = [
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
    ];
    for layer in 0..LAYERS {
        for (theirs, ours) in MATRICES.iter().chain(&norms) {
            names.push((format!("model.layers.{layer}.{theirs}"), format!("blk.{layer}.{ours}")));
        }
    }
    for (theirs, ours) in names {
        let Some((shape, values)) = trained.tensors.get(&format!("{theirs}.weight")) else { continue };
        let turned = architecture == "llama" && (ours.ends_with("attn_q") || ours.ends_with("attn_k"));
        let values = if turned { interleaved(values, shape[1], size) } else { values.clone() };
        let dimensions: Vec<u64> = shape.iter().rev().map(|size| *size as u64).collect();
        file = file.weights(&format!("{ours}.weight"), &dimensions, &values);
    }
    file
}

/// What candle's model of the weights as trained computes.
fn expected(trained: &Trained) -> Vec<f32> {
    let tensors: HashMap<String, Tensor> = trained
        .tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name.clone(), Tensor::from_slice(values, shape.as_slice(), &Device::Cpu).unwrap())
        })
        .collect();
    let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let input = Tensor::new(TOKENS.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = if trained.architecture == "llama" {
        let config = llama::Config {
            hidden_size: HIDDEN,
            intermediate_size: INNER,
            vocab_size: VOCABULARY,
            num_hidden_layers: LAYERS,
            num_attention_heads: HEADS,
            num_key_value_heads: GROUPS,
            use_flash_attn: false,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling: None,
            max_position_embeddings: 64,
            tie_word_embeddings: false,
        };
        let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu).unwrap();
        llama::Llama::load(builder, &config).unwrap().forward(&input, 0, &mut cache)
    } else {
        let config = qwen3::Config {
            vocab_size: VOCABULARY,
            hidden_size: HIDDEN,
            intermediate_size: INNER,
            num_hidden_layers: LAYERS,
            num_attention_heads: HEADS,
            head_dim: size("qwen3"),
            attention_bias: false,
            num_key_value_heads: GROUPS,
            max_position_embeddings: 64,
            sliding_window: None,
            max_window_layers: LAYERS,
            tie_word_embeddings: false,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            use_sliding_window: false,
            hidden_act: candle_nn::Activation::Silu,
        };
        qwen3::ModelForCausalLM::new(&config, builder).unwrap().forward(&input, 0)
    };
    logits.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

const RANK: usize = 3;
const ALPHA: f32 = 12.0;

/// Both factors of the change of these matrices, in all layers.
fn changes(architecture: &str, modules: &[usize]) -> Vec<Factor> {
    let mut random = Random(99);
    let mut all = Vec::new();
    for layer in 0..LAYERS {
        for index in modules {
            let [outputs, inputs] = shapes(architecture)[*index];
            let name = format!("base_model.model.model.layers.{layer}.{}", MATRICES[*index].0);
            all.push((
                format!("{name}.lora_A.weight"),
                vec![RANK, inputs],
                random.values(RANK * inputs, 0.0),
            ));
            all.push((
                format!("{name}.lora_B.weight"),
                vec![outputs, RANK],
                random.values(outputs * RANK, 0.0),
            ));
        }
    }
    all
}

fn config(modules: &[usize], by_root: bool) -> serde_json::Value {
    let targets: Vec<&str> =
        modules.iter().map(|index| MATRICES[*index].0.split_once('.').unwrap().1).collect();
    json!({
        "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": targets, "use_rslora": by_root,
        "bias": "none", "fan_in_fan_out": false, "init_lora_weights": true, "lora_dropout": 0.05,
        "modules_to_save": null, "alpha_pattern": {}, "rank_pattern": {}, "task_type": "CAUSAL_LM", "peft_version": "0.18.0",
    })
}

/// The weights with W + scale · B·A in place of W, value by value.
fn merged(mut trained: Trained, factors: &[Factor], scale: f32) -> Trained {
    for pair in factors.chunks_exact(2) {
        let [(name, _, a), (_, shape, b)] = pair else { unreachable!() };
        let name = name.strip_prefix("base_model.model.").unwrap().replace(".lora_A", "");
        let (_, weights) = trained.tensors.get_mut(&name).unwrap();
        let (outputs, inputs) = (shape[0], a.len() / RANK);
        for row in 0..outputs {
            for column in 0..inputs {
                let product: f32 = (0..RANK).map(|r| b[row * RANK + r] * a[r * inputs + column]).sum();
                weights[row * inputs + column] += scale * product;
            }
        }
    }
    trained
}

fn deltas(factors_of: &[Factor], config: &serde_json::Value) -> Deltas {
    let directory = adapter(config, &factors(factors_of));
    Adapter::read(directory.path(), None, u64::MAX).unwrap().deltas
}

fn logits(file: &GgufFile, deltas: Deltas, forced: Option<Repack>) -> Result<Vec<f32>, WeightsError> {
    let disk = on_disk(&file.bytes());
    let mut handle = std::fs::File::open(disk.path()).unwrap();
    let header = Header::read(&mut handle).unwrap();
    let decoder = Decoder::load(&header, &mut handle, forced, deltas)?;
    let mut cache = decoder.cache(TOKENS.len());
    let rows = Rows { cache: &mut cache, tokens: &TOKENS, logits: true };
    Ok(decoder.step(&mut [rows]).unwrap().remove(0).unwrap())
}

/// Largest difference, as a share of the largest logit.
fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let most = theirs.iter().fold(0f32, |most, logit| most.max(logit.abs()));
    ours.iter().zip(theirs).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / most
}

#[test]
fn a_merged_adapter_computes_what_the_changed_model_computes() {
    for architecture in ["llama", "qwen3"] {
        let base = trained(architecture);
        let file = gguf(&base);
        // Without: the file is that of the weights as trained.
        assert!(
            apart(&logits(&file, Deltas::new(), None).unwrap(), &expected(&base)) < 1e-3,
            "{architecture}"
        );
        for (modules, by_root) in
            [(vec![0], false), (vec![1], false), (vec![0, 2], true), ((0..7).collect(), false)]
        {
            let factors = changes(architecture, &modules);
            let scale = if by_root { ALPHA / 3f32.sqrt() } else { ALPHA / 3.0 };
            let theirs = expected(&merged(base.clone(), &factors, scale));
            let ours = logits(&file, deltas(&factors, &config(&modules, by_root)), None).unwrap();
            let found = apart(&ours, &theirs);
            assert!(found < 1e-3, "{architecture} {modules:?}: {found}");
            // Negative controls: without the adapter, and with the other scale.
            let without = apart(&logits(&file, Deltas::new(), None).unwrap(), &theirs);
            let other = logits(&file, deltas(&factors, &config(&modules, !by_root)), None).unwrap();
            let other = apart(&other, &theirs);
            assert!(without > 0.02 && other > 0.01, "{architecture} {modules:?}: {without} {other}");
        }
    }
}

#[test]
fn the_change_of_queries_and_keys_is_turned_as_the_file_s_rows_are() {
    // Negative control of the order: the same change, its rows in the order of the file already, is another one.
    for (architecture, modules) in [("llama", [0]), ("llama", [1])] {
        let base = trained(architecture);
        let file = gguf(&base);
        let mut factors = changes(architecture, &modules);
        let theirs = expected(&merged(base, &factors, ALPHA / 3.0));
        let right = logits(&file, deltas(&factors, &config(&modules, false)), None).unwrap();
        for (_, _, b) in factors.iter_mut().skip(1).step_by(2) {
            *b = interleaved(b, RANK, size(architecture));
        }
        let turned = logits(&file, deltas(&factors, &config(&modules, false)), None).unwrap();
        let (right, turned) = (apart(&right, &theirs), apart(&turned, &theirs));
        assert!(right < 1e-3 && turned > 0.02, "{modules:?}: {right} {turned}");
    }
}

#[test]
fn an_adapter_that_adds_nothing_leaves_every_bit() {
    let all: Vec<usize> = (0..7).collect();
    for architecture in ["llama", "qwen3"] {
        let file = gguf(&trained(architecture));
        let mut factors = changes(architecture, &all);
        let some = logits(&file, deltas(&factors, &config(&all, false)), None).unwrap();
        for (_, _, b) in factors.iter_mut().skip(1).step_by(2) {
            b.fill(0.0);
        }
        let none = logits(&file, deltas(&factors, &config(&all, false)), None).unwrap();
        let without = logits(&file, Deltas::new(), None).unwrap();
        assert_eq!(none, without);
        assert_ne!(some, without, "negative control");
    }
}

#[test]
fn a_change_survives_being_quantised() {
    // In 8 and in 6 bits, as weights are computed with where that is faster.
    let all: Vec<usize> = (0..7).collect();
    let base = trained("llama");
    let file = gguf(&base);
    let factors = changes("llama", &all);
    let theirs = expected(&merged(base, &factors, ALPHA / 3.0));
    let without = apart(&logits(&file, Deltas::new(), None).unwrap(), &theirs);
    for repack in [Repack::Q8_0 { padded: false }, Repack::Q8_0 { padded: true }, Repack::Q6K] {
        let ours = logits(&file, deltas(&factors, &config(&all, false)), Some(repack)).unwrap();
        let found = apart(&ours, &theirs);
        assert!(found < without / 4.0, "{repack:?}: {found} of {without}");
    }
}

#[test]
fn an_adapter_of_another_model_is_refused_by_what_does_not_fit() {
    let file = gguf(&trained("llama"));
    let mut wide = changes("llama", &[3]);
    wide[0].1 = vec![RANK, HIDDEN + 1];
    wide[0].2.resize(RANK * (HIDDEN + 1), 0.5);
    let mut deep = changes("llama", &[3]);
    for factor in &mut deep {
        factor.0 = factor.0.replace("layers.1.", "layers.7.");
    }
    let rows = [
        (wide, ["layers.0.self_attn.o_proj", "[64, 65]", "[64, 64]"]),
        (
            deep,
            ["layers.7.self_attn.o_proj", "a layer that the model does not have", "an adapter of this model"],
        ),
    ];
    for (factors, words) in rows {
        let said = logits(&file, deltas(&factors, &config(&[3], false)), None).unwrap_err().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let fits = deltas(&changes("llama", &[3]), &config(&[3], false));
    assert!(logits(&file, fits, None).is_ok(), "negative control");
}
