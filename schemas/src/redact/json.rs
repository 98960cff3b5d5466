//! Where the values of a text stand that is JSON as a whole: a place in it must not reach over the end of a string, and a token in
//! the place of a number needs quotation marks.

use std::ops::Range;

/// The values of a text that is JSON.
#[derive(Debug)]
pub(super) struct Json {
    /// In order: a string's content, or a word that has no quotation marks.
    values: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    range: Range<usize>,
    is_bare: bool,
}

impl Json {
    /// None where the text is no JSON: what only looks like it has no escapes.
    pub(super) fn of(text: &str) -> Option<Self> {
        let looks = text.trim_start().starts_with(['{', '[']);
        let is = looks && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        is.then(|| Self { values: values(text.as_bytes()) })
    }

    /// The parts of a range that stand in strings, and the numbers that it touches, whole.
    pub(super) fn within(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let part = |value: &Value| {
            let Range { start, end } = value.range;
            let touched = start.max(range.start)..end.min(range.end);
            (touched.start < touched.end).then_some(if value.is_bare { start..end } else { touched })
        };
        self.near(range.start)
            .iter()
            .take_while(|value| value.range.start < range.end)
            .filter_map(part)
            .collect()
    }

    /// Whether a range is a number as a whole: a token in its place is a string.
    pub(super) fn is_bare(&self, range: &Range<usize>) -> bool {
        self.near(range.start).first().is_some_and(|value| value.is_bare && value.range == *range)
    }

    /// The values from the one on that ends behind a place.
    fn near(&self, at: usize) -> &[Value] {
        let from = self.values.partition_point(|value| value.range.end <= at);
        self.values.get(from..).unwrap_or_default()
    }
}

/// Reads over text that is known to be JSON.
fn values(bytes: &[u8]) -> Vec<Value> {
    let (mut found, mut at) = (Vec::new(), 0);
    let count = |from: usize, is: &dyn Fn(&u8) -> bool| {
        bytes.get(from..).unwrap_or_default().iter().take_while(|byte| is(byte)).count()
    };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let start = at + 1;
                let end = string_end(bytes, start);
                found.push(Value { range: start..end, is_bare: false });
                at = end + 1;
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => at += 1,
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let bare = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                let end = at + count(at, &bare).max(1);
                // `true` and `null` say nothing of anybody.
                let is_number = byte.is_ascii_digit() || *byte == b'-';
                found.extend(is_number.then_some(Value { range: at..end, is_bare: true }));
                at = end;
            }
        }
    }
    found
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    loop {
        match bytes.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at,
            Some(_) => at += 1,
            None => return bytes.len(),
        }
    }
}
