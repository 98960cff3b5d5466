//! Reading JSON from outside: size, UTF-8, depth and duplicate keys are checked before anything is built from it.
//!
//! serde_json keeps the last of two equal keys silently; two readers of one message may then see two messages. Here a
//! duplicate is an error (RFC 8259 §4 calls it unpredictable).

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::code::{Code, Refused};
use crate::limits::JSON_DEPTH_MAX;

/// Reads one JSON document of at most `bytes_max` bytes.
///
/// # Errors
/// [`Refused`] with the limit that was passed, or where the document stops being a `T`. Never quotes the document.
pub fn read<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, Refused> {
    serde_json::from_str(checked(bytes, bytes_max)?)
        .map_err(|error| Refused::new(Code::InvalidField, sentence(&error)))
}

/// Reads the version of a form that has had no other: what a later release wrote is not understood by halves.
pub(crate) fn version_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        1 => Ok(1),
        _ => Err(serde::de::Error::custom("`schema_version` is another than 1")),
    }
}

/// What serde says before what it found, which it quotes, and after that what it expected, which is ours.
const QUOTING: [&str; 4] = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `"];

/// Why a document is not what it should be, and where, in our own names only.
pub(crate) fn sentence(error: &serde_json::Error) -> String {
    let place = format!("line {} column {}", error.line(), error.column());
    let whole = error.to_string();
    let said = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(said, _)| said);
    let expected = || said.rsplit_once(", expected ").map(|(_, expected)| plainly(expected));
    if let Some((name, _)) = said.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
        return format!("the field `{name}` is missing in what ends at {place}");
    }
    if said.starts_with("unknown field `")
        && let Some(expected) = expected()
    {
        return format!("a field that is not known stands at {place}; expected {expected}");
    }
    match expected().filter(|_| QUOTING.iter().any(|start| said.starts_with(start))) {
        Some(expected) => format!("a field is malformed at {place}: expected {expected}"),
        None => format!("a field is missing or malformed at {place}"),
    }
}

/// What serde expected, in JSON's words where it names a type of Rust's.
fn plainly(expected: &str) -> &str {
    let first = expected.split(' ').next().unwrap_or_default();
    match first {
        "struct" | "map" => "an object",
        "sequence" | "tuple" | "array" => "an array",
        "enum" | "str" => "a string",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        _ => expected,
    }
}

/// Checks size, UTF-8, syntax, depth and duplicate keys.
///
/// # Errors
/// [`Refused`] with the first rule that the document breaks.
pub fn check(bytes: &[u8], bytes_max: usize) -> Result<(), Refused> {
    checked(bytes, bytes_max).map(drop)
}

fn checked(bytes: &[u8], bytes_max: usize) -> Result<&str, Refused> {
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
    Distinct.deserialize(&mut reader).and_then(|()| reader.end()).map(|()| text).map_err(|error| {
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
        let mut keys = Keys::default();
        while let Some(Key(key)) = entries.next_key()? {
            if !keys.is_new(key) {
                return Err(serde::de::Error::custom("duplicate key"));
            }
            entries.next_value_seed(Distinct)?;
        }
        Ok(())
    }
}

/// Keys of an object so far. Few are compared one by one, which beats hashing.
#[derive(Default)]
struct Keys<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    const FEW: usize = 16;

    fn is_new(&mut self, key: Cow<'de, str>) -> bool {
        if self.few.contains(&key) || self.many.contains(&key) {
            return false;
        }
        if self.few.len() < Self::FEW {
            self.few.push(key);
        } else {
            self.many.insert(key);
        }
        true
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        reader.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_our_own_names_only() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "snake_case")]
        #[expect(dead_code, reason = "only read into")]
        struct Known {
            regions: Vec<String>,
            role: Option<Role>,
            count: Option<u8>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Role {
            System,
            User,
        }
        let rows = [
            (r#"{}"#, "the field `regions` is missing in what ends at line 1 column 2"),
            (r#"{"regions":"canary"}"#, "malformed at line 1 column 19: expected a sequence"),
            (r#"{"regions":[],"role":"canary"}"#, "expected `system` or `user`"),
            (r#"{"regions":[],"role":"canary`, expected `mine"}"#, "expected `system` or `user`"),
            (
                r#"{"regions":[],"canary":1}"#,
                "not known stands at line 1 column 22; expected one of `regions`",
            ),
            (r#"{"regions":[],"missing field `canary`":1}"#, "expected one of `regions`, `role`, `count`"),
            (r#"{"regions":[],"count":300}"#, "expected a whole number that is not negative"),
        ];
        for (document, told) in rows {
            let refused = read::<Known>(document.as_bytes(), 100).map(drop);
            let said = refused.as_ref().map_err(|refused| refused.sentence.clone()).err().unwrap_or_default();
            assert_eq!(refused.map_err(|refused| refused.code), Err(Code::InvalidField));
            assert!(said.contains(told) && !said.contains("canary") && !said.contains("mine"), "{said}");
        }
        assert!(read::<Known>(br#"{"regions":[]}"#, 100).is_ok(), "negative control");
    }

    #[test]
    fn a_key_that_stands_twice_is_found_wherever_it_stands() {
        let object = |keys: &[String]| {
            let entries: Vec<String> = keys.iter().map(|key| format!("\"{key}\":1")).collect();
            format!("{{\"in\":[{{{}}}]}}", entries.join(","))
        };
        for count in [1_usize, 2, 16, 17, 18, 40] {
            let keys: Vec<String> = (0..count).map(|at| format!("k{at}")).collect();
            assert_eq!(check(object(&keys).as_bytes(), 10_000), Ok(()), "{count}");
            for again in &keys {
                let twice = [keys.as_slice(), std::slice::from_ref(again)].concat();
                let refused = check(object(&twice).as_bytes(), 10_000).map_err(|refused| refused.code);
                assert_eq!(refused, Err(Code::InvalidJson), "{count} keys and {again}");
            }
        }
        // The same key, written with an escape.
        assert!(check(br#"{"a":1,"\u0061":2}"#, 100).is_err());
    }
}
