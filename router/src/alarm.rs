//! What a person must mend: policies that cannot be evaluated. They permit nothing meanwhile, and the decision on record names
//! them; this tells the operator at once.

use std::collections::BTreeSet;

use tidegate_schemas::decision::{Considering, Decision};
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::metric;

/// Raises the alarm where the decision that goes with a message met a policy that failed.
pub(crate) fn raise(headers: &Headers) {
    let Some((decision, policies)) = failed(headers) else { return };
    metrics::counter!(metric::POLICIES_FAILED).increment(1);
    tracing::error!(
        decision = %decision.id,
        bundle = %decision.bundle,
        owners = %decision.owners(),
        ?policies,
        "A policy cannot be evaluated, so what it is asked about is denied; mend it."
    );
}

/// The decision, and the policies that failed in it.
pub(crate) fn failed(headers: &Headers) -> Option<(Decision, BTreeSet<String>)> {
    let text = headers.get(header::DECISION)?;
    let decision: Decision =
        text.contains("\"errored\"").then(|| serde_json::from_str(text).ok()).flatten()?;
    let errored = decision.considered.iter().filter(|other| other.verdict == Considering::Errored);
    let policies: BTreeSet<String> = errored.flat_map(|other| other.policies.clone()).collect();
    (!policies.is_empty()).then_some((decision, policies))
}
