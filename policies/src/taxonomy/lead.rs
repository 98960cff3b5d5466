//! Where the matches of a pattern can be, so that a pattern is tried only there.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Most beginnings that are told apart.
const HEADS_MAX: usize = 256;
/// Bytes of a beginning that are looked for.
const HEAD_BYTES_MAX: usize = 6;
/// Most bytes of a class that are told apart.
const CLASS_MAX: usize = 16;
/// Most bytes of a match before the byte that gives it away.
const BACK_MAX: usize = 128;
/// A run shorter than this is in every text.
const RUN_MIN: usize = 48;

/// Where a pattern is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lead {
    /// Where one of these stands, in any case: each begins a word, or with a punctuation mark.
    Literals(BTreeSet<Vec<u8>>),
    /// Where a word begins with a digit.
    Digit,
    /// Around each of these marks.
    Mark(BTreeSet<u8>, Around),
    /// Around the first digit after something else.
    FirstDigit(Around),
    /// In runs of such bytes, so many at least.
    Run(Vec<(u8, u8)>, usize),
    /// Anywhere.
    Any,
}

/// What stands around a byte that gives a match away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Around {
    /// Most bytes of the match before it.
    pub(super) back: usize,
    /// Bytes of which one stands before it.
    pub(super) before: Vec<bool>,
    /// Bytes of which one stands after it.
    pub(super) after: Vec<bool>,
}

/// How matches may begin: lower-cased bytes, whether more may come behind them, and whether a word begins there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    bytes: Vec<u8>,
    open: bool,
    word: bool,
}

/// Whether a byte is part of a word, as `\b` sees it.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where the pattern is tried.
pub(super) fn lead(pattern: &Hir) -> Lead {
    let heads = heads(pattern);
    let first = |head: &Head| head.bytes.first().copied();
    if heads.iter().all(|head| head.word && first(head).is_some_and(|byte| byte.is_ascii_digit())) {
        return Lead::Digit;
    }
    let telling = |head: &Head| match head.bytes.as_slice() {
        [] => false,
        [byte] => byte.is_ascii_punctuation() && !matches!(byte, b'.' | b',' | b'-' | b'"' | b'\''),
        [byte, ..] => byte.is_ascii_punctuation() || (head.word && byte.is_ascii_alphanumeric()),
    };
    if !heads.is_empty() && heads.iter().all(telling) {
        return Lead::Literals(shortest(heads));
    }
    run(pattern).or_else(|| pivot(pattern)).unwrap_or(Lead::Any)
}

/// A run of one class, and nothing else.
fn run(pattern: &Hir) -> Option<Lead> {
    let HirKind::Repetition(repetition) = pattern.kind() else { return None };
    let HirKind::Class(Class::Bytes(class)) = repetition.sub.kind() else { return None };
    let least = usize::try_from(repetition.min).ok().filter(|least| *least >= RUN_MIN)?;
    Some(Lead::Run(class.ranges().iter().map(|range| (range.start(), range.end())).collect(), least))
}

/// The beginnings without those that begin with another.
fn shortest(heads: Vec<Head>) -> BTreeSet<Vec<u8>> {
    let all: BTreeSet<Vec<u8>> = heads.into_iter().map(|head| head.bytes).collect();
    let begins =
        |head: &Vec<u8>| (1..head.len()).any(|end| head.get(..end).is_some_and(|part| all.contains(part)));
    all.iter().filter(|head| !begins(head)).cloned().collect()
}

/// A byte that every match has, not far behind its beginning.
fn pivot(pattern: &Hir) -> Option<Lead> {
    let HirKind::Concat(parts) = pattern.kind() else { return None };
    let (mut back, mut digits_before) = (0, false);
    for (index, part) in parts.iter().enumerate() {
        let heads = heads(part);
        let firsts: Option<BTreeSet<u8>> = heads.iter().map(|head| head.bytes.first().copied()).collect();
        if let Some(firsts) = firsts.filter(|firsts| !firsts.is_empty()) {
            let before = edge(parts.get(..index)?.iter().rev(), false);
            let after = match part.kind() {
                HirKind::Literal(literal) if literal.0.len() > 1 => {
                    (0..=u8::MAX).map(|byte| literal.0.get(1) == Some(&byte)).collect()
                }
                HirKind::Literal(_) | HirKind::Class(_) => edge(parts.get(index + 1..)?.iter(), true),
                _ => vec![true; 256],
            };
            let around = Around { back, before, after };
            if firsts.iter().all(|byte| byte.is_ascii_punctuation() && *byte != b'_') {
                return Some(Lead::Mark(firsts, around));
            }
            if !digits_before && firsts.iter().all(u8::is_ascii_digit) {
                return Some(Lead::FirstDigit(around));
            }
        }
        digits_before |= may_hold_digits(part);
        back += part.properties().maximum_len()?;
        if back > BACK_MAX {
            return None;
        }
    }
    None
}

/// The bytes that can stand at one end of parts; every byte where they may all be empty.
fn edge<'h>(parts: impl Iterator<Item = &'h Hir>, first: bool) -> Vec<bool> {
    let mut set = vec![false; 256];
    for part in parts {
        if !ends(part, first, &mut set) {
            return set;
        }
    }
    vec![true; 256]
}

/// Adds the bytes that can stand at one end of a pattern; whether it may be empty.
fn ends(pattern: &Hir, first: bool, set: &mut [bool]) -> bool {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => {
            let byte = if first { literal.0.first() } else { literal.0.last() };
            if let Some(entry) = byte.and_then(|byte| set.get_mut(usize::from(*byte))) {
                *entry = true;
            }
            false
        }
        HirKind::Class(Class::Bytes(class)) => {
            for range in class.ranges() {
                let entries = set.get_mut(usize::from(range.start())..=usize::from(range.end()));
                entries.into_iter().flatten().for_each(|entry| *entry = true);
            }
            false
        }
        HirKind::Class(Class::Unicode(_)) => {
            set.fill(true);
            false
        }
        HirKind::Capture(capture) => ends(&capture.sub, first, set),
        HirKind::Repetition(repetition) => ends(&repetition.sub, first, set) || repetition.min == 0,
        HirKind::Concat(parts) if first => parts.iter().all(|part| ends(part, first, set)),
        HirKind::Concat(parts) => parts.iter().rev().all(|part| ends(part, first, set)),
        HirKind::Alternation(parts) => {
            // Each part adds to the set, also behind one that may be empty.
            parts.iter().map(|part| ends(part, first, set)).collect::<Vec<_>>().contains(&true)
        }
    }
}

fn may_hold_digits(pattern: &Hir) -> bool {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => literal.0.iter().any(u8::is_ascii_digit),
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().any(|range| range.start() <= b'9' && range.end() >= b'0')
        }
        HirKind::Class(Class::Unicode(_)) => true,
        HirKind::Capture(capture) => may_hold_digits(&capture.sub),
        HirKind::Repetition(repetition) => may_hold_digits(&repetition.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(may_hold_digits),
    }
}

fn heads(pattern: &Hir) -> Vec<Head> {
    let head = |bytes: &[u8], open| Head { bytes: bytes.to_ascii_lowercase(), open, word: false };
    let mut found = match pattern.kind() {
        HirKind::Look(Look::WordAscii) => vec![Head { word: true, ..head(&[], false) }],
        HirKind::Empty | HirKind::Look(_) => vec![head(&[], false)],
        HirKind::Literal(literal) => vec![head(&literal.0, false)],
        HirKind::Class(class) => match members(class) {
            Some(bytes) => bytes.iter().map(|byte| head(&[*byte], false)).collect(),
            None => vec![head(&[], true)],
        },
        HirKind::Capture(capture) => heads(&capture.sub),
        HirKind::Repetition(repetition) => {
            let mut found = heads(&repetition.sub);
            if repetition.max != Some(1) {
                found.iter_mut().for_each(|head| head.open = true);
            }
            if repetition.min == 0 {
                found.push(head(&[], false));
            }
            found
        }
        HirKind::Concat(parts) => concat(parts),
        HirKind::Alternation(parts) => parts.iter().flat_map(heads).collect(),
    };
    for head in &mut found {
        if head.bytes.len() > HEAD_BYTES_MAX {
            head.bytes.truncate(HEAD_BYTES_MAX);
            head.open = true;
        }
    }
    found.sort();
    found.dedup();
    found
}

fn concat(parts: &[Hir]) -> Vec<Head> {
    let mut found = vec![Head { bytes: Vec::new(), open: false, word: false }];
    for part in parts {
        let next = heads(part);
        let closed = found.iter().filter(|head| !head.open).count();
        let told = found.iter().all(|head| head.bytes.len() > 1);
        if closed == 0 || (told && closed.saturating_mul(next.len()) + found.len() > HEADS_MAX) {
            break;
        }
        let (mut longer, shorter): (Vec<Head>, Vec<Head>) = found.into_iter().partition(|head| head.open);
        for head in shorter {
            for tail in &next {
                let bytes = [head.bytes.as_slice(), &tail.bytes].concat();
                let word = head.word || (head.bytes.is_empty() && tail.word);
                longer.push(Head { bytes, open: tail.open, word });
            }
        }
        longer.sort();
        longer.dedup();
        found = longer;
    }
    found
}

/// The bytes of a class, without case; none where there are many.
fn members(class: &Class) -> Option<BTreeSet<u8>> {
    let Class::Bytes(class) = class else { return None };
    let mut bytes = BTreeSet::new();
    for range in class.ranges() {
        bytes.extend((range.start()..=range.end()).map(|byte| byte.to_ascii_lowercase()));
    }
    (bytes.len() <= CLASS_MAX).then_some(bytes)
}
