//! Reading JSON from outside: size, UTF-8, depth and duplicate keys are checked before anything is built from it.
//!
//! serde_json keeps the last of two equal keys silently; two readers of one message may then see two messages. Here a
//! duplicate is an error (RFC 8259 §4 calls it unpredictable).

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::code::{Code, Refused};
use crate::limits::JSON_DEPTH_MAX;

/// Reads one JSON document of at most `bytes_max` bytes.
///
/// # Errors
/// [`Refused`] with the limit that was passed, or where the document stops being a `T`. Never quotes the document.
pub fn read<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, Refused> {
    check(bytes, bytes_max)?;
    serde_json::from_slice(bytes).map_err(|error| {
        Refused::new(
            Code::InvalidField,
            format!("a field is missing or malformed at line {} column {}", error.line(), error.column()),
        )
    })
}

/// Checks size, UTF-8, syntax, depth and duplicate keys.
///
/// # Errors
/// [`Refused`] with the first rule that the document breaks.
pub fn check(bytes: &[u8], bytes_max: usize) -> Result<(), Refused> {
    if bytes.len() > bytes_max {
        return Err(Refused::new(Code::TooLarge, format!("{} bytes; the limit is {bytes_max}", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Refused::new(Code::InvalidUtf8, format!("not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    if deepest(bytes) > JSON_DEPTH_MAX {
        return Err(Refused::new(Code::TooDeep, format!("JSON nests deeper than {JSON_DEPTH_MAX} levels")));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    Distinct.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|error| {
        Refused::new(
            Code::InvalidJson,
            format!(
                "not JSON, or a key stands twice in an object, at line {} column {}",
                error.line(),
                error.column()
            ),
        )
    })
}

/// The deepest nesting, from the brackets outside strings; an upper bound for text that is not JSON.
fn deepest(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Walks a document and fails on a duplicate key.
struct Distinct;

impl<'de> DeserializeSeed<'de> for Distinct {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate keys")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Distinct)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !keys.insert(key) {
                return Err(serde::de::Error::custom("duplicate key"));
            }
            entries.next_value_seed(Distinct)?;
        }
        Ok(())
    }
}
