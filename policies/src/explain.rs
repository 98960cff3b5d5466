//! A decision in words, for people; its JSON is the decision itself.

use std::fmt::Write as _;

use tidegate_schemas::decision::{Considered, Considering, Decision, Obligation, PromptUsed, Scan, Terms};
use tidegate_schemas::subject::Lane;

use crate::bundle::Bundle;

pub use near::{NearMiss, Unmet, near_misses};

mod near;

/// Explains a decision in a few lines: what, why, what was found, and each destination with the policies behind its verdict.
/// Titles and owners come from the bundle where it is at hand. Holds nothing of the task's text.
#[must_use]
pub fn text(decision: &Decision, bundle: Option<&Bundle>) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, decision, bundle);
    out
}

fn write_all(out: &mut String, decision: &Decision, bundle: Option<&Bundle>) -> std::fmt::Result {
    writeln!(out, "{}: {}", decision.outcome.as_str(), decision.sentence)?;
    if let Some(code) = decision.code {
        writeln!(out, "  code         {code}")?;
    }
    if let Some(place) = &decision.destination {
        writeln!(
            out,
            "  destination  {} ({}, {}, region {})",
            place.name, place.target, place.model, place.region
        )?;
        if let Some(sha256) = &place.model_sha256 {
            writeln!(out, "  model        by weights {sha256} alone")?;
        }
        if let Some(sha256) = &place.adapter_sha256 {
            writeln!(out, "  adapter      {sha256} merged into them")?;
        }
    }
    if let Some(PromptUsed { name, hash }) = &decision.prompt {
        let owner = decision.prompt_owner.as_deref().unwrap_or("unknown");
        writeln!(out, "  prompt       {name} {hash} (owner {owner})")?;
    }
    writeln!(out, "  labels       {}", labels(decision))?;
    writeln!(out, "  found        {}", findings(decision))?;
    for flag in &decision.facts.flags {
        writeln!(out, "  flag         {}", flagged(flag.as_str(), bundle))?;
    }
    for obligation in &decision.obligations {
        match obligation {
            Obligation::Review { queue, quorum, terms } => {
                match quorum {
                    1 => writeln!(out, "  must         be decided in review queue `{queue}`")?,
                    _ => {
                        writeln!(out, "  must         be approved by {quorum} reviewers of queue `{queue}`")?
                    }
                }
                if let Some(terms) = terms.filter(|_| leaves(decision)) {
                    writeln!(out, "  would leave  {}", form(terms))?;
                }
            }
            Obligation::CostCap { usd_micros_max } => {
                writeln!(out, "  must         cost at most {usd_micros_max} millionths of a US dollar")?;
            }
        }
    }
    for id in &decision.determining {
        writeln!(out, "  policy       {}", policy(id, bundle))?;
    }
    for considered in &decision.considered {
        writeln!(out, "  considered   {}", one(considered))?;
    }
    writeln!(out, "  bundle       {} (owner {})", decision.bundle, decision.owner)
}

fn leaves(decision: &Decision) -> bool {
    decision.destination.as_ref().is_some_and(|place| place.lane == Lane::Cloud)
}

fn form(terms: Terms) -> &'static str {
    if terms.redacted {
        "with tokens in place of what was found in it"
    } else {
        "as it stands, nothing replaced"
    }
}

/// Near misses in words, a line a condition. Empty where there is none.
#[must_use]
pub fn near_text(misses: &[NearMiss]) -> String {
    let mut out = String::new();
    for miss in misses {
        for Unmet { condition, saw } in &miss.conditions {
            let saw: Vec<String> = saw.iter().map(|(what, value)| format!("{what} is {value}")).collect();
            let saw = if saw.is_empty() { String::new() } else { format!(" ({})", saw.join(", ")) };
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "  nearly       {}: {}, but not {condition}{saw}",
                miss.destination, miss.policy
            );
        }
    }
    out
}

fn labels(decision: &Decision) -> String {
    let labels = &decision.labels;
    let mut text = format!("{}, stakes {}", labels.sensitivity.as_str(), labels.stakes.as_str());
    let lists = [
        ("categories", &labels.categories),
        ("regulations", &labels.regulations),
        ("residency", &labels.residency),
        ("consent", &labels.consent),
    ];
    for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let _ = write!(text, ", {what} {}", names.join("+"));
    }
    if let Some(purpose) = &labels.purpose {
        let _ = write!(text, ", purpose {purpose}");
    }
    text
}

fn findings(decision: &Decision) -> String {
    let by = match &decision.scan {
        Scan::None => "nothing looked".to_owned(),
        Scan::Recognisers => "by recognisers".to_owned(),
        Scan::Model(hash) => format!("by model {hash}"),
    };
    if decision.findings.is_empty() {
        return format!("nothing ({by})");
    }
    let found: Vec<String> =
        decision.findings.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
    format!("{} ({by})", found.join(", "))
}

/// A flag that is on; of one that the bundle does not declare its policies know nothing.
fn flagged(flag: &str, bundle: Option<&Bundle>) -> String {
    let Some(bundle) = bundle else { return flag.to_owned() };
    let declared = bundle.taxonomy().flags.iter().find(|(name, _)| name.as_str() == flag);
    match declared {
        Some((_, spec)) => format!("{flag}: {} (owner {})", spec.title, spec.owner),
        None => format!("{flag}: not declared by this bundle, so it counts for nothing"),
    }
}

fn policy(id: &str, bundle: Option<&Bundle>) -> String {
    let note = |key: &str| bundle.and_then(|bundle| bundle.annotation(id, key));
    match (note("title"), note("owner")) {
        (Some(title), Some(owner)) => format!("{id}: {title} (owner {owner})"),
        _ => id.to_owned(),
    }
}

fn one(considered: &Considered) -> String {
    let verdict = match considered.verdict {
        Considering::Chosen => "chosen",
        Considering::Permitted => "permitted, another was better",
        Considering::NeedsReview => "permitted once a person agrees",
        Considering::NeedsRedaction => "permitted once what was found is replaced, another was better",
        Considering::Forbidden => "forbidden",
        Considering::NotPermitted => "no policy permits it",
        Considering::Errored => "evaluation failed, so not permitted",
        Considering::Incapable => "cannot do this work",
        Considering::Off => "switched off",
        Considering::Wider => "wider than an earlier decision allows",
        Considering::Tried => "tried before",
        Considering::Overloaded => "its queue is too long",
        Considering::Spent => "a budget leaves no room",
        Considering::Broken => "it keeps failing and is not tried for a while",
    };
    match considered.policies.as_slice() {
        [] => format!("{}: {verdict}", considered.destination),
        some => format!("{}: {verdict} ({})", considered.destination, some.join(", ")),
    }
}
