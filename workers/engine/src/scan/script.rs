//! Whether a text is in a script that the model was made for. Its seven languages are written in Latin letters; of a letter or
//! digit of another script it knows nothing, and what is not known is not called clean.

use std::sync::LazyLock;

use regex::Regex;

/// A letter, mark or number of another script; half-width and full-width forms of Latin letters are caught by the vocabulary.
#[expect(clippy::expect_used, reason = "a constant pattern")]
static FOREIGN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[[\p{L}\p{M}\p{N}]&&[^\p{Latin}\p{Common}\p{Inherited}]]").expect("a pattern")
});

pub(crate) fn is_known(text: &str) -> bool {
    text.is_ascii() || !FOREIGN.is_match(text)
}
