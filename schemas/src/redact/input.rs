//! Replacing spans of an input's texts, and seeing that nothing else of it was changed.

use super::json::Json;
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
    let json = Json::of(text);
    for span in spans {
        let start = begin(text, span, json.is_some());
        if start < done || start >= span.end {
            return None;
        }
        out.push_str(text.get(done..start)?);
        let value = text.get(start..span.end)?;
        let unescaped =
            json.as_ref().and_then(|_| serde_json::from_str::<String>(&format!("\"{value}\"")).ok());
        let token = token(span, unescaped.as_deref().unwrap_or(value))?;
        let mark = mark(json.as_ref(), start, span);
        out.extend([mark, token.as_str(), mark]);
        done = span.end;
    }
    out.push_str(text.get(done..)?);
    Some(out)
}

/// What a token stands between: where it takes the place of a number in JSON it becomes a string.
fn mark(json: Option<&Json>, start: usize, span: &Span) -> &'static str {
    if json.is_some_and(|json| json.is_bare(&(start..span.end))) { "\"" } else { "" }
}

/// Where what is replaced begins.
fn begin(text: &str, span: &Span, is_json: bool) -> usize {
    if is_json { behind_escape(text, span.start) } else { span.start }
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

/// Whether an input came from another by replacing these spans of its texts, each by a token of its kind, and in no other way.
#[must_use]
pub fn is_redaction_of(redacted: &Input, original: &Input, spans: &[Vec<Span>]) -> bool {
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
        && spans.len() == before.len()
        && blank(redacted) == blank(original)
        && now.iter().zip(before).zip(spans).all(|((now, before), spans)| keeps(now, before, spans))
}

/// Whether a text is the other with a token of its kind in the place of each span.
fn keeps(redacted: &str, original: &str, spans: &[Span]) -> bool {
    let (json, mut rest, mut done) = (Json::of(original), redacted, 0);
    for span in spans {
        let start = begin(original, span, json.is_some());
        let mark = mark(json.as_ref(), start, span);
        let between = original.get(done..start).and_then(|between| rest.strip_prefix(between));
        let Some(after) = between.and_then(|after| after.strip_prefix(mark)) else { return false };
        let Read::Token(token, length, _) = read(after.as_bytes()) else { return false };
        if !token.is_of(&span.entity) {
            return false;
        }
        let Some(behind) = after.get(length..).and_then(|behind| behind.strip_prefix(mark)) else {
            return false;
        };
        rest = behind;
        done = span.end;
    }
    original.get(done..) == Some(rest)
}
