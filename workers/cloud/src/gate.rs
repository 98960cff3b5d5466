//! The gate before each attempt: whether its destination is to be tried, and whether all budgets that it counts in leave room.
//!
//! Both are counted in buckets that all workers change by compare-and-set: what an attempt can use at most is reserved before it is
//! claimed, and settled by what it did use. What cannot be counted does not leave. Where no budget limits a task and its
//! destination answers, nobody is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tidegate_bus::Bus;
use tidegate_schemas::breaker::{Admission, Attempt, BREAKERS_BUCKET, Breaker, Health, Place, State};
use tidegate_schemas::budget::ledger::{Ledger, Reserved};
use tidegate_schemas::budget::{Amounts, BUDGETS_BUCKET, Budget, Scope, Spent};
use tidegate_schemas::ids::TaskId;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::{json, metric};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::life::{Admitted, Asked};
use crate::swap::{SwapError, Unread, swap};
use outcome::{Outcome, Used};

pub(crate) mod outcome;

/// How often the breakers are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shared by the handlers of one process.
pub(crate) struct Gate {
    bus: Bus,
    /// As they were read last, by key; one that is not there is closed.
    breakers: RwLock<BTreeMap<String, Breaker>>,
    /// One at a time of this process changes a ledger, so that only processes meet each other there.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What an attempt was let through with. Dropped without a word, what it reserved stays counted.
#[derive(Debug)]
pub(crate) struct Pass {
    id: String,
    by: u64,
    /// Ledgers that it is reserved in, and whether this delivery was the first to reserve.
    reserved: Vec<(Scope, bool)>,
    place: Place,
    task: TaskId,
    is_probe: bool,
    /// The most that it can use.
    pub(crate) most: Amounts,
}

// === impl Pass ===

impl Pass {
    /// The attempt's id as its breaker knows it. Another delivery of the same work is another attempt there.
    fn attempt_id(&self) -> String {
        format!("{}/{:x}", self.id, self.by)
    }
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new(bus: Bus) -> Self {
        Self { bus, breakers: RwLock::default(), turns: Mutex::default() }
    }

    /// Asks breaker and budgets. With a pass, where both let it through.
    ///
    /// # Errors
    /// [`SwapError`]: it could not be counted, and must not leave.
    pub(crate) async fn admit(&self, asked: &Asked) -> Result<(Admitted, Option<Pass>), SwapError> {
        let mut pass = Pass {
            id: asked.reservation.clone(),
            by: asked.by,
            reserved: Vec::new(),
            place: asked.place.clone(),
            task: asked.task,
            is_probe: false,
            most: asked.most,
        };
        match self.try_place(&pass).await? {
            Admission::Go => {}
            Admission::Probe => pass.is_probe = true,
            Admission::Wait(_) => {
                let provider = asked.place.provider.to_string();
                metrics::counter!(metric::BREAKER_REFUSALS, "provider" => provider).increment(1);
                return Ok((Admitted::Broken, None));
            }
        }
        for budget in &asked.budgets {
            let reserved = self.reserve(budget, asked).await;
            let refused = match reserved {
                Ok(Reserved::Refused(spent)) => Ok((Admitted::Spent(spent), None)),
                Ok(reserved) => {
                    pass.reserved.push((budget.of.clone(), reserved == Reserved::New));
                    continue;
                }
                Err(error) => Err(error),
            };
            self.give_back(pass).await;
            if let Ok((Admitted::Spent(spent), _)) = &refused {
                tell(spent);
            }
            return refused;
        }
        Ok((Admitted::Through, Some(pass)))
    }

    /// The attempt is not made: nothing of it left.
    pub(crate) async fn give_back(&self, pass: Pass) {
        self.settle(pass, Outcome { used: Used::Nothing, health: Health::Unknown }).await;
    }

    /// The attempt has ended. What cannot be settled stays counted as it was reserved.
    pub(crate) async fn settle(&self, pass: Pass, outcome: Outcome) {
        for (scope, is_new) in &pass.reserved {
            // What another delivery reserved may have left.
            let released = matches!(outcome.used, Used::Nothing) && *is_new;
            if !released && matches!(outcome.used, Used::Nothing | Used::All) {
                continue;
            }
            let changed = self.ledger(scope, |ledger| match outcome.used {
                Used::Counted(amounts) => (ledger.settle(&pass.id, amounts), ()),
                Used::Nothing | Used::All => (ledger.release(&pass.id, pass.by), ()),
            });
            if let Err(error) = changed.await {
                warn!(budget = %scope, %error, "What an attempt used could not be settled; it counts as reserved.");
            }
        }
        if let Err(error) = self.heard(&pass, outcome.health).await {
            warn!(provider = %pass.place.provider, %error, "A breaker could not be told how an attempt went.");
        }
    }

    async fn reserve(&self, budget: &Budget, asked: &Asked) -> Result<Reserved, SwapError> {
        let now = Timestamp::now();
        self.ledger(&budget.of, |ledger| {
            let reserved = ledger.reserve(&budget.caps, &asked.reservation, asked.by, asked.most, now);
            (!matches!(reserved, Reserved::Refused(_)), reserved)
        })
        .await
    }

    /// Changes a ledger where `change` says that it did.
    async fn ledger<R>(
        &self,
        scope: &Scope,
        mut change: impl FnMut(&mut Ledger) -> (bool, R),
    ) -> Result<R, SwapError> {
        let key = scope.key();
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(key.clone()).or_default())
        };
        let changed = {
            let _turn = turn.lock().await;
            swap(&self.bus, BUDGETS_BUCKET, &key, Unread::Refuse, |before: Option<Ledger>| {
                let mut ledger = before.unwrap_or_else(|| Ledger::new(scope.clone()));
                let (changed, answer) = change(&mut ledger);
                (changed.then_some(ledger), answer)
            })
            .await
        };
        drop(turn);
        self.forget_turn(&key);
        changed
    }

    /// Lets a turn go that nobody waits for, so that as many are kept as are under way.
    fn forget_turn(&self, key: &str) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.get(key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(key);
        }
    }

    async fn try_place(&self, pass: &Pass) -> Result<Admission, SwapError> {
        let (key, now) = (pass.place.key(), Timestamp::now());
        let Some(known) = self.known(&key) else { return Ok(Admission::Go) };
        if known.state == State::Closed {
            return Ok(Admission::Go);
        }
        if let Some(broken) = known.broken(now) {
            return Ok(Admission::Wait(broken.until));
        }
        let own = pass.attempt_id();
        self.breaker(&pass.place, |breaker| breaker.admit(&own, now)).await
    }

    async fn heard(&self, pass: &Pass, health: Health) -> Result<(), SwapError> {
        let calm = self.known(&pass.place.key()).is_none_or(|known| known.is_calm());
        let says = match health {
            Health::Down => true,
            Health::Up => pass.is_probe || !calm,
            Health::Unknown => pass.is_probe,
        };
        if !says {
            return Ok(());
        }
        let (now, own) = (Timestamp::now(), pass.attempt_id());
        let attempt = Attempt { id: &own, task: pass.task, is_probe: pass.is_probe };
        let (was, is) = self
            .breaker(&pass.place, |breaker| {
                let was = breaker.state.clone();
                breaker.heard(attempt, health, now);
                (was, breaker.state.clone())
            })
            .await?;
        match (&was, &is) {
            (State::Open { .. } | State::Probing { .. }, State::Closed) => {
                info!(provider = %pass.place.provider, model = %pass.place.model, "A destination answers again; its breaker closed.");
            }
            (State::Open { .. }, _) => {}
            (_, State::Open { .. }) if health == Health::Down => {
                let provider = pass.place.provider.to_string();
                warn!(provider, model = %pass.place.model, "A destination keeps failing; its breaker opened.");
                metrics::counter!(metric::BREAKERS_OPENED, "provider" => provider).increment(1);
            }
            _ => {}
        }
        Ok(())
    }

    /// Changes a breaker, and remembers how it stands then.
    async fn breaker<R>(
        &self,
        place: &Place,
        mut change: impl FnMut(&mut Breaker) -> R,
    ) -> Result<R, SwapError> {
        let key = place.key();
        let (answer, breaker) =
            swap(&self.bus, BREAKERS_BUCKET, &key, Unread::Renew, |before: Option<Breaker>| {
                let before = before.unwrap_or_else(|| Breaker::new(place.clone()));
                let mut breaker = before.clone();
                let answer = change(&mut breaker);
                ((breaker != before).then(|| breaker.clone()), (answer, breaker))
            })
            .await?;
        self.breakers.write().unwrap_or_else(PoisonError::into_inner).insert(key, breaker);
        Ok(answer)
    }

    fn known(&self, key: &str) -> Option<Breaker> {
        self.breakers.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Reads the breakers. Where they cannot be read they stay as they were known: they are no caps.
    pub(crate) async fn look(&self) {
        let entries = match self.bus.kv_entries(BREAKERS_BUCKET, ">").await {
            Ok(entries) => entries,
            Err(error) => return warn!(%error, "The breakers could not be read."),
        };
        let read = entries.into_iter().filter_map(|entry| {
            Some((entry.key, json::read::<Breaker>(&entry.value, MESSAGE_BYTES_MAX).ok()?))
        });
        *self.breakers.write().unwrap_or_else(PoisonError::into_inner) = read.collect();
    }
}

/// Counts that a budget left no room. Who it is stands in the log, and in the step that follows.
fn tell(spent: &Spent) {
    info!(budget = %spent, "A budget leaves no room for an attempt; its work goes back.");
    let (scope, window, unit) = (spent.of.as_str(), spent.window.as_str(), spent.unit.as_str());
    metrics::counter!(metric::BUDGET_REFUSALS, "scope" => scope, "window" => window, "unit" => unit)
        .increment(1);
}

/// Keeps the breakers up to date until `stop`.
pub(crate) async fn watch(gate: Arc<Gate>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        gate.look().await;
    }
}
