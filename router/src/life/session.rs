//! What a session has held: once it held data of some class, each later task of it counts as such. Read before a task is decided,
//! and raised before what the decision causes is sent, by compare-and-set: a writer that was late decides anew.
//!
//! ```text
//! Recall ─▶ decide ─┬─▶ (nothing new) Send
//!    ▲              └─▶ Remember ─▶ Send
//!    └──────── another wrote ──┘
//! ```

use tidegate_schemas::control::session_key;
use tidegate_schemas::decision::Decision;
use tidegate_schemas::header;
use tidegate_schemas::labels::{Labels, Raise, Sensitivity, Stakes};
use tidegate_schemas::task::Task;

use super::dispatch::Caused;
use super::{Action, Step};

/// A task whose session is being asked about.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) task: Task,
    pub(super) inherited: Option<Labels>,
    pub(super) key: String,
}

/// A decision that raises what the session has held.
#[derive(Debug)]
pub(super) struct Raising {
    pub(super) asking: Asking,
    pub(super) caused: Caused,
}

impl Asking {
    /// Of a task that names a session.
    pub(super) fn of(task: &Task, inherited: Option<&Labels>) -> Option<Self> {
        let key = session_key(&task.tenant, task.session.as_ref()?);
        Some(Self { task: task.clone(), inherited: inherited.cloned(), key })
    }

    pub(super) fn recall(&self) -> Step {
        Step::new(Action::Recall(self.key.clone()))
    }

    /// What to write before the decision's message is sent; none where it raises nothing.
    pub(super) fn raise(&self, caused: &Caused, held: Option<&(Labels, u64)>) -> Option<Step> {
        let decision = caused.message.headers.get(header::DECISION)?;
        let decision: Decision = serde_json::from_str(decision).ok()?;
        let before = held.map_or_else(|| Labels::of(Sensitivity::Public), |(labels, _)| labels.clone());
        let labels = before.raised_by(&Raise {
            sensitivity: decision.labels.sensitivity,
            categories: decision.labels.categories.clone(),
            regulations: decision.labels.regulations,
            stakes: Stakes::Low,
        });
        let revision = held.map(|(_, revision)| *revision);
        (labels != before).then(|| Step::new(Action::Remember { key: self.key.clone(), labels, revision }))
    }
}
