//! What the judge guarantees of every question it asks, and what a destination is, as conditions.
//!
//! The analyser takes every value that the schema allows; the judge asks with fewer. Proofs rest on these bounds, and
//! `what_is_assumed_is_so` holds them against the judge's own questions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_policies::destination::{
    CONTEXT_TOKENS_MAX, COST_USD_MICROS_MAX, DestinationSpec, LATENCY_MS_MAX, PRICE_MAX,
};
use tidegate_policies::{Bundle, Taxonomy};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;

#[cfg(test)]
mod tests;

/// The questions that the judge asks about a task and a destination.
pub(crate) const ROUTES: [&str; 4] = ["RouteLocal", "RouteCloud", "SkipReview", "RedactThenCloud"];

/// What the judge guarantees of a task, whatever the destination: its numbers have limits, and labels are only raised.
pub(crate) fn of_task() -> String {
    let within = |name: &str, most: u64| format!("context.{name} >= 0 && context.{name} <= {most}");
    let limit = |name: &str, rule: String| format!("(if context has {name} then {rule} else true)");
    let raised = |low: &str, high: &[&str]| {
        let above: Vec<String> =
            high.iter().map(|word| format!("context.sensitivity == Sensitivity::\"{word}\"")).collect();
        format!("(context.declared != Sensitivity::\"{low}\" || {})", above.join(" || "))
    };
    [
        within("tokens_in", CONTEXT_TOKENS_MAX),
        within("tokens_out", CONTEXT_TOKENS_MAX),
        within("hop", u64::from(u32::MAX)),
        "context.findings >= 0".to_owned(),
        limit("cost_usd_micros_max", within("cost_usd_micros_max", COST_USD_MICROS_MAX)),
        limit("latency_ms_max", "context.latency_ms_max >= 0".to_owned()),
        raised("restricted", &["restricted"]),
        raised("confidential", &["confidential", "restricted"]),
        raised("internal", &["internal", "confidential", "restricted"]),
    ]
    .join(" && ")
}

/// What a bundle guarantees of every destination that the judge asks this question about.
pub(crate) fn of_any_place(question: &str) -> String {
    let within = |name: &str, most: u64| format!("resource.{name} >= 0 && resource.{name} <= {most}");
    let mut parts = vec![
        within("price_in", PRICE_MAX),
        within("price_out", PRICE_MAX),
        within("context_tokens", CONTEXT_TOKENS_MAX),
        within("latency_ms", LATENCY_MS_MAX),
        "(resource.price_in > 0 || resource.price_out > 0 || !context.over_cost.contains(resource))"
            .to_owned(),
    ];
    match question {
        "RouteLocal" => parts.push("resource.lane == Lane::\"local\"".to_owned()),
        "RouteCloud" | "RedactThenCloud" => parts.push("resource.lane == Lane::\"cloud\"".to_owned()),
        _ => {}
    }
    parts.join(" && ")
}

/// That `subject` has exactly what this destination has: attributes, regions, and pool or provider.
pub(crate) fn is_place(bundle: &Bundle, spec: &DestinationSpec, subject: &str) -> String {
    let taxonomy = bundle.taxonomy();
    let mut text = format!(
        "{subject}.lane == Lane::{:?} && {subject}.target == {:?} && {subject}.model == {:?}",
        spec.lane.as_str(),
        spec.target.as_str(),
        spec.model
    );
    let numbers = [
        ("context_tokens", spec.context_tokens),
        ("price_in", spec.price_in),
        ("price_out", spec.price_out),
        ("latency_ms", spec.latency_ms),
    ];
    // Writing to a string cannot fail.
    for (name, value) in numbers {
        let _ = write!(text, " && {subject}.{name} == {value}");
    }
    for (name, value) in [("zero_retention", spec.zero_retention), ("trains_on_data", spec.trains_on_data)] {
        let _ = write!(text, " && {}{subject}.{name}", if value { "" } else { "!" });
    }
    let words = |kind: &str, names: Vec<String>| match names.as_slice() {
        [] => ".isEmpty()".to_owned(),
        _ => {
            let values: Vec<String> = names.iter().map(|name| format!("{kind}::{name:?}")).collect();
            format!(" == [{}]", values.join(", "))
        }
    };
    let certifications = spec.certifications.iter().map(ToString::to_string).collect();
    let _ = write!(text, " && {subject}.certifications{}", words("Certification", certifications));
    let inside = taxonomy.within(&spec.region);
    let regions = inside.iter().map(ToString::to_string).collect();
    let _ = write!(text, " && {subject}.regions{}", words("Region", regions));
    for region in taxonomy.regions.keys() {
        let sign = if inside.contains(region) { "" } else { "!" };
        let _ = write!(text, " && {sign}({subject} in Region::{:?})", region.as_str());
    }
    for (group, name, is) in groups(bundle, spec) {
        let _ = write!(text, " && {}({subject} in {group}::{name:?})", if is { "" } else { "!" });
    }
    // What costs nothing costs no task too much.
    if spec.price_in == 0 && spec.price_out == 0 {
        let _ = write!(text, " && !context.over_cost.contains({subject})");
    }
    text
}

/// That `subject` is among the places where a task costs too much exactly when it does there, as the judge computes it.
pub(crate) fn is_over_cost(spec: &DestinationSpec, subject: &str) -> String {
    let (input, output) = (spec.price_in, spec.price_out);
    format!(
        "context.over_cost.contains({subject}) == (context has cost_usd_micros_max && context.tokens_in * {input} + context.tokens_out * {output} > context.cost_usd_micros_max * 1000000)"
    )
}

/// The pools and providers that the bundle knows, and whether the destination is in them.
fn groups(bundle: &Bundle, spec: &DestinationSpec) -> Vec<(&'static str, String, bool)> {
    let all = bundle.destinations();
    let mut found: Vec<(&'static str, String, bool)> = all
        .iter()
        .map(|other| {
            let same = other.lane == spec.lane && other.target == spec.target;
            (group(other.lane), other.target.to_string(), same)
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn group(lane: Lane) -> &'static str {
    match lane {
        Lane::Local => "Pool",
        Lane::Cloud => "Provider",
    }
}

/// The attributes of a destination as expressions. A set without members is none: Cedar takes no empty set in a policy.
pub(crate) fn values(taxonomy: &Taxonomy, spec: &DestinationSpec) -> BTreeMap<&'static str, Value> {
    let word = |kind: &str, name: &str| json!({ "Value": { "__entity": { "type": kind, "id": name } } });
    let words = |kind: &str, names: &BTreeSet<Name>| json!({ "Set": names.iter().map(|name| word(kind, name.as_str())).collect::<Vec<_>>() });
    let mut values = BTreeMap::from([
        ("lane", word("Lane", spec.lane.as_str())),
        ("target", json!({ "Value": spec.target.as_str() })),
        ("model", json!({ "Value": spec.model })),
        ("regions", words("Region", &taxonomy.within(&spec.region))),
        ("zero_retention", json!({ "Value": spec.zero_retention })),
        ("trains_on_data", json!({ "Value": spec.trains_on_data })),
        ("context_tokens", json!({ "Value": spec.context_tokens })),
        ("price_in", json!({ "Value": spec.price_in })),
        ("price_out", json!({ "Value": spec.price_out })),
        ("latency_ms", json!({ "Value": spec.latency_ms })),
    ]);
    if !spec.certifications.is_empty() {
        values.insert("certifications", words("Certification", &spec.certifications));
    }
    values
}

/// What a destination can do at all, as far as the context says what is wanted.
pub(crate) fn can(spec: &DestinationSpec) -> String {
    let kinds: Vec<String> =
        spec.kinds.iter().map(|kind| format!("context.kind == Kind::{:?}", kind.as_str())).collect();
    let tools = if spec.tools { "" } else { " && !context.tools" };
    format!(
        "({}){tools} && context.tokens_in + context.tokens_out <= {}",
        kinds.join(" || "),
        spec.context_tokens
    )
}

/// A destination as an entity, and all that it is in, in Cedar's JSON form.
pub(crate) fn entities(taxonomy: &Taxonomy, spec: &DestinationSpec) -> Vec<Value> {
    let uid = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    let value = |kind: &str, id: &str| json!({ "__entity": uid(kind, id) });
    let regions = taxonomy.within(&spec.region);
    let mut parents: Vec<Value> = regions.iter().map(|region| uid("Region", region.as_str())).collect();
    parents.push(uid(group(spec.lane), spec.target.as_str()));
    let own = json!({
        "uid": uid("Destination", spec.name.as_str()),
        "attrs": {
            "lane": value("Lane", spec.lane.as_str()),
            "target": spec.target.as_str(),
            "model": spec.model,
            "regions": regions.iter().map(|region| value("Region", region.as_str())).collect::<Vec<_>>(),
            "certifications": spec.certifications.iter().map(|c| value("Certification", c.as_str())).collect::<Vec<_>>(),
            "zero_retention": spec.zero_retention,
            "trains_on_data": spec.trains_on_data,
            "context_tokens": spec.context_tokens,
            "price_in": spec.price_in,
            "price_out": spec.price_out,
            "latency_ms": spec.latency_ms,
        },
        "parents": parents,
    });
    let groups = parents.iter().map(|parent| json!({ "uid": parent, "attrs": {}, "parents": [] }));
    std::iter::once(own).chain(groups).collect()
}

/// What makes a counterexample plain, what counts most first. Each is kept where the example can do with it.
pub(crate) const PLAIN: [&str; 25] = [
    "!(context has cost_usd_micros_max)",
    "context.over_cost.isEmpty()",
    "context.scan == Scan::\"recognisers\"",
    "context.egress_ready",
    "context.off.isEmpty()",
    "context.findings == 0",
    "context.findings <= 1",
    "context.findings == 0 || !context.categories.isEmpty()",
    "context.sensitivity == context.declared",
    "!(context has providers)",
    "!(context has latency_ms_max)",
    "!context.approved",
    "context.hop == 0",
    "!context.tools",
    "context.kind == Kind::\"chat\"",
    "context.class == Class::\"interactive\"",
    "context.purpose == Purpose::\"none\"",
    "context.tenant_residency.isEmpty()",
    "context.residency.isEmpty()",
    "context.categories.isEmpty()",
    "context.regulations.isEmpty()",
    "context.consent.isEmpty()",
    "context.stakes == Stakes::\"low\"",
    "context.sensitivity == Sensitivity::\"public\"",
    "context.tokens_in >= 1 && context.tokens_in <= 1000 && context.tokens_out >= 1 && context.tokens_out <= 1000",
];
