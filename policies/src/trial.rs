//! Trying a bundle's cases: do they pass, does each policy determine one, and would it be noticed if a `forbid` were gone?
//!
//! Dropping a `forbid` can only change what it determined, so only those cases are run again without it, and only until one
//! fails. A `forbid` of which the loss no case notices is a rule that the next change may lose unseen.
//!
//! What a bundle takes from the sibling that it extends is tried there: the sibling's cases are for the sibling's destinations.

use std::collections::BTreeSet;

use tidegate_schemas::ids::Name;

use crate::bundle::Bundle;
use crate::cases::{self, Bench, Ran};
use crate::cedar_tests::CedarTest;
use crate::judge::Judge;

#[cfg(test)]
mod tests;

/// What came of it.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Cases as they ran.
    pub ran: Vec<Ran>,
    /// Policies and links that determine no case, templates without a link, and prompts (`prompt <name>`) that no case
    /// renders, sorted.
    pub silent: Vec<String>,
    /// `forbid`s that were dropped, each alone, count.
    pub mutants: usize,
    /// Those that no case missed, sorted.
    pub survivors: Vec<String>,
    /// Policies, links and prompts of the sibling that the bundle extends, count. They are in force in the cases, and tried there.
    pub taken: usize,
}

/// Runs a bundle's cases, and more in Cedar's own form. `progress` hears how many steps are done, of how many.
#[must_use]
pub fn run(judge: &Judge, more: &[CedarTest], progress: &mut dyn FnMut(usize, usize)) -> Trial {
    let (bundle, bench) = (judge.bundle(), Bench::new(judge));
    let subjects = cases::subjects(judge, more);
    let (taken, own): (Vec<&str>, Vec<&str>) =
        bundle.policy_ids().into_iter().partition(|id| bundle.takes(id));
    let forbids: Vec<&str> = own.into_iter().filter(|id| forbids(bundle, id)).collect();
    let steps = subjects.len() + forbids.len();
    let mut ran = Vec::with_capacity(subjects.len());
    for subject in &subjects {
        ran.push(bench.run(subject));
        progress(ran.len(), steps);
    }
    let mut survivors = Vec::new();
    for (at, id) in forbids.iter().enumerate() {
        let mutant = judge.without(id);
        let bench = Bench::new(&mutant);
        // A case that fails anyway notices nothing.
        let concerned =
            subjects.iter().zip(&ran).filter(|(_, ran)| ran.passed() && ran.policies.contains(*id));
        if concerned.map(|(subject, _)| subject).all(|subject| bench.run(subject).passed()) {
            survivors.push((*id).to_owned());
        }
        progress(subjects.len() + at + 1, steps);
    }
    let silent = silent(bundle, &ran);
    let prompts = bundle.prompts().keys().filter(|name| bundle.takes(&prompt_id(name))).count();
    Trial { ran, silent, mutants: forbids.len(), survivors, taken: taken.len() + prompts }
}

fn forbids(bundle: &Bundle, id: &str) -> bool {
    bundle.source(id).and_then(|source| source.get("effect")).is_some_and(|effect| effect == "forbid")
}

fn silent(bundle: &Bundle, ran: &[Ran]) -> Vec<String> {
    let heard: BTreeSet<&str> = ran.iter().flat_map(|ran| &ran.policies).map(String::as_str).collect();
    let parts = bundle.parts();
    let linked: BTreeSet<&str> = parts.links.iter().map(|link| link.template.as_str()).collect();
    let templates = parts.templates.keys().map(String::as_str).filter(|id| !linked.contains(id));
    let policies = bundle.policy_ids().into_iter().filter(|id| !heard.contains(id));
    let own = templates.chain(policies).filter(|id| !bundle.takes(id));
    let tried: BTreeSet<&Name> = bundle.cases().prompts.iter().map(|case| &case.prompt).collect();
    let idle = bundle.prompts().keys().filter(|name| !tried.contains(name)).map(prompt_id);
    let mut silent: Vec<String> = own.map(str::to_owned).chain(idle.filter(|id| !bundle.takes(id))).collect();
    silent.sort_unstable();
    silent
}

/// What a prompt is called among policies.
pub(crate) fn prompt_id(name: &Name) -> String {
    format!("prompt {name}")
}

// === impl Trial ===

impl Trial {
    /// Whether everything passed, everything is covered, and no loss goes unnoticed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed().is_empty() && self.silent.is_empty() && self.survivors.is_empty()
    }

    /// Cases that did not pass.
    #[must_use]
    pub fn failed(&self) -> Vec<&Ran> {
        self.ran.iter().filter(|ran| !ran.passed()).collect()
    }
}
