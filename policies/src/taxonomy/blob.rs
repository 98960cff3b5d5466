//! Texts inside base64 (both alphabets) and hexadecimal, wherever the blob begins.
//!
//! A run of the alphabet need not begin where the blob does, as in `key/amFu…`, so each alignment is tried; only what decodes
//! to text counts.

use std::ops::Range;

use super::form::Form;

/// Shortest run that is decoded: eight bytes of base64.
const RUN_MIN: usize = 11;
/// Shortest run of hexadecimal digits that is decoded.
const HEX_MIN: usize = 16;
/// Shortest decoded text that is looked at, bytes.
const TEXT_MIN: usize = 8;
/// A line of wrapped base64 has at least this many characters.
const LINE_MIN: usize = 48;
/// Marks a byte that is no character of base64.
const NONE: u8 = 0xff;

/// Six bits of each character, of either alphabet.
static SIXTETS: [u8; 256] = sixtets();

const fn sixtets() -> [u8; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NONE; 256];
    let mut value = 0;
    while value < 64 {
        table[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    table[b'-' as usize] = 62;
    table[b'_' as usize] = 63;
    table
}

fn sixtet(byte: u8) -> u8 {
    SIXTETS.get(usize::from(byte)).copied().unwrap_or(NONE)
}

/// Texts that parts of the form decode to, each with its part.
pub(super) fn texts(form: &Form<'_>) -> Vec<(Range<usize>, String)> {
    let bytes = form.bytes.as_ref();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(run) = next_run(bytes, at) {
        at = run.end;
        let part = bytes.get(run.clone()).unwrap_or_default();
        let letters: Vec<u8> = part.iter().copied().filter(|byte| sixtet(*byte) != NONE).collect();
        for text in base64(&letters) {
            found.push((run.clone(), text));
        }
        for text in hexadecimal(part) {
            found.push((run.clone(), text));
        }
    }
    found
}

/// The next run of the alphabet from an index on, over line ends where its lines are full, with its padding.
fn next_run(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        let start = at + rest.iter().position(|byte| sixtet(*byte) != NONE)?;
        let mut end = line_end(bytes, start);
        let mut line = end - start;
        while line >= LINE_MIN {
            let gap = bytes.iter().skip(end).take(2).take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let next = line_end(bytes, end + gap);
            if gap == 0 || next == end + gap {
                break;
            }
            line = next - end - gap;
            end = next;
        }
        if end - start >= RUN_MIN {
            let padding = bytes.iter().skip(end).take(2).take_while(|byte| **byte == b'=').count();
            return Some(start..end + padding);
        }
        at = end;
    }
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    start + bytes.iter().skip(start).take_while(|byte| sixtet(**byte) != NONE).count()
}

fn base64(letters: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for skip in 0..4 {
        let aligned = letters.get(skip..).unwrap_or_default();
        let mut decoded = Vec::with_capacity(aligned.len() * 3 / 4 + 2);
        for quad in aligned.chunks(4) {
            let bits = quad.iter().fold(0_u32, |bits, letter| bits << 6 | u32::from(sixtet(*letter)));
            let bits = bits << (6 * (4 - quad.len()));
            let [_, bytes @ ..] = bits.to_be_bytes();
            decoded.extend(bytes.iter().take(quad.len() - 1));
        }
        readable(&decoded, &mut found);
    }
    found
}

fn hexadecimal(part: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for run in part.split(|byte| !byte.is_ascii_hexdigit()).filter(|run| run.len() >= HEX_MIN) {
        for skip in 0..2 {
            let nibble = |byte: &u8| char::from(*byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
            let pairs = run.get(skip..).unwrap_or_default().chunks_exact(2);
            let decoded: Vec<u8> = pairs
                .filter_map(|pair| match pair {
                    [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
                    _ => None,
                })
                .collect();
            readable(&decoded, &mut found);
        }
    }
    found
}

/// The parts of bytes that are text.
fn readable(bytes: &[u8], found: &mut Vec<String>) {
    for chunk in bytes.utf8_chunks() {
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        let parts = chunk.valid().split(control).filter(|part| part.len() >= TEXT_MIN);
        found.extend(parts.map(str::to_owned));
    }
}
