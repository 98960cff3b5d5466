//! What of two bundles the solver is not asked about: places as Cedar does not see them, caps, queues, redaction, who agrees, words,
//! guarantees.
//!
//! What is clearly more is told as wider; where it cannot be told whether it is more, "not wider" is not proven.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidegate_policies::destination::DestinationSpec;
use tidegate_policies::{Bundle, Taxonomy};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;

use super::{Access, Change, plain};
use crate::suite::Verdict;
use crate::world::{World, action_uid};

/// Annotation with the most that work which a policy permits may cost.
const CAP: &str = "cost_cap_usd_micros";
/// Annotation with the queue of a review.
const QUEUE: &str = "queue";
/// Annotation with how many reviewers must agree.
const QUORUM: &str = "quorum";
/// Actions by which work leaves in another form, or by a person's word, and why another rule for them may mean more of it.
const OTHER_WAYS: [(&str, &str); 2] = [
    ("RedactThenCloud", "what may leave once something is replaced in it is another"),
    ("ApproveReview", "who may let held work go on is another"),
];

/// More or less of something, in words.
enum More {
    Yes(String),
    No(String),
}

/// What is more and what is less, for certain.
pub(super) fn changes(now: &World, before: &World) -> Vec<Change> {
    let (new, old) = (&now.bundle, &before.bundle);
    let cloud = |bundle: &'_ Bundle, name: &Name| {
        bundle.destination(name).filter(|spec| spec.lane == Lane::Cloud).cloned()
    };
    let places = new.destinations().iter().filter(|spec| spec.lane == Lane::Cloud);
    let both = places.filter_map(|spec| Some((spec, cloud(old, &spec.name)?)));
    let mut found: Vec<Change> = both
        .flat_map(|(new, old)| {
            let name = new.name.to_string();
            place(new, &old).into_iter().map(move |more| change(&name, Access::Reach, more))
        })
        .collect();
    found.extend(caps(now, before).into_iter().map(|more| change("all", Access::Cost, more)));
    found
}

fn change(destination: &str, access: Access, more: More) -> Change {
    let refuted = |why| Verdict::Refuted { why, counterexample: None };
    let (not_wider, not_narrower) = match more {
        More::Yes(why) => (refuted(why), Verdict::Proven),
        More::No(why) => (Verdict::Proven, refuted(why)),
    };
    Change { destination: destination.to_owned(), access, not_wider, not_narrower }
}

/// What a cloud destination is or can, where the policies look at none of it.
fn place(new: &DestinationSpec, old: &DestinationSpec) -> Vec<More> {
    let mut found = Vec::new();
    let is_another = (&new.target, &new.model, &new.base_url, &new.protocol)
        != (&old.target, &old.model, &old.base_url, &old.protocol);
    if is_another {
        found.push(More::Yes("its provider, model, base URL or protocol is another one".to_owned()));
    }
    let mut counted = |what: &str, more: bool, less: bool| {
        if more {
            found.push(More::Yes(format!("{what} than before")));
        } else if less {
            found.push(More::No(format!("{what} no more")));
        }
    };
    let (kinds_new, kinds_old) = (&new.kinds, &old.kinds);
    counted("it takes more kinds of work", !kinds_new.is_subset(kinds_old), kinds_new != kinds_old);
    counted("it can be offered tools", new.tools && !old.tools, !new.tools && old.tools);
    counted("it can be held to a schema", new.schema && !old.schema, !new.schema && old.schema);
    counted("it can stream", new.streams && !old.streams, !new.streams && old.streams);
    counted(
        "it takes longer texts",
        new.context_tokens > old.context_tokens,
        new.context_tokens < old.context_tokens,
    );
    // What costs less is within more tasks' limits.
    let cheaper = new.price_in < old.price_in || new.price_out < old.price_out;
    counted("its work costs less, so more of it is within the limits", cheaper, new.price_in > old.price_in);
    found
}

/// Caps that rose, fell or went.
fn caps(now: &World, before: &World) -> Vec<More> {
    let new = permits(now);
    let mut found = Vec::new();
    for (policy, cap) in permits(before) {
        let Some((cap, other)) = cap.zip(new.get(&policy)) else { continue };
        match other {
            None => found.push(More::Yes(format!("`{policy}` caps the cost no more"))),
            Some(higher) if *higher > cap => {
                found.push(More::Yes(format!("the cap of `{policy}` rose from {cap} to {higher}")));
            }
            Some(lower) if *lower < cap => {
                found.push(More::No(format!("the cap of `{policy}` fell from {cap} to {lower}")));
            }
            Some(_) => {}
        }
    }
    found
}

/// What permits work in the cloud, and its cap in millionths of a US dollar.
fn permits(world: &World) -> BTreeMap<String, Option<u64>> {
    let actions = ["RouteCloud", "SkipReview"].into_iter().filter_map(action_uid);
    let all = actions.flat_map(|action| world.policies_for(&action).cloned().collect::<Vec<_>>());
    all.filter(|policy| policy.effect() == cedar_policy::Effect::Permit)
        .map(|policy| {
            let id = policy.id().to_string();
            let cap = world.bundle.annotation(&id, CAP).and_then(|cap| cap.parse().ok());
            (id, cap)
        })
        .collect()
}

/// Why it cannot be told whether access got wider.
pub(super) fn doubts(now: &World, before: &World) -> Vec<String> {
    let (new, old) = (&now.bundle, &before.bundle);
    let mut found = Vec::new();
    if raises(new.taxonomy()) != raises(old.taxonomy()) {
        found.push("the taxonomies differ in what raises labels, which is no part of a proof".to_owned());
    }
    if shape(new) != shape(old) {
        found.push(
            "the schemas differ, so what the same policy says may differ: groups of actions, attributes, types"
                .to_owned(),
        );
    }
    if new.manifest().review_queue != old.manifest().review_queue || queues(new, old) != queues(old, new) {
        found.push(
            "who is asked for a review differs: a queue is another one, or how many must agree".to_owned(),
        );
    }
    for (one, other, what) in [(new, old, "new and names"), (old, new, "gone and named")] {
        found.extend(
            asking(one, other)
                .map(|id| format!("`{id}` is {what} a queue or a quorum: other people may be asked")),
        );
    }
    found.extend(other_ways(now, before));
    let permitted = permits(now);
    for (policy, cap) in permits(before) {
        if cap.is_some() && !permitted.contains_key(&policy) {
            found.push(format!("`{policy}` is gone with its cap: what else permits its work may cost more"));
        }
    }
    let kept: BTreeMap<_, _> =
        new.properties().iter().map(|property| (&property.id, &property.form)).collect();
    let gone = old.properties().iter().filter(|property| kept.get(&property.id) != Some(&&property.form));
    found.extend(gone.map(|property| format!("property `{}` is gone, or says something else", property.id)));
    found
}

/// What of a taxonomy raises labels: everything but which regions lie in which. A region that is not known does, too.
fn raises(taxonomy: &Taxonomy) -> Taxonomy {
    let regions = taxonomy.regions.keys().map(|region| (region.clone(), BTreeSet::new())).collect();
    Taxonomy { regions, ..taxonomy.clone() }
}

/// The schema without the words of the taxonomy.
fn shape(bundle: &Bundle) -> Option<Value> {
    fn without_words(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                entries.remove("enum");
                entries.values_mut().for_each(without_words);
            }
            Value::Array(items) => items.iter_mut().for_each(without_words),
            _ => {}
        }
    }
    let mut schema = bundle.for_cedar().ok()?.schema;
    without_words(&mut schema);
    Some(schema)
}

/// Policies that no solver compares, and that are not the same: what differs in them may be more.
fn other_ways<'a>(now: &'a World, before: &'a World) -> impl Iterator<Item = String> + 'a {
    let said = |world: &World, action: &str| -> BTreeSet<String> {
        let action = action_uid(action);
        action.iter().flat_map(|action| world.policies_for(action).map(plain).collect::<Vec<_>>()).collect()
    };
    let differ = OTHER_WAYS.into_iter().filter(move |(action, _)| said(now, action) != said(before, action));
    differ
        .map(|(action, why)| format!("the policies for {action} differ, which is no part of a proof: {why}"))
}

/// Queue and quorum by policy, of those that the other bundle has, too.
fn queues<'a>(bundle: &'a Bundle, other: &Bundle) -> BTreeMap<&'a str, [Option<&'a str>; 2]> {
    let both: BTreeSet<&str> = other.policy_ids().into_iter().collect();
    let ids = bundle.policy_ids().into_iter().filter(|id| both.contains(id));
    ids.map(|id| (id, asks(bundle, id))).collect()
}

fn asks<'a>(bundle: &'a Bundle, id: &str) -> [Option<&'a str>; 2] {
    [QUEUE, QUORUM].map(|note| bundle.annotation(id, note))
}

/// Policies of one bundle that name a queue or a quorum and that the other has not.
fn asking<'a>(one: &'a Bundle, other: &Bundle) -> impl Iterator<Item = &'a str> {
    let others: BTreeSet<String> = other.policy_ids().into_iter().map(str::to_owned).collect();
    let ids = one.policy_ids().into_iter();
    ids.filter(move |id| asks(one, id).iter().any(Option::is_some) && !others.contains(*id))
}
