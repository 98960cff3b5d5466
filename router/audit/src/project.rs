//! Projection: from a stored message to what its leaf may say and what it does to its task. Pure; knows no key, no table.

use jiff::{SignedDuration, Timestamp};
use tidegate_schemas::code::Code;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Identifier, Name, Position, TaskId, Token};
use tidegate_schemas::limits::DEADLINE_MS_DEFAULT;
use tidegate_schemas::result::State;
use tidegate_schemas::subject::{Lane, Subject, tenant_of_stream};
use tidegate_schemas::task::{Kind, Message, Task, named_subjects};
use tidegate_schemas::trace::TraceParent;
use tidegate_schemas::work::Hop;

use crate::entry::Entry;
use crate::hold::HoldChange;
use crate::leaf::{DecisionLeaf, Detail, Leaf, RecordKind};

mod payload;
#[cfg(test)]
mod tests;
mod word;

/// What a message says, as far as a leaf may say it, and what it does.
#[derive(Debug)]
pub(crate) struct Projection {
    pub(crate) kind: RecordKind,
    pub(crate) tenant: Option<Name>,
    pub(crate) agent: Option<Name>,
    pub(crate) task: Option<TaskId>,
    pub(crate) workflow: Option<Identifier>,
    pub(crate) parent: Option<TaskId>,
    /// Whose data it holds; empty where it does not say, then the task's are taken.
    pub(crate) subjects: Vec<Identifier>,
    pub(crate) trace: Option<String>,
    /// Its subject, where each token is a name of ours.
    pub(crate) subject: Option<String>,
    pub(crate) cause: Option<Position>,
    pub(crate) malformed: bool,
    pub(crate) state: Option<State>,
    pub(crate) code: Option<Code>,
    pub(crate) decision: Option<DecisionLeaf>,
    pub(crate) detail: Option<Detail>,
    /// The message that says whose it is, where this one does not.
    pub(crate) link: Option<Position>,
    pub(crate) effect: Effect,
    /// What it does to a hold.
    pub(crate) hold: Option<HoldChange>,
}

/// What a message does to its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// It is there, and must have ended by then.
    Submitted(Timestamp),
    /// It was dispatched; its deadline may have moved.
    Working(Option<Timestamp>),
    /// Its producer withdrew it: a canceled result follows, whether the task ever came or not.
    Withdrawn,
    /// It waits for a person until then. A verdict alone ends nothing: the work or result that follows it does.
    Held(Timestamp),
    /// It ended.
    Ended(State),
}

/// What a recorded message did to its task, by its leaf alone: a record can be made anew where no body opens any more.
pub(crate) fn effect(leaf: &Leaf) -> Effect {
    match (leaf.kind, &leaf.detail) {
        (RecordKind::Task, Some(Detail::Task { deadline, .. })) => Effect::Submitted(*deadline),
        (RecordKind::Task, _) => Effect::Submitted(later(leaf.time, DEADLINE_MS_DEFAULT)),
        (RecordKind::Cancel, _) => Effect::Withdrawn,
        (RecordKind::Work, Some(Detail::Work { deadline, .. })) => Effect::Working(*deadline),
        (RecordKind::Review, Some(Detail::Review { review_by, .. })) => Effect::Held(*review_by),
        (RecordKind::Result, _) => {
            Effect::Ended(leaf.state.filter(|state| state.is_terminal()).unwrap_or(State::Failed))
        }
        _ => Effect::None,
    }
}

/// Reads one message.
pub(crate) fn project(entry: &Entry) -> Projection {
    let headers = entry.trusted_headers();
    let mut told = Projection {
        kind: RecordKind::Unparsable,
        tenant: tenant_of_stream(&entry.stream),
        agent: None,
        task: None,
        workflow: None,
        parent: None,
        subjects: Vec::new(),
        trace: trace(&headers),
        subject: None,
        cause: None,
        malformed: false,
        state: None,
        code: None,
        decision: None,
        detail: None,
        link: None,
        effect: Effect::None,
        hold: None,
    };
    let Ok(subject) = Subject::parse(&entry.subject) else {
        // What a producer writes into its own stream gets an answer or a dead letter; it is no oddity of ours.
        told.malformed = told.tenant.is_none();
        return told;
    };
    told.tenant = subject.tenant().cloned();
    told.subject = Some(subject.to_string());
    // A producer may write any header; what it claims as a cause is body.
    if !matches!(subject, Subject::Task { .. } | Subject::Cancel { .. }) {
        told.cause = headers.get(header::CAUSE).and_then(|text| text.parse().ok());
    }
    told.fill(entry, &headers, subject);
    told
}

fn trace(headers: &Headers) -> Option<String> {
    let parent: TraceParent = headers.get(header::TRACEPARENT)?.parse().ok()?;
    Some(parent.trace_id())
}

// === impl Projection ===

impl Projection {
    fn fill(&mut self, entry: &Entry, headers: &Headers, subject: Subject) {
        match subject {
            Subject::Task { tenant, agent, kind } => self.task_message(entry, &tenant, &agent, &kind),
            Subject::Cancel { agent, task, .. } => {
                self.kind = RecordKind::Cancel;
                self.effect = Effect::Withdrawn;
                self.agent = Some(agent);
                self.task = Some(task);
            }
            Subject::Step(_, _) => {
                self.kind = RecordKind::Step;
                self.hop(headers);
                self.step(&entry.payload);
            }
            Subject::WorkLocal { pool, .. } => self.work(headers, Lane::Local, pool),
            Subject::WorkCloud { provider, .. } => self.work(headers, Lane::Cloud, provider),
            Subject::Result { agent, task, .. } => {
                self.kind = RecordKind::Result;
                self.result_hop(headers, task);
                self.agent = Some(agent);
                self.task = Some(task);
                self.result(headers, &entry.payload);
            }
            Subject::Attempt(lane, _) => {
                self.kind = RecordKind::Attempt;
                self.hop(headers);
                self.attempt(lane, &entry.payload);
            }
            Subject::Review { queue, .. } => {
                self.kind = RecordKind::Review;
                self.hop(headers);
                self.review(headers, queue, &entry.payload);
            }
            Subject::Verdict { queue, reviewer, .. } => {
                self.kind = RecordKind::Verdict;
                self.verdict(queue, reviewer, &entry.payload);
            }
            Subject::Dead { role, .. } => {
                self.kind = RecordKind::Dead;
                self.dead(role, &entry.payload);
            }
            Subject::Control { operator, .. } => {
                self.kind = RecordKind::Control;
                self.control(operator, &entry.payload);
            }
            Subject::Checkpoint => self.kind = RecordKind::Checkpoint,
        }
    }

    /// A task's message. One that cannot be read is still a task: its producer gets a result, under the same id.
    fn task_message(&mut self, entry: &Entry, tenant: &Name, agent: &Name, kind: &Token) {
        self.kind = RecordKind::Task;
        self.agent = Some(agent.clone());
        // The kind token is the producer's word; only one that we know may stand in a leaf.
        if Kind::parse(kind.as_str()).is_err() {
            self.subject = None;
        }
        let position = entry.position();
        let pairs = entry.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let read = Headers::read(pairs).map_err(|refused| (TaskId::from_position(&position), refused.code));
        let read = read.and_then(|headers| {
            let message = Message {
                tenant,
                agent,
                kind: kind.as_str(),
                headers: &headers,
                payload: &entry.payload,
                position: &position,
                submitted: entry.time,
            };
            Task::read(&message).map_err(|rejected| (rejected.id, rejected.refused.code))
        });
        match read {
            Ok(task) => self.task_read(task),
            Err((id, code)) => {
                self.task = Some(id);
                self.code = Some(code);
                self.subjects = named_subjects(&entry.payload);
                self.effect = Effect::Submitted(later(entry.time, DEADLINE_MS_DEFAULT));
            }
        }
    }

    fn task_read(&mut self, task: Task) {
        self.task = Some(task.id);
        self.effect = Effect::Submitted(task.limits.deadline);
        self.detail = Some(Detail::Task {
            kind: Some(task.kind()),
            class: task.class,
            sensitivity: task.labels.sensitivity,
            stakes: task.labels.stakes,
            deadline: task.limits.deadline,
            replay_of: task.replay_of,
        });
        self.workflow = task.workflow;
        self.parent = task.parent_task;
        self.subjects = task.data_subjects;
    }

    /// What every hop after the task says in its headers.
    fn hop(&mut self, headers: &Headers) -> Option<Timestamp> {
        match Hop::read(headers) {
            Ok(hop) => {
                self.agent = Some(hop.agent);
                self.task = Some(hop.id);
                self.workflow = hop.workflow;
                self.subjects = hop.data_subjects;
                Some(hop.deadline)
            }
            Err(_) => {
                self.malformed = true;
                self.agent = headers.get(header::AGENT).and_then(|text| Name::new(text).ok());
                self.task = headers.get(header::TASK_ID).and_then(|text| text.parse().ok());
                None
            }
        }
    }

    /// What could not be read as a task, or was withdrawn, has a result that says only whose it is.
    fn result_hop(&mut self, headers: &Headers, task: TaskId) {
        let named = headers.get(header::TASK_ID).is_some_and(|text| text.parse() == Ok(task));
        if named && headers.get(header::DEADLINE).is_none() {
            return;
        }
        self.hop(headers);
    }

    fn work(&mut self, headers: &Headers, lane: Lane, target: Name) {
        self.kind = RecordKind::Work;
        let deadline = self.hop(headers);
        self.decided(headers);
        self.malformed |= self.decision.is_none();
        let ticket = headers.get(header::TICKET).and_then(word::ticket_id);
        self.detail = Some(Detail::Work { lane, target, ticket, deadline });
        self.effect = Effect::Working(deadline);
    }
}

/// `time` and so many milliseconds; `time` itself where that is out of range.
pub(crate) fn later(time: Timestamp, ms: u64) -> Timestamp {
    let span = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    time.checked_add(span).unwrap_or(time)
}
