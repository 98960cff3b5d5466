//! The state of a run and its clock: what happens next is what is due first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;

use tidegate_schemas::decision::Switch;
use tidegate_schemas::ids::Position;

use crate::broker::{Broker, Delivery, Guards, Kept, Parcel};
use crate::cell::Cell;
use crate::check::{Checker, Invariant};
use crate::dice::Dice;
use crate::gates::Lasting;
use crate::mutant::Mutant;
use crate::network::Flight;
use crate::plan::{self, CALM_MS, Fault, Plan, Rates};
use crate::process::{Process, Reply, Role, To};
use crate::watch::Watch;

/// Lines of a trace, count.
const TRACE_MAX: usize = 200_000;

/// Something that happens.
pub(crate) enum Event {
    Submit(usize),
    Cancel(usize),
    Begin(usize),
    End(Fault),
    Pull(usize),
    Land(Box<Flight>),
    Deliver { process: usize, epoch: u32, delivery: Delivery },
    Back(To, Reply),
    Notice { process: usize, epoch: u32, subject: String },
    Decide(Rc<Kept>),
    Watch,
}

struct Entry {
    at: i64,
    order: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A run.
pub(crate) struct World<'a> {
    pub(crate) cell: &'a Cell,
    pub(crate) now: i64,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
    pub(crate) dice: Dice,
    pub(crate) plan: Plan,
    pub(crate) broker: Broker,
    pub(crate) broker_down: bool,
    pub(crate) recorder_up: bool,
    pub(crate) switches: Vec<Switch>,
    /// Budgets and places that keep attempts back now.
    pub(crate) kept_back: Lasting,
    pub(crate) processes: Vec<Process>,
    pub(crate) checker: Checker,
    pub(crate) watch: Watch,
    pub(crate) mutant: Option<Mutant>,
    /// Planned tasks by where they stand.
    pub(crate) positions: HashMap<Position, usize>,
    pub(crate) next_job: u64,
    pub(crate) events: u64,
    trace: Option<Vec<String>>,
}

impl<'a> World<'a> {
    pub(crate) fn new(cell: &'a Cell, seed: u64, tasks: usize, mutant: Option<Mutant>, traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut plan = Plan::new(&mut dice, tasks, cell);
        plan.faults.extend(plan::gates(&mut Dice::new(!seed), cell));
        let guards = Guards {
            dedupes: mutant != Some(Mutant::NoDedupe),
            one_result: mutant != Some(Mutant::ResultsTakeTwo),
        };
        let lacks_chat = dice.chance(200);
        let processes = vec![
            Process::new(Role::Router, true),
            Process::new(Role::Router, true),
            Process::new(Role::Local, true),
            Process::new(Role::Local, !lacks_chat),
            Process::new(Role::Cloud, true),
            Process::new(Role::Cloud, true),
        ];
        let mut world = Self {
            cell,
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            dice,
            broker: Broker::new(cell, guards),
            broker_down: false,
            recorder_up: true,
            switches: Vec::new(),
            kept_back: Lasting::new(),
            processes,
            checker: Checker::default(),
            watch: Watch::default(),
            mutant,
            positions: HashMap::new(),
            next_job: 0,
            events: 0,
            trace: traced.then(Vec::new),
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for index in 0..self.plan.tasks.len() {
            let at = self.plan.tasks[index].at;
            self.after(at, Event::Submit(index));
            if let Some((at, _)) = self.plan.tasks[index].canceled {
                self.after(at, Event::Cancel(index));
            }
        }
        for index in 0..self.plan.faults.len() {
            let at = self.plan.faults[index].0;
            self.after(at, Event::Begin(index));
        }
        for process in 0..self.processes.len() {
            self.after(1, Event::Pull(process));
        }
        self.after(500, Event::Watch);
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// How often what goes wrong now.
    pub(crate) fn rates(&self) -> Rates {
        if self.now < CALM_MS { self.plan.rates } else { Rates::default() }
    }

    pub(crate) fn after(&mut self, delay: i64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Entry { at: self.now + delay.max(0), order: self.order, event }));
    }

    /// Lives until this time, or until nothing is left to happen.
    pub(crate) fn live_until(&mut self, end: i64) {
        while self.queue.peek().is_some_and(|Reverse(entry)| entry.at <= end) {
            let Some(Reverse(Entry { at, event, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.events += 1;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit(index) => self.submit(index),
            Event::Cancel(index) => self.withdraw(index),
            Event::Begin(index) => {
                let fault = self.plan.faults[index].1.clone();
                self.fault(fault);
            }
            Event::End(fault) => self.mend(&fault),
            Event::Pull(process) => self.pull(process),
            Event::Land(flight) => self.land(*flight),
            Event::Deliver { process, epoch, delivery } => {
                if let Some(delay) = self.stopped(process, epoch) {
                    return self.after(delay, Event::Deliver { process, epoch, delivery });
                }
                self.take_up(process, epoch, delivery);
            }
            Event::Back(to, reply) => {
                if let Some(delay) = self.stopped(to.process, to.epoch) {
                    return self.after(delay, Event::Back(to, reply));
                }
                self.answer(to, reply);
            }
            Event::Notice { process, epoch, subject } => {
                let process = &mut self.processes[process];
                if process.epoch == epoch {
                    process.canceled.insert(subject);
                }
            }
            Event::Decide(review) => self.decide(&review),
            Event::Watch => self.watch_deadlines(),
        }
    }

    /// How long a process that is stopped still will be.
    fn stopped(&self, process: usize, epoch: u32) -> Option<i64> {
        let process = &self.processes[process];
        let left = process.stopped_until - self.now;
        (process.epoch == epoch && left > 0).then_some(left)
    }

    fn submit(&mut self, index: usize) {
        let task = &self.plan.tasks[index];
        let parcel = Parcel {
            subject: task.subject.clone(),
            msg_id: task.msg_id.clone(),
            headers: tidegate_schemas::header::Headers::new(),
            payload: task.payload.clone().into(),
        };
        self.publish_alone(parcel, Some(index));
    }

    fn withdraw(&mut self, index: usize) {
        let Some((_, subject)) = self.plan.tasks[index].canceled.clone() else { return };
        let msg_id = format!("cancel-{index}");
        let headers = tidegate_schemas::header::Headers::new();
        self.publish_alone(Parcel { subject, msg_id, headers, payload: bytes::Bytes::new() }, None);
    }

    /// A message was stored: it is looked at, and whoever pulls it is woken.
    pub(crate) fn stored(&mut self, kept: &Rc<Kept>, planned: Option<usize>) {
        if let Some(index) = planned {
            self.positions.insert(kept.position.clone(), index);
        }
        let truth = |position: &Position| self.positions.get(position).map(|index| &self.plan.tasks[*index]);
        self.checker.appended(&self.broker, truth, kept);
        self.watch.appended(kept);
        if kept.subject.starts_with("review.") && self.plan.reviews {
            let pause = self.dice.between(200, 12_000);
            self.after(pause, Event::Decide(Rc::clone(kept)));
        }
        let takers = self.broker.consumers.iter().enumerate().filter(|(_, c)| c.takes(kept)).map(|(i, _)| i);
        if let Some(consumer) = takers.collect::<Vec<_>>().first().copied() {
            let role = self.role_of(consumer);
            let all: Vec<usize> =
                (0..self.processes.len()).filter(|i| self.processes[*i].role == role).collect();
            let process = all[self.dice.below(all.len())];
            let delay = self.dice.between(1, 4);
            self.after(delay, Event::Pull(process));
        }
    }

    pub(crate) fn role_of(&self, consumer: usize) -> Role {
        match self.broker.consumers.get(consumer).map(|consumer| consumer.stream.as_str()) {
            Some("WORK_LOCAL") => Role::Local,
            Some("WORK_CLOUD") => Role::Cloud,
            _ => Role::Router,
        }
    }

    pub(crate) fn breach(&mut self, invariant: Invariant, what: String) {
        self.checker.breach(invariant, self.now, what);
    }

    /// Adds a line to the trace, where there is one.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace
            && trace.len() < TRACE_MAX
        {
            trace.push(format!("{:>7}.{:03} {}", now / 1_000, now % 1_000, line()));
        }
    }

    pub(crate) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }
}
