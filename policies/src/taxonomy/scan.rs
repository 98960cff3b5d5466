//! Looking for what the taxonomy names, in every form in which a text can say it, in time linear in the text.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tidegate_schemas::decision::Scan;
use tidegate_schemas::ids::Name;

use super::form::Form;
use super::rule::Rule;
use super::search::Search;
use super::span::{Hit, Span, apart, distinct};
use super::{Taxonomy, blob, escapes, normal};

mod spans;

/// Longest match that a pattern may have, bytes.
pub const MATCH_BYTES_MAX: usize = 512;
/// Findings of one name that are counted; more change nothing.
pub const COUNT_MAX: u32 = 1_000;
/// Forms of forms: an escape in base64 in an escape is the third.
const DEPTH_MAX: u8 = 4;
/// Bytes of all forms of a text together, as a multiple of its own; more are not looked at.
const FORMS_BYTES_TIMES: usize = 16;
/// Bytes of forms that any text may have.
const FORMS_BYTES_LEAST: usize = 4_096;

/// What was found, and the kinds of data it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Finding → count.
    pub counts: BTreeMap<Name, u32>,
    /// Kinds of data.
    pub categories: BTreeSet<Name>,
    /// Bytes that were looked at, all passes together.
    pub bytes_read: u64,
}

/// A taxonomy's patterns, compiled.
#[derive(Debug, Clone)]
pub struct Scanner {
    rules: Vec<Rule>,
    search: Search,
}

/// A look at all forms of one text.
struct View<'s> {
    scanner: &'s Scanner,
    hits: Vec<Hit>,
    read: u64,
    /// Bytes of forms that may still be looked at.
    left: usize,
}

// === impl Findings ===

impl Findings {
    /// All findings together, count.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().fold(0, |sum, count| sum.saturating_add(u64::from(*count)))
    }

    /// Both: of what stands in each the larger count, and every kind of data.
    #[must_use]
    pub(crate) fn or(mut self, other: Self) -> Self {
        for (name, count) in other.counts {
            let own = self.counts.entry(name).or_default();
            *own = count.max(*own);
        }
        self.categories.extend(other.categories);
        self.bytes_read = self.bytes_read.saturating_add(other.bytes_read);
        self
    }
}

// === impl Scanner ===

impl Scanner {
    /// Compiles a taxonomy's recognisers and key words.
    ///
    /// # Errors
    /// A sentence with the recogniser whose pattern cannot be used, and why.
    pub fn new(taxonomy: &Taxonomy) -> Result<Self, String> {
        let recognisers = taxonomy.recognisers.iter().map(Rule::recogniser);
        let classes = taxonomy.classes.iter().map(Rule::key_words);
        let both = recognisers.chain(classes).collect::<Result<Vec<_>, _>>()?;
        let (rules, parsed): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        let search = Search::new(&rules, &parsed)?;
        Ok(Self { rules, search })
    }

    /// What looks for findings: nothing where the taxonomy has no patterns.
    #[must_use]
    pub fn fact(&self) -> Scan {
        if self.rules.is_empty() { Scan::None } else { Scan::Recognisers }
    }

    /// Looks at every text.
    #[must_use]
    pub fn scan(&self, texts: &[&str]) -> Findings {
        let mut findings = Findings::default();
        for text in texts {
            let (hits, read) = self.hits(text);
            findings.bytes_read += read;
            for hit in distinct(hits) {
                if let Some(rule) = self.rules.get(hit.rule) {
                    let total = findings.counts.entry(rule.name.clone()).or_default();
                    *total = total.saturating_add(1).min(COUNT_MAX);
                }
            }
        }
        for rule in &self.rules {
            match findings.counts.get(&rule.name) {
                Some(count) if *count >= rule.at_least => {
                    findings.categories.insert(rule.category.clone());
                }
                Some(_) => {
                    findings.counts.remove(&rule.name);
                }
                None => {}
            }
        }
        findings
    }

    /// The values in a text, in order, none over another: what redaction would take out. Key words are none, they tell of the
    /// text as a whole.
    #[must_use]
    pub fn spans(&self, text: &str) -> Vec<Span> {
        let (hits, _) = self.hits(text);
        apart(hits.into_iter().filter(|hit| hit.is_value).collect())
            .into_iter()
            .filter_map(|hit| {
                let rule = self.rules.get(hit.rule)?;
                let (start, end) = (hit.start, hit.end);
                Some(Span { start, end, entity: rule.name.clone(), category: rule.category.clone() })
            })
            .collect()
    }

    /// Every match of every rule in every form, with its place in the text; bytes that were looked at.
    fn hits(&self, text: &str) -> (Vec<Hit>, u64) {
        let left = text.len().saturating_mul(FORMS_BYTES_TIMES).max(FORMS_BYTES_LEAST);
        let mut view = View { scanner: self, hits: Vec::new(), read: 0, left };
        view.every(&Form::of(text), 0);
        (view.hits, view.read)
    }
}

// === impl View ===

impl View<'_> {
    /// Looks at a form and at all forms of it.
    fn every(&mut self, form: &Form<'_>, depth: u8) {
        let folded = normal::normal(form);
        let form = folded.as_ref().unwrap_or(form);
        if !self.one(form) || depth >= DEPTH_MAX {
            return;
        }
        if let Some(alike) = normal::alike(form) {
            self.one(&alike);
        }
        if let Some(unescaped) = escapes::unescaped(form) {
            self.every(&unescaped, depth + 1);
        }
        for (part, text) in blob::texts(form) {
            self.every(&form.decoded(part, text), depth + 1);
        }
    }

    /// Looks at a form; false where no more forms are to be looked at.
    fn one(&mut self, form: &Form<'_>) -> bool {
        let bytes = form.bytes.as_ref();
        let Some(left) = self.left.checked_sub(bytes.len()) else { return false };
        self.left = left;
        let Self { scanner, hits, .. } = self;
        let mut found = |rule: usize, range: Range<usize>| {
            if let Some(spec) = scanner.rules.get(rule) {
                let Range { start, end } = form.origin(range);
                let (strength, is_value) = (spec.strength(), spec.is_value);
                hits.push(Hit { rule, start, end, strength, is_value });
            }
        };
        self.read += scanner.search.look(&scanner.rules, bytes, &mut found);
        true
    }
}
