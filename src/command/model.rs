//! `tidegate model list|verify`: the models of the manifest and what is on this machine. Opens none of them for work.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

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
    let rows = rows(global, |model| {
        let missing = model.files.iter().find(|file| !model.directory().join(&file.path).exists());
        missing.map(|file| format!("`{}` is not there", file.path.display()))
    })?;
    show(global, &rows, "here")
}

pub(super) fn verify(global: &Global) -> Result<ExitCode> {
    let rows = rows(global, |model| {
        output::note(format!("checking {}", model.name));
        model.files.iter().find_map(|file| model.verify(file).err()).map(|error| format!("{error:#}"))
    })?;
    show(global, &rows, "as the manifest says")
}

/// The manifest's models, each with what `wrong` finds, and the models that the cell names besides.
fn rows(global: &Global, wrong: impl Fn(&models::Model) -> Option<String>) -> Result<Vec<Row>> {
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
    if let Ok(cell) = Cell::open(&global.cell) {
        let local = &cell.config.local;
        rows.extend(local.chat_model.iter().map(|path| named(path, "chat")));
        rows.extend(local.embed_model.iter().map(|path| named(path, "embed")));
    }
    Ok(rows)
}

/// A model that `cell.toml` names; nothing is known of it but whether it is there.
fn named(path: &Path, kind: &str) -> Row {
    let there = path.exists();
    Row {
        name: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        kind: kind.to_owned(),
        architecture: "as the file says".to_owned(),
        licence: "unknown".to_owned(),
        place: path.to_path_buf(),
        state: if there { "named" } else { "bad" },
        why: (!there).then(|| "cell.toml names it and it is not there".to_owned()),
    }
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
