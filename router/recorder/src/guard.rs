//! Guards: they hold a canary against the active bundle, by what the record says of both, and take it back where it does worse.
//!
//! Nothing is kept but the record: what a trial has come to is made from its leaves, from the act on by which it began, so another
//! recorder comes to the same. Taking back is an act on record that names the guard; promoting is never one of theirs.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_audit::{ReadError, Reader};
use tidegate_bus::{Bus, CancellationToken, Outbound, PublishError};
use tidegate_schemas::control::{ACTIVE_KEY, Act, Control, RELEASE_BUCKET};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::release::{CANDIDATES_KEY, Candidates, Guard};
use tidegate_schemas::subject::EVENTS;
use tracing::{error, warn};

use crate::shared::Shared;
use trial::Trial;

mod arms;
mod newest;
#[cfg(test)]
mod tests;
mod trial;
mod wealth;

/// Subject of the acts.
const ACTS: &str = "control.bundle.recorder";
/// How often it is looked whether there is a canary, and what is recorded where nothing says so.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks into the record: an alarm waits no longer than this, and a busy record is not read for each commit.
const PACE: Duration = Duration::from_millis(25);
/// Records read at once.
const CHUNK: usize = 2_000;

/// Where the guards of the canary stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guarded {
    /// The canary.
    pub canary: Digest,
    /// The bundle that it is held against.
    pub active: Digest,
    /// Sequence in EVENTS of the act by which it began.
    pub since: u64,
    /// Records up to this index were looked at.
    pub records: u64,
    /// Open tasks of which so many more came that they were forgotten: what became of them says nothing.
    #[serde(default)]
    pub forgotten: u64,
    /// Each guard.
    pub guards: Vec<GuardLine>,
}

/// One guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardLine {
    /// Which.
    pub guard: Guard,
    /// Whether it watches.
    pub state: GuardState,
    /// Times that tasks of both were held against each other.
    pub pairs: u64,
    /// The canary's tasks.
    pub canary: ArmLine,
    /// The active bundle's.
    pub active: ArmLine,
    /// How much of what an alarm needs was there at most, without any one tenant: 0 to 1.
    pub evidence: f64,
    /// The tenant by whose tasks alone it would be an alarm: where there are others too, one does not take a canary back from all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Name>,
}

/// Tasks that a bundle decided and that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmLine {
    /// How many counted.
    pub tasks: u64,
    /// Of how many of them it was so; of cost millionths of a US dollar, of latency milliseconds, altogether.
    pub sum: u64,
}

/// Whether a guard watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardState {
    /// It does.
    Watching,
    /// It takes the canary back.
    Alarm,
    /// It was told not to.
    Off,
}

/// Watches canaries until shutdown.
pub(crate) async fn watch(bus: Bus, shared: Shared, shutdown: CancellationToken) {
    let mut recorded = shared.follow();
    let mut watcher = Watcher { bus, shared, trial: None, looked: None };
    loop {
        watcher.look().await;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PACE) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            // With nothing to watch, what is recorded says nothing.
            changed = recorded.changed(), if watcher.trial.is_some() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

struct Watcher {
    bus: Bus,
    shared: Shared,
    trial: Option<Following>,
    looked: Option<Instant>,
}

/// A trial, and the next record that it has not seen; none before it was found where it begins.
struct Following {
    trial: Trial,
    next: Option<u64>,
}

// === impl Watcher ===

impl Watcher {
    async fn look(&mut self) {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            match in_force(&self.bus).await {
                Ok(now) => self.settle(now),
                // What was watched is watched on.
                Err(why) => warn!(why, "What is released cannot be read."),
            }
            self.looked = Some(Instant::now());
        }
        let Some(following) = self.trial.take() else { return };
        let read = self.shared.read(move |reader| Ok(following.on(reader)));
        let Some(Ok((mut following, outcome))) = read.await else {
            // It begins anew with the record, and comes to the same.
            return;
        };
        if let Err(why) = outcome {
            warn!(%why, "The record cannot be read for the guards.");
        }
        following.trial.is_still_here(Instant::now());
        for (guard, tenant) in following.trial.newly_alone() {
            error!(guard = guard.as_str(), canary = %following.trial.canary().hash, %tenant,
                "A canary does worse for one tenant alone, so no guard takes it back: look at it.");
        }
        if let Some(guard) = following.trial.alarm() {
            match take_back(&self.bus, &following.trial, guard).await {
                Ok(event) => {
                    error!(guard = guard.as_str(), canary = %following.trial.canary().hash, event,
                        "A guard takes the canary back.");
                    following.trial.told(Instant::now());
                }
                Err(error) => warn!(%error, "The canary cannot be taken back yet; trying again."),
            }
        }
        self.shared.set_guarded(Some(following.told()));
        self.trial = Some(following);
    }

    fn settle(&mut self, now: Option<Candidates>) {
        let same = |following: &Following| now.as_ref().is_some_and(|now| following.trial.is_of(now));
        if self.trial.as_ref().is_some_and(same) {
            return;
        }
        let trial = now.as_ref().and_then(Trial::of);
        self.trial = trial.map(|trial| Following { trial, next: None });
        self.shared.set_guarded(self.trial.as_ref().map(Following::told));
    }
}

// === impl Following ===

impl Following {
    /// Looks at what is recorded since; that which was seen before a failure stays seen.
    fn on(mut self, reader: &Reader) -> (Self, Result<(), ReadError>) {
        let outcome = self.read(reader);
        (self, outcome)
    }

    fn read(&mut self, reader: &Reader) -> Result<(), ReadError> {
        let mut next = match self.next {
            Some(next) => next,
            None => {
                let act = Position::new(EVENTS, self.trial.canary().since);
                match reader.at(&act)? {
                    Some(record) => record.leaf.index,
                    // What is older than what is kept is older than all that can be read.
                    None if reader.was_pruned(&act)? => 0,
                    None => return Ok(()),
                }
            }
        };
        loop {
            let records = reader.tail(next, CHUNK)?;
            for record in &records {
                self.trial.see(&record.leaf);
                next = record.leaf.index + 1;
                self.next = Some(next);
            }
            if records.len() < CHUNK {
                self.next = Some(next);
                return Ok(());
            }
        }
    }

    fn told(&self) -> Guarded {
        Guarded {
            canary: self.trial.canary().hash,
            active: self.trial.active(),
            since: self.trial.canary().since,
            records: self.next.unwrap_or(0),
            forgotten: self.trial.forgotten(),
            guards: self.trial.lines(),
        }
    }
}

// === impl GuardLine ===

impl GuardLine {
    fn off(guard: Guard) -> Self {
        let (canary, active) = (ArmLine::default(), ArmLine::default());
        Self { guard, state: GuardState::Off, pairs: 0, canary, active, evidence: 0.0, alone: None }
    }
}

/// What is released; why it cannot be told.
async fn in_force(bus: &Bus) -> Result<Option<Candidates>, &'static str> {
    let value = async |key| {
        let entry = bus.kv_get(RELEASE_BUCKET, key).await.map_err(|_| "the bucket does not answer")?;
        Ok::<_, &'static str>(entry.map(|entry| entry.value))
    };
    let read = |_| "it has another form";
    let active = value(ACTIVE_KEY).await?.map(|value| serde_json::from_slice(&value)).transpose();
    let left = value(CANDIDATES_KEY).await?.map(|value| serde_json::from_slice(&value)).transpose();
    Ok(Candidates::in_force(active.map_err(read)?, left.map_err(read)?))
}

/// Publishes the act; its sequence. Another recorder that comes to the same says nothing new; what no router did in time is said
/// again.
async fn take_back(bus: &Bus, trial: &Trial, guard: Guard) -> Result<u64, PublishError> {
    let canary = trial.canary();
    let act = Act::BundleRollback { from: canary.hash, guard: Some(guard), since: Some(canary.since) };
    let reason = trial.reason(guard);
    let control = Control { schema_version: 1, act, reason };
    let message = Outbound::new(ACTS, serde_json::to_vec(&control).unwrap_or_default())
        .with_id(format!("guard/{}/{}/{}", canary.since, canary.hash, trial.attempts()))
        .with_headers(Headers::new().with("content-type", "application/json"));
    Ok(bus.publish(message).await?.sequence)
}
