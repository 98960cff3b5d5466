//! Models on this machine: the manifest of the defaults, where their files are, and whether they are what they must be.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tidegate_engine::{EngineConfig, inspect_adapter, inspect_gguf, verify_file};

use crate::cell::LocalSection;

/// The manifest, as the set-up uses it.
const MANIFEST: &str = include_str!("../deploy/models.toml");

/// `deploy/models.toml`, as far as the binary reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) model: Vec<Model>,
}

/// One model of the manifest.
#[derive(Debug, Deserialize)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) architecture: String,
    pub(crate) licence: String,
    /// SHA-256 of what is made of its files before it is loaded.
    #[serde(default)]
    pub(crate) converted_sha256: Option<String>,
    pub(crate) files: Vec<ModelFile>,
}

/// One file of a model.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelFile {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
    pub(crate) bytes_max: u64,
}

/// The manifest of default models.
pub(crate) fn manifest() -> Result<Manifest> {
    toml::from_str(MANIFEST).context("reading the manifest of models")
}

/// Directory of models: `TIDEGATE_MODELS`, else `.models` here or beside the program.
pub(crate) fn directory() -> PathBuf {
    if let Some(dir) = std::env::var_os("TIDEGATE_MODELS") {
        return dir.into();
    }
    let here = PathBuf::from(".models");
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.ancestors().skip(1).map(|dir| dir.join(".models")).find(|dir| dir.is_dir()));
    if here.is_dir() { here } else { beside.unwrap_or(here) }
}

impl Model {
    /// Where its files are.
    pub(crate) fn directory(&self) -> PathBuf {
        directory().join(&self.name)
    }

    /// Checks one of its files.
    pub(crate) fn verify(&self, file: &ModelFile) -> Result<()> {
        let path = self.directory().join(&file.path);
        if !path.exists() {
            bail!("`{}` is missing: run `deploy/fetch models`, or set TIDEGATE_MODELS", path.display());
        }
        verify_file(&path, Some(&file.sha256), file.bytes_max)?;
        Ok(())
    }
}

fn default_of(kind: &str) -> Result<Model> {
    manifest()?
        .model
        .into_iter()
        .find(|model| model.kind == kind)
        .with_context(|| format!("no default {kind} model"))
}

/// The default chat model's file, verified.
pub(crate) fn default_chat() -> Result<(PathBuf, String)> {
    let model = default_of("chat")?;
    let file = model.files.first().context("the chat model has no file")?;
    model.verify(file)?;
    Ok((model.directory().join(&file.path), file.sha256.clone()))
}

/// The default embedding model's directory, verified, and the digest of its weights.
fn default_embed() -> Result<(PathBuf, Option<String>)> {
    let model = default_of("embed")?;
    for file in &model.files {
        model.verify(file)?;
    }
    let weights = model.files.iter().find(|file| file.path.extension().is_some_and(|e| e == "safetensors"));
    Ok((model.directory(), weights.map(|file| file.sha256.clone())))
}

/// The default token classifier's directory, verified, and the digest of its weights; none where it was not fetched, and then
/// nothing is scanned.
pub(crate) fn default_scan() -> Result<Option<(PathBuf, Option<String>)>> {
    let model = default_of("scan")?;
    if !model.directory().exists() {
        return Ok(None);
    }
    for file in &model.files {
        model.verify(file)?;
    }
    Ok(Some((model.directory(), model.converted_sha256)))
}

/// Threads of a local worker's engine: as configured, else one less than there are cores.
pub(crate) fn threads(section: &LocalSection) -> usize {
    if section.threads > 0 { section.threads } else { EngineConfig::default().threads }
}

/// What the engine loads for a local worker.
pub(crate) fn engine(section: &LocalSection) -> Result<EngineConfig> {
    let mut config = EngineConfig::default();
    match &section.chat_model {
        Some(path) => {
            // The header tells at once whether the file can be used; the rest is seen when it is loaded.
            inspect_gguf(&named(path)?, config.max_model_bytes)?;
            (config.chat, config.chat_sha256) = (Some(path.clone()), section.chat_sha256.clone());
        }
        None => {
            let (path, sha256) = default_chat()?;
            (config.chat, config.chat_sha256) = (Some(path), Some(sha256));
        }
    }
    if let Some(path) = &section.chat_adapter {
        // Small enough to be read now: what it is is known before the models are loaded.
        let expected = section.chat_adapter_sha256.as_deref();
        let info = inspect_adapter(&named(path)?, expected, config.max_model_bytes)?;
        (config.chat_adapter, config.chat_adapter_sha256) = (Some(path.clone()), Some(info.sha256));
    } else if section.chat_adapter_sha256.is_some() {
        bail!("`chat_adapter_sha256` stands in cell.toml without `chat_adapter`: name the adapter, too");
    }
    match &section.embed_model {
        Some(path) => config.embed = Some(named(path)?),
        None => {
            let (path, sha256) = default_embed()?;
            (config.embed, config.embed_sha256) = (Some(path), sha256);
        }
    }
    match &section.scan_model {
        Some(path) => config.scan = Some(named(path)?),
        None => {
            if let Some((path, sha256)) = default_scan()? {
                (config.scan, config.scan_sha256) = (Some(path), sha256);
            }
        }
    }
    config.threads = threads(section);
    config.queue = section.in_flight_max;
    Ok(config)
}

fn named(path: &Path) -> Result<PathBuf> {
    if !path.exists() {
        bail!("`{}` is missing: name a model that is on this machine in cell.toml", path.display());
    }
    Ok(path.to_path_buf())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_default_bundle_pins_the_models_that_are_fetched() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/bundles/default");
        let bundle = tidegate_policies::Bundle::from_dir(&dir).unwrap();
        let scan = bundle.taxonomy().model_scan.as_ref().unwrap();
        let model = default_of("scan").unwrap();
        assert_eq!(scan.name, model.name);
        assert_eq!(scan.sha256.unwrap().to_string(), model.converted_sha256.unwrap());
    }
}
