//! How a role is: ready or not and why, and what it has done, for `/readyz`, `status` and NATS micro discovery.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use crate::identity::Role;

/// Health of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    role: Role,
    started: Timestamp,
    parts: Mutex<BTreeMap<String, Option<String>>>,
    last_error: Mutex<Option<(Timestamp, String)>>,
    draining: AtomicBool,
    counters: Counters,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) in_flight: AtomicU64,
    pub(crate) handled: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) dead: AtomicU64,
}

/// A picture of a process's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// The role.
    pub role: &'static str,
    /// Whether all parts are ready and the process is not draining.
    pub ready: bool,
    /// Parts that are not ready, and why.
    pub not_ready: BTreeMap<String, String>,
    /// When the process started.
    pub started: Timestamp,
    /// The last error, and when.
    pub last_error: Option<(Timestamp, String)>,
    /// Messages held now.
    pub in_flight: u64,
    /// Messages done.
    pub handled: u64,
    /// Times a message was put off.
    pub retried: u64,
    /// Messages that had been delivered before.
    pub redelivered: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Dead letters published.
    pub dead: u64,
}

impl Health {
    /// Health of a process that has just started: it is ready once a part says so and none says otherwise.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            inner: Arc::new(Inner {
                role,
                started: Timestamp::now(),
                parts: Mutex::default(),
                last_error: Mutex::default(),
                draining: AtomicBool::new(false),
                counters: Counters::default(),
            }),
        }
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.inner.role
    }

    /// A part of the process is ready.
    pub fn ready(&self, part: &str) {
        lock(&self.inner.parts).insert(part.to_owned(), None);
    }

    /// A part of the process is not ready; `why` is one sentence without content.
    pub fn not_ready(&self, part: &str, why: impl Into<String>) {
        lock(&self.inner.parts).insert(part.to_owned(), Some(why.into()));
    }

    /// Notes an error; `sentence` holds no content.
    pub fn error(&self, sentence: impl Into<String>) {
        *lock(&self.inner.last_error) = Some((Timestamp::now(), sentence.into()));
    }

    /// The process is going away.
    pub fn draining(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    /// How things are now.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let parts = lock(&self.inner.parts).clone();
        let known = !parts.is_empty();
        let not_ready: BTreeMap<_, _> =
            parts.into_iter().filter_map(|(part, why)| Some((part, why?))).collect();
        let counters = &self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HealthReport {
            role: self.inner.role.as_str(),
            ready: known && not_ready.is_empty() && !self.inner.draining.load(Ordering::Relaxed),
            not_ready,
            started: self.inner.started,
            last_error: lock(&self.inner.last_error).clone(),
            in_flight: read(&counters.in_flight),
            handled: read(&counters.handled),
            retried: read(&counters.retried),
            redelivered: read(&counters.redelivered),
            panicked: read(&counters.panicked),
            dead: read(&counters.dead),
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }
}

/// A panic while the lock was held leaves plain data behind, which stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_part_is() {
        let health = Health::new(Role::Router);
        assert!(!health.report().ready, "nothing said yet");
        health.ready("bus");
        assert!(health.report().ready);
        health.not_ready("model", "it is loading");
        assert!(!health.report().ready);
        assert_eq!(health.report().not_ready.get("model").map(String::as_str), Some("it is loading"));
        health.ready("model");
        assert!(health.report().ready);
        health.draining();
        assert!(!health.report().ready);
    }
}
