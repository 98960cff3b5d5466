//! What this process knows beside its messages: what is switched off, who was withdrawn, and what is under way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tidegate_schemas::decision::Switch;
use tidegate_schemas::ids::{Name, TaskId};
use tokio_util::sync::CancellationToken;

#[cfg(test)]
mod tests;

/// Withdrawals remembered, count. One that is forgotten costs a call whose result the stream refuses.
const CANCELED_MAX: usize = 16_384;

/// A task within the cell.
pub(crate) type Whose = (Name, TaskId);

/// Shared by the handlers and the watchers.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    off: RwLock<Arc<[Switch]>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    canceled: HashSet<Whose>,
    canceled_in_order: VecDeque<Whose>,
    /// Sequences of the messages under way.
    seated: HashSet<u64>,
    calling: HashMap<Whose, CancellationToken>,
}

/// A message under way; it leaves when dropped.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    desk: &'a Desk,
    sequence: u64,
}

/// A call under way; it leaves when dropped.
#[derive(Debug)]
pub(crate) struct Calling<'a> {
    desk: &'a Desk,
    whose: Whose,
    /// Cancelled when the task is withdrawn.
    pub(crate) withdrawn: CancellationToken,
}

// === impl Desk ===

impl Desk {
    /// Takes a message up; `None` while an earlier delivery of the same message is under way here.
    pub(crate) fn seat(&self, sequence: u64) -> Option<Seat<'_>> {
        let is_new = self.lock().seated.insert(sequence);
        // Made only where it is given away: a seat that is dropped takes the lock, and frees the other's place.
        is_new.then(|| Seat { desk: self, sequence })
    }

    /// Notes that a call is made for a task.
    pub(crate) fn call(&self, whose: Whose) -> Calling<'_> {
        let withdrawn = CancellationToken::new();
        let mut state = self.lock();
        if state.canceled.contains(&whose) {
            withdrawn.cancel();
        }
        state.calling.insert(whose.clone(), withdrawn.clone());
        Calling { desk: self, whose, withdrawn }
    }

    /// Notes a withdrawal.
    pub(crate) fn cancel(&self, whose: Whose) {
        let mut state = self.lock();
        if let Some(withdrawn) = state.calling.get(&whose) {
            withdrawn.cancel();
        }
        if state.canceled.insert(whose.clone()) {
            state.canceled_in_order.push_back(whose);
        }
        if state.canceled_in_order.len() > CANCELED_MAX
            && let Some(oldest) = state.canceled_in_order.pop_front()
        {
            state.canceled.remove(&oldest);
        }
    }

    /// Whether a task was withdrawn, as far as is remembered.
    pub(crate) fn is_canceled(&self, whose: &Whose) -> bool {
        self.lock().canceled.contains(whose)
    }

    /// What is switched off.
    pub(crate) fn off(&self) -> Arc<[Switch]> {
        self.off.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_off(&self, switches: Vec<Switch>) {
        *self.off.write().unwrap_or_else(PoisonError::into_inner) = switches.into();
    }

    /// A panic while the lock was held leaves whole sets behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.desk.lock().seated.remove(&self.sequence);
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.desk.lock().calling.remove(&self.whose);
    }
}
