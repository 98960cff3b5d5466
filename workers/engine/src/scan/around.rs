//! What stands around and between the parts of a name or an address, and is one with them: initials, titles, the word before a
//! flat's number. The model labels the telling words alone; who replaced only these would leave a value that can be read.
//!
//! English and the commonest words elsewhere. It only ever adds to what the model found.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// Bytes that are looked at on either side.
const AROUND_BYTES: usize = 48;

/// A place in an address, before its number: `Apt. 12`.
const UNIT: &str = r"(?i:\b(?:apt|apartment|appt|suite|ste|unit|flat|floor|room|rm|box|p\.? ?o|psc|cmr|ul|postbox|postfach|no)\b)\.? ?#?";
/// What separates lines and parts, in quoted mail too.
const GAP: &str = r"[\s,./>?|*;-]";

static BETWEEN_NAMES: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?:[ '.-]{1,3}| \p{L}\.? )$"));
static BETWEEN_PARTS: LazyLock<Regex> = LazyLock::new(|| {
    let word = r"(?:\p{Lu}[\p{L}'-]{0,15}|[0-9]{1,6})";
    pattern(&format!(
        r"^(?:(?:{GAP}|{UNIT}(?:[0-9]{{1,5}}[A-Za-z]?\b)?){{1,12}}|[\s,>?|]{{1,8}}{word}[\s,>?|]{{1,8}})$"
    ))
});
static CORNER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\b(?:the )?corner of $"));
static AND: LazyLock<Regex> = LazyLock::new(|| pattern(r"^ (?i:and|&) $"));
static BEFORE_NAME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(?:mr|mrs|ms|miss|dr|prof|professor|herr|frau|madame|monsieur)\.? $"));
static BEHIND_GIVEN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?: \p{Lu}\.?)? \p{Lu}[\p{Ll}\p{M}][\p{L}\p{M}'-]*"));
static BEHIND_INITIAL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\.? \p{Lu}[\p{Ll}\p{M}][\p{L}\p{M}'-]*"));
static BEHIND_NAME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^,? (?:MD|DDS|DVM|PhD|MBA|Jr|Sr|II|III|IV)\b\.?"));
static BEFORE_PART: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(?:(?i:\b(?:the )?corner of )|{UNIT}(?:[0-9]{{1,5}}[A-Za-z]?)?[ ,]{{0,2}}|\b[0-9]{{1,5}},? )+$"
    ))
});
static BEHIND_PART: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"^(?:\.?[\s,>?|]{{1,8}}{UNIT}[0-9]{{1,5}}[A-Za-z]?\b)+")));

/// Whether two parts of a name with this between them are one.
pub(super) fn joins_names(gap: &str) -> bool {
    BETWEEN_NAMES.is_match(gap)
}

/// Whether two parts of an address are, where the first stands behind `before`.
pub(super) fn joins_address(before: &str, gap: &str) -> bool {
    gap.len() <= AROUND_BYTES
        && (BETWEEN_PARTS.is_match(gap) || AND.is_match(gap) && CORNER.is_match(tail(before)))
}

/// A name with its title and initials, and a given name with the surname that stands behind it.
pub(super) fn name(text: &str, range: Range<usize>) -> Range<usize> {
    let mut end = range.end;
    let surname = text.get(range.clone()).and_then(behind).and_then(|surname| surname.find(head(text, end)));
    end += surname.map_or(0, |found| found.end());
    if let Some(found) = BEHIND_NAME.find(head(text, end)) {
        end += found.end();
    }
    let before = text.get(..range.start).map(tail).unwrap_or_default();
    let more = BEFORE_NAME.find(before).map_or(0, |found| before.len() - found.start());
    range.start - more..end
}

/// An address with the numbers and words that belong to it.
pub(super) fn address(text: &str, range: Range<usize>) -> Range<usize> {
    let before = text.get(..range.start).map(tail).unwrap_or_default();
    let more = BEFORE_PART.find(before).map_or(0, |found| before.len() - found.start());
    let behind = BEHIND_PART.find(head(text, range.end)).map_or(0, |found| found.end());
    range.start - more..range.end + behind
}

/// Where a surname may follow: behind one word, perhaps with an initial behind it.
fn behind(name: &str) -> Option<&'static Regex> {
    let mut words = name.split(' ');
    let is_given = words.next()?.starts_with(char::is_uppercase);
    let is_initial = |word: &str| word.trim_end_matches('.').chars().count() == 1;
    match (is_given, words.next(), words.next()) {
        (true, None, None) => Some(&BEHIND_GIVEN),
        (true, Some(word), None) if is_initial(word) => Some(&BEHIND_INITIAL),
        _ => None,
    }
}

fn tail(before: &str) -> &str {
    before.get(before.ceil_char_boundary(before.len().saturating_sub(AROUND_BYTES))..).unwrap_or_default()
}

fn head(text: &str, from: usize) -> &str {
    let behind = text.get(from..).unwrap_or_default();
    behind.get(..behind.floor_char_boundary(AROUND_BYTES)).unwrap_or_default()
}

#[expect(clippy::expect_used, reason = "constant patterns")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}
