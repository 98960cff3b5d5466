//! A broker: streams with limits retention, a duplicate window, one result a subject, durable consumers with redelivery, and a
//! bucket whose keys are taken once. What it acknowledged it keeps, unless a mutant says otherwise.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Position;
use tidegate_schemas::subject::{EVENTS, Lane, RESULTS, STEPS, Subject, WORK_CLOUD, WORK_LOCAL};

use crate::cell::{Cell, TENANT};

/// How long an id is known, milliseconds.
const DUPLICATE_WINDOW_MS: i64 = 600_000;
/// How long a delivery may take before it comes again, milliseconds.
pub(crate) const ACK_WAIT_MS: i64 = 30_000;

/// The time of a simulated millisecond.
pub(crate) fn at(ms: i64) -> Timestamp {
    // 2026-11-23T12:00:00Z
    let start = Timestamp::from_second(1_795_435_200).unwrap_or(Timestamp::UNIX_EPOCH);
    start.checked_add(SignedDuration::from_millis(ms)).unwrap_or(start)
}

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    pub(crate) subject: String,
    pub(crate) msg_id: String,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
}

/// A stored message.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) position: Position,
    pub(crate) subject: String,
    pub(crate) headers: Headers,
    pub(crate) payload: Bytes,
    pub(crate) at: i64,
    /// Tells it from another message that has its place after a loss.
    pub(crate) mark: u64,
    msg_id: String,
}

/// What the broker says to a publish.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Stored(Rc<Kept>),
    Duplicate(Position),
    Taken,
    Full,
}

#[derive(Debug, Default)]
struct Stream {
    kept: Vec<Rc<Kept>>,
    ids: HashMap<String, (u64, i64)>,
    subjects: HashMap<String, u64>,
    /// Messages that a power loss leaves where the broker is lazy.
    synced: usize,
    full: bool,
}

/// What one consumer delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    All,
    /// Subjects that begin like this.
    Begins(String),
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) stream: String,
    filter: Filter,
    next: usize,
    pending: BTreeMap<u64, Pending>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    due: i64,
    delivered: u64,
}

/// A delivery.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) consumer: usize,
    pub(crate) message: Rc<Kept>,
    pub(crate) delivered: u64,
}

/// How a delivery is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    Done,
    Progress,
    Again(i64),
}

/// What the guards of the broker are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    pub(crate) dedupes: bool,
    pub(crate) one_result: bool,
}

#[derive(Debug)]
pub(crate) struct Broker {
    streams: BTreeMap<String, Stream>,
    pub(crate) consumers: Vec<Consumer>,
    bucket: HashMap<String, String>,
    guards: Guards,
    marks: u64,
}

/// The stream that takes a subject.
pub(crate) fn stream_of(subject: &str) -> String {
    match subject.split('.').next() {
        Some("task" | "cancel") => format!("TASKS_{TENANT}"),
        Some("step") => STEPS.to_owned(),
        Some("result") => RESULTS.to_owned(),
        Some("work") if subject.starts_with("work.local.") => WORK_LOCAL.to_owned(),
        Some("work") => WORK_CLOUD.to_owned(),
        _ => EVENTS.to_owned(),
    }
}

impl Broker {
    pub(crate) fn new(cell: &Cell, guards: Guards) -> Self {
        let tasks = format!("TASKS_{TENANT}");
        let names = [&tasks, STEPS, EVENTS, WORK_LOCAL, WORK_CLOUD, RESULTS];
        let streams = names.into_iter().map(|name| (name.to_owned(), Stream::default())).collect();
        let consumer = |stream: &str, filter| Consumer {
            stream: stream.to_owned(),
            filter,
            next: 0,
            pending: BTreeMap::new(),
        };
        let mut consumers = vec![
            consumer(&tasks, Filter::All),
            consumer(STEPS, Filter::All),
            consumer(EVENTS, Filter::Begins("verdict.".to_owned())),
        ];
        consumers.extend(cell.targets.iter().map(|(lane, target)| match lane {
            Lane::Local => consumer(WORK_LOCAL, Filter::Begins(format!("work.local.{target}."))),
            Lane::Cloud => consumer(WORK_CLOUD, Filter::Begins(format!("work.cloud.{target}."))),
        }));
        Self { streams, consumers, bucket: HashMap::new(), guards, marks: 0 }
    }

    /// The stream takes it, or says why not.
    pub(crate) fn publish(&mut self, parcel: Parcel, now: i64) -> Said {
        let name = stream_of(&parcel.subject);
        let one_result = self.guards.one_result && name == RESULTS;
        let Some(stream) = self.streams.get_mut(&name) else { return Said::Full };
        if let Some((sequence, when)) = stream.ids.get(&parcel.msg_id).copied()
            && self.guards.dedupes
            && !parcel.msg_id.is_empty()
            && now - when < DUPLICATE_WINDOW_MS
        {
            return Said::Duplicate(Position::new(name, sequence));
        }
        if stream.full {
            return Said::Full;
        }
        if one_result && stream.subjects.contains_key(&parcel.subject) {
            return Said::Taken;
        }
        self.marks += 1;
        let sequence = stream.kept.len() as u64 + 1;
        let Parcel { subject, msg_id, headers, payload } = parcel;
        stream.ids.insert(msg_id.clone(), (sequence, now));
        stream.subjects.insert(subject.clone(), sequence);
        let position = Position::new(name, sequence);
        let kept = Rc::new(Kept { position, subject, headers, payload, at: now, mark: self.marks, msg_id });
        stream.kept.push(Rc::clone(&kept));
        Said::Stored(kept)
    }

    pub(crate) fn get(&self, position: &Position) -> Option<&Rc<Kept>> {
        let index = usize::try_from(position.sequence).ok()?.checked_sub(1)?;
        self.streams.get(&position.stream)?.kept.get(index)
    }

    /// The last message of a result's subject; `*` stands for any agent.
    pub(crate) fn result(&self, subject: &str) -> Option<&Rc<Kept>> {
        let stream = self.streams.get(RESULTS)?;
        let sequence = stream.subjects.get(subject)?;
        stream.kept.get(usize::try_from(*sequence).ok()?.checked_sub(1)?)
    }

    /// The terminal result of a task of a tenant's, whoever asked.
    pub(crate) fn result_of_any(&self, tenant: &str, task: &str) -> Option<&Rc<Kept>> {
        let agents = crate::cell::AGENTS.into_iter();
        agents
            .filter_map(|agent| self.result(&format!("result.{tenant}.{agent}.{task}")))
            .max_by_key(|k| k.mark)
    }

    pub(crate) fn all(&self, stream: &str) -> &[Rc<Kept>] {
        self.streams.get(stream).map_or(&[], |stream| &stream.kept)
    }

    /// Takes a key if nobody has; says who has it now.
    pub(crate) fn claim(&mut self, key: &str, value: &str) -> String {
        self.bucket.entry(key.to_owned()).or_insert_with(|| value.to_owned()).clone()
    }

    /// The next delivery of a consumer: what is due again first.
    pub(crate) fn deliver(&mut self, index: usize, now: i64) -> Option<Delivery> {
        let consumer = self.consumers.get_mut(index)?;
        let kept = &self.streams.get(&consumer.stream)?.kept;
        let due =
            consumer.pending.iter().find(|(_, pending)| pending.due <= now).map(|(sequence, _)| *sequence);
        if let Some(sequence) = due {
            let message = Rc::clone(kept.get(usize::try_from(sequence).ok()?.checked_sub(1)?)?);
            let pending = consumer.pending.get_mut(&sequence)?;
            pending.delivered += 1;
            pending.due = now + ACK_WAIT_MS;
            return Some(Delivery { consumer: index, message, delivered: pending.delivered });
        }
        while let Some(message) = kept.get(consumer.next) {
            consumer.next += 1;
            if consumer.filter.takes(&message.subject) {
                let pending = Pending { due: now + ACK_WAIT_MS, delivered: 1 };
                consumer.pending.insert(message.position.sequence, pending);
                return Some(Delivery { consumer: index, message: Rc::clone(message), delivered: 1 });
            }
        }
        None
    }

    pub(crate) fn acknowledge(&mut self, index: usize, sequence: u64, ack: Ack, now: i64) {
        let Some(consumer) = self.consumers.get_mut(index) else { return };
        match ack {
            Ack::Done => drop(consumer.pending.remove(&sequence)),
            Ack::Progress | Ack::Again(_) => {
                if let Some(pending) = consumer.pending.get_mut(&sequence) {
                    pending.due = match ack {
                        Ack::Again(delay) => now + delay,
                        Ack::Done | Ack::Progress => now + ACK_WAIT_MS,
                    };
                }
            }
        }
    }

    /// Makes one of what is out come again at once.
    pub(crate) fn redeliver(&mut self, pick: usize, now: i64) {
        let all = self.consumers.iter_mut().flat_map(|consumer| consumer.pending.values_mut());
        let mut all: Vec<_> = all.collect();
        let count = all.len().max(1);
        if let Some(pending) = all.get_mut(pick % count) {
            pending.due = now;
        }
    }

    /// Messages that no consumer has done with, each with why.
    pub(crate) fn backlog(&self) -> Vec<String> {
        let mut left = Vec::new();
        for consumer in &self.consumers {
            left.extend(consumer.pending.keys().map(|sequence| format!("{}:{sequence}", consumer.stream)));
            let waiting = self.all(&consumer.stream).iter().skip(consumer.next);
            let waiting = waiting.filter(|message| consumer.filter.takes(&message.subject));
            left.extend(waiting.map(|message| message.position.to_string()));
        }
        left
    }

    pub(crate) fn set_full(&mut self, stream: &str, full: bool) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.full = full;
        }
    }

    pub(crate) fn sync(&mut self) {
        for stream in self.streams.values_mut() {
            stream.synced = stream.kept.len();
        }
    }

    /// A power loss of a broker that had not written all that it acknowledged.
    pub(crate) fn lose_tails(&mut self) {
        for stream in self.streams.values_mut() {
            for lost in stream.kept.drain(stream.synced..) {
                stream.ids.remove(&lost.msg_id);
                stream.subjects.remove(&lost.subject);
            }
        }
        for consumer in &mut self.consumers {
            let end = self.streams.get(&consumer.stream).map_or(0, |stream| stream.kept.len());
            consumer.next = consumer.next.min(end);
            consumer.pending.retain(|sequence, _| *sequence <= end as u64);
        }
    }
}

impl Filter {
    fn takes(&self, subject: &str) -> bool {
        match self {
            Self::All => true,
            Self::Begins(text) => subject.starts_with(text.as_str()),
        }
    }
}

impl Consumer {
    pub(crate) fn takes(&self, message: &Kept) -> bool {
        self.stream == message.position.stream && self.filter.takes(&message.subject)
    }
}

/// The tenant's subject of a task's result.
pub(crate) fn result_subject(
    agent: &tidegate_schemas::ids::Name,
    task: tidegate_schemas::ids::TaskId,
) -> String {
    let tenant = tidegate_schemas::ids::Name::new(TENANT);
    tenant.map_or_else(
        |_| String::new(),
        |tenant| Subject::Result { tenant, agent: agent.clone(), task }.to_string(),
    )
}
