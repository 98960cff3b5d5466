//! Replays as the record keeps them: what each publishes, and how far it is. Not part of the log: a cursor moves, and what a
//! replay did is told by control records.

use jiff::Timestamp;
use redb::{ReadableTable as _, TableDefinition, TableError};
use serde::{Deserialize, Serialize};
use tidegate_schemas::ids::Name;
use tidegate_schemas::replay::{Pace, ReplayTo};
use uuid::Uuid;

use crate::error::{AppendError, Failure, ReadError};
use crate::plan::PlanHead;
use crate::read::Reader;
use crate::store::{Store, write};

/// id → the replay, as JSON.
const REPLAYS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("replays");
/// Replays that are kept; of more, the oldest that ended are forgotten.
const KEPT: usize = 200;

/// One replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// What is published.
    pub plan: PlanHead,
    /// Who wanted it.
    pub operator: Name,
    /// Sequence in EVENTS of the act that began it.
    pub event: u64,
    /// Where the records are published.
    pub target: ReplayTo,
    /// How fast.
    pub pace: Pace,
    /// When it began.
    pub begun: Timestamp,
    /// Records of the plan that are done.
    pub done: u64,
    /// Of these, records published.
    pub published: u64,
    /// Of these, records left out: their message is lost, or is none that can be published there.
    pub skipped: u64,
    /// Of these, records left out because they were erased.
    #[serde(default)]
    pub erased: u64,
    /// Of these, records left out because retention took their messages away.
    #[serde(default)]
    pub pruned: u64,
    /// Last sequence in the stream REPLAY that is known to be the replay's.
    pub last: u64,
    /// Where it stands.
    pub state: ReplayState,
    /// Why it waits, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

/// Where a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It runs, or goes on as soon as it can.
    Running,
    /// All of it is published.
    Done,
    /// An operator cancelled it.
    Cancelled,
    /// The record no longer holds what was planned.
    Stale,
}

// === impl Store ===

impl Store {
    /// Keeps where a replay stands; durable when it returns.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was kept then, and the store must be opened anew.
    pub fn keep(&mut self, replay: &Replay) -> Result<(), AppendError> {
        let text = serde_json::to_vec(replay)
            .map_err(|error| AppendError::Broken { what: format!("a replay cannot be written: {error}") })?;
        let txn = write(self.open_file())?;
        {
            let mut table = txn.open_table(REPLAYS).map_err(Failure::from)?;
            table.insert(replay.plan.id.as_bytes(), text.as_slice()).map_err(Failure::from)?;
            let mut ended = Vec::new();
            let mut count = 0;
            for row in table.iter().map_err(Failure::from)? {
                let (id, value) = row.map_err(Failure::from)?;
                count += 1;
                if read(value.value()).is_none_or(|replay| replay.state != ReplayState::Running) {
                    ended.push(*id.value());
                }
            }
            // Ids are UUIDv7: the first are the oldest.
            for id in ended.into_iter().take(usize::saturating_sub(count, KEPT)) {
                table.remove(&id).map_err(Failure::from)?;
            }
        }
        Ok(txn.commit().map_err(Failure::from)?)
    }
}

// === impl Reader ===

impl Reader {
    /// Replays, the oldest first.
    ///
    /// # Errors
    /// [`ReadError::Broken`] when the file cannot be read.
    pub fn replays(&self) -> Result<Vec<Replay>, ReadError> {
        let txn = self.begin()?;
        let table = match txn.open_table(REPLAYS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(Failure::from(error).into()),
        };
        let mut found = Vec::new();
        for row in table.iter().map_err(Failure::from)? {
            let (_, value) = row.map_err(Failure::from)?;
            found.extend(read(value.value()));
        }
        Ok(found)
    }

    /// One replay.
    ///
    /// # Errors
    /// As [`Self::replays`].
    pub fn replay(&self, id: Uuid) -> Result<Option<Replay>, ReadError> {
        Ok(self.replays()?.into_iter().find(|replay| replay.plan.id == id))
    }
}

fn read(value: &[u8]) -> Option<Replay> {
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::fixture::{at, road, store};
    use crate::plan::{Plan, PlanError};
    use crate::read::Filter;

    fn replay(plan: PlanHead, state: ReplayState) -> Replay {
        Replay {
            plan,
            operator: Name::new("olga").unwrap(),
            event: 1,
            target: ReplayTo::Subject,
            pace: Pace::Rate { per_second: 100 },
            begun: at(0),
            done: 0,
            published: 0,
            skipped: 0,
            erased: 0,
            pruned: 0,
            last: 0,
            state,
            waits: None,
        }
    }

    #[test]
    fn a_plan_comes_out_the_same_later_and_not_from_another_record() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        store.append(&road(5)).unwrap();
        let reader = store.reader();
        let plan = Plan::make(&reader, Filter::default(), store.records(), Uuid::now_v7(), at(0)).unwrap();
        assert_eq!(plan.indices.len(), 15);
        store.append(&road(9)).unwrap();
        assert_eq!(Plan::again(&reader, &plan.head, at(0)).unwrap(), plan, "what came later is not in it");

        let file = dir.path().join("plan.json");
        plan.write(&file).unwrap();
        assert_eq!(Plan::read(&file).unwrap(), plan);
        let mut changed = plan.clone();
        changed.indices.pop();
        std::fs::write(&file, serde_json::to_vec(&changed).unwrap()).unwrap();
        assert!(matches!(Plan::read(&file), Err(PlanError::Malformed { .. })), "a list that was changed");
        let other = PlanHead { upto: 3, ..plan.head.clone() };
        assert!(matches!(Plan::again(&reader, &other, at(0)), Err(PlanError::Stale)));
        let beyond = PlanHead { upto: 1_000, ..plan.head };
        assert!(matches!(Plan::again(&reader, &beyond, at(0)), Err(PlanError::Stale)), "an older copy");
    }

    #[test]
    fn replays_are_kept_and_the_oldest_that_ended_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        assert_eq!(store.reader().replays().unwrap(), [], "a record without any");
        let plan = Plan::make(&store.reader(), Filter::default(), 0, Uuid::nil(), at(0)).unwrap();
        let numbered = |n: u128| PlanHead { id: Uuid::from_u128(n), ..plan.head.clone() };
        let running = replay(numbered(1), ReplayState::Running);
        store.keep(&running).unwrap();
        store.keep(&Replay { done: 7, ..running.clone() }).unwrap();
        assert_eq!(store.reader().replay(running.plan.id).unwrap().unwrap().done, 7, "the last word counts");
        for n in 2..=KEPT as u128 + 5 {
            store.keep(&replay(numbered(n), ReplayState::Done)).unwrap();
        }
        let kept = store.reader().replays().unwrap();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.first().unwrap().plan.id, running.plan.id, "one that runs is never forgotten");
        assert_eq!(kept.get(1).unwrap().plan.id, Uuid::from_u128(7));
    }
}
