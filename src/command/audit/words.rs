//! One record in one line, for people.

use serde::Serialize;
use tidegate_audit::leaf::{DecisionLeaf, Detail, Leaf};
use tidegate_schemas::dead::TENANT_UNKNOWN;

use crate::output;

/// Width of the column of kinds.
const KIND_WIDTH: usize = 10;

/// `index  time  kind  whose  task  what`.
pub(in crate::command) fn line(leaf: &Leaf) -> String {
    // What names no tenant stands under a word that is none.
    let tenant = leaf.tenant.as_ref().filter(|tenant| tenant.as_str() != TENANT_UNKNOWN);
    let whose = match (tenant, &leaf.agent) {
        (Some(tenant), Some(agent)) => format!("{tenant}/{agent}"),
        (Some(tenant), None) => tenant.to_string(),
        _ => "-".to_owned(),
    };
    let task = leaf.task.map_or_else(|| "-".to_owned(), |task| task.to_string());
    let kind = word(&leaf.kind);
    format!(
        "{:>6}  {:.3}  {kind:<KIND_WIDTH$}  {whose:<16}  {task:<36}  {}",
        leaf.index,
        leaf.time,
        what(leaf)
    )
}

/// What a record says, without whose it is.
pub(in crate::command) fn what(leaf: &Leaf) -> String {
    let mut parts = Vec::new();
    parts.extend(leaf.state.map(|state| state.as_str().to_owned()));
    parts.extend(leaf.code.map(|code| format!("({code})")));
    parts.extend(leaf.detail.as_ref().map(detail));
    parts.extend(leaf.decision.as_ref().map(decision));
    parts.extend(leaf.flags.iter().map(|flag| format!("[{}]", flag.as_str())));
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        parts.extend(leaf.source.subject.clone());
    }
    parts.join(" ")
}

/// A decision as its leaf has it.
pub(in crate::command) fn decision(leaf: &DecisionLeaf) -> String {
    let place = leaf.destination.as_ref().map(|name| format!(" → {name}")).unwrap_or_default();
    let policies =
        if leaf.policies.is_empty() { String::new() } else { format!(", by {}", leaf.policies.join(", ")) };
    let prompt =
        leaf.prompt.as_ref().map(|prompt| format!(", {}", output::prompt(prompt))).unwrap_or_default();
    format!("decided {}{place}: {}{policies}{prompt}", leaf.outcome.as_str(), leaf.sensitivity.as_str())
}

fn detail(detail: &Detail) -> String {
    match detail {
        Detail::Task { kind, class, sensitivity, stakes, replay_of, .. } => {
            let kind = kind.as_ref().map(word).unwrap_or_else(|| "unknown kind".into());
            let again = replay_of.map(|of| format!(", again what {of} was")).unwrap_or_default();
            format!(
                "{kind}, {}, declared {}, stakes {}{again}",
                class.as_str(),
                sensitivity.as_str(),
                stakes.as_str()
            )
        }
        Detail::Work { lane, target, .. } => format!("to {lane} {target};"),
        Detail::Step { reason, destination, attempts } => {
            format!("{} at {destination} after {attempts} attempts", word(reason))
        }
        Detail::Result { destination, adapter_sha256, usage, cost_usd_micros, timings, .. } => {
            // What ran nowhere used nothing.
            let Some(place) = destination else { return format!("after {} ms", timings.total_ms) };
            let cost =
                cost_usd_micros.map(|cost| format!(", {:.6} USD", cost as f64 / 1e6)).unwrap_or_default();
            let tokens = format!("{} + {} tokens", usage.input_tokens, usage.output_tokens);
            let adapter = adapter_sha256.map(|sha256| format!(", adapter {sha256}")).unwrap_or_default();
            format!("at {place}, {tokens}, {} ms{cost}{adapter}", timings.total_ms)
        }
        Detail::Attempt { attempt, phase, lane, target, status, .. } => {
            let status = status.map(|status| format!(", HTTP {status}")).unwrap_or_default();
            format!("{attempt} {} at {lane} {target}{status}", word(phase))
        }
        Detail::Review { queue, review_by, .. } => format!("waits in queue {queue} until {review_by:.0};"),
        Detail::Verdict { reviewer, action, review, .. } => {
            format!("{} by {reviewer} on {review}", word(action))
        }
        Detail::Dead { role, message, delivered } => {
            format!("{message} given up by {role} after {delivered} deliveries")
        }
        Detail::Control {
            operator, act, lane, tenant, target, letter, first, records, hold, flag, ..
        } => {
            let mut text = format!("{} by {operator}", word(act));
            text.extend(flag.as_ref().map(|flag| format!(", {flag}")));
            text.extend(lane.map(|lane| format!(", {lane} lane")));
            text.extend(target.as_ref().map(|target| format!(", {target}")));
            text.extend(tenant.as_ref().map(|tenant| format!(", tenant {tenant}")));
            text.extend(letter.as_ref().map(|letter| format!(", {letter}")));
            let range = first.zip(*records).map(|(first, records)| (first, first.saturating_add(records)));
            text.extend(range.map(|(first, end)| format!(", records {first} to {}", end.saturating_sub(1))));
            let many = records.filter(|_| first.is_none());
            text.extend(many.map(|records| format!(", {records} records")));
            text.extend(hold.map(|hold| format!(", hold {hold}")));
            text
        }
        Detail::Gap { to, reason } => format!("until {to}: {}", word(reason)),
    }
}

/// An enum's word on the wire.
pub(in crate::command) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}
