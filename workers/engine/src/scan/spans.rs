//! From labels of tokens to spans of a text: tokens of one label join, a span covers whole words, the parts of a name or an
//! address are one, and what two windows saw is one.

use std::borrow::Cow;

use super::around;
use super::labels::Labels;
use super::{EntitySpan, Labelled, MASK_SCORE};

/// Bytes between two groups of a number that may still be one.
const GAP_BYTES_MAX: usize = 3;
/// What may stand there.
const BETWEEN_GROUPS: [char; 5] = ['-', '.', '/', '@', ':'];
/// Parts of a person's name.
const PERSON: [&str; 2] = ["given_name", "surname"];
/// Parts of an address that say where somebody lives.
const HOME: [&str; 4] = ["building_number", "street_name", "secondary_address", "zip_code"];
/// Parts of an address that alone are a place only.
const PLACE: [&str; 2] = ["city", "state"];

/// What belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Group {
    Person,
    Address { home: bool },
    Other(String),
}

/// A span of one label, in the bytes of the whole text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    start: usize,
    end: usize,
    group: Group,
    score: f32,
}

/// The spans of a window that begins at `offset` of its text.
pub(crate) fn decode(window: &str, tokens: &Labelled, labels: &Labels, offset: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut current: Option<(Part, &str)> = None;
    for ((at, best), score) in tokens.offsets.iter().zip(&tokens.best).zip(&tokens.scores) {
        let (start, end) = *at;
        let Some(label) = labels.get(best.0).filter(|_| *score >= MASK_SCORE) else {
            parts.extend(current.take().map(|(part, _)| part));
            continue;
        };
        match &mut current {
            Some((part, entity))
                if *entity == label.entity && !label.begins && is_blank(window, part.end, start) =>
            {
                part.end = end;
                part.score = part.score.max(*score);
            }
            _ => {
                parts.extend(current.take().map(|(part, _)| part));
                let part = Part { start, end, group: Group::of(&label.entity), score: *score };
                current = Some((part, &label.entity));
            }
        }
    }
    parts.extend(current.map(|(part, _)| part));
    for part in &mut parts {
        part.widen(window);
        part.start += offset;
        part.end += offset;
    }
    parts
}

/// All parts of a text as spans, in order, without overlap.
pub(crate) fn whole(text: &str, mut parts: Vec<Part>) -> Vec<EntitySpan> {
    parts.sort_by_key(|part| (part.start, part.end));
    let mut joined = joined(text, parts);
    joined.iter_mut().for_each(|part| part.with_what_belongs_to_it(text));
    self::joined(text, joined).into_iter().map(EntitySpan::from).collect()
}

fn joined(text: &str, parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last) if part.start < last.end || last.goes_on(&part, text) => last.join(part),
            _ => joined.push(part),
        }
    }
    joined
}

/// A window without the marks of quoted mail, which the model takes for a part of the word behind them; as long in bytes.
pub(crate) fn unquoted(window: &str) -> Cow<'_, str> {
    let marks = ['>', '|', '*'];
    if window.contains(marks) { Cow::Owned(window.replace(marks, " ")) } else { Cow::Borrowed(window) }
}

fn is_blank(text: &str, from: usize, to: usize) -> bool {
    text.get(from..to).is_some_and(|gap| gap.chars().all(char::is_whitespace))
}

// === impl Group ===

impl Group {
    fn of(entity: &str) -> Self {
        if PERSON.contains(&entity) {
            Self::Person
        } else if HOME.contains(&entity) {
            Self::Address { home: true }
        } else if PLACE.contains(&entity) {
            Self::Address { home: false }
        } else {
            Self::Other(entity.to_owned())
        }
    }

    /// Whether this may stand between two parts that are one; the first begins behind `before`.
    fn bridges(&self, before: &str, gap: &str) -> bool {
        match self {
            Self::Person => around::joins_names(gap),
            Self::Address { .. } => around::joins_address(before, gap),
            // A number that is written in groups.
            Self::Other(_) => gap.len() <= GAP_BYTES_MAX && gap.chars().all(|c| BETWEEN_GROUPS.contains(&c)),
        }
    }
}

// === impl Part ===

impl Part {
    /// Whoever masks half a word shows the other half.
    fn widen(&mut self, window: &str) {
        let before = window.get(..self.start).unwrap_or_default();
        let after = window.get(self.end..).unwrap_or_default();
        let own = |c: &char| c.is_alphanumeric();
        self.start -= before.chars().rev().take_while(own).map(char::len_utf8).sum::<usize>();
        self.end += after.chars().take_while(own).map(char::len_utf8).sum::<usize>();
    }

    fn goes_on(&self, next: &Self, text: &str) -> bool {
        let same = match (&self.group, &next.group) {
            (Group::Address { .. }, Group::Address { .. }) => true,
            (own, other) => own == other,
        };
        let around = text.get(..self.start).zip(text.get(self.end..next.start));
        same && around.is_some_and(|(before, gap)| gap.is_empty() || self.group.bridges(before, gap))
    }

    fn with_what_belongs_to_it(&mut self, text: &str) {
        let range = self.start..self.end;
        let whole = match self.group {
            Group::Person => around::name(text, range),
            Group::Address { home: true } => around::address(text, range),
            Group::Address { home: false } | Group::Other(_) => range,
        };
        (self.start, self.end) = (whole.start, whole.end);
    }

    /// One span of both; where they disagree the surer says what it is, and nothing of either is lost.
    fn join(&mut self, next: Self) {
        self.end = self.end.max(next.end);
        self.group = match (&self.group, next.group) {
            (Group::Address { home }, Group::Address { home: other }) => {
                Group::Address { home: *home || other }
            }
            (_, group) if next.score > self.score => group,
            (own, _) => own.clone(),
        };
        self.score = self.score.max(next.score);
    }
}

// === impl EntitySpan ===

impl From<Part> for EntitySpan {
    fn from(part: Part) -> Self {
        let entity = match part.group {
            Group::Person => "person".to_owned(),
            Group::Address { home: true } => "address".to_owned(),
            Group::Address { home: false } => "place".to_owned(),
            Group::Other(entity) => entity,
        };
        Self { start: part.start, end: part.end, entity, score: part.score }
    }
}
