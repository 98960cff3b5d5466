//! The recorder's watch: it knows from the streams which tasks are open, and ends those whose time is over. It is also where
//! processes learn what is switched off, and whether record and clock are well.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidegate_schemas::code::Code;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::result::{ResultError, State, TaskResult};
use tidegate_schemas::review::Review;
use tidegate_schemas::subject::Subject;
use tidegate_schemas::task::{Message, Task};
use tidegate_schemas::work::Hop;

use crate::broker::{Kept, Parcel, at, result_subject};
use crate::cell::TENANT;
use crate::mutant::Mutant;
use crate::plan::CALM_MS;
use crate::world::{Event, World};

/// Between two looks, milliseconds.
const ROUND_MS: i64 = 500;
/// How long after its deadline a task is ended, milliseconds.
const GRACE_MS: i64 = 2_000;
/// How long a task that was ended is left alone, milliseconds.
const LEFT_ALONE_MS: i64 = 30_000;
/// How far a router's clock may be from the recorder's before it closes the cloud, milliseconds.
const CLOCK_MS_MAX: i64 = 2_000;

/// An open task, as the streams tell it.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) agent: Name,
    pub(crate) task: TaskId,
    pub(crate) position: Position,
    pub(crate) due: jiff::Timestamp,
    pub(crate) held: bool,
    last: Position,
    ended_at: Option<i64>,
}

/// Open tasks by the subject of their results.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) open: BTreeMap<String, Open>,
    ended: BTreeSet<String>,
}

impl Watch {
    /// A stream has taken a message.
    pub(crate) fn appended(&mut self, kept: &Rc<Kept>) {
        match Subject::parse(&kept.subject) {
            Ok(Subject::Task { tenant, agent, kind }) => self.accepted(kept, &tenant, agent, kind.as_str()),
            Ok(Subject::WorkLocal { .. } | Subject::WorkCloud { .. }) if !kept.is_forged() => {
                if let Ok(hop) = Hop::read(&kept.headers) {
                    self.moved(kept, &hop, hop.deadline, false);
                }
            }
            Ok(Subject::Review { .. }) => {
                if let (Ok(hop), Ok(review)) =
                    (Hop::read(&kept.headers), serde_json::from_slice::<Review>(&kept.payload))
                {
                    self.moved(kept, &hop, review.review_by, true);
                }
            }
            Ok(Subject::Result { .. }) => {
                self.open.remove(&kept.subject);
                self.ended.insert(kept.subject.clone());
            }
            _ => {}
        }
    }

    fn accepted(&mut self, kept: &Kept, tenant: &Name, agent: Name, kind: &str) {
        let submitted = at(kept.at);
        let read = Task::read(&Message {
            tenant,
            agent: &agent,
            kind,
            headers: &kept.headers,
            payload: &kept.payload,
            position: &kept.position,
            submitted,
        });
        let (task, due) = match read {
            Ok(task) => (task.id, task.limits.deadline),
            Err(rejected) => (rejected.id, at(kept.at + 300_000)),
        };
        let position = kept.position.clone();
        let last = position.clone();
        let open = Open { agent: agent.clone(), task, position, due, held: false, last, ended_at: None };
        let subject = result_subject(&agent, task);
        // What has ended stays so; its message once more asks for the same result.
        if !self.ended.contains(&subject) {
            self.open.entry(subject).or_insert(open);
        }
    }

    fn moved(&mut self, kept: &Kept, hop: &Hop, due: jiff::Timestamp, held: bool) {
        if let Some(open) = self.open.get_mut(&result_subject(&hop.agent, hop.id)) {
            open.due = due;
            open.held = held;
            open.last = kept.position.clone();
        }
    }
}

impl World<'_> {
    /// One round: processes learn and pull, overdue tasks are ended.
    pub(crate) fn watch_deadlines(&mut self) {
        let off: Rc<[_]> = self.switches.clone().into();
        for index in 0..self.processes.len() {
            if self.processes[index].stopped_until <= self.now {
                let process = &mut self.processes[index];
                process.egress_open = self.recorder_up && process.clock_ms.abs() <= CLOCK_MS_MAX;
                process.off = Rc::clone(&off);
            }
            self.tell_progress(index);
            self.pull(index);
        }
        if self.dice.chance(250) {
            self.broker.sync();
        }
        self.end_overdue();
        if self.now < CALM_MS * 2 {
            self.after(ROUND_MS, Event::Watch);
        }
    }

    fn end_overdue(&mut self) {
        if !self.recorder_up || self.is(Mutant::NoDeadlines) {
            return;
        }
        let (now, limit) = (self.now, at(self.now - GRACE_MS));
        let is_due = |open: &&mut Open| {
            open.due <= limit && open.ended_at.is_none_or(|ended| now - ended > LEFT_ALONE_MS)
        };
        let due: Vec<Open> = self
            .watch
            .open
            .values_mut()
            .filter(is_due)
            .map(|open| {
                open.ended_at = Some(now);
                open.clone()
            })
            .collect();
        for open in due {
            self.note(|| format!("the recorder ends {}", open.position));
            if let Some(parcel) = overdue(&open) {
                self.publish_alone(parcel, None);
            }
        }
    }
}

/// The result of a task whose time is over, as the recorder publishes it.
fn overdue(open: &Open) -> Option<Parcel> {
    let (state, code) = match open.held {
        true => (State::Rejected, Code::ReviewExpired),
        false => (State::Failed, Code::DeadlineExceeded),
    };
    let error = ResultError { code, message: String::new(), retry_after_ms: None };
    let tenant = Name::new(TENANT).ok()?;
    let result = TaskResult::ended(tenant, open.agent.clone(), open.task, state, error);
    let base = Headers::new()
        .with(header::CAUSE, open.last.to_string())
        .with(header::TASK_ID, open.task.to_string())
        .with(header::AGENT, open.agent.as_str())
        .with(header::TASK, open.position.to_string());
    Some(Parcel {
        subject: result_subject(&open.agent, open.task),
        msg_id: format!("{TENANT}/{}/{}/deadline/0", open.agent, open.task),
        headers: result.headers(base, None),
        payload: serde_json::to_vec(&result).ok()?.into(),
    })
}
