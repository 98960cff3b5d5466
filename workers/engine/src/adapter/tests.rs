#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::{Adapter, RANK_MAX, inspect_adapter};
use crate::testing::{Factor, adapter, factors};
use crate::verify;

const NAME: &str = "base_model.model.model.layers.0.self_attn.q_proj";

fn config() -> Value {
    json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"] })
}

fn pair() -> Vec<Factor> {
    vec![
        (format!("{NAME}.lora_A.weight"), vec![2, 4], vec![0.5; 8]),
        (format!("{NAME}.lora_B.weight"), vec![6, 2], vec![0.25; 12]),
    ]
}

/// Why an adapter is refused.
fn refused(config: &Value, weights: &[u8]) -> String {
    let directory = adapter(config, weights);
    Adapter::read(directory.path(), None, u64::MAX).unwrap_err().to_string()
}

fn says(said: &str, words: &[&str]) {
    assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    assert!(said.len() < 500 && !said.contains('\n'), "{said}");
}

#[test]
fn an_adapter_is_read_by_its_directory_or_its_weights_and_known_by_both_files() {
    let weights = factors(&pair());
    let directory = adapter(&config(), &weights);
    let info = inspect_adapter(directory.path(), None, u64::MAX).unwrap();
    assert_eq!((info.rank, info.matrices), (2, 1));
    let both = [config().to_string().into_bytes(), weights.clone()].concat();
    assert_eq!(info.sha256, verify::digest(&both));
    let file = directory.path().join("adapter_model.safetensors");
    let by_file = inspect_adapter(&file, Some(&info.sha256.to_uppercase()), u64::MAX).unwrap();
    assert_eq!(by_file, info);
    // The scale stands in the configuration: another one is another adapter.
    let mut other = config();
    other["lora_alpha"] = json!(8);
    let other = adapter(&other, &weights);
    let said = inspect_adapter(other.path(), Some(&info.sha256), u64::MAX).unwrap_err().to_string();
    says(&said, &[&info.sha256, "was expected", "sha256sum"]);
    let read = Adapter::read(directory.path(), None, u64::MAX).unwrap();
    let delta = &read.deltas["blk.0.attn_q.weight"];
    assert_eq!((delta.shape(), delta.scale, delta.is_nothing()), ([6, 4], 2.0, false));
}

#[test]
fn half_precision_is_read() {
    use safetensors::{Dtype, tensor::TensorView};
    let (ones, halves) = ([0x00, 0x3c].repeat(8), [0x00, 0x3f].repeat(12));
    let a = TensorView::new(Dtype::F16, vec![2, 4], &ones).unwrap();
    let b = TensorView::new(Dtype::BF16, vec![6, 2], &halves).unwrap();
    let names = [format!("{NAME}.lora_A.weight"), format!("{NAME}.lora_B.weight")];
    let weights = safetensors::serialize([(&names[0], a), (&names[1], b)], None).unwrap();
    let directory = adapter(&config(), &weights);
    let read = Adapter::read(directory.path(), None, u64::MAX).unwrap();
    let delta = &read.deltas["blk.0.attn_q.weight"];
    assert_eq!((&delta.a, &delta.b), (&vec![1.0; 8], &vec![0.5; 12]));
}

#[test]
fn a_configuration_that_nothing_here_can_apply_is_refused_by_name() {
    let weights = factors(&pair());
    let rows: Vec<(&str, Value, &[&str])> = vec![
        ("peft_type", json!("IA3"), &["IA3"]),
        ("r", json!(0), &["rank is 0", "1024"]),
        ("r", json!(RANK_MAX + 1), &["rank is 1025"]),
        ("r", json!(4), &["lora_A.weight", "[2, 4]", "rank 4"]),
        ("r", json!("2"), &["not that of a LoRA adapter"]),
        ("lora_alpha", json!(1e300), &["lora_alpha"]),
        ("target_modules", json!(["q_proj", "lm_head"]), &["`lm_head`", "q_proj, k_proj, v_proj"]),
        ("target_modules", json!(["q_proj", "v_proj"]), &["`v_proj`", "no weights"]),
        ("target_modules", json!(["k_proj"]), &["`k_proj`"]),
        ("use_dora", json!(true), &["`use_dora`", "merge the adapter"]),
        ("bias", json!("all"), &["`bias`"]),
        ("modules_to_save", json!(["lm_head"]), &["`modules_to_save`"]),
        ("rank_pattern", json!({ "q_proj": 8 }), &["`rank_pattern`"]),
        ("alpha_pattern", json!({ "q_proj": 8 }), &["`alpha_pattern`"]),
        ("fan_in_fan_out", json!(true), &["`fan_in_fan_out`"]),
        ("init_lora_weights", json!("pissa"), &["`init_lora_weights`"]),
        ("alora_invocation_tokens", json!([1, 2]), &["`alora_invocation_tokens`"]),
        ("of_tomorrow", json!(7), &["`of_tomorrow`"]),
    ];
    for (key, value, words) in rows {
        let mut config = config();
        config[key] = value;
        says(&refused(&config, &weights), words);
    }
    // Negative controls: what is off or tells of training alone is taken.
    let off = json!({
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": "all-linear", "use_dora": false, "bias": "none",
        "modules_to_save": null, "rank_pattern": {}, "init_lora_weights": "gaussian", "lora_dropout": 0.1,
        "base_model_name_or_path": "a/b", "of_tomorrow": null, "inference_mode": true, "layers_to_transform": [0],
    });
    let directory = adapter(&off, &weights);
    assert!(Adapter::read(directory.path(), None, u64::MAX).is_ok());
}

#[test]
fn weights_that_do_not_fit_their_configuration_are_refused() {
    type Change = fn(&mut Vec<Factor>);
    let rows: [(Change, &[&str]); 10] = [
        (|all| all[0].0 = "base_model.model.lm_head.lora_A.weight".into(), &["`lm_head`"]),
        (|all| all[0].0 = all[0].0.replace("q_proj", "qkv_proj"), &["`self_attn.qkv_proj`"]),
        (|all| all[0].0 = all[0].0.replace("layers.0", "layers.00"), &["not of the form"]),
        (|all| all[0].0 = all[0].0.replace("lora_A", "lora_magnitude_vector"), &["not of the form"]),
        (|all| all[0].0 = all[0].0.replace("q_proj", "v_proj"), &["`layers.0.self_attn.q_proj`", "only one"]),
        (|all| drop(all.pop()), &["only one of lora_A and lora_B"]),
        (|all| all[1].1 = vec![2, 6], &["lora_B.weight", "[2, 6]", "[outputs, rank]"]),
        (|all| all[0].1 = vec![8], &["lora_A.weight", "[8]", "[rank, inputs]"]),
        (|all| all[1].2[3] = f32::NAN, &["lora_B.weight", "no finite number"]),
        (Vec::clear, &["`q_proj`", "no weights"]),
    ];
    for (change, words) in rows {
        let mut all = pair();
        change(&mut all);
        let mut config = config();
        if all.first().is_some_and(|(name, ..)| name.contains("v_proj")) {
            config["target_modules"] = json!(["q_proj", "v_proj"]);
        }
        says(&refused(&config, &factors(&all)), words);
    }
    let mut other = pair();
    other.extend(
        pair().into_iter().map(|(name, shape, values)| (name.replace("q_proj", "k_proj"), shape, values)),
    );
    says(&refused(&config(), &factors(&other)), &["layers.0.self_attn.k_proj", "does not name"]);
}

#[test]
fn files_that_are_cut_missing_or_too_large_are_refused() {
    let whole = factors(&pair());
    for end in [0, 7, 8, 60, whole.len() - 1] {
        says(&refused(&config(), &whole[..end]), &["damaged or cut", "fetch it again"]);
    }
    let directory = adapter(&config(), &whole);
    let said = inspect_adapter(directory.path(), None, 100).unwrap_err().to_string();
    says(&said, &["adapter_model.safetensors", "100 bytes", "lower rank"]);
    assert!(inspect_adapter(directory.path(), None, whole.len() as u64).is_ok(), "negative control");
    std::fs::remove_file(directory.path().join("adapter_config.json")).unwrap();
    let said = inspect_adapter(directory.path(), None, u64::MAX).unwrap_err().to_string();
    says(&said, &["adapter_config.json", "can't be read"]);
    std::fs::write(directory.path().join("adapter_config.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    let said = inspect_adapter(directory.path(), None, u64::MAX).unwrap_err().to_string();
    says(&said, &["adapter_config.json", "1048576 bytes"]);
}
