//! Texts as recognisers read them: compatibility forms folded, invisible characters gone, look-alikes as the letters that they
//! look like, so that a full-width digit, a zero-width space or a Cyrillic `а` hides nothing. Plain ASCII passes untouched.

use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::canonical_combining_class;

use super::form::{Form, Writer};

/// Most marks that are composed with the character before them.
const MARKS_MAX: usize = 32;
/// Code points below this have their look-alikes in a table.
const TABLE_END: u32 = 0x3000;
/// First digits of scripts other than Latin (Unicode, general category Nd).
const ZEROS: [u32; 20] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810,
];

/// The ASCII character that a code point looks like; 0 where it looks like none (Unicode TR 39, confusables).
static LOOKS_LIKE: LazyLock<Vec<u8>> = LazyLock::new(|| (0..TABLE_END).map(prototype).collect());

/// The form with compatibility forms folded and without what is shown as nothing; none where that changes nothing.
pub(super) fn normal(form: &Form<'_>) -> Option<Form<'static>> {
    if form.bytes.is_ascii() {
        return None;
    }
    let mut writer = form.rewrite();
    let mut at = 0;
    for chunk in form.bytes.utf8_chunks() {
        fold(chunk.valid(), at, &mut writer);
        at += chunk.valid().len();
        writer.copy(chunk.invalid(), at);
        at += chunk.invalid().len();
    }
    Some(writer.finish())
}

/// The form with each look-alike as the ASCII character that it looks like; none where there is no look-alike.
pub(super) fn alike(form: &Form<'_>) -> Option<Form<'static>> {
    if form.bytes.is_ascii() {
        return None;
    }
    let mut writer = form.rewrite();
    let (mut at, mut changed) = (0, false);
    for chunk in form.bytes.utf8_chunks() {
        for (index, c) in chunk.valid().char_indices() {
            match looks_like(c) {
                Some(ascii) => {
                    changed = true;
                    writer.push(&[ascii], at + index);
                }
                None => writer.push(c.encode_utf8(&mut [0; 4]).as_bytes(), at + index),
            }
        }
        at += chunk.valid().len();
        writer.copy(chunk.invalid(), at);
        at += chunk.invalid().len();
    }
    changed.then(|| writer.finish())
}

fn fold(text: &str, at: usize, writer: &mut Writer<'_>) {
    let mut from = 0;
    while let Some(rest) = text.get(from..).filter(|rest| !rest.is_empty()) {
        let ascii = rest.bytes().take_while(u8::is_ascii).count();
        if ascii > 0 {
            writer.copy(rest.as_bytes().get(..ascii).unwrap_or_default(), at + from);
            from += ascii;
            continue;
        }
        let mut chars = rest.char_indices().skip(1);
        let mut marks = 0;
        let end = chars
            .find(|(_, c)| {
                marks += 1;
                marks > MARKS_MAX || canonical_combining_class(*c) == 0
            })
            .map_or(rest.len(), |(index, _)| index);
        let segment = rest.get(..end).unwrap_or_default();
        let mut buffer = [0; 4];
        if inert(segment) {
            writer.push(segment.as_bytes(), at + from);
        } else {
            for c in segment.nfkc().filter(|c| !invisible(*c)).map(plain) {
                writer.push(c.encode_utf8(&mut buffer).as_bytes(), at + from);
            }
        }
        from += end;
    }
}

/// A single character that folding leaves as it is: most letters of Latin, Cyrillic, Han, Hangul and Kana.
fn inert(segment: &str) -> bool {
    let mut chars = segment.chars();
    let single = chars.next().filter(|_| chars.next().is_none());
    single.is_some_and(|c| {
        matches!(c, '\u{c0}'..='\u{131}' | '\u{400}'..='\u{45f}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
            | '\u{3041}'..='\u{3094}' | '\u{30a1}'..='\u{30f4}')
    })
}

/// Soft hyphen, zero-width and direction marks, variation selectors: shown as nothing.
fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e01ef}')
}

/// Dashes, blanks, full stops and digits of other scripts as ASCII writes them.
fn plain(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => '-',
        '\u{3002}' => '.',
        c if c.is_whitespace() && c != '\n' => ' ',
        c => digit(c).unwrap_or(c),
    }
}

fn digit(c: char) -> Option<char> {
    let code = u32::from(c);
    let zero = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code))?;
    char::from_digit(code - zero, 10)
}

fn looks_like(c: char) -> Option<u8> {
    let ascii = match usize::try_from(u32::from(c)) {
        Ok(code) if !c.is_ascii() => LOOKS_LIKE.get(code).copied()?,
        _ => 0,
    };
    (ascii != 0).then_some(ascii)
}

fn prototype(code: u32) -> u8 {
    let Some(c) = char::from_u32(code).filter(|c| !c.is_ascii()) else { return 0 };
    let mut buffer = [0; 4];
    let mut looks = unicode_security::skeleton(c.encode_utf8(&mut buffer));
    match (looks.next(), looks.next()) {
        (Some(ascii), None) if ascii.is_ascii_graphic() => u8::try_from(ascii).unwrap_or_default(),
        _ => 0,
    }
}
