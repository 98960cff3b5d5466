//! Places that a model found beside those of the recognisers: joined where a text is redacted, and looked at again where it would
//! leave. What a recogniser found is always among what is replaced; a model only adds to it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Span;
use super::json::Json;
use crate::ids::Name;

/// The places of both in one text, in order and without overlap. So are `recognised`; `by_model` may lie over each other.
///
/// What a recogniser found wins. A model's place over it is one with it where both are the same kind of data, under the recogniser's
/// name; where they are not, what sticks out stands beside it. In a text that is JSON a place ends with its string.
#[must_use]
pub fn joined(text: &str, recognised: &[Span], by_model: &[Span]) -> Vec<Span> {
    let json = Json::of(text);
    let mut kept = recognised.to_vec();
    for found in by_model {
        let whole: Vec<Range<usize>> = std::iter::once(found.start..found.end).collect();
        let others = recognised.iter().filter(|own| own.category != found.category);
        let parts = others.fold(whole, |parts, own| without(parts, &(own.start..own.end)));
        let parts = match &json {
            Some(json) => parts.into_iter().flat_map(|part| json.within(&part)).collect(),
            None => parts,
        };
        for part in parts {
            let part = if part == (found.start..found.end) { Some(part) } else { trimmed(text, part) };
            if let Some(Range { start, end }) = part {
                add(&mut kept, Span { start, end, ..found.clone() });
            }
        }
    }
    kept
}

/// Whether places are what [`joined`] can make of these, where the model's entities are those kinds of data: nothing that a
/// recogniser found is missing or under another's name, and whatever is more is the model's to find.
#[must_use]
pub fn are_joined(spans: &[Vec<Span>], recognised: &[Vec<Span>], entities: &BTreeMap<Name, Name>) -> bool {
    spans.len() == recognised.len()
        && spans.iter().zip(recognised).all(|(spans, recognised)| {
            let holds = |span: &Span, own: &Span| span.start <= own.start && own.end <= span.end;
            let same = |span: &Span, own: &Span| span.category == own.category;
            let is_there = |own: &Span| spans.iter().any(|span| holds(span, own) && same(span, own));
            let is_own =
                |span: &Span| recognised.iter().any(|own| holds(span, own) && own.entity == span.entity);
            let is_models = |span: &Span| entities.get(&span.entity) == Some(&span.category);
            recognised.iter().all(is_there) && spans.iter().all(|span| is_own(span) || is_models(span))
        })
}

/// Adds a place; with those that it lies over it becomes one.
fn add(kept: &mut Vec<Span>, mut span: Span) {
    let from = kept.partition_point(|own| own.end <= span.start);
    let to = kept.partition_point(|own| own.start < span.end).max(from);
    let under = kept.get(from..to).unwrap_or_default();
    if let (Some(first), Some(last)) = (under.first(), under.last()) {
        (span.entity, span.category) = (first.entity.clone(), first.category.clone());
        (span.start, span.end) = (span.start.min(first.start), span.end.max(last.end));
    }
    kept.splice(from..to, [span]);
}

fn without(parts: Vec<Range<usize>>, hole: &Range<usize>) -> Vec<Range<usize>> {
    let around = |part: Range<usize>| {
        if part.start >= hole.end || hole.start >= part.end {
            return vec![part];
        }
        let sides = [part.start..hole.start.max(part.start), hole.end.min(part.end)..part.end];
        sides.into_iter().filter(|side| side.start < side.end).collect()
    };
    parts.into_iter().flat_map(around).collect()
}

/// A part of a place without what stands between it and the rest; none where nothing else is in it.
fn trimmed(text: &str, part: Range<usize>) -> Option<Range<usize>> {
    let Some(whole) = text.get(part.clone()) else { return Some(part) };
    let first = whole.find(char::is_alphanumeric)?;
    let rest = whole.get(first..)?.trim_end_matches(|last: char| !last.is_alphanumeric());
    let start = part.start + first;
    Some(start..start + rest.len())
}

#[cfg(test)]
mod tests;
