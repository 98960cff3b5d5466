//! From files to models: verify, look at the header, load.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::adapter::Adapter;
use crate::chat::ChatModel;
use crate::constraint::SchemaCompiler;
use crate::embed::EmbedModel;
use crate::engine::{EngineConfig, ModelInfo};
use crate::error::LoadError;
use crate::gguf::Header;
use crate::model::{Architecture, Decoder, Deltas, Repack, WeightsError, kernels, stored_type};
use crate::scan::ScanModel;
use crate::schedule::Models;
use crate::template::Template;
use crate::tokenizer::Tokenizer;
use crate::verify;

/// Loads what `config` names.
pub(crate) fn models(config: &EngineConfig) -> Result<Models, LoadError> {
    if config.chat.is_none() && config.embed.is_none() && config.scan.is_none() {
        return Err(LoadError::NoModel);
    }
    if let (None, Some(path)) = (&config.chat, &config.chat_adapter) {
        let reason = "no chat model is named to merge it into; name that, too".to_owned();
        return Err(LoadError::Adapter { path: path.clone(), reason });
    }
    let chat = config.chat.as_deref().map(|path| chat(path, config, None)).transpose()?;
    let embed = config.embed.as_deref().map(|path| EmbedModel::load(path, config)).transpose()?;
    let scan = config.scan.as_deref().map(|path| ScanModel::load(path, config)).transpose()?;
    Ok(Models { chat, embed, scan })
}

/// Loads a chat model, its adapter merged into it; `repack` overrides the choice of computed types.
pub(crate) fn chat(
    path: &Path,
    config: &EngineConfig,
    repack: Option<Repack>,
) -> Result<ChatModel, LoadError> {
    let began = Instant::now();
    let mut file = verify::open(path, config.max_model_bytes)?;
    let sha256 = verify::hash(&mut file, path, config.chat_sha256.as_deref())?;
    let header = Header::read(&mut file).map_err(|error| error.at(path))?;
    let architecture = Architecture::of(&header)?;
    let tokenizer = Arc::new(Tokenizer::load(&header, path)?);
    let template = header.text("tokenizer.chat_template").ok_or_else(|| LoadError::Template {
        reason: "the model file brings none; use an instruction-tuned model".to_owned(),
    })?;
    let template = Template::new(template).map_err(|reason| LoadError::Template { reason })?;
    let weights = |reason| LoadError::Weights { path: path.to_owned(), reason };
    let schemas = SchemaCompiler::new(&tokenizer).map_err(weights)?;
    let (deltas, adapter_sha256) = adapter(config)?;
    let decoder = Decoder::load(&header, &mut file, repack, deltas).map_err(|error| match error {
        WeightsError::Delta { .. } | WeightsError::NoLayer { .. } | WeightsError::OddHeads { .. } => {
            LoadError::Adapter {
                path: config.chat_adapter.clone().unwrap_or_default(),
                reason: error.to_string(),
            }
        }
        error => weights(error.to_string()),
    })?;
    let info = ModelInfo {
        kind: "chat".to_owned(),
        name: name(&header, path),
        architecture: architecture.name().to_owned(),
        quantisation: quantisation(&header, &decoder),
        sha256,
        adapter_sha256,
        context_tokens: decoder.context_tokens.min(config.context_tokens),
        threads: candle_core::utils::get_num_threads(),
        kernels: kernels().to_owned(),
    };
    tracing::info!(
        model = %info.name,
        quantisation = %info.quantisation,
        adapter = info.adapter_sha256.as_deref().unwrap_or("none"),
        elapsed_ms = began.elapsed().as_millis(),
        "Chat model loaded."
    );
    Ok(ChatModel { decoder, tokenizer, template, schemas, info: Arc::new(info) })
}

/// What the adapter changes, and its hash.
fn adapter(config: &EngineConfig) -> Result<(Deltas, Option<String>), LoadError> {
    let Some(path) = &config.chat_adapter else { return Ok((Deltas::new(), None)) };
    let read = Adapter::read(path, config.chat_adapter_sha256.as_deref(), config.max_model_bytes)?;
    Ok((read.deltas, Some(read.info.sha256)))
}

/// The directory's name where the file is called `model.gguf`, else the file's.
fn name(header: &Header, path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    let directory = path.parent().and_then(Path::file_name);
    match directory {
        Some(directory) if stem == "model" => directory.to_string_lossy().into_owned(),
        _ if !stem.is_empty() => stem.to_string_lossy().into_owned(),
        _ => header.text("general.name").unwrap_or("unnamed").to_owned(),
    }
}

fn quantisation(header: &Header, decoder: &Decoder) -> String {
    let stored = stored_type(header);
    let computed: Vec<String> = decoder.computed.iter().map(|dtype| format!("{dtype:?}")).collect();
    if computed.contains(&stored) { stored } else { format!("{stored} as {}", computed.join("+")) }
}

impl Models {
    /// What is loaded, chat first.
    pub(crate) fn infos(&self) -> Vec<ModelInfo> {
        let chat = self.chat.as_ref().map(|chat| chat.info.as_ref().clone());
        let embed = self.embed.as_ref().map(|embed| embed.info.as_ref().clone());
        let scan = self.scan.as_ref().map(|scan| scan.info.as_ref().clone());
        chat.into_iter().chain(embed).chain(scan).collect()
    }
}
