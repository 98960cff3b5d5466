//! Putting values back where tokens stand, also while a text comes in pieces: whatever the pieces, the text is the same.
//!
//! What could still become a token is held back, at most 44 bytes. Only tokens that were issued for this task
//! are replaced; others stay as they are, and are counted.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::token::{INNER_BYTES_MAX, Read, Token, read, tokens_in};
use crate::result::Output;
use crate::sensitive::Sensitive;

/// Most bytes that are held back: a token with both brackets escaped, but for its last byte.
pub(super) const HELD_BYTES_MAX: usize = 6 + INNER_BYTES_MAX + 5;

/// What became of the tokens of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Restored {
    /// Times that a value was put back.
    pub restored: u32,
    /// Tokens that were not issued for this task, and stay as they are.
    #[serde(default)]
    pub foreign: u32,
    /// Tokens that were sent and did not come back. A model need not use all of them.
    #[serde(default)]
    pub dropped: u32,
    /// Tokens that came back changed, so that they stay as they are.
    #[serde(default)]
    pub mangled: u32,
}

/// How a text writes a value: as it is, or as within a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Not known yet: only blanks came.
    Unknown,
    Plain,
    Json,
}

/// Restores one text.
pub struct Restorer<'a> {
    issued: &'a BTreeMap<Token, Sensitive<String>>,
    held: Vec<u8>,
    form: Form,
    counts: Restored,
}

impl<'a> Restorer<'a> {
    /// Begins a text. These tokens were issued for its task.
    #[must_use]
    pub fn new(issued: &'a BTreeMap<Token, Sensitive<String>>) -> Self {
        Self { issued, held: Vec::new(), form: Form::Unknown, counts: Restored::default() }
    }

    /// Takes the next piece, which may end anywhere, and returns what is certain by now.
    #[must_use]
    pub fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let (mut out, mut rest) = (Vec::with_capacity(held.len()), held.as_slice());
        self.learn(rest);
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'<' | b'\\')) {
            let (before, begins) = rest.split_at(at);
            out.extend_from_slice(before);
            let passed = match read(begins) {
                Read::Token(token, length, escaped) => {
                    self.put(&token, begins.get(..length).unwrap_or_default(), escaped, &mut out);
                    length
                }
                Read::Not(length) => {
                    out.extend_from_slice(begins.get(..length).unwrap_or_default());
                    length
                }
                Read::Open if begins.len() <= HELD_BYTES_MAX => {
                    self.held = begins.to_vec();
                    return out;
                }
                // Reading looks at no more than a token's bytes, so what is longer is decided.
                Read::Open => {
                    out.extend(begins.first());
                    1
                }
            };
            rest = begins.get(passed..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
        out
    }

    /// Ends the text: what was held back is no token.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, Restored) {
        (self.held, self.counts)
    }

    /// Bytes that are held back now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// A text that begins as JSON does is JSON.
    fn learn(&mut self, bytes: &[u8]) {
        if self.form == Form::Unknown
            && let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            self.form = if matches!(first, b'{' | b'[') { Form::Json } else { Form::Plain };
        }
    }

    fn put(&mut self, token: &Token, as_it_stands: &[u8], escaped: bool, out: &mut Vec<u8>) {
        match self.issued.get(token) {
            Some(value) => {
                self.counts.restored = self.counts.restored.saturating_add(1);
                let value = value.expose();
                // Brackets are escaped only within a JSON string.
                if escaped || self.form == Form::Json {
                    out.extend_from_slice(in_json(value).as_bytes());
                } else {
                    out.extend_from_slice(value.as_bytes());
                }
            }
            None => {
                self.counts.foreign = self.counts.foreign.saturating_add(1);
                out.extend_from_slice(as_it_stands);
            }
        }
    }
}

/// A value as it stands within a JSON string.
fn in_json(value: &str) -> String {
    let quoted = serde_json::to_string(value).unwrap_or_default();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default().to_owned()
}

/// Restores what a provider answered. Counts also what did not come back as it was sent.
#[must_use]
pub fn restore_output(output: Output, issued: &BTreeMap<Token, Sensitive<String>>) -> (Output, Restored) {
    let mut walk = Walk { issued, counts: Restored::default(), seen: BTreeSet::new(), raw: String::new() };
    let output = match output {
        Output::Text { text, tool_calls, finish } => Output::Text {
            text: walk.text(text.expose()).into(),
            tool_calls: tool_calls.into_iter().map(|call| walk.value(call.into_inner()).into()).collect(),
            finish,
        },
        Output::Json { value } => Output::Json { value: walk.value(value.into_inner()).into() },
        Output::Class { class } => Output::Class { class: walk.text(class.expose()).into() },
        Output::Embeddings { vectors } => Output::Embeddings { vectors },
    };
    (output, walk.counted())
}

struct Walk<'a> {
    issued: &'a BTreeMap<Token, Sensitive<String>>,
    counts: Restored,
    seen: BTreeSet<Token>,
    /// All texts as they came.
    raw: String,
}

impl Walk<'_> {
    fn text(&mut self, text: &str) -> String {
        self.seen.extend(tokens_in(text));
        self.raw.push_str(text);
        self.raw.push('\n');
        let mut restorer = Restorer::new(self.issued);
        let mut bytes = restorer.feed(text.as_bytes());
        let (rest, counts) = restorer.finish();
        bytes.extend(rest);
        self.counts.restored = self.counts.restored.saturating_add(counts.restored);
        self.counts.foreign = self.counts.foreign.saturating_add(counts.foreign);
        // Whole texts were put into a whole text.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn value(&mut self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.value(item)).collect()),
            Value::Object(entries) => {
                let restored: Map<String, Value> =
                    entries.into_iter().map(|(key, item)| (self.text(&key), self.value(item))).collect();
                Value::Object(restored)
            }
            other => other,
        }
    }

    fn counted(self) -> Restored {
        let mut counts = self.counts;
        let raw = self.raw.to_ascii_lowercase();
        for token in self.issued.keys().filter(|token| !self.seen.contains(*token)) {
            if raw.contains(token.id()) {
                counts.mangled = counts.mangled.saturating_add(1);
            } else {
                counts.dropped = counts.dropped.saturating_add(1);
            }
        }
        counts
    }
}
