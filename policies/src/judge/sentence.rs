//! The one plain sentence of a decision. It names policies, destinations and counts; never the task.

use std::collections::BTreeMap;

use tidegate_schemas::budget::Spent;
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Considered, Considering, Destination};

use super::Notes;

/// Policies that a sentence names; the rest is counted.
const NAMED_MAX: usize = 3;

pub(super) const UNKNOWN_PRINCIPAL: &str =
    "the directory does not know this tenant or agent; add it with `tidegate agent add`";
pub(super) const SCANNED_FIRST: &str =
    "a model scans its texts first, on the local lane; then it is decided anew";
pub(super) const JUDGE_FAILED: &str =
    "the task could not be put before the policies, so nothing is permitted";

pub(super) fn quota(most: u64) -> String {
    format!("the tenant has more than its {most} tasks waiting or running; submit it under a new id later")
}

pub(super) fn dispatched(destination: Option<&Destination>, policies: &[String]) -> String {
    let place = destination.map_or_else(String::new, |d| format!("at `{}` on the {} lane", d.name, d.lane));
    format!("it runs {place}, permitted by {}", list(policies.iter().map(|id| format!("`{id}`")).collect()))
}

pub(super) fn redacted(destination: Option<&Destination>, policies: &[String]) -> String {
    let place = destination.map_or_else(String::new, |d| format!(" at `{}`", d.name));
    let by = list(policies.iter().map(|id| format!("`{id}`")).collect());
    format!(
        "what was found in it is replaced by tokens first; what is left may run{place}, permitted by {by}"
    )
}

pub(super) fn held(policies: &[String], notes: &Notes) -> String {
    match policies {
        [] => "a person must agree first: no policy permits it to run without a review".to_owned(),
        some => {
            format!("a person must agree first: {}", list(some.iter().map(|id| named(id, notes)).collect()))
        }
    }
}

pub(super) fn spent(budgets: &[Spent]) -> String {
    let named = list(budgets.iter().map(ToString::to_string).collect());
    if Spent::last_for_ever(budgets) {
        return format!(
            "a budget can never have room for it: {named}; ask for less, or have the limit raised"
        );
    }
    format!("a budget leaves no room for it: {named}; submit it under a new id later")
}

pub(super) fn rejected(code: Code, all: &[Considered], notes: &Notes) -> String {
    let because = blamed(code, all, notes);
    match code {
        Code::Overloaded => {
            "the queues of all destinations that may run it are longer than it can wait; submit it under a new id later"
                .to_owned()
        },
        Code::LaneOff => format!("every destination that may run it is switched off{because}"),
        Code::JudgeFailed => format!("a policy could not be evaluated, so nothing is permitted{because}"),
        Code::ProviderUnavailable if all.iter().any(|c| c.verdict == Considering::Broken) => {
            "every destination that may run it keeps failing and is not tried for a while; submit it under a new id later"
                .to_owned()
        }
        Code::ProviderUnavailable => "every destination that may run it was tried and failed".to_owned(),
        Code::PolicyDenied if because.is_empty() => {
            let wider = all.iter().any(|c| c.verdict == Considering::Wider);
            let kept = if wider { "; an earlier decision keeps it on the local lane" } else { "" };
            format!("no policy permits any destination{kept}")
        }
        Code::PolicyDenied => format!("policies permit no destination{because}"),
        _ => "no destination can do this kind of work with these inputs; see its kind, tools, schema, stream and length"
            .to_owned(),
    }
}

/// The policies behind a rejection, those that stop most destinations first.
fn blamed(code: Code, all: &[Considered], notes: &Notes) -> String {
    let verdict = match code {
        Code::LaneOff => Considering::Off,
        Code::JudgeFailed => Considering::Errored,
        Code::PolicyDenied => Considering::Forbidden,
        _ => return String::new(),
    };
    let mut stopped: BTreeMap<&str, usize> = BTreeMap::new();
    for id in all.iter().filter(|c| c.verdict == verdict).flat_map(|c| &c.policies) {
        *stopped.entry(id).or_default() += 1;
    }
    if stopped.is_empty() {
        return String::new();
    }
    let mut by_count: Vec<(&str, usize)> = stopped.into_iter().collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    format!(": {}", list(by_count.into_iter().map(|(id, _)| named(id, notes)).collect()))
}

fn named(id: &str, notes: &Notes) -> String {
    match notes.get(id) {
        Some(note) if !note.title.is_empty() => format!("`{id}` ({})", note.title),
        _ => format!("`{id}`"),
    }
}

fn list(mut items: Vec<String>) -> String {
    let more = items.len().saturating_sub(NAMED_MAX);
    items.truncate(NAMED_MAX);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", items.join(", "))
}
