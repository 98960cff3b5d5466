//! What redaction takes out: what the recognisers find, joined with what the token classifier finds as the local worker does it.
//!
//! The classifier runs in a process of its own, with one thread, as its environment is read once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tidegate_engine::{Engine, EngineConfig, TextScan, launch_environment};
use tidegate_policies::taxonomy::NO_FINDING;
use tidegate_policies::taxonomy::Taxonomy;
use tidegate_policies::taxonomy::scan::Scanner;
use tidegate_schemas::ids::Name;

use super::corpus::{self, Text};
use super::score::Found;
use crate::{engine, scan};

/// Variable that names the model to a probe.
const PROBE: &str = "TIDEGATE_BENCH_PII";
/// Variable that names the corpus to it.
const DATA: &str = "TIDEGATE_BENCH_PII_DATA";

/// What the classifier found in each text, and milliseconds a text.
#[derive(Serialize, Deserialize)]
struct Read {
    scans: Vec<TextScan>,
    ms: f64,
}

/// What would be taken out of each text, none where the model cannot read it, so that it stays inside; and milliseconds a text.
pub(super) fn run(
    data: &Path,
    model: &Path,
    texts: &[Text],
    (scanner, taxonomy): (&Scanner, &Taxonomy),
) -> Result<(Vec<Option<Vec<Found>>>, f64)> {
    let mut probe = Command::new(std::env::current_exe().context("finding this program")?);
    probe.arg("probe").env(PROBE, model).env(DATA, data).envs(launch_environment(1));
    let read: Read = engine::printed(&mut probe)?;
    ensure!(read.scans.len() == texts.len(), "the classifier answered on another number of texts");
    let entities = taxonomy.model_entities.iter().filter(|(_, category)| category.as_str() != NO_FINDING);
    let entities = entities.map(|(entity, category)| (entity.clone(), category.clone())).collect();
    let begun = Instant::now();
    let found = texts.iter().zip(&read.scans).map(|(text, scan)| {
        let recognised = scanner.spans(&text.text);
        let (text, recognised, scan) = ([text.text.as_str()], [recognised], std::slice::from_ref(scan));
        let spans = tidegate_local::replaced(&text, &recognised, scan, &entities)?;
        let spans = spans.into_iter().flatten();
        Some(spans.map(|span| found(span.start..span.end, &span.entity)).collect())
    });
    let found = found.collect();
    Ok((found, read.ms + begun.elapsed().as_secs_f64() * 1e3 / texts.len().max(1) as f64))
}

fn found(range: std::ops::Range<usize>, entity: &Name) -> Found {
    Found::new(range, corpus::types(entity.as_str()))
}

/// The classifier's side, where this process was started for it.
pub(crate) fn probe() -> Option<Result<()>> {
    let (model, data) = (std::env::var_os(PROBE)?, std::env::var_os(DATA)?);
    Some(read(PathBuf::from(model), Path::new(&data)))
}

fn read(model: PathBuf, data: &Path) -> Result<()> {
    use std::io::Write as _;
    let texts = corpus::read(data)?;
    let (engine, thread) =
        Engine::start(EngineConfig { scan: Some(model), threads: 1, ..EngineConfig::default() })?;
    let begun = Instant::now();
    let scans: Result<Vec<TextScan>> = texts.iter().map(|text| scan::scanned(&engine, &text.text)).collect();
    let ms = begun.elapsed().as_secs_f64() * 1e3 / texts.len().max(1) as f64;
    drop(engine);
    thread.join();
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&Read { scans: scans?, ms })?)?;
    Ok(())
}
