//! JSON in one form only: keys sorted by bytes, no blanks. Does not depend on how serde_json's maps are built.

use serde_json::Value;

use super::{BundleError, Parts};

/// The parts as canonical JSON.
pub(super) fn text(parts: &Parts) -> Result<String, BundleError> {
    let value = serde_json::to_value(parts).map_err(|error| failed(&error))?;
    let mut text = String::new();
    write(&value, &mut text).map_err(|error| failed(&error))?;
    Ok(text)
}

/// A value as canonical JSON. A value can always be written.
pub(crate) fn written(value: &Value) -> String {
    let mut text = String::new();
    match write(value, &mut text) {
        Ok(()) => text,
        Err(_) => String::new(),
    }
}

fn failed(error: &serde_json::Error) -> BundleError {
    BundleError::Content(format!("the bundle cannot be written as JSON: {error}"))
}

fn write(value: &Value, text: &mut String) -> Result<(), serde_json::Error> {
    match value {
        Value::Object(entries) => {
            let mut keys: Vec<(&String, &Value)> = entries.iter().collect();
            keys.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, item)) in keys.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&serde_json::to_string(key)?);
                text.push(':');
                write(item, text)?;
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text)?;
            }
            text.push(']');
        }
        leaf => text.push_str(&serde_json::to_string(leaf)?),
    }
    Ok(())
}
