//! What a call that gave no answer means for its task.

use tidegate_providers::{Failure, ProviderError};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::step::StepReason;

use super::Shut;

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fate {
    /// The task has failed.
    Failed(Refused),
    /// The router decides anew, never wider.
    Back(StepReason),
    /// The task was withdrawn; the router has ended it.
    Withdrawn,
    /// The shell could not do what was asked; the message comes again.
    Again,
}

pub(super) fn of(error: &ProviderError, shut: Option<&Shut>) -> Fate {
    let code = error.failure.code();
    let back = |code| Fate::Back(StepReason::Fallback { code });
    let failed = |sentence: String| Fate::Failed(Refused::new(code, sentence));
    match error.failure {
        Failure::Canceled => Fate::Withdrawn,
        Failure::Halted => match shut {
            Some(Shut::Off) => Fate::Back(StepReason::Off),
            Some(Shut::Spent(budget)) => Fate::Back(StepReason::Spent { budget: budget.clone() }),
            Some(Shut::Exhausted | Shut::Broken) => back(Code::ProviderUnavailable),
            None => Fate::Again,
        },
        Failure::Expired => Fate::Back(StepReason::Expired),
        // Signed by the router for an endpoint that this worker does not have: the task is not at fault.
        Failure::NotPermitted(_) => back(code),
        // Nobody may be streamed a second beginning; and refused content is never tried elsewhere.
        failure if error.published && failure.is_transient() => failed(
            "the answer broke off after part of it was streamed; submit the task under a new id".to_owned(),
        ),
        Failure::Address | Failure::Quota => back(code),
        failure if failure.is_transient() => back(code),
        failure => failed(failure.to_string()),
    }
}

/// Why the last attempt's work goes back, as its record says it.
pub(super) fn code(error: &ProviderError, shut: Option<&Shut>) -> Code {
    match (error.failure, shut) {
        (Failure::Halted, Some(Shut::Spent(_))) => Code::BudgetSpent,
        (Failure::Halted, Some(Shut::Exhausted | Shut::Broken)) => Code::ProviderUnavailable,
        (Failure::Halted, Some(Shut::Off)) => Code::LaneOff,
        (failure, _) => failure.code(),
    }
}
