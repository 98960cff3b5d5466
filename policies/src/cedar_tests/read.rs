//! Reading test cases.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::CedarTest;
use crate::bundle::{self, BundleError};

impl CedarTest {
    /// Reads a file of test cases; files of entities that they name are looked for beside it.
    ///
    /// # Errors
    /// [`BundleError`] with the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Vec<Self>, BundleError> {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut texts = BTreeMap::from([(file.clone(), bundle::text_file(path)?)]);
        for name in named(&json(&file, &texts)?) {
            if is_plain(&name) {
                texts.insert(name.clone(), bundle::text_file(&path.with_file_name(&name))?);
            }
        }
        list(&file, &texts)
    }
}

/// All test cases of these files, by name. A file that a case names for its entities is no list of cases.
pub(crate) fn lists(texts: &BTreeMap<String, String>) -> Result<Vec<CedarTest>, BundleError> {
    let mut entities = BTreeSet::new();
    for file in texts.keys() {
        entities.extend(named(&json(file, texts)?));
    }
    let mut all = Vec::new();
    for file in texts.keys().filter(|file| !entities.contains(*file)) {
        all.extend(list(file, texts)?);
    }
    Ok(all)
}

fn list(file: &str, texts: &BTreeMap<String, String>) -> Result<Vec<CedarTest>, BundleError> {
    let fault = |reason: String| BundleError::file(file, None, reason);
    let Value::Array(tests) = json(file, texts)? else {
        return Err(fault("must be a list of test cases, as `cedar run-tests` reads it".to_owned()));
    };
    let mut all = Vec::with_capacity(tests.len());
    for (at, mut test) in tests.into_iter().enumerate() {
        if let Some(name) = test.get("entities").and_then(Value::as_str) {
            if !texts.contains_key(name) {
                return Err(fault(format!(
                    "case {} names `{name}` for its entities, which is not beside it",
                    at + 1
                )));
            }
            let entities = json(name, texts)?;
            if let Some(place) = test.get_mut("entities") {
                *place = entities;
            }
        }
        all.push(serde_json::from_value(test).map_err(|error| fault(format!("case {}: {error}", at + 1)))?);
    }
    Ok(all)
}

fn json(file: &str, texts: &BTreeMap<String, String>) -> Result<Value, BundleError> {
    let text = texts.get(file).map_or("", String::as_str);
    serde_json::from_str(text).map_err(|error| BundleError::file(file, Some(error.line()), error.to_string()))
}

/// Files that the cases name for their entities.
fn named(tests: &Value) -> BTreeSet<String> {
    let tests = tests.as_array().into_iter().flatten();
    tests.filter_map(|test| Some(test.get("entities")?.as_str()?.to_owned())).collect()
}

/// A name and no path: nothing outside the folder is read.
fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|plain| plain == name)
}
