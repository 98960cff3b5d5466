//! JSON Schemas of every payload, generated from the types. `schemas/json/` holds them; a test fails when they are stale.

use schemars::schema_for;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// File name and schema of each payload type.
#[must_use]
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("task.json", schema_for!(crate::task::TaskWire).to_value()),
        ("task.chat.json", schema_for!(crate::task::Chat).to_value()),
        ("task.extract.json", schema_for!(crate::task::Extract).to_value()),
        ("task.classify.json", schema_for!(crate::task::Classify).to_value()),
        ("task.embed.json", schema_for!(crate::task::Embed).to_value()),
        ("task.prompt.json", schema_for!(crate::task::Prompted).to_value()),
        ("decision.json", schema_for!(crate::decision::Decision).to_value()),
        ("work.local.json", schema_for!(crate::work::LocalWork).to_value()),
        ("work.redact.json", schema_for!(crate::work::RedactWork).to_value()),
        ("work.restore.json", schema_for!(crate::work::RestoreWork).to_value()),
        ("vault.issue.json", schema_for!(crate::vault::Issue).to_value()),
        ("vault.issued.json", schema_for!(crate::vault::Issued).to_value()),
        ("vault.resolve.json", schema_for!(crate::vault::Resolve).to_value()),
        ("vault.resolved.json", schema_for!(crate::vault::Resolved).to_value()),
        ("attempt.json", schema_for!(crate::attempt::Attempt).to_value()),
        ("step.json", schema_for!(crate::step::Step).to_value()),
        ("result.json", schema_for!(crate::result::TaskResult).to_value()),
        ("review.json", schema_for!(crate::review::Review).to_value()),
        ("verdict.json", schema_for!(crate::review::Verdict).to_value()),
        ("dead.json", schema_for!(crate::dead::DeadLetter).to_value()),
        ("state.json", schema_for!(crate::live::Transition<'_>).to_value()),
        ("delta.json", schema_for!(crate::live::Delta<'_>).to_value()),
        ("checkpoint.json", schema_for!(crate::checkpoint::SignedCheckpoint).to_value()),
        ("control.json", schema_for!(crate::control::Control).to_value()),
        ("directory.json", schema_for!(crate::directory::Directory).to_value()),
    ]
}
