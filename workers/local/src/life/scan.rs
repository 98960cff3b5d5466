//! Work of the pool `scan`: a model reads the task's texts, and what it found goes back to the router as a step. Where none can,
//! the step says so at once, and the task is decided without.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tidegate_engine::{EngineError, JobInput, LABEL_SCORE, Output, OutputContent, TextScan};
use tidegate_schemas::code::Code;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::scan::{self, SCAN_FINDINGS_MAX, SCAN_MS_MAX};
use tidegate_schemas::step::StepReason;
use tidegate_schemas::subject::Lane;

use super::Context;
use super::answer;
use super::work::Work;

/// Whether work is to be scanned.
pub(super) fn is_scan(work: &Work) -> bool {
    scan::is_scan(Lane::Local, &work.pool)
}

/// Why it cannot be scanned here, or not any more.
pub(super) fn no_go(work: &Work, context: &Context<'_>) -> Option<StepReason> {
    let models = context.models;
    let pinned = work.destination.model_sha256;
    let code = if context.off.iter().any(|switch| switch.covers(&work.tenant, &work.destination)) {
        Code::LaneOff
    } else if !models.scan {
        Code::NoCapableDestination
    } else if pinned.is_some() && pinned != models.scan_sha256 {
        Code::WrongModel
    } else if waited_too_long(work, context.now) {
        Code::Overloaded
    } else {
        return None;
    };
    Some(StepReason::ScanFailed { code })
}

/// Whether it is better decided without a scan than later.
pub(super) fn waited_too_long(work: &Work, now: Timestamp) -> bool {
    now.duration_since(work.published) > longest()
}

/// When the scan must have ended.
pub(super) fn deadline(work: &Work, now: Timestamp) -> Timestamp {
    now.checked_add(longest()).unwrap_or(work.hop.deadline).min(work.hop.deadline)
}

/// How long a scan may wait, and then take.
pub(crate) fn longest() -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(SCAN_MS_MAX).unwrap_or(i64::MAX))
}

/// Every text of the work.
pub(super) fn ask(work: &Work) -> JobInput {
    JobInput::Scan { texts: work.local.input.texts().into_iter().map(str::to_owned).collect() }
}

/// What the router is told of a scan that ended.
pub(super) fn ended(output: &Output) -> StepReason {
    let OutputContent::Scanned(texts) = &output.content else {
        return StepReason::ScanFailed { code: Code::ModelFailed };
    };
    match (output.model.sha256.parse::<Digest>(), counted(texts)) {
        (Ok(model), Some(findings)) => StepReason::Scanned { model, findings },
        _ => StepReason::ScanFailed { code: Code::ModelFailed },
    }
}

/// What the router is told of a scan that did not.
pub(super) fn failed(error: &EngineError) -> StepReason {
    StepReason::ScanFailed { code: answer::code(error) }
}

/// Findings by entity. None where a text could not be read: nobody can say that nothing is in it.
pub(crate) fn counted(texts: &[TextScan]) -> Option<BTreeMap<Name, u32>> {
    let mut counts = BTreeMap::new();
    for text in texts {
        let TextScan::Read(spans) = text else { return None };
        for span in spans.iter().filter(|span| span.score >= LABEL_SCORE) {
            let count: &mut u32 = counts.entry(Name::new(&span.entity).ok()?).or_default();
            *count = count.saturating_add(1);
        }
    }
    (counts.len() <= SCAN_FINDINGS_MAX).then_some(counts)
}
