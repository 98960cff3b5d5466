//! Properties: what must hold for every possible request, as the bundle says it (`properties.toml`).
//!
//! Here they are read, brought into one form and held against the schema; proving them is `tidegate-prove`'s. A condition is
//! written in Cedar and kept in Cedar's JSON form, so that its layout does not change the bundle.

use std::str::FromStr as _;

use cedar_policy::{EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::LEVEL_MAX;

#[cfg(test)]
mod tests;

/// Most properties of a bundle, count.
pub const PROPERTIES_MAX: usize = 200;
/// The action that a reachable task must be allowed.
const LOCAL: &str = "RouteLocal";

/// One property.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Wire<Value>", try_from = "Wire<Value>")]
pub struct Property {
    /// Its id: a-z, 0-9 and `-`.
    pub id: String,
    /// What it says, one plain phrase.
    pub title: String,
    /// Whom to ask about it.
    pub owner: String,
    /// What must hold.
    pub form: Form,
}

/// What must hold, of every request. Conditions are expressions in Cedar's JSON form.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// No request that meets the condition is permitted.
    Never {
        /// The action, or the group of actions, that it is about.
        action: String,
        /// The condition.
        condition: Value,
    },
    /// Every request that is permitted meets the condition.
    OnlyIf {
        /// The action, or the group of actions, that it is about.
        action: String,
        /// Which requests it is about; absent: all.
        when: Option<Value>,
        /// The condition.
        condition: Value,
    },
    /// Every task that meets the condition is permitted at one of the bundle's local destinations, at least.
    Reachable {
        /// The preconditions: of principal and context only.
        condition: Value,
    },
}

/// A property as it is written: conditions as Cedar text in a file, as JSON in an archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire<C> {
    pub(crate) id: String,
    title: String,
    owner: String,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    when: Option<C>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    never: Option<C>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    only_if: Option<C>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    reachable: Option<C>,
}

// === impl Property ===

impl Property {
    /// The action, or the group of actions, that it is about.
    #[must_use]
    pub fn action(&self) -> &str {
        match &self.form {
            Form::Never { action, .. } | Form::OnlyIf { action, .. } => action,
            Form::Reachable { .. } => LOCAL,
        }
    }

    fn conditions(&self) -> impl Iterator<Item = &Value> {
        let (first, second) = match &self.form {
            Form::Never { condition, .. } | Form::Reachable { condition } => (condition, None),
            Form::OnlyIf { when, condition, .. } => (condition, when.as_ref()),
        };
        std::iter::once(first).chain(second)
    }

    /// A policy whose body is one of its conditions, for its action.
    fn policy(&self, condition: &Value) -> Value {
        json!({
            "effect": "permit",
            "principal": { "op": "All" },
            "action": { "op": "in", "entities": [{ "type": "Action", "id": self.action() }] },
            "resource": { "op": "All" },
            "conditions": [{ "kind": "when", "body": condition }],
        })
    }

    /// The rule that it breaks, if one: it must validate strictly against the schema, with no warning.
    fn fault(&self, schema: &Schema) -> Option<String> {
        let id = self.id.as_str();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=64).contains(&id.len()) || !id.bytes().all(plain) {
            return Some(format!("property `{id}` needs an id of a-z, 0-9 and `-`"));
        }
        if self.title.is_empty() || self.owner.is_empty() {
            return Some(format!("property `{id}` needs `title` and `owner`"));
        }
        let action = EntityUid::from_str(&format!("Action::{:?}", self.action())).ok();
        let known = |uid: &EntityUid| schema.actions().chain(schema.action_groups()).any(|own| own == uid);
        if !action.as_ref().is_some_and(known) {
            return Some(format!(
                "property `{id}` names the action `{}`, which the schema does not have",
                self.action()
            ));
        }
        self.conditions().find_map(|condition| {
            if matches!(self.form, Form::Reachable { .. }) && names_resource(condition) {
                return Some(format!("property `{id}`: what is `reachable` depends on no `resource`"));
            }
            let misfit = |error: String| Some(format!("property `{id}`: {error}"));
            let policy = match Policy::from_json(Some(PolicyId::new(id)), self.policy(condition)) {
                Ok(policy) => policy,
                Err(error) => return misfit(error.to_string()),
            };
            let set = match PolicySet::from_policies([policy]) {
                Ok(set) => set,
                Err(error) => return misfit(error.to_string()),
            };
            let found =
                Validator::new(schema.clone()).validate_with_level(&set, ValidationMode::Strict, LEVEL_MAX);
            let errors = found.validation_errors().map(ToString::to_string);
            let warnings = found.validation_warnings().map(ToString::to_string);
            let all: Vec<String> = errors.chain(warnings).collect();
            if all.is_empty() { None } else { misfit(all.join("; ")) }
        })
    }
}

/// The rule that a bundle's properties break, if one.
pub(crate) fn fault(properties: &[Property], schema: &Schema) -> Option<String> {
    if properties.len() > PROPERTIES_MAX {
        return Some(format!("more than {PROPERTIES_MAX} properties"));
    }
    if let Some(twice) = properties.windows(2).find_map(|pair| match pair {
        [a, b] if a.id == b.id => Some(&a.id),
        _ => None,
    }) {
        return Some(format!("property `{twice}` stands twice"));
    }
    properties.iter().find_map(|property| property.fault(schema))
}

fn names_resource(expression: &Value) -> bool {
    match expression {
        Value::Object(entries) => {
            entries.iter().any(|(key, value)| (key == "Var" && value == "resource") || names_resource(value))
        }
        Value::Array(items) => items.iter().any(names_resource),
        _ => false,
    }
}

// === impl Wire ===

impl Wire<String> {
    /// The property, its conditions parsed.
    pub(crate) fn read(self) -> Result<Property, String> {
        let id = self.id.clone();
        let parsed = |text: Option<String>| text.map(|text| parse(&text)).transpose();
        let wire = || {
            Ok::<_, String>(Wire {
                when: parsed(self.when)?,
                never: parsed(self.never)?,
                only_if: parsed(self.only_if)?,
                reachable: parsed(self.reachable)?,
                id: self.id,
                title: self.title,
                owner: self.owner,
                action: self.action,
            })
        };
        wire().map_err(|error| format!("property `{id}`: {error}"))?.try_into()
    }
}

/// A condition, alone: text that holds more than one is none.
fn parse(text: &str) -> Result<Value, String> {
    let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{\n{text}\n}};"))
        .map_err(|error| format!("`{}` is no condition: {error}", text.trim()))?;
    let mut json = policy.to_json().map_err(|error| error.to_string())?;
    match json.get_mut("conditions").and_then(Value::as_array_mut).map(std::mem::take).as_deref_mut() {
        Some([one]) => Ok(one["body"].take()),
        _ => Err(format!("`{}` is not one condition", text.trim())),
    }
}

impl TryFrom<Wire<Value>> for Property {
    type Error = String;

    fn try_from(wire: Wire<Value>) -> Result<Self, String> {
        let Wire { id, title, owner, action, when, never, only_if, reachable } = wire;
        let form = match (action, when, never, only_if, reachable) {
            (Some(action), None, Some(condition), None, None) => Form::Never { action, condition },
            (Some(action), when, None, Some(condition), None) => Form::OnlyIf { action, when, condition },
            (None, None, None, None, Some(condition)) => Form::Reachable { condition },
            _ => {
                return Err(format!(
                    "property `{id}` needs `action` with `never`, or with `only_if` and perhaps `when`; or `reachable` alone"
                ));
            }
        };
        Ok(Self { id, title, owner, form })
    }
}

impl From<Property> for Wire<Value> {
    fn from(property: Property) -> Self {
        let Property { id, title, owner, form } = property;
        let wire =
            Self { id, title, owner, action: None, when: None, never: None, only_if: None, reachable: None };
        match form {
            Form::Never { action, condition } => {
                Self { action: Some(action), never: Some(condition), ..wire }
            }
            Form::OnlyIf { action, when, condition } => {
                Self { action: Some(action), when, only_if: Some(condition), ..wire }
            }
            Form::Reachable { condition } => Self { reachable: Some(condition), ..wire },
        }
    }
}
