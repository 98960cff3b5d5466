//! What keeps work from providers for a while: budgets that leave no room, and breakers that are open. Read once a second, not for
//! each task: what a decision by it lets through, the cloud worker still keeps back by compare-and-set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidegate_bus::{Bus, KvError};
use tidegate_schemas::breaker::{BREAKERS_BUCKET, Breaker, Broken};
use tidegate_schemas::budget::ledger::Ledger;
use tidegate_schemas::budget::{BUDGETS_BUCKET, Budget, Scope, Spent};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::knowledge::Knowledge;

#[cfg(test)]
mod tests;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What keeps work from providers, whosever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gates {
    /// Budgets that leave no room.
    pub spent: Vec<Spent>,
    /// Places that keep failing.
    pub broken: Vec<Broken>,
}

impl Gates {
    /// Nothing keeps any.
    pub const OPEN: Self = Self { spent: Vec::new(), broken: Vec::new() };

    /// Budgets that leave no room for an agent, at whatever provider: as far as is known, and as the task itself was told.
    pub(crate) fn spent_of(&self, who: (&Name, &Name), told: Vec<Spent>, now: Timestamp) -> Vec<Spent> {
        let is_theirs = |spent: &&Spent| match &spent.of {
            Scope::Tenant { tenant } => tenant == who.0,
            Scope::Agent { tenant, agent } => (tenant, agent) == who,
            Scope::Provider { .. } => true,
        };
        let known = self.spent.iter().filter(is_theirs).cloned();
        let mut all: Vec<Spent> = told.into_iter().chain(known).filter(|spent| spent.until > now).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Places that are not to be tried now.
    pub(crate) fn broken(&self, now: Timestamp) -> Vec<Broken> {
        self.broken.iter().filter(|broken| broken.until > now).cloned().collect()
    }
}

/// Looks until shutdown.
pub(crate) async fn watch(bus: Bus, known: watch::Sender<Knowledge>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let directory = Arc::clone(&known.borrow().directory);
        let now = Timestamp::now();
        let (spent, broken) = (look(&bus, &directory, now).await, look_at_places(&bus, now).await);
        // What was known ends by itself, and the workers ask before each attempt.
        let unread = [spent.as_ref().err(), broken.as_ref().err()];
        for error in unread.into_iter().flatten() {
            tracing::warn!(%error, "Budgets or breakers could not be read.");
        }
        known.send_if_modified(|known| {
            let gates = Gates {
                spent: spent.unwrap_or_else(|_| known.gates.spent.clone()),
                broken: broken.unwrap_or_else(|_| known.gates.broken.clone()),
            };
            let changed = *known.gates != gates;
            known.gates = Arc::new(gates);
            changed
        });
    }
}

/// Budgets of this directory that leave no room. Ledgers of others are not read, however many have been left behind.
async fn look(bus: &Bus, directory: &Directory, now: Timestamp) -> Result<Vec<Spent>, KvError> {
    let budgets = directory.budgets();
    let keys: Vec<String> = budgets.iter().map(|budget| budget.of.key()).collect();
    let ledgers = bus.kv_values(BUDGETS_BUCKET, &keys).await?;
    let ledgers = ledgers.into_iter().filter_map(|entry| Some((entry.key, read::<Ledger>(&entry.value)?)));
    Ok(spent(&budgets, &ledgers.collect(), now))
}

/// Places that are not to be tried.
async fn look_at_places(bus: &Bus, now: Timestamp) -> Result<Vec<Broken>, KvError> {
    let breakers = bus.kv_entries(BREAKERS_BUCKET, ">").await?;
    let breakers = breakers.iter().filter_map(|entry| read::<Breaker>(&entry.value));
    Ok(breakers.filter_map(|breaker| breaker.broken(now)).collect())
}

fn read<T: serde::de::DeserializeOwned>(value: &[u8]) -> Option<T> {
    json::read(value, MESSAGE_BYTES_MAX).ok()
}

fn spent(budgets: &[Budget], ledgers: &BTreeMap<String, Ledger>, now: Timestamp) -> Vec<Spent> {
    let of = |budget: &Budget| ledgers.get(&budget.of.key())?.spent(&budget.caps, now);
    budgets.iter().filter_map(of).collect()
}
