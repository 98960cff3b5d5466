//! The router's shell in the simulation.

use std::collections::BTreeMap;
use std::rc::Rc;

use tidegate_router::life::{
    Action, Bench, Context, Disposition, Event as Told, Life, Message, Place, Randomness, Sent, Step, Stored,
};
use tidegate_schemas::decision::{Decision, Outcome};
use tidegate_schemas::flag::FlagSettings;
use tidegate_schemas::header;
use tidegate_schemas::ids::Position;
use uuid::Uuid;

use crate::broker::{Ack, Kept, Parcel, Said, at};
use crate::cell::CELL;
use crate::check::Invariant;
use crate::host::name;
use crate::mutant::Mutant;
use crate::network::Request;
use crate::process::{Job, Knew, Living, Publish, Then, Waits};
use crate::world::World;

/// What a router knows that is the same in each run.
struct Known {
    flags: FlagSettings,
    waits: BTreeMap<tidegate_schemas::ids::Name, u64>,
}

impl World<'_> {
    pub(crate) fn randomness(&mut self) -> Randomness {
        Randomness {
            decision: Uuid::from_u128(self.dice.wide()),
            ticket: Uuid::from_u128(self.dice.wide()),
            salt: self.dice.salt(),
            trace: self.dice.wide() | 1,
            span: self.dice.bits() | 1,
        }
    }

    fn with_router<T>(&self, process: usize, random: Randomness, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let known = Known { flags: FlagSettings::new(), waits: BTreeMap::new() };
        let (off, recent) = (self.off(process), Rc::clone(&self.processes[process].recent));
        let gates = self.gates();
        work(&Context {
            now: self.clock(process),
            random,
            directory: &self.cell.directory,
            directory_hash: self.cell.directory_hash,
            bench: Bench::only(&self.cell.judge),
            signs: true,
            cell: CELL,
            off: &off,
            flags: &known.flags,
            flags_revision: 0,
            release_revision: 0,
            wait_ms: &known.waits,
            in_flight: &known.waits,
            gates: &gates,
            recent: &recent,
            egress_open: self.processes[process].egress_open || self.is(Mutant::GateOpen),
        })
    }

    pub(crate) fn begin_router(&mut self, process: usize, number: u64, mut job: Job) {
        let mut stored = self.router_sees(&job.delivery.message);
        if self.is(Mutant::FallbackWidens) {
            stored.subject = stored.subject.replace("step.local.", "step.cloud.");
        }
        let (life, step) = self.with_router(process, job.random, |known| Life::begin(stored, None, known));
        job.living = Living::Router(Box::new(life));
        self.router_does(process, number, job, step);
    }

    /// A stored message as the router gets it.
    fn router_sees(&self, kept: &Kept) -> Stored {
        Stored {
            position: kept.position.clone(),
            subject: kept.subject.clone(),
            headers: kept.headers.clone(),
            payload: kept.payload.clone(),
            time: at(kept.at),
        }
    }

    fn router_next(&mut self, process: usize, number: u64, mut job: Job, told: Told) {
        let Living::Router(life) = &mut job.living else {
            return self.put_off(process, number, job, 0);
        };
        let step = self.with_router(process, job.random, |known| life.next(told, known));
        self.router_does(process, number, job, step);
    }

    fn router_does(&mut self, process: usize, number: u64, mut job: Job, step: Step) {
        for telling in &step.tell {
            self.tell(&telling.subject);
        }
        match step.action {
            Action::Done(Disposition::Ack) => self.finish(process, job, Ack::Done),
            Action::Done(Disposition::Dead(refused)) => self.bury(process, number, job, &refused, None),
            Action::Load(places) => self.load(process, number, job, places),
            Action::Claim { key, value } => {
                job.knew = Some(self.knows(process));
                self.ask(process, number, job, Request::Claim { key, value }, Waits::Answer);
            }
            // The bucket of what sessions held is not played: nothing was held, and it is written at once.
            Action::Recall(_) => self.router_next(process, number, job, Told::Recalled(None)),
            Action::Remember { .. } => self.router_next(process, number, job, Told::Remembered(true)),
            Action::Send(message) => self.router_sends(process, number, job, message),
        }
    }

    fn load(&mut self, process: usize, number: u64, job: Job, places: Vec<Place>) {
        self.ask(process, number, job, Request::Load(places), Waits::Answer);
    }

    fn knows(&self, process: usize) -> Knew {
        let process = &self.processes[process];
        Knew { egress_open: process.egress_open, off: Rc::clone(&process.off) }
    }

    fn router_sends(&mut self, process: usize, number: u64, mut job: Job, message: Message) {
        if let Living::Router(life) = &job.living
            && let Some((tenant, agent, task)) = life.named()
        {
            let sequence = job.delivery.message.position.sequence;
            self.processes[process].recent.note(tenant, agent, task, sequence);
        }
        let Message { subject, msg_id, mut headers, payload, outcome, ticket } = message;
        if outcome == Some(Outcome::Cloud) {
            let knew = job.knew.take().unwrap_or_else(|| self.knows(process));
            self.may_it(process, &knew, &headers);
        }
        if let Some(mut claims) = ticket {
            if self.is(Mutant::EndlessAttempts) {
                claims.attempts_max = 1_000;
            }
            headers.set(header::TICKET, self.cell.signer.sign(&claims));
        }
        if self.is(Mutant::EffectFirst) && subject.starts_with("work.") {
            headers.set(header::CAUSE, format!("STEPS:{}", 1_000_000 + number));
        }
        self.note(|| format!("{} sends {subject}", name(process)));
        let parcel = Parcel { subject, msg_id, headers, payload };
        let publish = Publish { parcel, until: None, pause: 0, then: Then::Sent };
        self.publish(process, number, job, publish);
    }

    /// Whether the router knew of nothing that keeps cloud work inside.
    fn may_it(&mut self, process: usize, knew: &Knew, headers: &header::Headers) {
        if !knew.egress_open {
            let what = format!("{} sent cloud work while record or clock were not well", name(process));
            self.breach(Invariant::FailClosed, what);
        }
        let decision: Option<Decision> =
            headers.get(header::DECISION).and_then(|text| serde_json::from_str(text).ok());
        let Some(place) = decision.and_then(|decision| decision.destination) else { return };
        let tenant = &self.cell.directory.tenants;
        let covered = tenant.keys().any(|tenant| knew.off.iter().any(|switch| switch.covers(tenant, &place)));
        if covered {
            let what = format!("{} sent work to {}, which is off", name(process), place.name);
            self.breach(Invariant::FailClosed, what);
        }
    }

    pub(crate) fn router_loaded(
        &mut self,
        process: usize,
        number: u64,
        job: Job,
        found: Vec<Option<Rc<Kept>>>,
    ) {
        let found = found.into_iter().map(|kept| kept.map(|kept| self.as_loaded(&kept))).collect();
        self.router_next(process, number, job, Told::Loaded(found));
    }

    /// A message that is read back; a mutant forgets some of it.
    fn as_loaded(&self, kept: &Kept) -> Stored {
        let mut stored = self.router_sees(kept);
        let is_work = stored.subject.starts_with("work.");
        if self.is(Mutant::FallbackWidens) {
            stored.subject = stored.subject.replace("work.local.", "work.cloud.");
        }
        if is_work
            && self.is(Mutant::FallbackForgets)
            && let Some(text) = stored.headers.get(header::DECISION)
            && let Ok(mut decision) = serde_json::from_str::<Decision>(text)
        {
            decision.facts.tried.clear();
            decision.destination = None;
            stored.headers.set(header::DECISION, serde_json::to_string(&decision).unwrap_or_default());
        }
        stored
    }

    pub(crate) fn router_claimed(&mut self, process: usize, number: u64, job: Job, holder: String) {
        self.router_next(process, number, job, Told::Claimed { holder });
    }

    pub(crate) fn router_sent(&mut self, process: usize, number: u64, job: Job, said: &Said) {
        let position = |position: &Position| position.clone();
        let sent = match said {
            Said::Stored(kept) => Sent::Stored(position(&kept.position)),
            Said::Duplicate(first) => Sent::Duplicate(position(first)),
            Said::Taken | Said::Full => Sent::Taken,
        };
        self.router_next(process, number, job, Told::Sent(sent));
    }
}
