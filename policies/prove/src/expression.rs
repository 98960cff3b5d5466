//! Expressions in Cedar's JSON form: built, joined, and taken out of policies.
//!
//! A proof about two destinations at once cannot ask with one `resource`. So a policy becomes one expression in which `resource`
//! is named, and what a set of policies allows becomes one expression too.

use std::collections::BTreeMap;

use cedar_policy::{EntityUid, Policy, PolicyId};
use serde_json::{Map, Value, json};

use crate::ProveError;

/// A condition, parsed.
pub(crate) fn parse(text: &str) -> Result<Value, ProveError> {
    let failed = |error: String| ProveError::Defect(format!("`{text}`: {error}"));
    let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{ {text} }};"))
        .map_err(|error| failed(error.to_string()))?;
    let json = policy.to_json().map_err(|error| failed(error.to_string()))?;
    json.pointer("/conditions/0/body").cloned().ok_or_else(|| failed("has no condition".to_owned()))
}

/// All of them hold; of none: true.
pub(crate) fn all(expressions: impl IntoIterator<Item = Value>) -> Value {
    joined("&&", expressions).unwrap_or_else(|| truth(true))
}

/// One of them holds; of none: false.
pub(crate) fn any(expressions: impl IntoIterator<Item = Value>) -> Value {
    joined("||", expressions).unwrap_or_else(|| truth(false))
}

/// Joined as a balanced tree: the compiler's time grows with the depth.
fn joined(operator: &str, expressions: impl IntoIterator<Item = Value>) -> Option<Value> {
    let mut row: Vec<Value> = expressions.into_iter().collect();
    while row.len() > 1 {
        let mut open = row.into_iter();
        let mut next = Vec::new();
        while let Some(left) = open.next() {
            next.push(match open.next() {
                Some(right) => json!({ operator: { "left": left, "right": right } }),
                None => left,
            });
        }
        row = next;
    }
    row.pop()
}

pub(crate) fn not(expression: Value) -> Value {
    json!({ "!": { "arg": expression } })
}

fn truth(value: bool) -> Value {
    json!({ "Value": value })
}

/// An entity, as a value.
pub(crate) fn entity(uid: &EntityUid) -> Value {
    json!({ "Value": { "__entity": { "type": uid.type_name().to_string(), "id": uid.id().unescaped() } } })
}

/// A permit for one action, and all kinds of principals and resources, with one condition.
pub(crate) fn permit(id: &str, action: &EntityUid, condition: &Value) -> Result<Policy, ProveError> {
    let json = json!({
        "effect": "permit",
        "principal": { "op": "All" },
        "action": { "op": "==", "entity": { "type": action.type_name().to_string(), "id": action.id().unescaped() } },
        "resource": { "op": "All" },
        "conditions": [{ "kind": "when", "body": condition }],
    });
    Policy::from_json(Some(PolicyId::new(id)), json)
        .map_err(|error| ProveError::Defect(format!("`{id}` cannot be asked: {error}")))
}

/// The policy with one more condition, which is looked at before its own.
pub(crate) fn assuming(policy: &Policy, assumption: &Value) -> Result<Policy, ProveError> {
    let failed = |error: String| ProveError::Defect(format!("policy `{}`: {error}", policy.id()));
    let mut json = policy.to_json().map_err(|error| failed(error.to_string()))?;
    if let Some(conditions) = json.get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.insert(0, json!({ "kind": "when", "body": assumption }));
    }
    Policy::from_json(Some(policy.id().clone()), json).map_err(|error| failed(error.to_string()))
}

/// A resource by name, with those attributes whose values are known as expressions.
pub(crate) struct Place {
    pub(crate) uid: EntityUid,
    /// What policies call it, where it has another name here.
    pub(crate) real: EntityUid,
    pub(crate) values: BTreeMap<&'static str, Value>,
}

/// What the policies allow, as one expression, of an action at a resource.
pub(crate) fn allowed<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    action: &EntityUid,
    resource: &Place,
) -> Result<Value, ProveError> {
    let (mut permits, mut forbids) = (Vec::new(), Vec::new());
    for policy in policies {
        let condition = of_policy(policy)?;
        let named = named(&condition, &entity(action), resource);
        match policy.effect() {
            cedar_policy::Effect::Permit => permits.push(named),
            cedar_policy::Effect::Forbid => forbids.push(named),
        }
    }
    Ok(all([any(permits), not(any(forbids))]))
}

/// A policy as one expression: its scope, then its conditions.
fn of_policy(policy: &Policy) -> Result<Value, ProveError> {
    let failed = |why: &str| ProveError::Defect(format!("policy `{}`: {why}", policy.id()));
    let json = policy.to_json().map_err(|error| failed(&error.to_string()))?;
    let mut parts = Vec::new();
    for variable in ["principal", "action", "resource"] {
        let scope = json.get(variable).ok_or_else(|| failed("has no scope"))?;
        parts.extend(constraint(variable, scope).map_err(|why| failed(&why))?);
    }
    for condition in json.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let body = condition.get("body").cloned().ok_or_else(|| failed("has a condition without body"))?;
        parts.push(if condition["kind"] == "unless" { not(body) } else { body });
    }
    Ok(all(parts))
}

/// One part of a scope; none where it constrains nothing.
fn constraint(variable: &str, scope: &Value) -> Result<Option<Value>, String> {
    let subject = json!({ "Var": variable });
    // A policy writes its entity plainly, what was a template's slot as an escape.
    let value = |entity: &Value| match entity.get("__entity") {
        Some(_) => json!({ "Value": entity }),
        None => json!({ "Value": { "__entity": entity } }),
    };
    match scope["op"].as_str() {
        Some("All") => Ok(None),
        Some("==") => Ok(Some(json!({ "==": { "left": subject, "right": value(&scope["entity"]) } }))),
        Some("in") => {
            let many = scope["entities"]
                .as_array()
                .map(|all| json!({ "Set": all.iter().map(value).collect::<Vec<_>>() }));
            let right = many.unwrap_or_else(|| value(&scope["entity"]));
            Ok(Some(json!({ "in": { "left": subject, "right": right } })))
        }
        Some("is") => {
            let mut is = json!({ "left": subject, "entity_type": scope["entity_type"] });
            if let Some(within) = scope.get("in") {
                is["in"] = value(&within["entity"]);
            }
            Ok(Some(json!({ "is": is })))
        }
        other => Err(format!("has a scope of the unknown form {other:?}")),
    }
}

/// The expression with `action` and `resource` named. A value that is known stands where its attribute stood: a number is then
/// a number to the solver, too.
fn named(expression: &Value, action: &Value, resource: &Place) -> Value {
    if resource.uid != resource.real && *expression == entity(&resource.real) {
        return entity(&resource.uid);
    }
    match expression {
        Value::Object(entries) => match entries.get("Var").and_then(Value::as_str) {
            Some("action") => action.clone(),
            Some("resource") => entity(&resource.uid),
            _ => value_of(entries, resource).unwrap_or_else(|| {
                entries.iter().map(|(key, value)| (key.clone(), named(value, action, resource))).collect()
            }),
        },
        Value::Array(items) => items.iter().map(|item| named(item, action, resource)).collect(),
        other => other.clone(),
    }
}

/// The value of `resource.attribute`, where it is known.
fn value_of(expression: &Map<String, Value>, resource: &Place) -> Option<Value> {
    let access = expression.get(".").filter(|access| access["left"]["Var"] == "resource")?;
    resource.values.get(access["attr"].as_str()?).cloned()
}
