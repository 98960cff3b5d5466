//! Two decisions side by side.

use serde::Serialize;
use tidegate_policies::{DestinationSpec, Judge};
use tidegate_schemas::decision::{Considering, Decision, Outcome};
use tidegate_schemas::labels::KnownLabels;
use tidegate_schemas::render::{self, Dialect, Protocol};
use tidegate_schemas::task::Task;

/// A part of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What happens to the task.
    Outcome,
    /// Where it runs.
    Destination,
    /// The policies that determined it.
    Policies,
    /// What must happen beside it.
    Obligations,
    /// Why it was held or rejected.
    Code,
    /// The version of the prompt that it was rendered from.
    Prompt,
    /// The labels after detection.
    Labels,
    /// What was found.
    Findings,
    /// What came of looking at a destination.
    Considered,
    /// Anything else: facts, scan, sentence, bundle.
    Rest,
}

/// What differs at all. The digest of what was sent on is no part of the decision: it is random. Nor is what another bundle
/// would have decided.
pub(super) fn exactly(recorded: &Decision, judged: &Decision) -> Vec<Part> {
    let judged = &*judged.told_as(recorded);
    let mut parts = in_effect(recorded, judged);
    // What an earlier router decided is the same without the bundle's words for its labels.
    let known = !recorded.known.is_empty() && recorded.known != judged.known;
    let more = [
        (Part::Labels, recorded.labels != judged.labels || known),
        (Part::Findings, recorded.findings != judged.findings),
        (Part::Considered, recorded.considered != judged.considered),
    ];
    parts.extend(more.into_iter().filter_map(|(part, differs)| differs.then_some(part)));
    let bare = |decision: &Decision| Decision {
        content: None,
        shadow: None,
        known: KnownLabels::default(),
        ..decision.clone()
    };
    if parts.is_empty() && bare(recorded) != bare(judged) {
        parts.push(Part::Rest);
    }
    parts
}

/// What differs in what happens to the task, and why: all that two bundles can be compared by.
pub(super) fn in_effect(recorded: &Decision, judged: &Decision) -> Vec<Part> {
    let judged = &*judged.told_as(recorded);
    let parts = [
        (Part::Outcome, recorded.outcome != judged.outcome),
        (Part::Destination, recorded.destination != judged.destination),
        (Part::Policies, recorded.determining != judged.determining),
        (Part::Obligations, recorded.obligations != judged.obligations),
        (Part::Code, recorded.code != judged.code),
        (Part::Prompt, recorded.prompt != judged.prompt),
    ];
    parts.into_iter().filter_map(|(part, differs)| differs.then_some(part)).collect()
}

/// A task that may leave, and cannot be written as its provider's request, is rejected after it was judged. Rendering is a
/// pure function too, so that is done again as well.
pub(super) fn as_sent(judged: Decision, recorded: &Decision, task: &Task, judge: &Judge) -> Decision {
    let chosen = recorded.considered.iter().any(|considered| considered.verdict == Considering::Chosen);
    match (recorded.outcome, chosen, judged.outcome) {
        (Outcome::Reject, true, Outcome::Cloud) => written(judged, task, judge),
        _ => judged,
    }
}

/// The same of what another bundle decides: what did leave is known to be a request of its own destination alone.
pub(super) fn as_would_be_sent(
    judged: Decision,
    recorded: &Decision,
    task: &Task,
    judge: &Judge,
) -> Decision {
    let same = recorded.destination == judged.destination && recorded.prompt == judged.prompt;
    let left = recorded.outcome == Outcome::Cloud && same;
    if judged.outcome == Outcome::Cloud && !left { written(judged, task, judge) } else { judged }
}

/// What leaves, rejected where it cannot be written.
fn written(judged: Decision, task: &Task, judge: &Judge) -> Decision {
    let Some(destination) = &judged.destination else { return judged };
    // What cannot be rendered from its prompt was rejected for that.
    let Ok(task) = judge.rendered(task) else { return judged };
    let spec = judge.bundle().destination(&destination.name);
    let dialect = spec.map_or(Dialect::from(Protocol::OpenaiChat), DestinationSpec::dialect);
    match render::render(dialect, &destination.model, &task.input) {
        Ok(_) => judged,
        Err(refused) => Decision {
            outcome: Outcome::Reject,
            destination: None,
            code: Some(refused.code),
            sentence: refused.sentence,
            ..judged
        },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::{Value, json};
    use tidegate_schemas::decision::Decision;

    use super::{Part, exactly};

    fn decision(known: &Value) -> Decision {
        let id = "01935000-0000-7000-8000-000000000001";
        let decision = json!({
            "schema_version": 1, "id": id, "outcome": "local", "considered": [], "determining": ["permit-local"],
            "labels": {"sensitivity": "internal", "categories": ["personal"]}, "known": known,
            "facts": {
                "decision_id": id, "now": "2026-11-23T08:30:00Z", "directory": "00".repeat(32), "egress_ready": true
            },
            "scan": "recognisers", "sentence": "runs here", "bundle": "11".repeat(32), "owner": "ops"
        });
        serde_json::from_value(decision).unwrap()
    }

    #[test]
    fn a_decision_from_before_its_bundle_s_words_is_judged_the_same() {
        let (before, now) = (decision(&json!({})), decision(&json!({"categories": ["personal"]})));
        assert_eq!(exactly(&before, &now), []);
        assert_eq!(exactly(&now, &now), []);
        let other = decision(&json!({"categories": ["unknown"]}));
        assert_eq!(exactly(&other, &now), [Part::Labels], "negative control: other words differ");
        assert_eq!(exactly(&now, &before), [Part::Labels], "and words that are no longer there");
    }

    #[test]
    fn a_hold_from_before_terms_were_told_is_judged_the_same() {
        let held = |terms: &Value| {
            let mut held = serde_json::to_value(decision(&json!({}))).unwrap();
            held["obligations"] = json!([{ "obligation": "review", "queue": "default" }]);
            if !terms.is_null() {
                held["obligations"][0]["terms"] = terms.clone();
            }
            serde_json::from_value::<Decision>(held).unwrap()
        };
        let terms = |redacted: bool| held(&json!({ "place": "22".repeat(32), "redacted": redacted }));
        assert_eq!(exactly(&held(&Value::Null), &terms(true)), []);
        assert_eq!(exactly(&terms(true), &terms(true)), []);
        assert_eq!(exactly(&terms(true), &terms(false)), [Part::Obligations], "negative control");
        assert_eq!(
            exactly(&terms(true), &held(&Value::Null)),
            [Part::Obligations],
            "and what is no longer told"
        );
    }
}
