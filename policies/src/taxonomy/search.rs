//! Looking at one form of a text by all rules, in time linear in it.
//!
//! A rule is tried only where its matches can be. One pass over the bytes stops where a word, a number or a mark begins that
//! some rule waits for; matches are bounded, so what is done at each stop is bounded too.

use std::collections::BTreeMap;
use std::ops::Range;

use regex_automata::meta::{BuildError, Regex};
use regex_automata::{Anchored, Input, MatchKind, PatternSet};
use regex_syntax::hir::Hir;

use super::lead::{Around, Lead, is_word};
use super::rule::{COMPILED_BYTES_MAX, Look, Rule};
use super::scan::MATCH_BYTES_MAX;

/// The byte is part of a word.
const WORD: u8 = 1;
/// The byte is a digit.
const DIGIT: u8 = 2;
/// Something that is looked for begins with this mark.
const MARK: u8 = 4;
/// Bytes by their place among letters (without case), digits and marks; 0 is any other.
const CODES: usize = 72;

/// All rules, by where they are tried.
#[derive(Debug, Clone)]
pub(super) struct Search {
    flags: [u8; 256],
    codes: [u8; 256],
    /// For each pair of first bytes the bucket of literals, or none.
    pairs: Vec<Option<u16>>,
    buckets: Vec<Vec<(Vec<u8>, usize)>>,
    /// Rules of each mark, with what stands around it.
    marks: BTreeMap<u8, Vec<(usize, Around)>>,
    first_digits: Vec<(usize, Around)>,
    numbers: Group,
    runs: Vec<(usize, Vec<bool>, usize)>,
    anywhere: Vec<usize>,
}

/// Patterns that are asked together which of them match.
#[derive(Debug, Clone)]
struct Group {
    any: Option<Regex>,
    rules: Vec<usize>,
}

/// A look at one form.
struct Pass<'a> {
    rules: &'a [Rule],
    text: &'a [u8],
    /// Before this, each rule has found what there is.
    next: Vec<usize>,
    found: &'a mut dyn FnMut(usize, Range<usize>),
    read: u64,
}

// === impl Search ===

impl Search {
    pub(super) fn new(rules: &[Rule], parsed: &[Hir]) -> Result<Self, String> {
        let mut search = Self {
            flags: table(|byte| u8::from(is_word(byte)) * WORD + u8::from(byte.is_ascii_digit()) * DIGIT),
            codes: codes(),
            pairs: vec![None; CODES * CODES],
            buckets: Vec::new(),
            marks: BTreeMap::new(),
            first_digits: Vec::new(),
            numbers: Group { any: None, rules: Vec::new() },
            runs: Vec::new(),
            anywhere: Vec::new(),
        };
        let mut numbers = Vec::new();
        for (index, (rule, pattern)) in rules.iter().zip(parsed).enumerate() {
            match &rule.lead {
                Lead::Literals(literals) => {
                    literals.iter().for_each(|literal| search.literal(literal, index));
                }
                Lead::Digit => {
                    search.numbers.rules.push(index);
                    numbers.push(pattern);
                }
                Lead::Mark(marks, around) => {
                    for mark in marks {
                        search.marks.entry(*mark).or_default().push((index, around.clone()));
                        search.mark(*mark);
                    }
                }
                Lead::FirstDigit(around) => search.first_digits.push((index, around.clone())),
                Lead::Run(ranges, least) => {
                    let inside = |byte: u8| ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte));
                    search.runs.push((index, (0..=u8::MAX).map(inside).collect(), *least));
                }
                Lead::Any => search.anywhere.push(index),
            }
        }
        search.numbers.any = together(&numbers)
            .map_err(|error| format!("the recognisers together cannot be compiled: {error}"))?;
        Ok(search)
    }

    fn mark(&mut self, byte: u8) {
        self.flags[usize::from(byte)] |= MARK;
    }

    fn literal(&mut self, literal: &[u8], rule: usize) {
        let Some(first) = literal.first() else { return };
        if first.is_ascii_punctuation() {
            self.mark(*first);
        }
        let seconds: Vec<usize> = match literal.get(1) {
            Some(second) => vec![self.code(*second)],
            None => (0..CODES).collect(),
        };
        for second in seconds {
            let at = self.code(*first) * CODES + second;
            let Some(bucket) = self.pairs.get_mut(at) else { continue };
            let new = self.buckets.len();
            let index = *bucket.get_or_insert(u16::try_from(new).unwrap_or(u16::MAX));
            if usize::from(index) == new {
                self.buckets.push(Vec::new());
            }
            if let Some(bucket) = self.buckets.get_mut(usize::from(index)) {
                bucket.push((literal.to_vec(), rule));
            }
        }
    }

    fn code(&self, byte: u8) -> usize {
        usize::from(self.codes[usize::from(byte)])
    }

    /// Says each value that a rule finds; bytes that were looked at.
    pub(super) fn look(
        &self,
        rules: &[Rule],
        text: &[u8],
        found: &mut dyn FnMut(usize, Range<usize>),
    ) -> u64 {
        let mut pass = Pass { rules, text, next: vec![0; rules.len()], found, read: text.len() as u64 };
        let mut which = PatternSet::new(self.numbers.rules.len());
        let mut before = 0;
        for (at, byte) in text.iter().enumerate() {
            let flags = self.flags[usize::from(*byte)];
            let begins = flags & !before & (WORD | DIGIT) | flags & MARK;
            before = flags & (WORD | DIGIT);
            if begins != 0 {
                self.stop(&mut pass, at, begins, &mut which);
            }
        }
        for (rule, inside, least) in &self.runs {
            pass.runs(*rule, inside, *least);
        }
        for rule in &self.anywhere {
            pass.through(*rule, text.len());
        }
        pass.read
    }

    /// Something begins here.
    fn stop(&self, pass: &mut Pass<'_>, at: usize, begins: u8, which: &mut PatternSet) {
        let text = pass.text;
        if begins & (WORD | MARK) != 0 {
            let byte = |at: usize| text.get(at).copied().unwrap_or_default();
            let pair = self.code(byte(at)) * CODES + self.code(byte(at + 1));
            if let Some(bucket) = self.pairs.get(pair).copied().flatten() {
                for (literal, rule) in self.buckets.get(usize::from(bucket)).into_iter().flatten() {
                    let here = text.get(at..at + literal.len());
                    if here.is_some_and(|here| here.eq_ignore_ascii_case(literal)) {
                        pass.at(*rule, at);
                    }
                }
            }
            if begins & MARK != 0 {
                for (rule, around) in self.marks.get(&byte(at)).into_iter().flatten() {
                    pass.around(*rule, at, around);
                }
            }
        }
        if begins & DIGIT != 0 {
            for (rule, around) in &self.first_digits {
                pass.around(*rule, at, around);
            }
            if begins & WORD != 0
                && let Some(any) = &self.numbers.any
            {
                which.clear();
                let range = at..text.len().min(at + MATCH_BYTES_MAX + 1);
                let input = Input::new(text).range(range).anchored(Anchored::Yes);
                any.which_overlapping_matches(&input, which);
                for pattern in which.iter() {
                    if let Some(rule) = self.numbers.rules.get(pattern.as_usize()) {
                        pass.at(*rule, at);
                    }
                }
            }
        }
    }
}

fn table(mut of: impl FnMut(u8) -> u8) -> [u8; 256] {
    let mut byte = 0_u8;
    [(); 256].map(|()| {
        let entry = of(byte);
        byte = byte.wrapping_add(1);
        entry
    })
}

fn codes() -> [u8; 256] {
    let mut marks = 0;
    table(|byte| match byte.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => letter - b'a' + 1,
        digit @ b'0'..=b'9' => digit - b'0' + 27,
        mark if mark.is_ascii_punctuation() => {
            marks += 1;
            36 + marks
        }
        b' ' => 69,
        _ => 0,
    })
}

fn together(patterns: &[&Hir]) -> Result<Option<Regex>, Box<BuildError>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let config = Regex::config()
        .match_kind(MatchKind::All)
        .utf8_empty(false)
        .nfa_size_limit(Some(COMPILED_BYTES_MAX * 8))
        .hybrid_cache_capacity(COMPILED_BYTES_MAX * 2);
    Ok(Some(Regex::builder().configure(config).build_many_from_hir(patterns)?))
}

// === impl Pass ===

impl Pass<'_> {
    /// Tries a rule at one place.
    fn at(&mut self, index: usize, at: usize) {
        let (Some(rule), Some(next)) = (self.rules.get(index), self.next.get_mut(index)) else { return };
        if at < *next {
            return;
        }
        let end = self.text.len().min(at + MATCH_BYTES_MAX + 1);
        match rule.look(self.text, at..end, Anchored::Yes) {
            Look::Nothing => {}
            Look::Failed(whole) => self.read += whole.len() as u64,
            Look::Found(value) => {
                self.read += (value.end - at) as u64;
                *next = value.end.max(at + 1);
                (self.found)(index, value);
            }
        }
    }

    /// Tries a rule for a match around a place.
    fn around(&mut self, index: usize, at: usize, around: &Around) {
        let (Some(rule), Some(next)) = (self.rules.get(index), self.next.get_mut(index)) else { return };
        let fits = |set: &[bool], byte: Option<&u8>| {
            byte.is_none_or(|byte| set.get(usize::from(*byte)).copied().unwrap_or_default())
        };
        let before = at.checked_sub(1).and_then(|before| self.text.get(before));
        if !fits(&around.before, before) || !fits(&around.after, self.text.get(at + 1)) {
            return;
        }
        let mut from = at.saturating_sub(around.back).max(*next);
        let end = self.text.len().min(at + rule.longest + 1);
        while from <= at {
            match rule.look(self.text, from..end, Anchored::No) {
                Look::Nothing => return,
                Look::Failed(whole) => {
                    self.read += (whole.end - from) as u64;
                    from = next_start(self.text, whole.start).min(whole.end).max(from + 1);
                }
                Look::Found(value) => {
                    self.read += (value.end - from) as u64;
                    *next = value.end.max(from + 1);
                    (self.found)(index, value);
                    return;
                }
            }
        }
    }

    /// Tries a rule in long runs of bytes: each has one of any so many bytes.
    fn runs(&mut self, index: usize, inside: &[bool], least: usize) {
        let is_inside = |byte: &u8| inside.get(usize::from(*byte)).copied().unwrap_or_default();
        let mut at = least - 1;
        while let Some(byte) = self.text.get(at) {
            if !is_inside(byte) {
                at += least;
                continue;
            }
            let (before, after) = self.text.split_at(at);
            let start = at - before.iter().rev().take_while(|byte| is_inside(byte)).count();
            let end = at + after.iter().take_while(|byte| is_inside(byte)).count();
            if end - start >= least {
                if let Some(next) = self.next.get_mut(index) {
                    *next = start;
                }
                self.through(index, end);
            }
            at = end + least;
        }
    }

    /// Tries a rule everywhere from where it was tried last.
    fn through(&mut self, index: usize, end: usize) {
        let (Some(rule), Some(next)) = (self.rules.get(index), self.next.get(index)) else { return };
        let mut at = *next;
        while at < end {
            let past = match rule.look(self.text, at..end, Anchored::No) {
                Look::Nothing => break,
                // What fails as a whole may hold the real one further in: look again behind its first word.
                Look::Failed(whole) => {
                    self.read += (whole.end - at) as u64;
                    next_start(self.text, whole.start).min(whole.end)
                }
                Look::Found(value) => {
                    self.read += (value.end - at) as u64;
                    let past = value.end;
                    (self.found)(index, value);
                    past
                }
            };
            at = past.max(at + 1);
        }
    }
}

/// Where the next word begins, as patterns start at one.
fn next_start(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let word = rest.iter().take_while(|b| b.is_ascii_alphanumeric()).count().max(1);
    from + word
}
