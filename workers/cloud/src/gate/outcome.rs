//! What an attempt's end says of what it used, and of its destination.

use tidegate_providers::error::Wait;
use tidegate_providers::{Answer, Failure, ProviderError};
use tidegate_schemas::breaker::Health;
use tidegate_schemas::budget::Amounts;
use tidegate_schemas::result::Usage;

#[cfg(test)]
mod tests;

/// How many times what was reserved is believed of what a provider tells, count. It may count what no request shows, as a prompt of
/// its own or a dearer model that answered.
const TOLD_TIMES_MAX: u64 = 8;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) used: Used,
    pub(crate) health: Health,
}

/// What it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Used {
    /// Nothing: no byte of the request left.
    Nothing,
    /// Nobody knows: as much as was reserved.
    All,
    /// This much.
    Counted(Amounts),
}

impl Outcome {
    /// A call that was answered.
    pub(crate) fn of_answer(answer: &Answer, most: Amounts) -> Self {
        Self { used: counted(answer.usage, answer.cost_usd_micros, most), health: Health::Up }
    }

    /// A call that was not.
    pub(crate) fn of_error(error: &ProviderError, most: Amounts) -> Self {
        let ended = Self::of_failure(error.failure);
        match error.usage {
            Some(_) => Self { used: counted(error.usage, error.cost_usd_micros, most), ..ended },
            None => ended,
        }
    }

    /// An attempt that another one follows.
    pub(crate) fn of_failure(failure: Failure) -> Self {
        let asked = Used::Counted(Amounts { requests: 1, ..Amounts::default() });
        let (used, health) = match failure {
            Failure::NotPermitted(_) | Failure::Halted | Failure::Address => (Used::Nothing, Health::Unknown),
            Failure::Connect | Failure::Timeout(Wait::Connect) => (Used::Nothing, Health::Down),
            Failure::Canceled | Failure::Expired | Failure::Deadline => (Used::All, Health::Unknown),
            // A gateway's time runs out after the request was passed on, so its answer was on its way.
            Failure::Timeout(_)
            | Failure::Silent
            | Failure::Status(408 | 502 | 504)
            | Failure::Broken
            | Failure::Malformed
            | Failure::Truncated
            | Failure::InStream => (Used::All, Health::Down),
            // An error instead of an answer: nothing was generated.
            Failure::Status(500..=599) | Failure::Quota => (asked, Health::Down),
            // Too many at once says nothing of the place; it is waited out.
            Failure::Status(429) => (asked, Health::Unknown),
            Failure::Status(_) | Failure::Redirect | Failure::ContextTooLong => (asked, Health::Up),
            Failure::TooLarge | Failure::Refused => (Used::All, Health::Up),
        };
        Self { used, health }
    }
}

/// What was told, and what was reserved where it was not. A provider that tells more than [`TOLD_TIMES_MAX`] times what its request
/// can use does not count but err: that much is counted then, so that one answer cannot fill a window by itself.
fn counted(usage: Option<Usage>, cost: Option<u64>, most: Amounts) -> Used {
    let tokens = usage.map(|usage| usage.input_tokens.saturating_add(usage.output_tokens));
    let bounded = |told: Option<u64>, most: u64| {
        told.map_or(most, |told| told.min(most.saturating_mul(TOLD_TIMES_MAX)))
    };
    Used::Counted(Amounts {
        requests: 1,
        tokens: bounded(tokens, most.tokens),
        usd_micros: bounded(cost, most.usd_micros),
    })
}
