//! Replacing spans of an input's texts, and seeing that nothing else of it was changed.

use super::token::{Read, read};
use super::{Span, Token};
use crate::code::{Code, Refused};
use crate::task::Input;

/// The input with each span replaced by the token that `token` gives for it: its finding and its value.
///
/// `spans` are of the input's texts, in their order ([`Input::texts`]); each list is in order and does not overlap.
///
/// # Errors
/// [`Code::InvalidField`] where the spans are not of this input's texts.
pub fn redact(
    input: &Input,
    spans: &[Vec<Span>],
    mut token: impl FnMut(&Span, &str) -> Option<Token>,
) -> Result<Input, Refused> {
    let refused = || Refused::new(Code::InvalidField, "the spans are not those of the input's texts");
    if input.texts().len() != spans.len() {
        return Err(refused());
    }
    let (mut at, mut fits) = (0, true);
    let redacted = input.map_texts(&mut |text| {
        let of = spans.get(at).map(Vec::as_slice).unwrap_or_default();
        at += 1;
        replace(text, of, &mut token).unwrap_or_else(|| {
            fits = false;
            String::new()
        })
    });
    if fits { Ok(redacted) } else { Err(refused()) }
}

fn replace(
    text: &str,
    spans: &[Span],
    token: &mut impl FnMut(&Span, &str) -> Option<Token>,
) -> Option<String> {
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    let is_json = text.trim_start().starts_with(['{', '[']);
    for span in spans {
        let start = if is_json { behind_escape(text, span.start) } else { span.start };
        if start < done || start >= span.end {
            return None;
        }
        out.push_str(text.get(done..start)?);
        let value = text.get(start..span.end)?;
        let unescaped =
            is_json.then(|| serde_json::from_str::<String>(&format!("\"{value}\"")).ok()).flatten();
        out.push_str(token(span, unescaped.as_deref().unwrap_or(value))?.as_str());
        done = span.end;
    }
    out.push_str(text.get(done..)?);
    Some(out)
}

/// Within JSON, a value that was found right behind a backslash begins behind what that escapes.
fn behind_escape(text: &str, start: usize) -> usize {
    let before = text.as_bytes().get(..start).unwrap_or_default();
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
    match text.as_bytes().get(start) {
        Some(b'u') if backslashes % 2 == 1 => start.saturating_add(5),
        Some(_) if backslashes % 2 == 1 => start.saturating_add(1),
        _ => start,
    }
}

/// Whether an input can have come from another by replacing parts of its texts by tokens, and in no other way.
#[must_use]
pub fn is_redaction_of(redacted: &Input, original: &Input) -> bool {
    let (now, before) = (redacted.texts(), original.texts());
    // The same but for its texts, of which there are as many. Numbered, so that no two keys of an object become one.
    let blank = |input: &Input| {
        let mut count = 0_usize;
        input.map_texts(&mut |_| {
            count += 1;
            format!("{count:08}")
        })
    };
    now.len() == before.len()
        && blank(redacted) == blank(original)
        && now.iter().zip(before).all(|(now, before)| keeps(now, before))
}

/// Whether the pieces between a text's tokens stand in the other text, in order, the first at its beginning and the last at
/// its end.
fn keeps(redacted: &str, original: &str) -> bool {
    if redacted == original {
        return true;
    }
    let pieces = pieces(redacted);
    let [first, middle @ .., last] = pieces.as_slice() else { return false };
    let Some(mut rest) = original.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for piece in middle.iter().filter(|piece| !piece.is_empty()) {
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    true
}

/// What stands before, between and behind the tokens of a text.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut begun, mut at) = (Vec::new(), 0, 0);
    while let Some(next) = text.get(at..).and_then(|rest| rest.find('<')) {
        let start = at + next;
        match read(text.as_bytes().get(start..).unwrap_or_default()) {
            Read::Token(_, length, _) => {
                pieces.push(text.get(begun..start).unwrap_or_default());
                begun = start + length;
                at = begun;
            }
            Read::Not(_) | Read::Open => at = start + 1,
        }
    }
    pieces.push(text.get(begun..).unwrap_or_default());
    pieces
}
