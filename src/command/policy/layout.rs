//! `tidegate policy fmt`: a bundle's Cedar files laid out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use tidegate_policies::layout::{self, Laid};

use super::named;
use crate::cli::Global;
use crate::output;

/// Exit code of `--check`: a file would change.
const BREACHED: u8 = 2;

pub(super) fn run(global: &Global, dir: Option<&Path>, check: bool) -> Result<ExitCode> {
    let dir = named(dir)?;
    let laid = layout::wanted(&dir).with_context(|| format!("laying out `{}`", dir.display()))?;
    if !check {
        laid.iter().try_for_each(put)?;
    }
    let files: Vec<&PathBuf> = laid.iter().map(|laid| &laid.path).collect();
    if global.json {
        output::json(&json!({ "check": check, "files": files }))?;
    } else {
        let did = if check { "would be laid out" } else { "laid out" };
        files.iter().for_each(|file| output::line(format!("{did}: {}", file.display())));
        if files.is_empty() {
            output::line("every file is laid out as it should be");
        }
    }
    Ok(if check && !files.is_empty() { ExitCode::from(BREACHED) } else { ExitCode::SUCCESS })
}

/// Puts a text in a file's place at once: who reads sees the old one or the new one.
fn put(laid: &Laid) -> Result<()> {
    let beside = laid.path.with_extension("laid");
    fs::write(&beside, &laid.text).with_context(|| format!("writing `{}`", beside.display()))?;
    fs::rename(&beside, &laid.path).with_context(|| format!("writing `{}`", laid.path.display()))
}
