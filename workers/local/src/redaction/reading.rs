//! What a model finds in texts that are redacted: which of it is replaced, and what of it is told.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use tidegate_engine::{EntitySpan, LABEL_SCORE, Output, OutputContent, TextScan};
use tidegate_schemas::code::Code;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::redact::{ByModel, Span, joined};
use tidegate_schemas::scan::{SCAN_BYTES_MAX, SCAN_FINDINGS_MAX, SCAN_TEXTS_MAX};
use tidegate_schemas::step::ModelRead;

use crate::life::{Models, counted, longest};

/// The model's entity for people.
const PERSON: &str = "person";
/// Letters of a word that is a name wherever it stands.
const NAME_CHARS_MIN: usize = 4;

/// Texts that a model has read whole.
pub(super) struct Reading {
    /// What is replaced in each.
    pub(super) spans: Vec<Vec<Span>>,
    /// What the router is told.
    pub(super) read: ModelRead,
}

/// Why no model of this process can read texts that came then; none where one can.
pub(super) fn no_go(
    (texts, published): (&[&str], Timestamp),
    by_model: &ByModel,
    models: &Models,
    now: Timestamp,
) -> Option<Code> {
    if !models.scan {
        Some(Code::NoCapableDestination)
    } else if by_model.sha256.is_some() && by_model.sha256 != models.scan_sha256 {
        Some(Code::WrongModel)
    } else if texts.len() > SCAN_TEXTS_MAX
        || texts.iter().map(|text| text.len()).sum::<usize>() > SCAN_BYTES_MAX
    {
        Some(Code::TooLarge)
    } else if now.duration_since(published) > longest() {
        Some(Code::Overloaded)
    } else {
        None
    }
}

/// What is replaced, and what is told of it, once the model has read.
pub(super) fn reading(
    texts: &[&str],
    recognised: &[Vec<Span>],
    by_model: &ByModel,
    output: &Output,
) -> Result<Reading, Code> {
    let OutputContent::Scanned(scans) = &output.content else { return Err(Code::ModelFailed) };
    let model: Digest = output.model.sha256.parse().map_err(|_| Code::ModelFailed)?;
    if scans.len() != texts.len() || recognised.len() != texts.len() {
        return Err(Code::ModelFailed);
    }
    let spans = replaced(texts, recognised, scans, &by_model.entities);
    match (spans, counted(scans)) {
        (Some(spans), Some(findings)) if findings.len() <= SCAN_FINDINGS_MAX => {
            Ok(Reading { spans, read: ModelRead { model, findings } })
        }
        _ => Err(Code::ModelFailed),
    }
}

/// What is replaced in each text: what recognisers found, and what a model found there of `entities` (entity → kind of data), unsure
/// as it may be. A name that it found once is replaced wherever else it stands. None where the model could not read a text.
#[must_use]
pub fn replaced(
    texts: &[&str],
    recognised: &[Vec<Span>],
    scans: &[TextScan],
    entities: &BTreeMap<Name, Name>,
) -> Option<Vec<Vec<Span>>> {
    let found: Option<Vec<Vec<Span>>> = scans
        .iter()
        .map(|scan| match scan {
            TextScan::Read(found) => Some(found.iter().filter_map(|span| named(span, entities)).collect()),
            TextScan::UnknownScript => None,
        })
        .collect();
    let found = found?;
    let names = names_in(texts, scans);
    let person = Name::new(PERSON).ok().and_then(|person| entities.get_key_value(&person));
    let each = texts.iter().zip(recognised).zip(found);
    let joins = each.map(|((text, own), mut found)| {
        found.extend(person.into_iter().flat_map(|person| again(text, &names, person)));
        found.sort_by_key(|span| span.start);
        joined(text, own, &found)
    });
    Some(joins.collect())
}

/// A place as the bundle calls it; none where that is nothing to it.
fn named(found: &EntitySpan, entities: &BTreeMap<Name, Name>) -> Option<Span> {
    let (entity, category) = entities.get_key_value(&Name::new(&found.entity).ok()?)?;
    let (entity, category) = (entity.clone(), category.clone());
    Some(Span { start: found.start, end: found.end, entity, category })
}

/// The words of names that the model is sure of.
fn names_in<'t>(texts: &[&'t str], scans: &[TextScan]) -> HashSet<&'t str> {
    let mut names = HashSet::new();
    for (text, scan) in texts.iter().zip(scans) {
        let TextScan::Read(found) = scan else { continue };
        let sure = found.iter().filter(|span| span.entity == PERSON && span.score >= LABEL_SCORE);
        for span in sure {
            let name = text.get(span.start..span.end).unwrap_or_default();
            names.extend(words(name).map(|(_, word)| word).filter(|word| is_name(word)));
        }
    }
    names
}

/// Where these names stand in a text.
fn again(text: &str, names: &HashSet<&str>, (entity, category): (&Name, &Name)) -> Vec<Span> {
    words(text)
        .filter(|(_, word)| names.contains(word))
        .map(|(start, word)| Span {
            start,
            end: start + word.len(),
            entity: entity.clone(),
            category: category.clone(),
        })
        .collect()
}

/// Words with where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_between = |c: char| !c.is_alphanumeric();
    let mut from = 0;
    text.split_inclusive(is_between).filter_map(move |piece| {
        let start = from;
        from += piece.len();
        let word = piece.trim_end_matches(is_between);
        (!word.is_empty()).then_some((start, word))
    })
}

/// Whether a word of a name tells somebody alone: an initial does not, and a short word may be another one.
fn is_name(word: &str) -> bool {
    word.chars().count() >= NAME_CHARS_MIN && word.chars().next().is_some_and(char::is_uppercase)
}

#[cfg(test)]
mod tests;
