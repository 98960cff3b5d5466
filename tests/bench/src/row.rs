//! Rows: how they are kept, printed and written.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::machine;

/// One figure beside its ceiling.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    ceiling: Option<f64>,
    /// What the ceiling is, in a few words.
    of: &'static str,
    target: Option<Target>,
}

/// What a row is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At least this ratio.
    Ratio(f64),
    /// At most this much, in the row's unit.
    AtMost(f64),
    /// At least this much, in the row's unit.
    AtLeast(f64),
    /// At most this much over the ceiling, in the row's unit.
    Over(f64),
}

/// What a row looks like as JSON.
#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    value: f64,
    unit: &'a str,
    ceiling: Option<f64>,
    ratio: Option<f64>,
}

/// All rows of a run.
pub(crate) struct Table {
    rows: Vec<Row>,
    json: Option<File>,
    notes: Vec<String>,
    texts: Vec<String>,
}

// === impl Row ===

impl Row {
    pub(crate) fn new(
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        ceiling: f64,
        of: &'static str,
    ) -> Self {
        Self { name: name.into(), value, unit, ceiling: Some(ceiling), of, target: None }
    }

    /// A figure without a ceiling in this run; `why` says so.
    pub(crate) fn alone(name: impl Into<String>, value: f64, unit: &'static str, why: &'static str) -> Self {
        Self { name: name.into(), value, unit, ceiling: None, of: why, target: None }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// How near it is to the ceiling; 1 is there.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let ceiling = self.ceiling?;
        let (part, whole) = if self.is_rate() { (self.value, ceiling) } else { (ceiling, self.value) };
        (whole > 0.0).then(|| part / whole)
    }

    /// Whether more is better; times and costs are the other kind.
    fn is_rate(&self) -> bool {
        self.unit.ends_with("/s")
    }

    fn verdict(&self) -> String {
        let Some(target) = self.target else { return String::new() };
        let (met, text) = match target {
            Target::Ratio(least) => {
                (self.ratio().is_some_and(|ratio| ratio >= least), format!("ratio >= {least}"))
            }
            Target::AtMost(most) => (self.value <= most, format!("<= {most} {}", self.unit)),
            Target::AtLeast(least) => (self.value >= least, format!(">= {least} {}", self.unit)),
            Target::Over(most) => (
                self.ceiling.is_some_and(|ceiling| self.value - ceiling <= most),
                format!("<= ceiling + {most} {}", self.unit),
            ),
        };
        format!("{} {text}", if met { "met" } else { "missed" })
    }
}

// === impl Table ===

impl Table {
    /// A table; the file is made at once, so that a wrong path is not found out at the end.
    pub(crate) fn begin(json: Option<&Path>) -> Result<Self> {
        let json = json
            .map(|path| File::create(path).with_context(|| format!("making `{}`", path.display())))
            .transpose()?;
        let notes = vec![format!("{} cores, load at the beginning {}", machine::cores(), machine::load())];
        Ok(Self { rows: Vec::new(), json, notes, texts: Vec::new() })
    }

    /// Adds a row, and writes it where it is also wanted as JSON: what was measured stays when the rest fails.
    pub(crate) fn add(&mut self, row: Row) -> Result<()> {
        let ratio = row.ratio();
        crate::say(&format!(
            "  {}: {} {}, ratio {}",
            row.name,
            number(row.value),
            row.unit,
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        ));
        if let Some(file) = &mut self.json {
            let written =
                Written { name: &row.name, value: row.value, unit: row.unit, ceiling: row.ceiling, ratio };
            let line = serde_json::to_string(&written).context("writing a row")?;
            writeln!(file, "{line}").context("writing a row")?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Adds a line above the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds lines of their own form, printed before the table.
    pub(crate) fn text(&mut self, text: impl Into<String>) {
        self.texts.push(text.into());
    }

    /// Prints everything.
    pub(crate) fn print(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        writeln!(out, "load at the end {}\n", machine::load())?;
        for text in &self.texts {
            writeln!(out, "{text}")?;
        }
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
        writeln!(
            out,
            "{:<width$} {:>10} {:<11} {:>10} {:>6}  {:<26}  target",
            "name", "value", "unit", "ceiling", "ratio", "ceiling is"
        )?;
        for row in &self.rows {
            let ceiling = row.ceiling.map_or_else(|| "-".to_owned(), number);
            let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let line = format!(
                "{:<width$} {:>10} {:<11} {:>10} {:>6}  {:<26}  {}",
                row.name,
                number(row.value),
                row.unit,
                ceiling,
                ratio,
                row.of,
                row.verdict()
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        big if big >= 1_000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small <= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.2}"),
    }
}

/// Of several rounds the one with the median ratio: value and ceiling of one row come from one round, beside each other in
/// time.
pub(crate) fn median(mut rounds: Vec<(f64, f64)>) -> (f64, f64) {
    rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    rounds.get(rounds.len() / 2).copied().unwrap_or((f64::NAN, f64::NAN))
}
