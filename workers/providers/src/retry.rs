//! When to try again: the one file that names `backoff`.
//!
//! `backoff` is unmaintained (RUSTSEC-2025-0012) and stands in this file alone. It gives the growing,
//! jittered pauses and nothing else; were it to go, this file alone would change.
//!
//! The rules: 408, 409, 429, 5xx, and connections that fail or break, are tried again (RFC 9110 §15, and the official SDKs'
//! list); a pause that the provider asks for is kept, up to 120 s; nothing is tried again past the deadline, past the
//! permitted attempts, or after text was handed on.

use std::time::{Duration, SystemTime};

use backoff::ExponentialBackoff;
use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;

#[cfg(test)]
mod tests;

/// Longest pause that a provider may ask for, milliseconds.
pub const RETRY_AFTER_MS_MAX: u64 = 120_000;
const FIRST_PAUSE_MS: u64 = 500;
const PAUSE_MS_MAX: u64 = 30_000;
/// Small enough that a later pause is always longer than an earlier one, large enough that callers part.
const JITTER: f64 = 0.25;
/// Most that is added to a pause that a provider asked for, milliseconds.
const ADDED_MS_MAX: u64 = 1_000;

/// The pauses of one call.
#[derive(Debug)]
pub struct Pauses(ExponentialBackoff);

/// What one failed attempt leaves to decide by.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// Whether the same request may succeed later.
    pub transient: bool,
    /// Whether text of the answer was handed on.
    pub published: bool,
    /// Attempts made.
    pub attempts: u32,
    /// Attempts permitted.
    pub attempts_max: u32,
    /// The pause that the provider asked for.
    pub retry_after: Option<Duration>,
    /// Time left until the deadline.
    pub left: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(FIRST_PAUSE_MS))
            .with_max_interval(Duration::from_millis(PAUSE_MS_MAX))
            .with_multiplier(2.0)
            .with_randomization_factor(JITTER)
            .with_max_elapsed_time(None)
            .build();
        Self(backoff)
    }
}

impl Pauses {
    /// How long to wait before the next attempt; none when there must not be one.
    pub fn next(&mut self, failed: Failed) -> Option<Duration> {
        if !failed.transient || failed.published || failed.attempts >= failed.attempts_max {
            return None;
        }
        let own = self.0.next_backoff()?;
        let pause = match failed.retry_after {
            Some(asked) if asked > Duration::from_millis(RETRY_AFTER_MS_MAX) => return None,
            Some(asked) => asked + own.min(Duration::from_millis(ADDED_MS_MAX)),
            None => own,
        };
        (pause < failed.left).then_some(pause)
    }
}

/// Reads `Retry-After`, seconds or an HTTP date (RFC 9110 §10.2.3), or `retry-after-ms` where it is given.
#[must_use]
pub fn retry_after(seconds_or_date: Option<&str>, millis: Option<&str>, now: SystemTime) -> Option<Duration> {
    let from_millis = millis.and_then(|text| duration(text, 1_000.0));
    from_millis.or_else(|| {
        let text = seconds_or_date?.trim();
        duration(text, 1.0).or_else(|| {
            let at = httpdate::parse_http_date(text).ok()?;
            Some(at.duration_since(now).unwrap_or_default())
        })
    })
}

/// Some providers send fractions.
fn duration(text: &str, per_second: f64) -> Option<Duration> {
    let number: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(number / per_second).ok()
}
