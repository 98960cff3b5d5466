//! Escapes of URLs, HTML and JSON taken back: `%40`, `&#64;`, `&commat;`, `\u0040` and `\x40` are all `@`.

use super::form::Form;

/// Names of HTML entities that can stand inside a value (HTML standard, named character references).
const ENTITIES: [(&[u8], u8); 33] = [
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"nbsp", b' '),
    (b"ensp", b' '),
    (b"emsp", b' '),
    (b"thinsp", b' '),
    (b"Tab", b'\t'),
    (b"NewLine", b'\n'),
    (b"commat", b'@'),
    (b"period", b'.'),
    (b"comma", b','),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"sol", b'/'),
    (b"bsol", b'\\'),
    (b"num", b'#'),
    (b"plus", b'+'),
    (b"equals", b'='),
    (b"hyphen", b'-'),
    (b"dash", b'-'),
    (b"ndash", b'-'),
    (b"mdash", b'-'),
    (b"lowbar", b'_'),
    (b"percnt", b'%'),
    (b"dollar", b'$'),
    (b"ast", b'*'),
    (b"excl", b'!'),
    (b"quest", b'?'),
    (b"lpar", b'('),
    (b"rpar", b')'),
];
/// Entities that are shown as nothing.
const NOTHING: [&[u8]; 6] = [b"shy", b"zwj", b"zwnj", b"lrm", b"rlm", b"ZeroWidthSpace"];
/// Most digits of a numeric entity or of `\u{…}`.
const DIGITS_MAX: usize = 7;

/// What an escape stands for, and its length.
enum Found {
    Byte(u8, usize),
    Char(char, usize),
    Nothing(usize),
}

/// The form with each escape as what it stands for; none where there is no escape. Never longer than the form.
pub(super) fn unescaped(form: &Form<'_>) -> Option<Form<'static>> {
    let bytes = form.bytes.as_ref();
    let marked = |part: &[u8]| part.iter().fold(false, |any, byte| any | matches!(byte, b'%' | b'&' | b'\\'));
    if !bytes.chunks(256).any(marked) {
        return None;
    }
    let mut writer = form.rewrite();
    let (mut at, mut kept, mut changed) = (0, 0, false);
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(found) = escape(rest) else {
            at += 1;
            continue;
        };
        changed = true;
        writer.copy(bytes.get(kept..at).unwrap_or_default(), kept);
        let length = match found {
            Found::Byte(byte, length) => {
                writer.push(&[byte], at);
                length
            }
            Found::Char(c, length) => {
                writer.push(c.encode_utf8(&mut [0; 4]).as_bytes(), at);
                length
            }
            Found::Nothing(length) => length,
        };
        at += length;
        kept = at;
    }
    writer.copy(bytes.get(kept..).unwrap_or_default(), kept);
    changed.then(|| writer.finish())
}

fn escape(rest: &[u8]) -> Option<Found> {
    match rest.first()? {
        b'%' => {
            let code = hex(rest.get(1..3)?)?;
            Some(Found::Byte(u8::try_from(code).ok()?, 3))
        }
        b'&' => entity(rest),
        b'\\' => backslash(rest),
        _ => None,
    }
}

fn entity(rest: &[u8]) -> Option<Found> {
    if rest.get(1) == Some(&b'#') {
        let hexadecimal = matches!(rest.get(2), Some(b'x' | b'X'));
        let from = if hexadecimal { 3 } else { 2 };
        let digit = |byte: &&u8| if hexadecimal { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
        let count = rest.iter().skip(from).take(DIGITS_MAX).take_while(digit).count();
        let digits = rest.get(from..from + count).filter(|digits| !digits.is_empty())?;
        let code = if hexadecimal { hex(digits)? } else { decimal(digits) };
        let length = from + count + usize::from(rest.get(from + count) == Some(&b';'));
        return Some(Found::Char(char::from_u32(code)?, length));
    }
    let name = rest.get(1..rest.iter().take(20).position(|byte| *byte == b';')?)?;
    if NOTHING.contains(&name) {
        return Some(Found::Nothing(name.len() + 2));
    }
    let (_, byte) = ENTITIES.iter().find(|(known, _)| *known == name)?;
    Some(Found::Byte(*byte, name.len() + 2))
}

fn backslash(rest: &[u8]) -> Option<Found> {
    match rest.get(1)? {
        b'n' | b'r' => Some(Found::Byte(b'\n', 2)),
        b't' => Some(Found::Byte(b'\t', 2)),
        byte @ (b'"' | b'/' | b'\\' | b'\'') => Some(Found::Byte(*byte, 2)),
        b'x' => Some(Found::Byte(u8::try_from(hex(rest.get(2..4)?)?).ok()?, 4)),
        b'u' | b'U' if rest.get(2) == Some(&b'{') => {
            let count = rest.iter().skip(3).take(DIGITS_MAX).take_while(|byte| **byte != b'}').count();
            let code = hex(rest.get(3..3 + count)?)?;
            (rest.get(3 + count) == Some(&b'}')).then_some(())?;
            Some(Found::Char(char::from_u32(code)?, count + 4))
        }
        b'u' => {
            let code = hex(rest.get(2..6)?)?;
            if let Some(c) = char::from_u32(code) {
                return Some(Found::Char(c, 6));
            }
            // A pair of surrogates.
            let low = rest.get(6..8).filter(|mark| *mark == b"\\u").and_then(|_| hex(rest.get(8..12)?))?;
            let pair = [u16::try_from(code).ok()?, u16::try_from(low).ok()?];
            let c = char::decode_utf16(pair).next()?.ok()?;
            Some(Found::Char(c, 12))
        }
        _ => None,
    }
}

/// The number that hexadecimal digits write; none where one is no such digit.
fn hex(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |code, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        code.checked_mul(16)?.checked_add(digit)
    })
}

fn decimal(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |code, digit| code * 10 + u32::from(digit - b'0'))
}
