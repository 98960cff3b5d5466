//! What must hold, looked at while a run goes on and at its end. It reads what the streams hold and what providers receive, and
//! trusts no word of a role beyond that.

use std::collections::{HashMap, HashSet};
use std::fmt;

use tidegate_schemas::attempt::{Attempt, Phase};
use tidegate_schemas::decision::Decision;
use tidegate_schemas::header;
use tidegate_schemas::ids::Position;
use tidegate_schemas::limits::HOPS_MAX;
use tidegate_schemas::step::{Step, StepReason};
use tidegate_schemas::subject::Lane;
use tidegate_schemas::work::Hop;
use uuid::Uuid;

use crate::broker::{Broker, Kept};
use crate::plan::Planned;

/// Breaches kept of one run, count.
const BREACHES_MAX: usize = 16;

/// What must hold: the invariants of the design that a simulation can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Accepted is ended or open, after all none is open, and each ended once.
    Conservation,
    /// Bytes leave by an attempt on record, a ticket that verifies and a decision that permits it.
    Permission,
    /// A later decision of a task is never wider.
    Narrowing,
    /// What is not known to be well keeps cloud work inside.
    FailClosed,
    /// A message's cause is stored before it.
    CausesFirst,
    /// A ticket is used and a task decided only so often.
    BoundedAttempts,
    /// Soon after faults stop nothing waits any more.
    Liveness,
}

/// Something that did not hold.
#[derive(Debug, Clone)]
pub struct Breach {
    /// What.
    pub invariant: Invariant,
    /// When, milliseconds since the run began.
    pub at_ms: i64,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} ms: {}", self.invariant, self.at_ms, self.what)
    }
}

/// An attempt that is on record.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) attempt: Attempt,
    pub(crate) work: Option<String>,
    pub(crate) at: i64,
}

/// Looks at what happens.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    breaches: Vec<Breach>,
    results: HashMap<String, Position>,
    /// Attempts by ticket and number.
    pub(crate) begun: HashMap<(Uuid, u32), Begun>,
    pub(crate) sent: HashSet<(Uuid, u32)>,
    pub(crate) tickets: HashMap<Uuid, u32>,
    /// What is true of the task behind a message of cloud work.
    pub(crate) truths: HashMap<Position, (bool, bool)>,
    accepted: Vec<(Position, u64)>,
    /// Task positions that a dead letter is about.
    pub(crate) buried: HashSet<String>,
    /// Attempts that budgets and breakers let through, by what they reserve.
    pub(crate) admitted: HashSet<String>,
    /// Attempts that they kept back, count.
    pub(crate) kept_back: u64,
    /// Bytes that reached providers, count.
    pub(crate) received: u64,
}

impl Checker {
    pub(crate) fn breach(&mut self, invariant: Invariant, at_ms: i64, what: String) {
        if self.breaches.len() < BREACHES_MAX {
            self.breaches.push(Breach { invariant, at_ms, what });
        }
    }

    pub(crate) fn breaches(&self) -> &[Breach] {
        &self.breaches
    }

    /// A stream has taken a message.
    pub(crate) fn appended<'p>(
        &mut self,
        broker: &Broker,
        truth: impl Fn(&Position) -> Option<&'p Planned>,
        kept: &Kept,
    ) {
        let (now, kind) = (kept.at, kept.subject.split('.').next().unwrap_or_default());
        let root = matches!(kind, "task" | "cancel" | "verdict");
        let cause: Option<Position> = kept.headers.get(header::CAUSE).and_then(|text| text.parse().ok());
        let caused = cause.as_ref().and_then(|cause| broker.get(cause));
        if !root && caused.is_none_or(|cause| cause.mark >= kept.mark) {
            let what =
                format!("{} at {} names no cause that is stored before it", kept.subject, kept.position);
            self.breach(Invariant::CausesFirst, now, what);
        }
        match kind {
            "task" => self.accepted.push((kept.position.clone(), kept.mark)),
            "result" => {
                if let Some(first) = self.results.insert(kept.subject.clone(), kept.position.clone()) {
                    let what = format!("{} ended at {first} and at {}", kept.subject, kept.position);
                    self.breach(Invariant::Conservation, now, what);
                }
            }
            "attempt" => self.attempted(kept),
            "dead" => {
                let about = caused.and_then(|cause| {
                    cause.headers.get(header::TASK).map(str::to_owned).or(Some(cause.position.to_string()))
                });
                self.buried.extend(about);
            }
            "work" if !kept.is_forged() => {
                if let Some(cause) = caused {
                    self.decided(broker, truth, kept, cause);
                }
            }
            _ => {}
        }
    }

    fn attempted(&mut self, kept: &Kept) {
        let Ok(attempt) = serde_json::from_slice::<Attempt>(&kept.payload) else { return };
        let Some(ticket) = attempt.ticket.filter(|_| attempt.phase == Phase::Started) else { return };
        let work = kept.headers.get(header::CAUSE).map(str::to_owned);
        let key = (ticket, attempt.attempt);
        self.begun.entry(key).or_insert(Begun { attempt, work, at: kept.at });
    }

    /// Work was decided: what it may be follows from the task and from the work before.
    fn decided<'p>(
        &mut self,
        broker: &Broker,
        truth: impl Fn(&Position) -> Option<&'p Planned>,
        kept: &Kept,
        cause: &Kept,
    ) {
        let (Ok(hop), Some(decision)) = (Hop::read(&kept.headers), decision(kept)) else {
            let what = format!("{} has no decision", kept.position);
            return self.breach(Invariant::Permission, kept.at, what);
        };
        if hop.hop > HOPS_MAX {
            let what = format!("{} is decision {} of its task", kept.position, hop.hop);
            self.breach(Invariant::BoundedAttempts, kept.at, what);
        }
        let is_cloud = kept.subject.starts_with("work.cloud.");
        if let Some(planned) = truth(&hop.task).filter(|_| is_cloud) {
            self.truths.insert(kept.position.clone(), (planned.leaves, planned.reviewed));
            if !planned.leaves || (planned.reviewed && decision.facts.approval.is_none()) {
                let what = format!("{} of {} must not leave", kept.position, hop.task);
                self.breach(Invariant::Permission, kept.at, what);
            }
        }
        if let Some(what) = wider(broker, kept, &decision, cause) {
            self.breach(Invariant::Narrowing, kept.at, what);
        }
    }

    /// At the end: what was accepted is still there and has ended once.
    pub(crate) fn conserved(&mut self, broker: &Broker, now: i64, open: &[String]) {
        for (position, mark) in std::mem::take(&mut self.accepted) {
            if broker.get(&position).is_none_or(|kept| kept.mark != mark) {
                let what = format!("the task at {position} was accepted and is gone");
                self.breach(Invariant::Conservation, now, what);
            }
        }
        for task in open {
            self.breach(Invariant::Conservation, now, format!("{task} has not ended"));
        }
    }
}

impl Kept {
    /// Whether the simulation wrote it in a router's name.
    pub(crate) fn is_forged(&self) -> bool {
        self.headers.get(crate::run::FORGED).is_some()
    }
}

pub(crate) fn decision(kept: &Kept) -> Option<Decision> {
    serde_json::from_str(kept.headers.get(header::DECISION)?).ok()
}

/// In what a decision is wider than the one before it, where work came back.
fn wider(broker: &Broker, kept: &Kept, decision: &Decision, cause: &Kept) -> Option<String> {
    if !cause.subject.starts_with("step.") {
        return None;
    }
    let before: Position = cause.headers.get(header::CAUSE)?.parse().ok()?;
    let work = broker.get(&before)?;
    let earlier = self::decision(work)?;
    let (place, was) = (decision.destination.as_ref()?, earlier.destination.as_ref()?);
    let what = |why: &str| Some(format!("{} after {before}: {why}", kept.position));
    if was.lane == Lane::Local && place.lane == Lane::Cloud {
        return what("local work became cloud work");
    }
    if decision.labels.sensitivity < earlier.labels.sensitivity {
        return what("its labels became less strict");
    }
    let step: Step = serde_json::from_slice(&cause.payload).ok()?;
    let failed = matches!(step.reason, StepReason::Fallback { .. }) && place.name == was.name;
    if failed || earlier.facts.tried.contains(&place.name) {
        return what("it goes where it has failed");
    }
    None
}
