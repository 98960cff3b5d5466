//! Texts that are made to be guessed by nobody.

/// Shortest text that can be called a secret for its mixture alone.
const SECRET_MIN: usize = 8;
/// Least entropy of its characters, bits a character.
const BITS_MIN: f64 = 2.5;

/// Whether a text mixes kinds of characters, as passwords do and words do not.
pub(super) fn is_secret(text: &[u8]) -> bool {
    let has = |kind: fn(&u8) -> bool| usize::from(text.iter().any(kind));
    let kinds = has(u8::is_ascii_lowercase)
        + has(u8::is_ascii_uppercase)
        + has(u8::is_ascii_digit)
        + has(u8::is_ascii_punctuation);
    let mixed =
        kinds >= 3 || (kinds == 2 && has(u8::is_ascii_digit) == 1 && has(u8::is_ascii_alphabetic) == 1);
    text.len() >= SECRET_MIN && mixed && bits(text) >= BITS_MIN
}

/// Whether a text is not a few characters again and again, as in examples and rulers.
pub(super) fn is_varied(text: &[u8]) -> bool {
    bits(text) >= BITS_MIN
}

/// Shannon's entropy of the characters, bits a character.
fn bits(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let all = text.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / all)
        .map(|p| -p * p.log2())
        .sum()
}
