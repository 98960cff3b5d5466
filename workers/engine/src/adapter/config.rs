//! `adapter_config.json`: what of it changes how an adapter is applied. What is neither known to be harmless nor switched off is
//! refused by name: applied otherwise than it was trained, an adapter gives other answers, and nothing would say so.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{AdapterError, MODULES, RANK_MAX, short, shown};

/// Keys that tell of training, or of what the names of the tensors say already.
const HARMLESS: [&str; 13] = [
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
];
/// Ways of beginning that leave the model as it was; others (PiSSA, OLoRA, …) make the adapter one of changed weights.
const BEGINNINGS: [&str; 3] = ["gaussian", "eva", "orthogonal"];
const BEGINNING: &str = "init_lora_weights";

/// The configuration, as far as it is applied.
pub(super) struct Config {
    pub(super) rank: usize,
    /// What B·A is multiplied by.
    pub(super) scale: f32,
    /// Last part of each name; none where it is a pattern, and the names of the tensors alone tell.
    targets: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Wire {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    target_modules: Targets,
    #[serde(default)]
    use_rslora: bool,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Targets {
    Names(Vec<String>),
    Pattern(String),
}

impl Config {
    pub(super) fn read(json: &[u8]) -> Result<Self, AdapterError> {
        let wire: Wire =
            serde_json::from_slice(json).map_err(|error| AdapterError::Config(shown(&error.to_string())))?;
        if wire.peft_type != "LORA" {
            return Err(AdapterError::Config(format!("it is of type `{}`", shown(&wire.peft_type))));
        }
        if let Some((key, _)) = wire.more.iter().find(|(key, value)| !is_harmless(key, value)) {
            return Err(AdapterError::Unsupported { name: format!("`{}`", shown(key)) });
        }
        if !(1..=RANK_MAX).contains(&wire.r) {
            return Err(AdapterError::Rank(wire.r));
        }
        let targets = match wire.target_modules {
            Targets::Pattern(pattern) if pattern.is_empty() => {
                return Err(AdapterError::Config("`target_modules` is empty".to_owned()));
            }
            Targets::Pattern(_) => None,
            Targets::Names(names) => Some(names.iter().map(|name| known(name)).collect::<Result<_, _>>()?),
        };
        Ok(Self { rank: wire.r, scale: scale(wire.lora_alpha, wire.r, wire.use_rslora)?, targets })
    }

    /// Whether weights of a module belong here.
    pub(super) fn targets(&self, module: &str) -> bool {
        self.targets.as_ref().is_none_or(|targets| targets.iter().any(|target| target == module))
    }

    /// Refuses a module that is named and of which nothing is there.
    pub(super) fn check_targets(&self, is_there: impl Fn(&str) -> bool) -> Result<(), AdapterError> {
        let missing = self.targets.iter().flatten().find(|target| !is_there(target));
        missing.map_or(Ok(()), |target| Err(AdapterError::Absent(target.clone())))
    }
}

/// alpha / r, or alpha / √r where it is stabilised by rank (arXiv:2312.03732).
fn scale(alpha: f64, rank: usize, by_root: bool) -> Result<f32, AdapterError> {
    #[expect(clippy::cast_precision_loss, reason = "a rank is at most 1024")]
    let rank = rank as f64;
    let divisor = if by_root { rank.sqrt() } else { rank };
    #[expect(clippy::cast_possible_truncation, reason = "f32 is the precision computed in")]
    let scale = (alpha / divisor) as f32;
    if scale.is_finite() {
        Ok(scale)
    } else {
        Err(AdapterError::Config("lora_alpha is too large".to_owned()))
    }
}

/// The last part of a module's name, where such can be changed.
fn known(name: &str) -> Result<String, AdapterError> {
    let last = short(name);
    let is_known = MODULES.iter().any(|(module, _)| short(module) == last);
    if is_known { Ok(last.to_owned()) } else { Err(AdapterError::Module(shown(name))) }
}

fn is_harmless(key: &str, value: &Value) -> bool {
    let off = match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text == "none",
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    let begins = || match value {
        Value::Bool(_) => true,
        Value::String(text) => BEGINNINGS.contains(&text.as_str()),
        _ => false,
    };
    off || HARMLESS.contains(&key) || (key == BEGINNING && begins())
}
