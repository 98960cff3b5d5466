//! `tidegate model list|verify|convert`: the models of the manifest and what is on this machine. Opens none of them for work.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;
use tidegate_engine::{EngineConfig, convert_classifier, inspect_adapter, inspect_gguf, verify_file};

use crate::cell::Cell;
use crate::cli::Global;
use crate::{models, output};

/// What is known of one model.
#[derive(Serialize)]
struct Row {
    name: String,
    kind: String,
    architecture: String,
    licence: String,
    place: PathBuf,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

pub(super) fn list(global: &Global) -> Result<ExitCode> {
    let mut rows = rows(|model| {
        let missing = model.files.iter().find(|file| !model.directory().join(&file.path).exists());
        missing.map(|file| format!("`{}` is not there", file.path.display()))
    })?;
    rows.extend(named(global, false));
    show(global, &rows, "here")
}

pub(super) fn verify(global: &Global) -> Result<ExitCode> {
    let mut rows = rows(|model| {
        output::note(format!("checking {}", model.name));
        model.files.iter().find_map(|file| model.verify(file).err()).map(|error| output::sentence(&error))
    })?;
    rows.extend(named(global, true));
    show(global, &rows, "as the manifest says")
}

/// The manifest's models, each with what `wrong` finds.
fn rows(wrong: impl Fn(&models::Model) -> Option<String>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for model in models::manifest()?.model {
        let why = wrong(&model);
        rows.push(Row {
            place: model.directory(),
            state: if why.is_none() { "ok" } else { "bad" },
            why,
            name: model.name,
            kind: model.kind,
            architecture: model.architecture,
            licence: model.licence,
        });
    }
    Ok(rows)
}

/// The models that the cell names besides: of the chat model what its header says, and its digest where `cell.toml` has one.
fn named(global: &Global, verify: bool) -> Vec<Row> {
    let Ok(cell) = Cell::open(&global.cell) else { return Vec::new() };
    let local = &cell.config.local;
    let row = |path: &Path, kind: &str, sha256: Option<&str>| {
        let bytes_max = EngineConfig::default().max_model_bytes;
        let header = (kind == "chat" && path.exists()).then(|| inspect_gguf(path, bytes_max));
        let wrong = match sha256 {
            _ if !path.exists() => Some("cell.toml names it and it is not there".to_owned()),
            _ if matches!(header, Some(Err(_))) => {
                header.as_ref().and_then(|read| Some(read.as_ref().err()?.to_string()))
            }
            Some(sha256) if verify => {
                output::note(format!("checking {}", path.display()));
                verify_file(path, Some(sha256), bytes_max).err().map(|refused| refused.to_string())
            }
            _ => None,
        };
        Row {
            name: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
            kind: kind.to_owned(),
            architecture: header
                .and_then(|read| Some(read.ok()?.architecture))
                .unwrap_or_else(|| "unknown".to_owned()),
            licence: "unknown".to_owned(),
            place: path.to_path_buf(),
            state: match wrong {
                Some(_) => "bad",
                None if verify && sha256.is_some() => "ok",
                None => "named",
            },
            why: wrong,
        }
    };
    let chat = local.chat_model.iter().map(|path| row(path, "chat", local.chat_sha256.as_deref()));
    let adapter = local.chat_adapter.iter().map(|path| adapter(path, local.chat_adapter_sha256.as_deref()));
    let embed = local.embed_model.iter().map(|path| row(path, "embed", None));
    let scan = local.scan_model.iter().map(|path| row(path, "scan", None));
    chat.chain(adapter).chain(embed).chain(scan).collect()
}

/// The adapter that the cell names. It is read whole even to be listed: it is small, and its hash is what a bundle pins.
fn adapter(path: &Path, sha256: Option<&str>) -> Row {
    let read = inspect_adapter(path, sha256, EngineConfig::default().max_model_bytes);
    let architecture = match &read {
        Ok(info) => format!("lora, rank {}, {} matrices, sha256 {}", info.rank, info.matrices, info.sha256),
        Err(_) => "unknown".to_owned(),
    };
    Row {
        name: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        kind: "adapter".to_owned(),
        architecture,
        licence: "unknown".to_owned(),
        place: path.to_path_buf(),
        state: match (&read, sha256) {
            (Err(_), _) => "bad",
            (Ok(_), Some(_)) => "ok",
            (Ok(_), None) => "named",
        },
        why: read.err().map(|error| error.to_string()),
    }
}

/// Makes the weights of the token classifier, as a local worker would at its first start.
pub(super) fn convert(global: &Global) -> Result<ExitCode> {
    let Some((directory, expected)) = models::default_scan()? else {
        bail!("the token classifier is not here: run `deploy/fetch models`, or set TIDEGATE_MODELS")
    };
    let made = convert_classifier(&directory, expected.as_deref(), EngineConfig::default().max_model_bytes)?;
    if global.json {
        output::json(&json!({ "path": made.path, "sha256": made.sha256, "bytes": made.bytes }))?;
    } else {
        output::table(
            &["FILE", "SHA-256", "BYTES"],
            &[vec![made.path.display().to_string(), made.sha256, made.bytes.to_string()]],
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn show(global: &Global, rows: &[Row], well: &str) -> Result<ExitCode> {
    let bad = rows.iter().filter(|row| row.state == "bad").count();
    if global.json {
        output::json(&rows)?;
    } else {
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let state = match row.state {
                    "ok" => well,
                    "named" => "named in cell.toml; no digest is known",
                    _ => row.why.as_deref().unwrap_or("bad"),
                };
                let place = row.place.display().to_string();
                vec![
                    row.name.clone(),
                    row.kind.clone(),
                    row.architecture.clone(),
                    row.licence.clone(),
                    place,
                    state.into(),
                ]
            })
            .collect();
        output::table(&["MODEL", "KIND", "ARCHITECTURE", "LICENCE", "PLACE", "STATE"], &cells);
        if bad > 0 {
            output::note(format!(
                "{bad} of {} cannot be used: run `deploy/fetch models`, or set TIDEGATE_MODELS",
                rows.len()
            ));
        }
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
