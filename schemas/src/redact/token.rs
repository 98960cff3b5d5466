//! Tokens: `<EMAIL_k7f3q2xa>`. ASCII, one piece, typed, and random: nothing of the value is in it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{BadId, Name};

/// Characters of the random part: 32 of them, without those that look like another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Length of the random part, bytes: 40 bits.
pub(super) const ID_BYTES: usize = 8;
/// Longest type in a token, bytes.
pub(super) const KIND_BYTES_MAX: usize = 24;
/// Longest that stands between the brackets, bytes.
pub(super) const INNER_BYTES_MAX: usize = KIND_BYTES_MAX + 1 + ID_BYTES;

/// A token, brackets included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Token(String);

impl Token {
    /// A token for a value of this kind, from 40 random bits.
    #[must_use]
    pub fn new(entity: &Name, random: u64) -> Self {
        let kind = kind_of(entity);
        let id: String = (0..ID_BYTES)
            .map(|at| {
                let index = usize::try_from(random >> (5 * at) & 31).unwrap_or(0);
                char::from(ALPHABET.get(index).copied().unwrap_or(b'a'))
            })
            .collect();
        Self(format!("<{kind}_{id}>"))
    }

    /// Whether it is one for a value of this kind.
    #[must_use]
    pub fn is_of(&self, entity: &Name) -> bool {
        let rest = self.0.strip_prefix('<').and_then(|rest| rest.strip_prefix(&kind_of(entity)));
        rest.is_some_and(|rest| rest.starts_with('_') && rest.len() == ID_BYTES + 2)
    }

    /// The token whose inner part this is, if it is one.
    pub(super) fn of_inner(inner: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(inner).ok()?;
        let (kind, id) = text.rsplit_once('_')?;
        let kind_holds = (1..=KIND_BYTES_MAX).contains(&kind.len())
            && kind.starts_with(|first: char| first.is_ascii_uppercase())
            && kind.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        let id_holds = id.len() == ID_BYTES && id.bytes().all(|byte| ALPHABET.contains(&byte));
        (kind_holds && id_holds).then(|| Self(format!("<{text}>")))
    }

    /// The token as it stands in a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its random part: by it a token is known that a model has changed otherwise.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0
            .get(self.0.len().saturating_sub(ID_BYTES + 1)..self.0.len().saturating_sub(1))
            .unwrap_or_default()
    }
}

/// The type in a token for a value of this kind.
fn kind_of(entity: &Name) -> String {
    let kind: String = entity
        .as_str()
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte.to_ascii_uppercase()) } else { '_' })
        .skip_while(|first| !first.is_ascii_uppercase())
        .take(KIND_BYTES_MAX)
        .collect();
    if kind.is_empty() { "VALUE".to_owned() } else { kind }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Token {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let inner = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        let rule = "a type, `_` and 8 random characters in angle brackets";
        inner.and_then(|inner| Self::of_inner(inner.as_bytes())).ok_or(BadId { what: "a token", rule })
    }
}

impl TryFrom<String> for Token {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> String {
        token.0
    }
}

/// What a place in a text is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A token of so many bytes, and whether its brackets were escaped as JSON may.
    Token(Token, usize, bool),
    /// No token begins here; so many bytes can be passed over.
    Not(usize),
    /// It could still become one.
    Open,
}

/// Reads what begins with `<` or `\`. Looks at a bounded number of bytes.
pub(super) fn read(bytes: &[u8]) -> Read {
    let (rest, escaped) = match bracket(bytes, b'<', b'c') {
        Bracket::Plain => (bytes.get(1..).unwrap_or_default(), false),
        Bracket::Escaped => (bytes.get(6..).unwrap_or_default(), true),
        Bracket::Open => return Read::Open,
        // An escaped backslash escapes nothing itself.
        Bracket::No if bytes.starts_with(b"\\\\") => return Read::Not(2),
        Bracket::No => return Read::Not(1),
    };
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let inner = rest.iter().take_while(|byte| is_inner(byte)).count();
    if rest.first().is_some_and(|first| !first.is_ascii_uppercase()) || inner > INNER_BYTES_MAX {
        return Read::Not(1);
    }
    let (inner, tail) = rest.split_at(inner);
    let tail_bytes = match bracket(tail, b'>', b'e') {
        Bracket::Plain => 1,
        Bracket::Escaped => 6,
        Bracket::Open => return Read::Open,
        Bracket::No => return Read::Not(1),
    };
    let length = bytes.len() - tail.len() + tail_bytes;
    Token::of_inner(inner).map_or(Read::Not(1), |token| Read::Token(token, length, escaped))
}

enum Bracket {
    Plain,
    Escaped,
    Open,
    No,
}

/// Whether the bytes begin with a bracket, as it is or as `\u003c` and `\u003e`.
fn bracket(bytes: &[u8], plain: u8, last: u8) -> Bracket {
    if bytes.first() == Some(&plain) {
        return Bracket::Plain;
    }
    let escape = [b'\\', b'u', b'0', b'0', b'3', last];
    let same = bytes.iter().zip(escape).take_while(|(byte, of)| {
        // Only the hexadecimal digit has two cases: `\U` escapes nothing.
        **byte == *of || (*of == last && byte.to_ascii_lowercase() == *of)
    });
    match same.count() {
        6 => Bracket::Escaped,
        count if count == bytes.len() => Bracket::Open,
        _ => Bracket::No,
    }
}

/// Every token that stands in a text, in order.
#[must_use]
pub fn tokens_in(text: &str) -> Vec<Token> {
    let (mut found, mut rest) = (Vec::new(), text.as_bytes());
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'<' | b'\\')) {
        let begins = rest.get(at..).unwrap_or_default();
        let passed = match read(begins) {
            Read::Token(token, length, _) => {
                found.push(token);
                length
            }
            Read::Not(length) => length,
            Read::Open => 1,
        };
        rest = begins.get(passed..).unwrap_or_default();
    }
    found
}
