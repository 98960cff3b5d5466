//! A model's scan: what comes back from the pool that scans, and for how long it stays true.

use tidegate_schemas::decision::{Decision, PromptUsed};
use tidegate_schemas::digest::Salt;
use tidegate_schemas::scan::{self, ModelScan, SCAN_FINDINGS_MAX};
use tidegate_schemas::step::{ModelRead, StepReason};
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Task;

use super::context::Context;
use super::{dispatch, outgoing};

/// Whether work was sent to be scanned.
pub(super) fn is_scan(decision: &Decision) -> bool {
    decision.destination.as_ref().is_some_and(|place| scan::is_scan(place.lane, &place.target))
}

/// What the next decision knows of a model's scan, after this step of the work that `decision` sent.
///
/// A scan is believed from the local lane only, about work that was sent to be scanned, and as long as what it read is what is
/// decided about now. Whatever else comes, none is known, and none is asked for a second time.
pub(super) fn after(
    reason: &StepReason,
    lane: Lane,
    decision: &Decision,
    salt: Option<&Salt>,
    task: &Task,
    context: &Context<'_>,
) -> ModelScan {
    match reason {
        StepReason::Scanned { model, findings }
            if lane == Lane::Local
                && is_scan(decision)
                && findings.len() <= SCAN_FINDINGS_MAX
                && is_of(decision, salt, task, context) =>
        {
            ModelScan::Done { model: *model, findings: findings.clone() }
        }
        StepReason::Scanned { .. } | StepReason::ScanFailed { .. } => ModelScan::Closed,
        _ => kept(decision, task, context),
    }
}

/// A scan that an earlier decision knew, as long as the prompt makes the same text of the task.
pub(super) fn kept(before: &Decision, task: &Task, context: &Context<'_>) -> ModelScan {
    match &before.facts.model_scan {
        done @ ModelScan::Done { .. } if prompt_of(task, context) == Some(before.prompt.clone()) => {
            done.clone()
        }
        _ => ModelScan::Closed,
    }
}

/// What is known of a model's scan once who redacts has read the texts again: all that either found, where it is the same model.
pub(super) fn read_again(known: ModelScan, read: Option<&ModelRead>) -> ModelScan {
    let Some(read) = read else { return known };
    let mut findings = read.findings.clone();
    match known {
        ModelScan::Done { model, findings: earlier } if model == read.model => {
            for (entity, count) in earlier {
                let own = findings.entry(entity).or_default();
                *own = count.max(*own);
            }
        }
        // What another one found is not among what was replaced.
        ModelScan::Done { .. } => return known,
        ModelScan::Closed | ModelScan::Open => {}
    }
    ModelScan::Done { model: read.model, findings }
}

fn prompt_of(task: &Task, context: &Context<'_>) -> Option<Option<PromptUsed>> {
    let rendered = context.bench.of(task).rendered(task).ok()?;
    Some(rendered.by_prompt.as_ref().map(|by| by.prompt.clone()))
}

/// Whether the task, as it would be sent to be scanned now, is to the byte what was sent then.
fn is_of(decision: &Decision, salt: Option<&Salt>, task: &Task, context: &Context<'_>) -> bool {
    let (Some(salt), Some(place)) = (salt, &decision.destination) else { return false };
    let Ok(rendered) = context.bench.of(task).rendered(task) else { return false };
    let payload = outgoing::json(&dispatch::local_work(&rendered, &place.model));
    decision.content == Some(salt.digest(&payload))
}
