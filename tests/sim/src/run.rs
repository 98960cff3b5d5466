//! A run: the plan is played, faults come and go, and at the end what must hold is looked at.

use std::rc::Rc;

use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::review::{Action, Review, Verdict};
use tidegate_schemas::subject::WORK_CLOUD;

use crate::broker::{Kept, Parcel};
use crate::cell::{Cell, REVIEWERS, TENANT};
use crate::check::{Breach, Invariant};
use crate::host::name;
use crate::mutant::Mutant;
use crate::plan::{CALM_MS, Fault};
use crate::world::{Event, World};

/// Marks what was written in a router's name, for the checks alone.
pub(crate) const FORGED: &str = "sim-forged";
/// Soon after faults stop: the invariant's bound, milliseconds.
const SOON_MS: i64 = 60_000;
/// When every deadline of a task has passed, and when every review's has, milliseconds.
const DEADLINES_MS: i64 = 2 * 3_600_000;
const REVIEWS_MS: i64 = 30 * 3_600_000;
/// How long the last results may take, milliseconds.
const LAST_MS: i64 = 120_000;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Tasks, count.
    pub tasks: usize,
    /// The guard that is taken away.
    pub mutant: Option<Mutant>,
    /// Whether what happens is told line by line.
    pub traced: bool,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// What did not hold.
    pub breaches: Vec<Breach>,
    /// Tasks that a stream accepted, count.
    pub accepted: usize,
    /// Results, count.
    pub results: usize,
    /// Times that bytes reached a provider, count.
    pub received: u64,
    /// Attempts that a budget or a breaker kept back, count.
    pub kept_back: u64,
    /// Work that came back and was decided again, count.
    pub steps: usize,
    /// Tasks that waited for a person, count.
    pub reviews: usize,
    /// What happened, count.
    pub events: u64,
    /// What happened, a line each.
    pub trace: Vec<String>,
}

/// Plays one seed. The same options on the same cell give the same report.
#[must_use]
pub fn run(cell: &Cell, options: Options) -> Report {
    let Options { seed, tasks, mutant, traced } = options;
    let mut world = World::new(cell, seed, tasks, mutant, traced);
    world.live_until(CALM_MS + SOON_MS);
    world.is_live();
    for due in [DEADLINES_MS, REVIEWS_MS] {
        world.live_until(due);
        world.watch_deadlines();
        world.live_until(due + LAST_MS);
    }
    let open: Vec<String> = world.watch.open.keys().cloned().collect();
    let now = world.now;
    world.checker.conserved(&world.broker, now, &open);
    let count = |stream: &str, begins: &str| {
        world.broker.all(stream).iter().filter(|kept| kept.subject.starts_with(begins)).count()
    };
    Report {
        breaches: world.checker.breaches().to_vec(),
        accepted: count(&format!("TASKS_{TENANT}"), "task."),
        results: count("RESULTS", "result."),
        received: world.checker.received,
        kept_back: world.checker.kept_back,
        steps: count("STEPS", "step."),
        reviews: count("EVENTS", "review."),
        events: world.events,
        trace: world.into_trace(),
    }
}

impl World<'_> {
    /// Soon after the last fault: nothing waits, and what is open has a reason to be.
    fn is_live(&mut self) {
        for position in self.broker.backlog() {
            self.breach(Invariant::Liveness, format!("{position} still waits"));
        }
        for index in 0..self.processes.len() {
            let count = self.processes[index].jobs.len();
            if count > 0 {
                self.breach(Invariant::Liveness, format!("{} has {count} messages in hand", name(index)));
            }
        }
        let forgotten: Vec<String> = self
            .watch
            .open
            .values()
            .filter(|open| !open.held && !self.checker.buried.contains(&open.position.to_string()))
            .map(|open| format!("the task at {} is open, and nothing will happen to it", open.position))
            .collect();
        for what in forgotten {
            self.breach(Invariant::Liveness, what);
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.note(|| format!("fault: {fault:?}"));
        let (now, lasts) = (self.now, lasts(&fault));
        match &fault {
            Fault::Kill(process, _) => self.processes[*process].die(),
            Fault::Stop(process, lasts) => self.processes[*process].stopped_until = now + lasts,
            Fault::Clock(process, jump, _) => self.processes[*process].clock_ms += jump,
            Fault::Broker(_) => {
                self.broker_down = true;
                if self.is(Mutant::LazySync) {
                    self.broker.lose_tails();
                }
            }
            Fault::Full(stream, _) => self.broker.set_full(stream, true),
            Fault::Recorder(_) => self.recorder_up = false,
            Fault::Switch(switch, _) => self.switches.push(switch.clone()),
            Fault::Spent(..) | Fault::Broken(..) => self.kept_back.push((now, fault.clone())),
            Fault::Redeliver => {
                let pick = self.dice.below(1_000);
                self.broker.redeliver(pick, now);
            }
            Fault::Forge => self.forge(),
        }
        if let Some(lasts) = lasts {
            // Whatever it is, it is over when faults stop.
            self.after(lasts.min(CALM_MS - now), Event::End(fault));
        }
    }

    pub(crate) fn mend(&mut self, fault: &Fault) {
        self.note(|| format!("over: {fault:?}"));
        match fault {
            Fault::Kill(process, _) => self.processes[*process].up = true,
            Fault::Stop(process, _) => self.processes[*process].stopped_until = 0,
            Fault::Clock(process, jump, _) => self.processes[*process].clock_ms -= jump,
            Fault::Broker(_) => self.broker_down = false,
            Fault::Full(stream, _) => self.broker.set_full(stream, false),
            Fault::Recorder(_) => self.recorder_up = true,
            Fault::Switch(switch, _) => {
                if let Some(index) = self.switches.iter().position(|other| other == switch) {
                    self.switches.remove(index);
                }
            }
            Fault::Spent(..) | Fault::Broken(..) => {
                if let Some(index) = self.kept_back.iter().position(|(_, other)| other == fault) {
                    self.kept_back.remove(index);
                }
            }
            Fault::Redeliver | Fault::Forge => {}
        }
    }

    /// Cloud work in a router's name: other bytes, another's ticket, none, another task's words, or the very same once more.
    fn forge(&mut self) {
        let all: Vec<Rc<Kept>> = self.broker.all(WORK_CLOUD).to_vec();
        if all.is_empty() {
            return;
        }
        let (one, two) = (&all[self.dice.below(all.len())], &all[self.dice.below(all.len())]);
        let mut headers = one.headers.clone().with(FORGED, "1");
        let mut payload = one.payload.clone();
        let mut subject = one.subject.clone();
        let taken = |name: &'static str| two.headers.get(name).unwrap_or_default().to_owned();
        match self.dice.below(6) {
            0 => payload = [payload.as_ref(), b" "].concat().into(),
            1 => headers.set(header::TICKET, taken(header::TICKET)),
            2 => headers.set(header::TICKET, ""),
            3 => payload = two.payload.clone(),
            4 => {
                let targets = &self.cell.targets;
                let target = &targets[self.dice.below(targets.len())].1;
                subject = format!("work.cloud.{target}.interactive.{TENANT}");
            }
            _ => {}
        }
        let msg_id = format!("forged-{}", self.dice.bits());
        self.publish_alone(Parcel { subject, msg_id, headers, payload }, None);
    }

    /// A reviewer decides, and sometimes another one at the same time.
    pub(crate) fn decide(&mut self, review: &Kept) {
        let Ok(held) = serde_json::from_slice::<Review>(&review.payload) else { return };
        let mut subject = review.subject.split('.').skip(1);
        let (Some(queue), Some(tenant)) = (subject.next(), subject.next()) else { return };
        let first = self.dice.below(REVIEWERS.len());
        let reviewers = if self.dice.chance(200) { 2 } else { 1 };
        for turn in 0..reviewers {
            let reviewer = REVIEWERS[(first + turn) % REVIEWERS.len()];
            let action = if self.dice.chance(700) { Action::Approve } else { Action::Reject };
            let verdict = Verdict {
                schema_version: 1,
                review: review.position.clone(),
                content: held.content,
                action,
                reason: "seen".to_owned().into(),
            };
            let Ok(payload) = serde_json::to_vec(&verdict) else { return };
            let parcel = Parcel {
                subject: format!("verdict.{queue}.{tenant}.{reviewer}"),
                msg_id: format!("verdict-{}-{reviewer}", review.position),
                headers: Headers::new(),
                payload: payload.into(),
            };
            self.publish_alone(parcel, None);
        }
    }
}

fn lasts(fault: &Fault) -> Option<i64> {
    match fault {
        Fault::Kill(_, lasts)
        | Fault::Stop(_, lasts)
        | Fault::Clock(_, _, lasts)
        | Fault::Broker(lasts)
        | Fault::Full(_, lasts)
        | Fault::Recorder(lasts)
        | Fault::Spent(_, lasts)
        | Fault::Broken(_, lasts)
        | Fault::Switch(_, lasts) => Some(*lasts),
        Fault::Redeliver | Fault::Forge => None,
    }
}
