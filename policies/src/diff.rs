//! What two bundles say differently: policies as Cedar writes them, everything else value by value.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Policy, PolicyId, Template};
use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_schemas::digest::Digest;

use crate::bundle::{Bundle, BundleError};
use crate::layout;

#[cfg(test)]
mod tests;

/// The part of a bundle that its cases are.
pub const CASE: &str = "case";

/// How one bundle differs from another.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// Whether they are the same bundle. Their files may differ in comments, order and layout.
    pub same: bool,
    /// Hash of the first.
    pub from: Digest,
    /// Hash of the second.
    pub to: Digest,
    /// What differs, part by part.
    pub changes: Vec<Change>,
    /// Cases of both, count.
    pub cases: [usize; 2],
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The part of the bundle.
    pub part: &'static str,
    /// What of it: an id, or the way to a value.
    pub what: String,
    /// `permit` or `forbid`, of a policy or template: the first's, and the second's where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// What the first says; absent where it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What the second says; absent where it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Compares two bundles.
///
/// # Errors
/// [`BundleError`] when one cannot be written; one that was read can.
pub fn diff(from: &Bundle, to: &Bundle) -> Result<Difference, BundleError> {
    let mut changes = Vec::new();
    let (a, b) = (value(from)?, value(to)?);
    let both = |part: &str| (a.get(part).unwrap_or(&Value::Null), b.get(part).unwrap_or(&Value::Null));
    for (part, key) in [("policy", "policies"), ("template", "templates")] {
        let (a, b) = both(key);
        let effects = effects(a, b);
        let texts = compared(part, &statements(part, a)?, &statements(part, b)?);
        changes.extend(
            texts.into_iter().map(|change| Change { effect: effects.get(&change.what).cloned(), ..change }),
        );
    }
    changes.extend(prompts(from, to));
    let parts = [
        ("link", "links"),
        ("destination", "destinations"),
        ("limit", "manifest"),
        ("taxonomy", "taxonomy"),
        ("schema", "schema"),
        ("property", "properties"),
    ];
    for (part, key) in parts {
        let (a, b) = both(key);
        let (mut a, mut b) = (a.clone(), b.clone());
        apart(part, "", &mut a, &mut b, &mut changes);
        changes.extend(compared(part, &leaves(&a), &leaves(&b)));
    }
    let (a, b) = both("cases");
    changes.extend(compared(CASE, &cases(a), &cases(b)));
    let cases = [from, to].map(|bundle| bundle.cases().count());
    Ok(Difference { same: from.hash() == to.hash(), from: from.hash(), to: to.hash(), changes, cases })
}

/// Prompts, each as one text, and what else they say value by value.
fn prompts(from: &Bundle, to: &Bundle) -> Vec<Change> {
    let texts = |bundle: &Bundle| -> BTreeMap<String, String> {
        let all = bundle.prompts().iter();
        all.map(|(name, prompt)| (name.to_string(), prompt.text().trim_end().to_owned())).collect()
    };
    let rest = |bundle: &Bundle| {
        let mut found = BTreeMap::new();
        for (name, prompt) in bundle.prompts() {
            let mut said = serde_json::to_value(prompt).unwrap_or_default();
            said.as_object_mut().and_then(|entries| entries.remove("message"));
            said.sort_all_objects();
            gather(&said, name.to_string(), &mut found);
        }
        found
    };
    let mut changes = compared("prompt", &texts(from), &texts(to));
    changes.extend(compared("prompt", &rest(from), &rest(to)));
    changes
}

fn value(bundle: &Bundle) -> Result<Value, BundleError> {
    let failed = |error| BundleError::Content(format!("the bundle cannot be written as JSON: {error}"));
    let mut value = serde_json::to_value(bundle.parts()).map_err(failed)?;
    // One that was kept has its keys in another order, which says nothing.
    value.sort_all_objects();
    Ok(value)
}

/// Policies or templates by id, as Cedar writes them.
fn statements(part: &str, all: &Value) -> Result<BTreeMap<String, String>, BundleError> {
    let mut texts = BTreeMap::new();
    for (id, json) in all.as_object().into_iter().flatten() {
        let named = Some(PolicyId::new(id));
        let text = if part == "policy" {
            Policy::from_json(named, json.clone()).map(|policy| policy.to_string())
        } else {
            Template::from_json(named, json.clone()).map(|template| template.to_string())
        };
        let text = text.map_err(|error| BundleError::policy(id, format!("{part} `{id}`: {error}")))?;
        texts.insert(id.clone(), layout::policies_text(&text)?.trim_end().to_owned());
    }
    Ok(texts)
}

fn effects(a: &Value, b: &Value) -> BTreeMap<String, String> {
    let effect = |of: &Value, id: &str| Some(of.get(id)?.get("effect")?.as_str()?.to_owned());
    let ids: BTreeSet<&String> =
        [a, b].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    let told = |id: &String| match (effect(a, id), effect(b, id)) {
        (Some(a), Some(b)) if a != b => Some(format!("{a} → {b}")),
        (a, b) => a.or(b),
    };
    ids.into_iter().filter_map(|id| Some((id.clone(), told(id)?))).collect()
}

fn compared(part: &'static str, a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<Change> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let changed = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    let change = |name: &String| {
        let (before, after) = (a.get(name).cloned(), b.get(name).cloned());
        Change { part, what: name.clone(), effect: None, before, after }
    };
    changed.map(change).collect()
}

/// Takes what only one of two values has out of it: an item that comes or goes is one change, however much it says.
fn apart(part: &'static str, way: &str, a: &mut Value, b: &mut Value, changes: &mut Vec<Change>) {
    // Where one side has no such part, all of the other's comes or goes.
    match (&*a, &*b) {
        (Value::Null, Value::Object(_)) => *a = Value::Object(Map::new()),
        (Value::Object(_), Value::Null) => *b = Value::Object(Map::new()),
        (Value::Null, Value::Array(_)) => *a = Value::Array(Vec::new()),
        (Value::Array(_), Value::Null) => *b = Value::Array(Vec::new()),
        _ => {}
    }
    let below = |step: &str| if way.is_empty() { step.to_owned() } else { format!("{way}.{step}") };
    let change = |what: String, before: Option<String>, after: Option<String>| Change {
        part,
        what,
        effect: None,
        before,
        after,
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let (own, others) = (alone(a, b), alone(b, a));
            changes.extend(own.into_iter().map(|(key, was)| change(below(&key), Some(text(&was)), None)));
            changes.extend(others.into_iter().map(|(key, is)| change(below(&key), None, Some(text(&is)))));
            for (key, a) in a.iter_mut() {
                if let Some(b) = b.get_mut(key) {
                    apart(part, &below(key), a, b, changes);
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(&*b).all(|item| name(item).is_some()) => {
            let names = |all: &[Value]| -> BTreeSet<String> {
                all.iter().filter_map(name).map(str::to_owned).collect()
            };
            let (ours, theirs) = (names(a), names(b));
            let is_both = |item: &Value| name(item).is_some_and(|n| ours.contains(n) && theirs.contains(n));
            let way = |item: &Value| below(name(item).unwrap_or_default());
            let (gone, come) =
                (a.iter().filter(|item| !is_both(item)), b.iter().filter(|item| !is_both(item)));
            changes.extend(gone.map(|item| change(way(item), Some(text(item)), None)));
            changes.extend(come.map(|item| change(way(item), None, Some(text(item)))));
            a.retain(&is_both);
            b.retain(&is_both);
        }
        _ => {}
    }
}

/// Takes the entries out of `one` whose keys `other` has not.
fn alone(one: &mut Map<String, Value>, other: &Map<String, Value>) -> Vec<(String, Value)> {
    let keys: Vec<String> = one.keys().filter(|key| !other.contains_key(*key)).cloned().collect();
    keys.into_iter().filter_map(|key| one.remove(&key).map(|value| (key, value))).collect()
}

/// A value as people read it.
fn text(value: &Value) -> String {
    match value {
        Value::Object(_) => serde_json::to_string_pretty(value).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// Cases by name, each as one text: what they say is long, and which they are is mostly enough.
fn cases(all: &Value) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (form, cases) in all.as_object().into_iter().flatten() {
        match cases.as_array().filter(|cases| cases.iter().all(|case| name(case).is_some())) {
            Some(cases) => {
                for case in cases {
                    // Nothing keeps two cases from having one name.
                    let named = name(case).unwrap_or_default();
                    found.entry(format!("{form}: {named}")).or_default().push_str(&text(case));
                }
            }
            None => gather(cases, form.clone(), &mut found),
        }
    }
    found
}

/// Every value by the way to it. A list of things that have names is gone through by them; any other is one value.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    gather(value, String::new(), &mut found);
    found
}

fn gather(value: &Value, way: String, found: &mut BTreeMap<String, String>) {
    let below = |step: &str| if way.is_empty() { step.to_owned() } else { format!("{way}.{step}") };
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(key, value)| gather(value, below(key), found));
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| name(item).is_some()) => {
            for item in items {
                let mut rest = item.clone();
                let own = name(item).unwrap_or_default();
                if let Some(entries) = rest.as_object_mut() {
                    entries.retain(|key, value| !(["id", "name"].contains(&key.as_str()) && *value == own));
                }
                gather(&rest, below(own), found);
            }
        }
        leaf => drop(found.insert(way, leaf.to_string())),
    }
}

fn name(item: &Value) -> Option<&str> {
    item.get("id").or_else(|| item.get("name"))?.as_str()
}
