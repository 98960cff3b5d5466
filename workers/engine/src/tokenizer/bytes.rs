//! The bytes that a token's written form stands for.

/// Byte-level tokens write each byte as one character: printable ones as themselves, the others from U+0100 on
/// (the table of GPT-2).
pub(super) fn of_byte_level(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            // Not from the table: an added word, which stands for itself.
            None => return token.as_bytes().to_vec(),
        }
    }
    bytes
}

fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match code {
        0x100..=0x143 => (0..=u8::MAX).filter(|byte| !printable(byte)).nth((code - 0x100) as usize),
        _ => u8::try_from(code).ok().filter(printable),
    }
}

/// SentencePiece tokens write a blank as U+2581 and a lone byte as `<0xNN>`.
pub(super) fn of_sentence_piece(token: &str) -> Vec<u8> {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace('\u{2581}', " ").into_bytes(),
    }
}
