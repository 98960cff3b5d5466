//! The body: a message's exact subject, headers and payload, as it is sealed.

use bytes::Bytes;
use tidegate_schemas::header::Headers;

use crate::entry::Entry;

const FORM: u8 = 1;

/// A message's content, opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    /// Its subject.
    pub subject: String,
    /// Names and values, exactly as they came.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: Bytes,
}

impl Body {
    /// The first value of a header, whatever the case of `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The headers as roles write them; of duplicates the last one stays.
    #[must_use]
    pub fn trusted_headers(&self) -> Headers {
        Headers::trusted(self.headers.iter().cloned())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        if *form != FORM {
            return None;
        }
        let (subject, mut rest) = text(rest)?;
        let (count, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        let mut headers = Vec::new();
        for _ in 0..u32::from_be_bytes(*count) {
            let (name, tail) = text(rest)?;
            let (value, tail) = text(tail)?;
            headers.push((name, value));
            rest = tail;
        }
        Some(Self { subject, headers, payload: Bytes::copy_from_slice(rest) })
    }
}

/// Shows how long it is; never what it says.
impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("payload_bytes", &self.payload.len()).finish_non_exhaustive()
    }
}

/// The bytes that are sealed: form, subject, headers (each text with its length), payload.
pub(crate) fn encode(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.weight_bytes() + 16 + 8 * entry.headers.len());
    out.push(FORM);
    put(&mut out, &entry.subject);
    out.extend_from_slice(&length(entry.headers.len()));
    for (name, value) in &entry.headers {
        put(&mut out, name);
        put(&mut out, value);
    }
    out.extend_from_slice(&entry.payload);
    out
}

/// What a body is sealed to: its place in its stream.
pub(crate) fn place(stream: &str, sequence: u64) -> Vec<u8> {
    let mut place = b"tidegate body\0".to_vec();
    place.extend_from_slice(&sequence.to_be_bytes());
    place.extend_from_slice(stream.as_bytes());
    place
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&length(text.len()));
    out.extend_from_slice(text.as_bytes());
}

/// Lengths come from messages, which the server holds far below 4 GiB.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}
