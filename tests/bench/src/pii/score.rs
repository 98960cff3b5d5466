//! What a finder is worth on a marked corpus.
//!
//! A value is found where at least nine tenths of its characters are covered by places of its type; a place is right where at
//! least half of it lies in values of one of its types. F2 weighs recall twice as much as precision. A value leaks where
//! less than nine tenths of it are covered by anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::corpus::{CHECKSUM, CORE, Text, Value};

/// A place that a finder would take out, and the types of values that it says it is.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) types: Vec<String>,
}

/// Counts of one type.
#[derive(Debug, Default, Clone)]
struct Kind {
    values: u32,
    found: u32,
    covered: u32,
    places: u32,
    right: u32,
}

/// A finder's figures.
#[derive(Debug)]
pub(super) struct Score {
    kinds: BTreeMap<String, Kind>,
    pub(super) core_recall: f64,
    pub(super) core_covered: f64,
    pub(super) precision: f64,
    pub(super) leaks: f64,
    pub(super) checksum_leaks: f64,
    pub(super) f2: f64,
    pub(super) core_f2: f64,
    /// Texts that stay inside.
    pub(super) kept: f64,
}

// === impl Found ===

impl Found {
    pub(super) fn new(range: Range<usize>, types: &[&str]) -> Self {
        Self { range, types: types.iter().map(|name| (*name).to_owned()).collect() }
    }
}

// === impl Kind ===

impl Kind {
    fn recall(&self) -> f64 {
        share(self.found, self.values)
    }

    fn precision(&self) -> f64 {
        share(self.right, self.places)
    }

    fn f2(&self) -> f64 {
        let (precision, recall) = (self.precision(), self.recall());
        if precision + recall > 0.0 { 5.0 * precision * recall / (4.0 * precision + recall) } else { 0.0 }
    }

    fn add(&mut self, other: &Self) {
        self.values += other.values;
        self.found += other.found;
        self.covered += other.covered;
        self.places += other.places;
        self.right += other.right;
    }
}

// === impl Score ===

impl Score {
    /// A text of which nothing is said stays inside: it leaks nothing, and is no part of the other figures.
    pub(super) fn of(texts: &[Text], found: &[Option<Vec<Found>>]) -> Self {
        let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
        let (mut core_bytes, mut core_hit, mut taken, mut taken_right) = (0, 0, 0, 0);
        let (mut leaking, mut checksums, mut checksums_leaked) = (0_u32, 0_u32, 0_u32);
        for (text, found) in texts.iter().zip(found).filter_map(|(text, found)| Some((text, found.as_ref()?)))
        {
            let all: Vec<&Found> = found.iter().collect();
            let mut leaks = false;
            for value in &text.values {
                let kind = kinds.entry(value.entity.clone()).or_default();
                let same: Vec<&Found> = found.iter().filter(|place| place.is(&value.entity)).collect();
                let (size, any) = (value.range.len(), covered(&value.range, &all));
                kind.values += 1;
                kind.found += u32::from(covered(&value.range, &same) * 10 >= size * 9);
                let gone = any * 10 >= size * 9;
                kind.covered += u32::from(gone);
                if CORE.contains(&value.entity.as_str()) {
                    core_bytes += size;
                    core_hit += any;
                    leaks |= !gone;
                }
                if CHECKSUM.contains(&value.entity.as_str()) {
                    checksums += 1;
                    checksums_leaked += u32::from(!gone);
                }
            }
            leaking += u32::from(leaks);
            for place in found {
                let within = |value: &&Value| place.is(&value.entity);
                let right = inside(&place.range, text.values.iter().filter(within)) * 2 >= place.range.len();
                let kind = kinds.entry(place.types.first().cloned().unwrap_or_default()).or_default();
                kind.places += 1;
                kind.right += u32::from(right);
                taken += place.range.len();
                taken_right += inside(&place.range, text.values.iter());
            }
        }
        let mut every = Kind::default();
        let mut core = Kind::default();
        for (name, kind) in &kinds {
            every.add(kind);
            if CORE.contains(&name.as_str()) {
                core.add(kind);
            }
        }
        Self {
            core_recall: ratio(core_hit, core_bytes),
            core_covered: share(core.covered, core.values),
            precision: ratio(taken_right, taken),
            leaks: f64::from(leaking) / texts.len().max(1) as f64,
            checksum_leaks: share(checksums_leaked, checksums),
            kept: found.iter().filter(|found| found.is_none()).count() as f64 / texts.len().max(1) as f64,
            f2: every.f2(),
            core_f2: core.f2(),
            kinds,
        }
    }

    /// A line a type.
    pub(super) fn table(&self, name: &str) -> String {
        let mut text = format!(
            "{name:<20} {:>7} {:>7} {:>10} {:>7} {:>6} {:>11}\n",
            "values", "places", "precision", "recall", "F2", "any >= 90 %"
        );
        for (name, kind) in &self.kinds {
            // Writing to a text cannot fail.
            let _ = writeln!(
                text,
                "{name:<20} {:>7} {:>7} {:>10.3} {:>7.3} {:>6.3} {:>11.3}",
                kind.values,
                kind.places,
                kind.precision(),
                kind.recall(),
                kind.f2(),
                share(kind.covered, kind.values)
            );
        }
        text
    }
}

/// Writes down what a finder leaves of core values: for whoever looks for what is missing.
pub(super) fn write_misses(file: &Path, texts: &[Text], found: &[Option<Vec<Found>>]) -> Result<()> {
    let mut lines = String::new();
    for (text, found) in texts.iter().zip(found).filter_map(|(text, found)| Some((text, found.as_ref()?))) {
        let all: Vec<&Found> = found.iter().collect();
        let core = text.values.iter().filter(|value| CORE.contains(&value.entity.as_str()));
        for value in core.filter(|value| covered(&value.range, &all) * 10 < value.range.len() * 9) {
            let missed = text.text.get(value.range.clone()).unwrap_or_default();
            let taken = found.iter().filter_map(|place| text.text.get(place.range.clone()));
            let line = serde_json::json!({ "entity": value.entity, "value": missed, "text": text.text,
                                           "taken": taken.collect::<Vec<_>>() });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        let wrong =
            found.iter().filter(|place| inside(&place.range, text.values.iter()) * 2 < place.range.len());
        for place in wrong {
            let taken = text.text.get(place.range.clone()).unwrap_or_default();
            let line = serde_json::json!({ "wrong": place.types.first(), "value": taken, "text": text.text });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
    }
    std::fs::write(file, lines).with_context(|| format!("writing `{}`", file.display()))
}

impl Found {
    fn is(&self, entity: &str) -> bool {
        self.types.iter().any(|name| name == entity)
    }
}

/// Bytes of a range that places cover, each once: places of one finder may lie over each other.
fn covered(range: &Range<usize>, places: &[&Found]) -> usize {
    let is_in = |at: &usize| places.iter().any(|place| place.range.contains(at));
    range.clone().filter(is_in).count()
}

fn inside<'v>(range: &Range<usize>, values: impl Iterator<Item = &'v Value> + Clone) -> usize {
    range.clone().filter(|at| values.clone().any(|value| value.range.contains(at))).count()
}

fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
