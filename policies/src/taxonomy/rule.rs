//! One thing that is looked for: a pattern, and what its matches must also pass.

use std::collections::BTreeSet;
use std::ops::Range;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, PatternID};
use regex_syntax::hir::Hir;
use tidegate_schemas::ids::Name;

use super::checksum::Check;
use super::lead::{Lead, lead};
use super::scan::MATCH_BYTES_MAX;
use super::{KeyWords, Recogniser};

/// Bytes before a value in which a word about it is looked for.
const BEFORE_BYTES: usize = 64;
/// Bytes after a value in which a word about it is looked for.
const AFTER_BYTES: usize = 32;
/// Furthest end of a value behind its match, bytes: a key of 16,384 bits with its armour.
const UNTIL_BYTES_MAX: usize = 16 << 10;
/// Size of one compiled pattern, bytes.
pub(super) const COMPILED_BYTES_MAX: usize = 4 << 20;
/// The group of a pattern that holds the value where that is less than the match.
const VALUE: &str = "value";

/// A recogniser or a class of key words, compiled.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) name: Name,
    pub(super) category: Name,
    pub(super) pattern: Regex,
    pub(super) lead: Lead,
    /// How many make a finding.
    pub(super) at_least: u32,
    /// Whether a match is a value, and not only a word about the text.
    pub(super) is_value: bool,
    /// Longest match, bytes.
    pub(super) longest: usize,
    check: Option<Check>,
    near: BTreeSet<String>,
    until: Option<String>,
    grouped: bool,
}

/// What one look at a place of a text came to.
pub(super) enum Look {
    /// Nothing that matches.
    Nothing,
    /// A match that does not pass.
    Failed(Range<usize>),
    /// A value.
    Found(Range<usize>),
}

// === impl Rule ===

impl Rule {
    pub(super) fn recogniser(spec: &Recogniser) -> Result<(Self, Hir), String> {
        let hir = bounded(&spec.name, &spec.pattern)?;
        let pattern = compile(&spec.name, &spec.pattern)?;
        let grouped = pattern.group_info().to_index(PatternID::ZERO, VALUE).is_some();
        let rule = Self {
            name: spec.name.clone(),
            category: spec.category.clone(),
            pattern,
            lead: lead(&hir),
            at_least: 1,
            is_value: true,
            longest: longest(&hir),
            check: spec.check,
            near: spec.near.iter().map(|word| word.to_ascii_lowercase()).collect(),
            until: spec.until.clone(),
            grouped,
        };
        Ok((rule, hir))
    }

    pub(super) fn key_words(spec: &KeyWords) -> Result<(Self, Hir), String> {
        let text = words(spec.words.iter());
        let hir = bounded(&spec.name, &text)?;
        let rule = Self {
            name: spec.name.clone(),
            category: spec.category.clone(),
            pattern: compile(&spec.name, &text)?,
            lead: lead(&hir),
            at_least: spec.at_least,
            is_value: false,
            longest: longest(&hir),
            check: None,
            near: BTreeSet::new(),
            until: None,
            grouped: false,
        };
        Ok((rule, hir))
    }

    /// How much a value of this kind is told from others: a checksum says more than a form, a form more than a length.
    pub(super) fn strength(&self) -> u8 {
        self.check.map_or(1, Check::strength)
    }

    /// Looks for a value in a range: one that begins where it does, or the first.
    pub(super) fn look(&self, text: &[u8], range: Range<usize>, anchored: Anchored) -> Look {
        if range.start > range.end || range.end > text.len() {
            return Look::Nothing;
        }
        let input = Input::new(text).range(range).anchored(anchored);
        let Some(found) = self.pattern.find(input) else { return Look::Nothing };
        let whole = found.range();
        let value = self.value(text, whole.clone());
        let matched = text.get(value.clone()).unwrap_or_default();
        let core = match self.check {
            None => Some(0..matched.len()),
            Some(check) => check.core(matched),
        };
        match core.map(|core| value.start + core.start..value.start + core.end) {
            Some(core) if self.is_near(text, &core) => Look::Found(self.extended(text, core)),
            _ => Look::Failed(whole),
        }
    }

    fn value(&self, text: &[u8], whole: Range<usize>) -> Range<usize> {
        if !self.grouped {
            return whole;
        }
        let mut captures = self.pattern.create_captures();
        let input = Input::new(text).range(whole.clone()).anchored(Anchored::Yes);
        self.pattern.captures(input, &mut captures);
        captures.get_group_by_name(VALUE).map_or(whole, |group| group.range())
    }

    /// A value that goes on behind its match, as a key does behind its header.
    fn extended(&self, text: &[u8], core: Range<usize>) -> Range<usize> {
        let Some(until) = &self.until else { return core };
        let rest = text.get(core.end..text.len().min(core.end + UNTIL_BYTES_MAX)).unwrap_or_default();
        let mark = rest.windows(until.len().max(1)).position(|part| part == until.as_bytes());
        let more = match mark {
            Some(mark) => {
                let line = mark + until.len();
                line + rest
                    .iter()
                    .skip(line)
                    .take_while(|byte| !matches!(byte, b'\n' | b'\r' | b'\\' | b'"'))
                    .count()
            }
            None => {
                let goes_on = |byte: &&u8| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\n' | b'\r' | b'\\')
                };
                rest.iter().take_while(goes_on).count()
            }
        };
        core.start..core.end + more
    }

    fn is_near(&self, text: &[u8], value: &Range<usize>) -> bool {
        if self.near.is_empty() {
            return true;
        }
        let before = text.get(value.start.saturating_sub(BEFORE_BYTES)..value.start).unwrap_or_default();
        let after = text.get(value.end..text.len().min(value.end + AFTER_BYTES)).unwrap_or_default();
        self.near.iter().any(|word| has_word(before, word.as_bytes()) || has_word(after, word.as_bytes()))
    }
}

fn longest(pattern: &Hir) -> usize {
    pattern.properties().maximum_len().unwrap_or(MATCH_BYTES_MAX)
}

/// Whether a word stands in a text, whole, in any case.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let outside = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    text.windows(word.len().max(1)).enumerate().any(|(at, part)| {
        part.eq_ignore_ascii_case(word)
            && outside(at.checked_sub(1).and_then(|before| text.get(before)))
            && outside(text.get(at + word.len()))
    })
}

/// A pattern for any of these words, whole, in any case.
fn words<'a>(words: impl Iterator<Item = &'a String>) -> String {
    let alternatives: Vec<String> = words
        .map(|word| {
            let escaped = word
                .split_whitespace()
                .map(regex_syntax::escape)
                .collect::<Vec<_>>()
                .join("[ \\t\\r\\n]{1,3}");
            let edge = |at_word: Option<char>| {
                if at_word.is_some_and(|c| c.is_ascii_alphanumeric()) { "\\b" } else { "" }
            };
            format!("{}{escaped}{}", edge(word.chars().next()), edge(word.chars().next_back()))
        })
        .collect();
    format!("(?i:{})", alternatives.join("|"))
}

/// How patterns are read: over bytes, with ASCII classes.
pub(super) fn dialect() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

fn compile(name: &Name, pattern: &str) -> Result<Regex, String> {
    Regex::builder()
        .syntax(dialect())
        .configure(Regex::config().nfa_size_limit(Some(COMPILED_BYTES_MAX)).utf8_empty(false))
        .build(pattern)
        .map_err(|error| format!("recogniser `{name}`: {error}"))
}

/// Refuses a pattern whose matches have no bound, or a larger one than [`MATCH_BYTES_MAX`].
fn bounded(name: &Name, pattern: &str) -> Result<Hir, String> {
    let parsed = regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
        .parse(pattern)
        .map_err(|error| format!("recogniser `{name}`: {error}"))?;
    let properties = parsed.properties();
    match (properties.minimum_len(), properties.maximum_len()) {
        (Some(least), Some(most)) if least > 0 && most <= MATCH_BYTES_MAX => Ok(parsed),
        _ => Err(format!(
            "recogniser `{name}`: its matches must be 1 to {MATCH_BYTES_MAX} bytes long; bound its repetitions"
        )),
    }
}
