//! Where findings stand in a text as it came, whatever form of it matched, and what is left of findings once those are replaced.

use std::collections::BTreeMap;

use tidegate_schemas::ids::Name;
use tidegate_schemas::redact::Span;

use super::{COUNT_MAX, Findings, Rule, Scanner, next_start};
use crate::taxonomy::normal::normal;

impl Scanner {
    /// Where something stands that can be replaced: in order, without overlaps. What overlaps becomes one span of the longer's
    /// finding.
    #[must_use]
    pub fn spans(&self, text: &str) -> Vec<Span> {
        let (plain, offsets) = mapped(text);
        let bytes = plain.as_bytes();
        let values = self.rules.iter().filter(|rule| rule.is_value);
        let mut found: Vec<Span> = values
            .flat_map(|rule| rule.places(bytes).into_iter().map(move |place| (rule, place)))
            .filter_map(|(rule, (start, end))| {
                let last = offsets.get(end.checked_sub(1)?)?;
                Some(Span {
                    start: offsets.get(start)?.0,
                    end: last.1,
                    entity: rule.name.clone(),
                    category: rule.category.clone(),
                })
            })
            .collect();
        found.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        let mut merged: Vec<Span> = Vec::with_capacity(found.len());
        for span in found {
            match merged.last_mut() {
                Some(last) if span.start < last.end => {
                    if span.end - span.start > last.end - last.start {
                        (last.entity, last.category) = (span.entity, span.category);
                    }
                    last.end = last.end.max(span.end);
                }
                _ => merged.push(span),
            }
        }
        merged
    }

    /// What of these findings is left once all that can be replaced is; none where nothing can.
    pub(crate) fn left_of(&self, found: &BTreeMap<Name, u32>) -> Option<Findings> {
        let is_value = |name: &Name| self.rules.iter().any(|rule| rule.name == *name && rule.is_value);
        found.keys().any(is_value).then(|| {
            let counts: BTreeMap<Name, u32> =
                found.iter().filter(|(name, _)| !is_value(name)).map(|(n, c)| (n.clone(), *c)).collect();
            let of = |name: &Name| self.rules.iter().find(|rule| rule.name == *name);
            let categories = counts.keys().filter_map(|name| Some(of(name)?.category.clone())).collect();
            Findings { counts, categories, ..Findings::default() }
        })
    }
}

impl Rule {
    /// Where its matches stand that pass the check.
    fn places(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let (mut places, mut at) = (Vec::new(), 0);
        while let Some(found) = self.pattern.find_at(text, at) {
            if self.check.is_none_or(|check| check.passes(found.as_bytes())) {
                places.push((found.start(), found.end()));
                at = found.end().max(at + 1);
            } else {
                at = next_start(text, found.start()).min(found.end()).max(at + 1);
            }
            if places.len() >= COUNT_MAX as usize || at >= text.len() {
                break;
            }
        }
        places
    }
}

/// The text as it is looked at, and for each of its bytes where the character that it comes from begins and ends.
fn mapped(text: &str) -> (String, Vec<(usize, usize)>) {
    if text.is_ascii() {
        return (text.to_owned(), (0..text.len()).map(|at| (at, at + 1)).collect());
    }
    let (mut plain, mut offsets) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
    for (start, character) in text.char_indices() {
        let mut own = [0; 4];
        let end = start + character.len_utf8();
        let normal = normal(character.encode_utf8(&mut own)).into_owned();
        offsets.extend(std::iter::repeat_n((start, end), normal.len()));
        plain.push_str(&normal);
    }
    (plain, offsets)
}
