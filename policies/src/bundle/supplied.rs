//! What the judge gives, held against what a schema asks for. What a schema leaves out is found by the engine's rehearsal. What it
//! asks for and nobody gives would let a `forbid` stand that validates, is proven to hold, and never acts on a task.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tidegate_schemas::ids::Name;

use super::Parts;
use super::fault::BundleError;
use crate::engine::WORDS;

#[cfg(test)]
mod tests;

const FILE: &str = "schema.cedarschema";

/// An entity type: its name, the attributes that its entities have, and what they are in.
type Given = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Entities, besides the vocabularies.
const ENTITIES: [Given; 12] = [
    ("Tenant", &[], &[]),
    ("Team", &[], &["Tenant"]),
    ("Role", &[], &[]),
    ("Agent", &["tenant"], &["Tenant", "Team", "Role"]),
    ("Region", &[], &[]),
    ("Pool", &[], &[]),
    ("Provider", &[], &[]),
    ("Destination", &DESTINATION, &["Region", "Pool", "Provider"]),
    ("Operator", &[], &[]),
    ("Cell", &[], &[]),
    ("ReviewQueue", &[], &[]),
    ("Reviewer", &[], &["ReviewQueue"]),
];

/// What a destination is.
pub(crate) const DESTINATION: [&str; 11] = [
    "lane",
    "target",
    "model",
    "regions",
    "certifications",
    "zero_retention",
    "trains_on_data",
    "context_tokens",
    "price_in",
    "price_out",
    "latency_ms",
];

/// Where a replay goes.
const REPLAY_TO: (&str, &[&str]) = ("ReplayTo", &["subject", "tool", "original"]);

/// Vocabularies of the taxonomy.
const TAXONOMY: [&str; 6] = ["Category", "Regulation", "Consent", "Purpose", "Certification", "Flag"];

/// What is known of a task.
pub(crate) const WORK: [&str; 26] = [
    "kind",
    "class",
    "declared",
    "sensitivity",
    "categories",
    "regulations",
    "residency",
    "tenant_residency",
    "consent",
    "purpose",
    "stakes",
    "findings",
    "scan",
    "tools",
    "tokens_in",
    "tokens_out",
    "cost_usd_micros_max",
    "latency_ms_max",
    "providers",
    "off",
    "over_cost",
    "approved",
    "egress_ready",
    "hop",
    "now",
    "flags",
];

/// A question: its action, the groups that it must be in, who asks, about what, and the facts that come with it.
struct Asked {
    action: &'static str,
    groups: &'static [&'static str],
    principals: &'static [&'static str],
    resources: &'static [&'static str],
    facts: &'static [&'static str],
}

const ASKED: [Asked; 6] = [
    Asked {
        action: "RouteLocal",
        groups: &["Route"],
        principals: &["Agent"],
        resources: &["Destination"],
        facts: &WORK,
    },
    Asked {
        action: "RouteCloud",
        groups: &["Route"],
        principals: &["Agent"],
        resources: &["Destination"],
        facts: &WORK,
    },
    Asked {
        action: "SkipReview",
        groups: &[],
        principals: &["Agent"],
        resources: &["Destination"],
        facts: &WORK,
    },
    Asked {
        action: "RedactThenCloud",
        groups: &[],
        principals: &["Agent"],
        resources: &["Destination"],
        facts: &WORK,
    },
    Asked {
        action: "Replay",
        groups: &[],
        principals: &["Operator"],
        resources: &["Tenant", "Cell"],
        facts: &["to", "records"],
    },
    Asked {
        action: "ApproveReview",
        groups: &[],
        principals: &["Reviewer"],
        resources: &["Agent"],
        facts: &["queue", "edited", "lane", "sensitivity", "stakes"],
    },
];

/// The group of both lanes.
const ROUTE: &str = "Route";

/// The first thing that a schema, in Cedar's JSON form, asks for and nobody gives, or that a policy names and nobody can be.
pub(super) fn check(parts: &Parts) -> Result<(), BundleError> {
    schema(&parts.schema)?;
    for (id, policy) in parts.policies.iter().chain(&parts.templates) {
        nobody(policy).map_or(Ok(()), |name| Err(unnamed(id, &name)))?;
    }
    let mut ids = BTreeSet::new();
    for link in &parts.links {
        if !ids.insert(&link.id) {
            let reason = format!("`{}` is the id of two links; rename one", link.id);
            return Err(BundleError::file("links.toml", None, reason));
        }
        let named = [&link.principal, &link.resource].into_iter().flatten();
        let named = named.filter_map(|text| text.strip_suffix('"')?.split_once("::\""));
        if let Some((kind, id)) = named.into_iter().find(|(kind, id)| !can_be(kind.trim(), id)) {
            return Err(unnamed(&link.id, &format!("{kind}::\"{id}\"")));
        }
    }
    Ok(())
}

fn unnamed(policy: &str, name: &str) -> BundleError {
    let reason = format!(
        "policy `{policy}` names {name}, which nobody can be: agents and teams are called `tenant/name`, tenants and roles by one name"
    );
    BundleError::policy(policy, reason)
}

/// The first agent, team, tenant or role in a policy, in Cedar's JSON form, that no directory can hold.
fn nobody(expression: &Value) -> Option<String> {
    match expression {
        Value::Object(entries) => {
            let text = |key: &str| entries.get(key).and_then(Value::as_str);
            match (text("type"), text("id")) {
                (Some(kind), Some(id)) if entries.len() == 2 && !can_be(kind, id) => {
                    Some(format!("{kind}::\"{id}\""))
                }
                _ => entries.values().find_map(nobody),
            }
        }
        Value::Array(items) => items.iter().find_map(nobody),
        _ => None,
    }
}

fn can_be(kind: &str, id: &str) -> bool {
    let is_name = |text: &str| Name::new(text).is_ok();
    match kind {
        "Agent" | "Team" => id.split_once('/').is_some_and(|(tenant, name)| is_name(tenant) && is_name(name)),
        "Tenant" | "Role" => is_name(id),
        _ => true,
    }
}

fn schema(schema: &Value) -> Result<(), BundleError> {
    let empty = Map::new();
    let namespaces = schema.as_object().unwrap_or(&empty);
    if let Some(name) = namespaces.keys().find(|name| !name.is_empty()) {
        return Err(fault(format!("`{name}` is a namespace, and the judge knows none: take it away")));
    }
    let own = namespaces.get("").and_then(Value::as_object).unwrap_or(&empty);
    let part = |key: &str| own.get(key).and_then(Value::as_object).unwrap_or(&empty);
    for (name, entity) in part("entityTypes") {
        of_entity(name, entity, part("commonTypes")).map_err(fault)?;
    }
    for (name, action) in part("actions") {
        of_action(name, action, part("commonTypes")).map_err(fault)?;
    }
    Ok(())
}

fn fault(reason: String) -> BundleError {
    BundleError::file(FILE, None, reason)
}

fn of_entity(name: &str, entity: &Value, common: &Map<String, Value>) -> Result<(), String> {
    if entity.get("tags").is_some() {
        return Err(format!("`{name}` has tags, and the judge gives none: take them away"));
    }
    if let Some(words) = entity.get("enum") {
        let known =
            WORDS.into_iter().chain([REPLAY_TO]).find(|(kind, _)| *kind == name).map(|(_, words)| words);
        let other = texts(words).find(|word| known.is_some_and(|known| !known.contains(word)));
        return match (known, other) {
            (None, _) if !TAXONOMY.contains(&name) => {
                Err(format!("`{name}` is a vocabulary that no fact is of: take it away"))
            }
            (_, Some(word)) => Err(format!("`{word}` is a `{name}` that no fact ever is: take it away")),
            _ => Ok(()),
        };
    }
    let Some((_, attributes, parents)) = ENTITIES.iter().find(|(given, _, _)| *given == name) else {
        return Err(format!("`{name}` is an entity that the judge never gives: take it away"));
    };
    let shape = match entity.get("shape") {
        Some(shape) => {
            Some(attributes_of(shape, common).ok_or_else(|| format!("`{name}` must be a record"))?)
        }
        None => None,
    };
    let mut names = shape.into_iter().flat_map(Map::keys);
    if let Some(attribute) = names.find(|attribute| !attributes.contains(&attribute.as_str())) {
        return Err(format!(
            "`{attribute}` is an attribute of `{name}` that the judge never gives, so no policy that needs it ever acts"
        ));
    }
    let mut groups = entity.get("memberOfTypes").into_iter().flat_map(texts);
    match groups.find(|group| !parents.contains(group)) {
        Some(group) => Err(format!("`{name}` is never in a `{group}`: take that away")),
        None => Ok(()),
    }
}

fn of_action(name: &str, action: &Value, common: &Map<String, Value>) -> Result<(), String> {
    let list = |pointer: &str| action.pointer(pointer).into_iter().flat_map(texts);
    let Some(asked) = ASKED.iter().find(|asked| asked.action == name) else {
        let concrete = list("/appliesTo/principalTypes").next().is_some();
        let unasked = format!("`{name}` is an action that nobody asks about: take it away");
        return if name == ROUTE && !concrete { Ok(()) } else { Err(unasked) };
    };
    let groups: Vec<&str> = action
        .get("memberOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|group| group.get("id").and_then(Value::as_str))
        .collect();
    if let Some(group) = asked.groups.iter().find(|group| !groups.contains(group)) {
        return Err(format!(
            "`{name}` must be in `{group}`: what is said and proven of both lanes is said of that"
        ));
    }
    for (what, pointer, known) in [
        ("principal", "/appliesTo/principalTypes", asked.principals),
        ("resource", "/appliesTo/resourceTypes", asked.resources),
    ] {
        if let Some(other) = list(pointer).find(|other| !known.contains(other)) {
            return Err(format!("`{other}` is no {what} that `{name}` is asked with: take it away"));
        }
    }
    let facts = match action.pointer("/appliesTo/context") {
        Some(context) => {
            Some(attributes_of(context, common).ok_or_else(|| format!("`{name}` must come with a record"))?)
        }
        None => None,
    };
    let mut names = facts.into_iter().flat_map(Map::keys);
    match names.find(|fact| !asked.facts.contains(&fact.as_str())) {
        Some(fact) => Err(format!(
            "`{fact}` is a fact that the judge never gives with `{name}`, so no policy that needs it ever acts"
        )),
        None => Ok(()),
    }
}

/// The attributes of a record, by whatever names it is reached; none where it is no record.
fn attributes_of<'a>(kind: &'a Value, common: &'a Map<String, Value>) -> Option<&'a Map<String, Value>> {
    let mut kind = kind;
    // Each name is followed once at most, so a circle ends.
    for _ in 0..=common.len() {
        if let Some(attributes) = kind.get("attributes") {
            return attributes.as_object();
        }
        let named = |key: &str| kind.get(key).and_then(Value::as_str).and_then(|name| common.get(name));
        kind = named("type").or_else(|| named("name"))?;
    }
    None
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}
