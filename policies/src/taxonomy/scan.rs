//! Looking for what the taxonomy names, in time linear in the text.
//!
//! One pass over the text by all patterns at once says which of them occur; only those are then searched for. Patterns have
//! bounded matches, so a match that fails its check costs at most one bounded look per byte.

use std::collections::{BTreeMap, BTreeSet};

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use tidegate_schemas::decision::Scan;
use tidegate_schemas::ids::Name;

use super::Taxonomy;
use super::checksum::Check;
use super::normal::normal;

mod spans;

/// Longest match that a pattern may have, bytes.
pub const MATCH_BYTES_MAX: usize = 512;
/// Findings of one name that are counted; more change nothing.
pub const COUNT_MAX: u32 = 1_000;
/// Size of one compiled pattern, bytes.
const COMPILED_BYTES_MAX: usize = 4 << 20;

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

impl Findings {
    /// All findings together, count.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().fold(0, |sum, count| sum.saturating_add(u64::from(*count)))
    }
}

impl Findings {
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

/// A taxonomy's patterns, compiled.
#[derive(Debug, Clone)]
pub struct Scanner {
    any: RegexSet,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    name: Name,
    category: Name,
    pattern: Regex,
    check: Option<Check>,
    at_least: u32,
    /// Whether a match can be replaced: words that only tell what a text is about cannot.
    is_value: bool,
}

impl Scanner {
    /// Compiles a taxonomy's recognisers and key words.
    ///
    /// # Errors
    /// A sentence with the recogniser whose pattern cannot be used, and why.
    pub fn new(taxonomy: &Taxonomy) -> Result<Self, String> {
        let mut rules = Vec::new();
        let mut patterns = Vec::new();
        for recogniser in &taxonomy.recognisers {
            bounded(&recogniser.name, &recogniser.pattern)?;
            patterns.push(recogniser.pattern.clone());
            rules.push(Rule {
                name: recogniser.name.clone(),
                category: recogniser.category.clone(),
                pattern: compile(&recogniser.name, &recogniser.pattern)?,
                check: recogniser.check,
                at_least: 1,
                is_value: true,
            });
        }
        for class in &taxonomy.classes {
            let pattern = words(class.words.iter());
            bounded(&class.name, &pattern)?;
            rules.push(Rule {
                name: class.name.clone(),
                category: class.category.clone(),
                pattern: compile(&class.name, &pattern)?,
                check: None,
                at_least: class.at_least,
                is_value: false,
            });
            patterns.push(pattern);
        }
        let any = RegexSetBuilder::new(&patterns)
            .unicode(false)
            .size_limit(COMPILED_BYTES_MAX * 8)
            .dfa_size_limit(COMPILED_BYTES_MAX * 2)
            .build()
            .map_err(|error| format!("the recognisers together cannot be compiled: {error}"))?;
        Ok(Self { any, rules })
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
            let text = normal(text);
            let bytes = text.as_bytes();
            findings.bytes_read += bytes.len() as u64;
            for rule in self.any.matches(bytes).iter().filter_map(|index| self.rules.get(index)) {
                let count = rule.count(bytes, &mut findings.bytes_read);
                if count > 0 {
                    let total = findings.counts.entry(rule.name.clone()).or_default();
                    *total = total.saturating_add(count).min(COUNT_MAX);
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
}

impl Rule {
    fn count(&self, text: &[u8], bytes_read: &mut u64) -> u32 {
        let (mut count, mut at) = (0, 0);
        while let Some(found) = self.pattern.find_at(text, at) {
            *bytes_read += (found.end() - at) as u64;
            if self.check.is_none_or(|check| check.passes(found.as_bytes())) {
                count += 1;
                at = found.end().max(at + 1);
            } else {
                // What fails as a whole may hold the real one further in: look again behind its first word.
                at = next_start(text, found.start()).min(found.end()).max(at + 1);
            }
            if count >= COUNT_MAX || at >= text.len() {
                break;
            }
        }
        count
    }
}

/// Where the next word begins, as patterns start at one.
fn next_start(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let word = rest.iter().take_while(|b| b.is_ascii_alphanumeric()).count().max(1);
    from + word
}

/// A pattern for any of these words, whole, in any case.
fn words<'a>(words: impl Iterator<Item = &'a String>) -> String {
    let alternatives: Vec<String> = words
        .map(|word| {
            let escaped =
                word.split_whitespace().map(regex::escape).collect::<Vec<_>>().join("[ \\t\\r\\n]{1,3}");
            let edge = |at_word: Option<char>| {
                if at_word.is_some_and(|c| c.is_ascii_alphanumeric()) { "\\b" } else { "" }
            };
            format!("{}{escaped}{}", edge(word.chars().next()), edge(word.chars().next_back()))
        })
        .collect();
    format!("(?i:{})", alternatives.join("|"))
}

fn compile(name: &Name, pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| format!("recogniser `{name}`: {error}"))
}

/// Refuses a pattern whose matches have no bound, or a larger one than [`MATCH_BYTES_MAX`].
fn bounded(name: &Name, pattern: &str) -> Result<(), String> {
    let parsed = regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
        .parse(pattern)
        .map_err(|error| format!("recogniser `{name}`: {error}"))?;
    let properties = parsed.properties();
    match (properties.minimum_len(), properties.maximum_len()) {
        (Some(least), Some(most)) if least > 0 && most <= MATCH_BYTES_MAX => Ok(()),
        _ => Err(format!(
            "recogniser `{name}`: its matches must be 1 to {MATCH_BYTES_MAX} bytes long; bound its repetitions"
        )),
    }
}
