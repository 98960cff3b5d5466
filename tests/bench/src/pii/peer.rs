//! Presidio on the same texts, in a Python process of its own.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::corpus::Text;
use super::score::Found;

/// Variable that names a Python that has Presidio.
const PRESIDIO: &str = "TIDEGATE_BENCH_PRESIDIO";

/// A place as Presidio says it, in characters.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    entity: String,
    start: usize,
    end: usize,
}

#[derive(Deserialize)]
struct Answer {
    name: String,
    found: Vec<Vec<Place>>,
    ms: f64,
}

/// Its name with its model, what it found in each text, and milliseconds a text.
pub(super) type Measured = (String, Vec<Vec<Place>>, f64);

/// Measures it; none where it is not at hand.
pub(super) fn run(data: &Path) -> Result<Option<Measured>> {
    let Some(python) = std::env::var_os(PRESIDIO).filter(|python| !python.is_empty()) else {
        return Ok(None);
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("presidio.py");
    let output = Command::new(&python)
        .arg(&script)
        .arg(data)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting Presidio")?;
    ensure!(output.status.success(), "Presidio ended with {}", output.status);
    let answer: Answer = serde_json::from_slice(&output.stdout).context("reading what Presidio found")?;
    Ok(Some((answer.name, answer.found, answer.ms)))
}

/// Its places in the corpus's words.
pub(super) fn places(text: &Text, found: Vec<Place>) -> Vec<Found> {
    found
        .into_iter()
        .map(|place| {
            let types: &[&str] = match place.entity.as_str() {
                "LOCATION" => &["GPE", "STREET_ADDRESS", "ZIP_CODE"],
                "URL" => &["DOMAIN_NAME"],
                own => &[own],
            };
            Found::new(text.bytes(place.start..place.end), types)
        })
        .collect()
}
