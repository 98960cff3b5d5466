//! Releases: whose task a canary decides, and whether a bundle might let more leave than another.

use serde_json::{Map, Value};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::{Canary, SHARE_BP_MAX, ShareBy};
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Task;

use crate::bundle::{Bundle, Link, Parts};
use crate::destination::DestinationSpec;
use crate::properties::Property;

mod about;
#[cfg(test)]
mod tests;

/// Actions that the prover compares, and the group that they are in.
const ASKED_ACTIONS: [&str; 4] = ["RouteLocal", "RouteCloud", "SkipReview", "Route"];
/// Annotations that it reads, or that mean nothing.
const ASKED_NOTES: [&str; 5] = ["id", "owner", "title", "cost_cap_usd_micros", "queue"];
/// Annotations that change nothing of what is decided.
const FOR_PEOPLE: [&str; 2] = ["owner", "title"];

/// A share of the tasks, by lot.
pub(crate) struct Draw<'a> {
    /// What is drawn for: what differs here is drawn apart.
    pub(crate) lot: &'a str,
    pub(crate) by: ShareBy,
    pub(crate) share_bp: u16,
}

/// Whether the canary decides about a task. A function of canary and task alone: at every router, at every step of the task.
#[must_use]
pub fn is_drawn(canary: &Canary, task: &Task) -> bool {
    // By the bundle's hash, so that not the same ones are first each time.
    let lot = canary.hash.to_string();
    drawn(&Draw { lot: &lot, by: canary.by, share_bp: canary.share_bp }, task)
}

/// Whether a task is in.
pub(crate) fn drawn(draw: &Draw<'_>, task: &Task) -> bool {
    let common = match draw.by {
        ShareBy::Tenant => return within(draw, &task.tenant, None),
        ShareBy::Workflow => &task.workflow,
        ShareBy::Session => &task.session,
    };
    match common {
        Some(common) => within(draw, &task.tenant, Some(common.as_str())),
        None => within(draw, &task.tenant, Some(&task.id.to_string())),
    }
}

/// Who is drawn at one share is drawn at every larger one: the share is only what the draw is held against.
fn within(draw: &Draw<'_>, tenant: &Name, common: Option<&str>) -> bool {
    // All and nobody need no lot.
    if [0, SHARE_BP_MAX].contains(&draw.share_bp) {
        return draw.share_bp > 0;
    }
    let drawn_by = format!("{}\n{}\n{tenant}\n{}", draw.lot, draw.by.as_str(), common.unwrap_or(""));
    let [a, b, c, d, e, f, g, h, ..] = *Digest::plain(drawn_by.as_bytes()).as_bytes();
    // 2^64 is no multiple of 10,000; what that adds to a share is beyond what can be measured.
    let point = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % u64::from(SHARE_BP_MAX);
    point < u64::from(draw.share_bp)
}

/// A difference by which a bundle might let more leave to the cloud than another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wider {
    /// In words.
    pub why: String,
    /// Whether a proof that no more may leave is an answer. It is of what policies say; of places, caps, words and promises, which
    /// the prover asks no solver about, it is none.
    pub is_provable: bool,
}

/// Why a bundle might let more leave to the cloud than another; none where it cannot. It compares texts and asks nothing, so it
/// is told of changes that are harmless too: what it does not name is equal. The prover says what is so.
#[must_use]
pub fn may_be_wider(active: &Bundle, candidate: &Bundle) -> Vec<Wider> {
    if active.hash() == candidate.hash() {
        return Vec::new();
    }
    let (before, after) = (active.parts(), candidate.parts());
    let mut found: Vec<Wider> = destinations(before, after)
        .chain(promises(before, after))
        .chain(inside(before, after))
        .chain(queues(before, after))
        .map(unprovable)
        .collect();
    let (old, new) = (&before.manifest, &after.manifest);
    let parts = [
        ("the form is another", before.format == after.format),
        ("the taxonomy is another", before.taxonomy == after.taxonomy),
        ("the schema is another", before.schema == after.schema),
        ("a task may cost more", new.cloud_cost_usd_micros_max <= old.cloud_cost_usd_micros_max),
        ("the queue of reviews is another", new.review_queue == old.review_queue),
    ];
    found.extend(parts.into_iter().filter(|(_, same)| !same).map(|(why, _)| unprovable(why.to_owned())));
    let permits: Vec<String> = statements(before, after, "permit").collect();
    let forbids = statements(after, before, "forbid");
    // What a permit failed on was denied, whatever else permits it.
    let gone: Vec<String> = statements(after, before, "permit").filter(|id| !permits.contains(id)).collect();
    let told = permits
        .into_iter()
        .map(|id| (format!("permit `{id}` is new or another"), id))
        .chain(forbids.map(|id| (format!("forbid `{id}` is gone or another"), id)))
        .chain(
            gone.into_iter()
                .map(|id| (format!("permit `{id}` is gone, and what it failed on was denied"), id)),
        );
    found.extend(told.map(|(why, id)| {
        let is_provable = [before, after].into_iter().all(|parts| is_asked_about(parts, &id));
        Wider { why, is_provable }
    }));
    found
}

/// Whether the prover is asked about all that a policy does: it is about work alone, and has no note that the prover does not read.
/// One that is not there does nothing.
fn is_asked_about(parts: &Parts, id: &str) -> bool {
    let template =
        || parts.links.iter().find(|link| link.id == id).and_then(|link| parts.templates.get(&link.template));
    let Some(policy) = parts.policies.get(id).or_else(template) else { return true };
    let named = |entity: &Value| {
        entity.get("id").and_then(Value::as_str).is_some_and(|action| ASKED_ACTIONS.contains(&action))
    };
    let action = policy.get("action");
    let one = action.and_then(|action| action.get("entity")).map(named);
    let many = action.and_then(|action| action.get("entities")).and_then(Value::as_array);
    let of_work = one.or(many.map(|all| all.iter().all(named))).unwrap_or(false);
    let notes = policy.get("annotations").and_then(Value::as_object);
    of_work && notes.is_none_or(|notes| notes.keys().all(|note| ASKED_NOTES.contains(&note.as_str())))
}

fn unprovable(why: String) -> Wider {
    Wider { why, is_provable: false }
}

/// What was promised for all tasks and is no more.
fn promises<'a>(before: &'a Parts, after: &'a Parts) -> impl Iterator<Item = String> + 'a {
    let kept = |property: &Property| {
        after.properties.iter().any(|other| (&other.id, &other.form) == (&property.id, &property.form))
    };
    let gone = before.properties.iter().filter(move |property| !kept(property));
    gone.map(|property| format!("property `{}` is gone or another", property.id))
}

fn destinations<'a>(before: &'a Parts, after: &'a Parts) -> impl Iterator<Item = String> + 'a {
    let bare = |spec: &DestinationSpec| DestinationSpec {
        owner: String::new(),
        model_owner: String::new(),
        ..spec.clone()
    };
    let known = move |spec: &DestinationSpec| before.destinations.iter().any(|one| bare(one) == bare(spec));
    let cloud = after.destinations.iter().filter(|spec| spec.lane == Lane::Cloud);
    cloud
        .filter(move |spec| !known(spec))
        .map(|spec| format!("cloud destination `{}` is new or another", spec.name))
}

/// What keeps work inside and no more does, or not as it did: what ran there may leave, where it is permitted to. Which model runs
/// there keeps nothing inside.
fn inside<'a>(before: &'a Parts, after: &'a Parts) -> impl Iterator<Item = String> + 'a {
    let bare = |spec: &DestinationSpec| DestinationSpec {
        owner: String::new(),
        model_owner: String::new(),
        model: String::new(),
        model_sha256: None,
        adapters: Vec::new(),
        ..spec.clone()
    };
    let kept = move |spec: &DestinationSpec| after.destinations.iter().any(|one| bare(one) == bare(spec));
    let local = before.destinations.iter().filter(|spec| spec.lane == Lane::Local);
    let gone = local.filter(move |spec| !kept(spec));
    let gone = gone.map(|spec| {
        format!("local destination `{}` is gone or another, so what ran there may leave", spec.name)
    });
    let permits = those(after, before, "permit", |permit| !about::is_of_the_cloud_alone(permit));
    let forbids = those(before, after, "forbid", |forbid| {
        !about::is_of_the_cloud_alone(forbid) && !about::is_of_all_places_alike(forbid)
    });
    gone.chain(permits.map(|id| format!("permit `{id}` is gone or another, so what ran inside may leave")))
        .chain(forbids.map(|id| format!("forbid `{id}` is new or another, so what ran inside may leave")))
}

/// What asks for a review in a queue that it names, and did not before: of the queues that policies ask for one is taken, so reviews
/// that there were may go to other people.
fn queues<'a>(before: &'a Parts, after: &'a Parts) -> impl Iterator<Item = String> + 'a {
    let forbids = those(before, after, "forbid", about::asks_a_queue);
    forbids
        .map(|id| format!("forbid `{id}` is new or another and names a queue, so other people may be asked"))
}

/// Ids of policies and links of this effect that the second has and the first has not, or not so.
fn statements<'a>(
    first: &'a Parts,
    second: &'a Parts,
    effect: &'static str,
) -> impl Iterator<Item = String> + 'a {
    those(first, second, effect, |policy| !about::is_inside(policy))
}

/// The same of those that are about something.
fn those<'a>(
    first: &'a Parts,
    second: &'a Parts,
    effect: &'static str,
    is_about: impl Fn(&Value) -> bool + Copy + 'a,
) -> impl Iterator<Item = String> + 'a {
    let counts = move |policy: &Value| {
        policy.get("effect").and_then(Value::as_str) == Some(effect) && is_about(policy)
    };
    let policies = second.policies.iter().filter(move |(id, policy)| {
        counts(policy) && first.policies.get(*id).map(decisive) != Some(decisive(policy))
    });
    let links = second.links.iter().filter(move |link| {
        let made_of = |parts: &'a Parts| parts.templates.get(&link.template);
        let Some(template) = made_of(second) else { return true };
        let there = first.links.iter().any(|one| makes_the_same(one, link));
        counts(template) && !(there && made_of(first).map(decisive) == Some(decisive(template)))
    });
    policies.map(|(id, _)| id.clone()).chain(links.map(|link| link.id.clone()))
}

fn makes_the_same(one: &Link, other: &Link) -> bool {
    Link { owner: String::new(), ..one.clone() } == Link { owner: String::new(), ..other.clone() }
}

/// A policy without what only people read.
fn decisive(policy: &Value) -> Value {
    let mut policy = policy.clone();
    let notes = policy.get_mut("annotations").and_then(Value::as_object_mut);
    if let Some(notes) = notes {
        let kept = |key: &String| !FOR_PEOPLE.contains(&key.as_str());
        *notes = std::mem::take(notes).into_iter().filter(|(key, _)| kept(key)).collect::<Map<_, _>>();
    }
    policy
}
