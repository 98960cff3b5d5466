//! Folding a policy's condition: what is known of principal, action and resource is replaced by its value, and what follows
//! from that is dropped. The order of evaluation stays, so that what fails to evaluate goes on failing.
//!
//! Works on Cedar's JSON policy format (<https://docs.cedarpolicy.com/policies/json-format.html>). What an operator gives on
//! known values is asked of Cedar itself; an operator that is not known here is left as it is.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{Authorizer, Decision, Entities, EntityUid, EvalResult, Policy, PolicySet, Request};
use serde_json::{Map, Value, json};

/// Operators on two sides that cannot fail on values of the types that validation saw.
const SAFE: [&str; 10] = ["==", "!=", "in", "<", "<=", ">", ">=", "contains", "containsAll", "containsAny"];
/// The variables that a request fixes, in the order of [`Folder::new`].
const FIXED: [&str; 3] = ["principal", "action", "resource"];

/// Folds for one principal, action and resource.
pub(super) struct Folder<'a> {
    authorizer: &'a Authorizer,
    entities: &'a Entities,
    request: &'a Request,
    fixed: [Value; 3],
}

/// What Cedar answered to expressions of known values; true, false, or no answer.
pub(super) type Known = HashMap<String, Option<bool>>;

/// What a condition looks at in the context.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looks {
    /// Attributes by name.
    pub(super) at: BTreeSet<String>,
    /// The context as a whole, so that any attribute may count.
    pub(super) at_all: bool,
}

// === impl Folder ===

impl<'a> Folder<'a> {
    /// Without one of these, nothing can be folded.
    pub(super) fn new(
        authorizer: &'a Authorizer,
        entities: &'a Entities,
        request: &'a Request,
    ) -> Option<Self> {
        let fixed = [request.principal()?, request.action()?, request.resource()?].map(literal);
        Some(Self { authorizer, entities, request, fixed })
    }

    /// A condition with its scope, folded.
    pub(super) fn fold(&self, condition: &Value, known: &mut Known) -> Value {
        self.reduce(self.substitute(condition), known)
    }

    fn substitute(&self, expr: &Value) -> Value {
        match expr {
            Value::Object(map) => {
                if let Some(name) = only(map, "Var").and_then(Value::as_str) {
                    let fixed = FIXED.iter().position(|fixed| *fixed == name);
                    return fixed.and_then(|at| self.fixed.get(at)).unwrap_or(expr).clone();
                }
                // A record's keys are its author's; one may be named like an operator.
                if let Some(fields) = only(map, "Record").and_then(Value::as_object) {
                    let fields: Map<String, Value> =
                        fields.iter().map(|(key, value)| (key.clone(), self.substitute(value))).collect();
                    return json!({ "Record": fields });
                }
                if only(map, "Value").is_some() {
                    return expr.clone();
                }
                map.iter().map(|(key, value)| (key.clone(), self.substitute(value))).collect()
            }
            Value::Array(list) => list.iter().map(|value| self.substitute(value)).collect(),
            plain => plain.clone(),
        }
    }

    fn reduce(&self, expr: Value, known: &mut Known) -> Value {
        let Value::Object(mut map) = expr else { return expr };
        if map.len() != 1 {
            return Value::Object(map);
        }
        let Some((op, mut sides)) = map.iter_mut().next().map(|(op, sides)| (op.clone(), sides.take()))
        else {
            return Value::Object(map);
        };
        if op == "Value" || op == "Var" {
            return json!({ op: sides });
        }
        if let Some(sides) = sides.as_object_mut() {
            for key in ["left", "right", "arg", "if", "then", "else"] {
                if let Some(side) = sides.get_mut(key) {
                    *side = self.reduce(side.take(), known);
                }
            }
        }
        let side = |key: &str| sides.get(key).cloned().unwrap_or(Value::Null);
        match op.as_str() {
            "&&" => match (truth(&side("left")), truth(&side("right"))) {
                (Some(false), _) => constant(false),
                (Some(true), _) => side("right"),
                (_, Some(true)) => side("left"),
                (_, Some(false)) if cannot_fail(&side("left")) => constant(false),
                _ => json!({ op: sides }),
            },
            "||" => match (truth(&side("left")), truth(&side("right"))) {
                (Some(true), _) => constant(true),
                (Some(false), _) => side("right"),
                (_, Some(false)) => side("left"),
                (_, Some(true)) if cannot_fail(&side("left")) => constant(true),
                _ => json!({ op: sides }),
            },
            "if-then-else" => match truth(&side("if")) {
                Some(true) => side("then"),
                Some(false) => side("else"),
                None => json!({ op: sides }),
            },
            "." => self.attribute(&side("left"), &side("attr")).unwrap_or_else(|| json!({ op: sides })),
            "!" | "isEmpty" | "is" | "like" => self.ask(json!({ op: sides }), known),
            op if SAFE.contains(&op) => self.ask(json!({ op: sides }), known),
            _ => json!({ op: sides }),
        }
    }

    /// An attribute of an entity that is known.
    fn attribute(&self, left: &Value, name: &Value) -> Option<Value> {
        let uid = EntityUid::from_json(left.get("Value")?.clone()).ok()?;
        let value = self.entities.get(&uid)?.attr(name.as_str()?)?.ok()?;
        expression(&value)
    }

    /// The value of an expression in which everything is known; otherwise itself.
    fn ask(&self, expr: Value, known: &mut Known) -> Value {
        let sides = expr.as_object().and_then(|map| map.values().next()).and_then(Value::as_object);
        let known_sides = |sides: &Map<String, Value>| {
            ["left", "right", "arg", "in"].iter().filter_map(|key| sides.get(*key)).all(is_known)
        };
        if !sides.is_some_and(known_sides) {
            return expr;
        }
        let answer = *known.entry(expr.to_string()).or_insert_with(|| self.cedar(&expr));
        answer.map_or(expr, constant)
    }

    /// What Cedar says; nothing where it fails.
    fn cedar(&self, expr: &Value) -> Option<bool> {
        let policy = Policy::from_json(None, permit(expr)).ok()?;
        let set = PolicySet::from_policies([policy]).ok()?;
        let response = self.authorizer.is_authorized(self.request, &set, self.entities);
        let failed = response.diagnostics().errors().next().is_some();
        (!failed).then(|| response.decision() == Decision::Allow)
    }
}

/// Everything that a policy asks before it applies, its scope included, as one expression. None where a slot is open.
pub(crate) fn condition(policy: &Value) -> Option<Value> {
    let mut all = FIXED.iter().map(|var| scope(var, policy.get(*var)?)).collect::<Option<Vec<_>>>()?;
    for clause in policy.get("conditions")?.as_array()? {
        let body = clause.get("body")?.clone();
        let unless = clause.get("kind")? == "unless";
        all.push(if unless { json!({ "!": { "arg": body } }) } else { body });
    }
    all.into_iter().reduce(|left, right| json!({ "&&": { "left": left, "right": right } }))
}

fn scope(var: &str, scope: &Value) -> Option<Value> {
    let left = json!({ "Var": var });
    // A link writes the value of its slot in the form that values have.
    let entity = |uid: &Value| match uid.get("__entity") {
        Some(_) => json!({ "Value": uid }),
        None => json!({ "Value": { "__entity": uid } }),
    };
    let within = |scope: &Value| match (scope.get("entity"), scope.get("entities")) {
        (Some(uid), _) => Some(entity(uid)),
        (None, Some(uids)) => Some(json!({ "Set": uids.as_array()?.iter().map(entity).collect::<Vec<_>>() })),
        (None, None) => None,
    };
    match scope.get("op")?.as_str()? {
        "All" => Some(constant(true)),
        "==" => Some(json!({ "==": { "left": left, "right": entity(scope.get("entity")?) } })),
        "in" => Some(json!({ "in": { "left": left, "right": within(scope)? } })),
        "is" => {
            let is = json!({ "is": { "left": left, "entity_type": scope.get("entity_type")? } });
            let Some(inner) = scope.get("in") else { return Some(is) };
            let right = within(inner)?;
            Some(
                json!({ "&&": { "left": is, "right": { "in": { "left": { "Var": var }, "right": right } } } }),
            )
        }
        _ => None,
    }
}

/// Whether nothing of the request but its context is left in an expression. Quotation marks in what policies write are
/// escaped, so this text is a variable wherever it stands.
pub(super) fn is_of_context_only(residual: &str) -> bool {
    FIXED.iter().all(|name| !residual.contains(&format!("{{\"Var\":\"{name}\"}}")))
}

/// A policy that applies where the expression holds.
pub(crate) fn permit(expr: &Value) -> Value {
    let all = json!({ "op": "All" });
    let conditions = json!([{ "kind": "when", "body": expr }]);
    json!({ "effect": "permit", "principal": all, "action": all, "resource": all, "conditions": conditions })
}

/// Whether an expression is a known truth value.
pub(super) fn truth(expr: &Value) -> Option<bool> {
    expr.get("Value").and_then(Value::as_bool)
}

/// What an expression looks at in the context.
pub(super) fn looks(expr: &Value) -> Looks {
    let mut found = Looks::default();
    look(expr, &mut found);
    found
}

/// Optional attributes without which the expression is false, whatever else the context holds.
pub(super) fn needs(expr: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for part in conjuncts(expr) {
        if let Some(has) = part.get("has")
            && has.get("left").is_some_and(is_context)
        {
            found.extend(has.get("attr").and_then(Value::as_str).map(str::to_owned));
        } else if !cannot_fail(part) {
            break;
        }
    }
    found
}

/// What must hold all together.
pub(crate) fn conjuncts(expr: &Value) -> Vec<&Value> {
    match expr.get("&&").and_then(|and| Some((and.get("left")?, and.get("right")?))) {
        Some((left, right)) => [conjuncts(left), conjuncts(right)].concat(),
        None => vec![expr],
    }
}

fn look(expr: &Value, found: &mut Looks) {
    match expr {
        Value::Object(map) => {
            let of = only(map, ".").or_else(|| only(map, "has"));
            let name = of.filter(|of| of.get("left").is_some_and(is_context)).and_then(|of| of.get("attr"));
            if let Some(name) = name.and_then(Value::as_str) {
                found.at.insert(name.to_owned());
            } else if is_context(expr) {
                found.at_all = true;
            } else {
                map.values().for_each(|side| look(side, found));
            }
        }
        Value::Array(list) => list.iter().for_each(|side| look(side, found)),
        _ => {}
    }
}

/// Whether evaluating it cannot fail on a context that was validated: no arithmetic, no functions, no attributes of
/// entities, nothing unknown.
fn cannot_fail(expr: &Value) -> bool {
    let Some((op, sides)) = expr.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next())
    else {
        return false;
    };
    let safe = |key: &str| sides.get(key).is_some_and(cannot_fail);
    match op.as_str() {
        "Value" | "Var" => true,
        "Set" => sides.as_array().is_some_and(|list| list.iter().all(cannot_fail)),
        // Of the context itself: that an optional one is there was made sure of before, or validation had refused it.
        "." | "has" => sides.get("left").is_some_and(is_context),
        "!" | "isEmpty" => safe("arg"),
        "is" | "like" => safe("left") && sides.get("in").is_none(),
        "&&" | "||" => safe("left") && safe("right"),
        "if-then-else" => safe("if") && safe("then") && safe("else"),
        op => SAFE.contains(&op) && safe("left") && safe("right"),
    }
}

fn is_context(expr: &Value) -> bool {
    expr.get("Var").is_some_and(|name| name == "context")
}

fn is_known(expr: &Value) -> bool {
    match expr.as_object().filter(|map| map.len() == 1) {
        Some(map) if map.contains_key("Value") => true,
        Some(map) => map.get("Set").and_then(Value::as_array).is_some_and(|list| list.iter().all(is_known)),
        None => false,
    }
}

/// The value of the object's only key, if that is this one.
fn only<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|_| map.len() == 1)
}

fn constant(value: bool) -> Value {
    json!({ "Value": value })
}

fn literal(uid: &EntityUid) -> Value {
    let entity = json!({ "type": uid.type_name().to_string(), "id": uid.id().unescaped() });
    json!({ "Value": { "__entity": entity } })
}

fn expression(value: &EvalResult) -> Option<Value> {
    match value {
        EvalResult::Bool(value) => Some(constant(*value)),
        EvalResult::Long(value) => Some(json!({ "Value": value })),
        EvalResult::String(value) => Some(json!({ "Value": value })),
        EvalResult::EntityUid(uid) => Some(literal(uid)),
        EvalResult::Set(set) => {
            let mut list = set.iter().map(expression).collect::<Option<Vec<_>>>()?;
            list.sort_by_key(Value::to_string);
            Some(json!({ "Set": list }))
        }
        EvalResult::Record(_) | EvalResult::ExtensionValue(_) => None,
    }
}

#[cfg(test)]
mod tests;
