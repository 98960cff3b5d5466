//! The shell around a life, as the roles' own shells do it: it pulls, performs, tries again what may be tried again, puts off
//! what cannot be done now, and acknowledges only what is done.

use std::rc::Rc;

use tidegate_schemas::code::Refused;
use tidegate_schemas::header::{self, Headers};

use crate::broker::{Ack, Delivery, Parcel, Said};
use crate::mutant::Mutant;
use crate::network::Request;
use crate::process::{Job, Living, Publish, Reply, Role, Then, To, Waits};
use crate::world::{Event, World};

/// Messages that a process has in hand at most, count.
const IN_HAND_MAX: usize = 24;
/// First pause between two tries of a worker's publish, milliseconds.
const PAUSE_MS: i64 = 200;
const PAUSE_MS_MAX: i64 = 1_600;
/// How long a worker tries a message that is no result, milliseconds.
pub(crate) const PATIENCE_MS: i64 = 60_000;
/// Wait before a router takes a message up again, milliseconds; while a stream is full the second.
const ROUTER_LATER_MS: i64 = 500;
const FULL_LATER_MS: i64 = 2_000;
/// Wait before a worker does, milliseconds.
const WORKER_LATER_MS: i64 = 2_000;
/// Wait while an earlier delivery is in hand, milliseconds.
const SEATED_MS: i64 = 500;
/// How often progress is acknowledged, milliseconds.
const PROGRESS_MS: i64 = 10_000;

impl World<'_> {
    /// Takes what the consumers of a process have, as far as there is room.
    pub(crate) fn pull(&mut self, process: usize) {
        if self.broker_down || !self.processes[process].up || self.processes[process].stopped_until > self.now
        {
            return;
        }
        let role = self.processes[process].role;
        let mut room = IN_HAND_MAX.saturating_sub(self.processes[process].jobs.len());
        for consumer in 0..self.broker.consumers.len() {
            if self.role_of(consumer) != role {
                continue;
            }
            while room > 0 {
                let Some(delivery) = self.broker.deliver(consumer, self.now) else { break };
                room -= 1;
                self.deliver(process, delivery);
            }
        }
    }

    /// Tells the broker that what is in hand is worked on.
    pub(crate) fn tell_progress(&mut self, process: usize) {
        if !self.processes[process].up || self.processes[process].stopped_until > self.now {
            return;
        }
        let now = self.now;
        let jobs = self.processes[process].jobs.values_mut();
        let due = jobs.filter(|job| now - job.progress_at >= PROGRESS_MS);
        let due: Vec<(usize, u64)> = due
            .map(|job| {
                job.progress_at = now;
                (job.delivery.consumer, job.delivery.message.position.sequence)
            })
            .collect();
        for (consumer, sequence) in due {
            self.send(Request::Acknowledge { consumer, sequence, ack: Ack::Progress }, None);
        }
    }

    pub(crate) fn take_up(&mut self, process: usize, epoch: u32, delivery: Delivery) {
        if self.processes[process].epoch != epoch || !self.processes[process].up {
            return;
        }
        self.next_job += 1;
        let number = self.next_job;
        self.note(|| {
            format!("{} took {} ({})", name(process), delivery.message.position, delivery.delivered)
        });
        if self.is(Mutant::AckFirst) {
            self.acknowledge(&delivery, Ack::Done);
        }
        let random = self.randomness();
        let job = Job {
            delivery,
            living: Living::None,
            turn: 0,
            waits: Waits::Again,
            progress_at: self.now,
            begun: self.clock(process),
            random,
            knew: None,
        };
        self.begin_life(process, number, job);
    }

    /// Begins a message's life, for the first time or once more.
    fn begin_life(&mut self, process: usize, number: u64, mut job: Job) {
        job.random = self.randomness();
        job.begun = self.clock(process);
        let role = self.processes[process].role;
        if role != Role::Router && self.processes[process].has_in_hand(&job.delivery) {
            return self.wait(process, number, job, SEATED_MS, Waits::Again);
        }
        match role {
            Role::Router => self.begin_router(process, number, job),
            Role::Local => self.begin_local(process, number, job),
            Role::Cloud => self.begin_cloud(process, number, job),
        }
    }

    pub(crate) fn to(&self, process: usize, number: u64, job: &Job) -> To {
        To { process, epoch: self.processes[process].epoch, job: number, turn: job.turn }
    }

    /// Lets a message wait for a while.
    pub(crate) fn wait(&mut self, process: usize, number: u64, mut job: Job, pause: i64, waits: Waits) {
        job.turn += 1;
        job.waits = waits;
        let to = self.to(process, number, &job);
        self.after(pause, Event::Back(to, Reply::Wake));
        self.processes[process].jobs.insert(number, job);
    }

    /// Asks, and lets the message wait for the answer.
    pub(crate) fn ask(&mut self, process: usize, number: u64, mut job: Job, request: Request, waits: Waits) {
        job.turn += 1;
        job.waits = waits;
        let to = self.to(process, number, &job);
        self.processes[process].jobs.insert(number, job);
        self.send(request, Some(to));
    }

    pub(crate) fn publish(&mut self, process: usize, number: u64, job: Job, publish: Publish) {
        let parcel = publish.parcel.clone();
        self.ask(process, number, job, Request::Publish(parcel, None), Waits::Publish(Box::new(publish)));
    }

    /// A publish with the patience that a worker has for it.
    pub(crate) fn patient(&self, parcel: Parcel, then: Then, forever: bool) -> Publish {
        let until = (!forever).then_some(self.now + PATIENCE_MS);
        Publish { parcel, until, pause: PAUSE_MS, then }
    }

    /// An answer has come back.
    pub(crate) fn answer(&mut self, to: To, reply: Reply) {
        let To { process, epoch, job: number, turn } = to;
        if self.processes[process].epoch != epoch {
            return;
        }
        let expected = self.processes[process].jobs.get(&number).is_some_and(|job| job.turn == turn);
        if !expected {
            return;
        }
        let Some(mut job) = self.processes[process].jobs.remove(&number) else { return };
        match (std::mem::replace(&mut job.waits, Waits::Again), reply) {
            (Waits::Again, Reply::Wake) => self.begin_life(process, number, job),
            (Waits::Resend(publish), Reply::Wake) => self.publish(process, number, job, *publish),
            (Waits::Publish(publish), Reply::Said(Said::Full)) => {
                self.not_published(process, number, job, *publish, FULL_LATER_MS);
            }
            (Waits::Publish(publish), Reply::Said(said)) => {
                self.published(process, number, job, *publish, &said);
            }
            (Waits::Publish(publish), Reply::Silence) => {
                self.not_published(process, number, job, *publish, ROUTER_LATER_MS);
            }
            (Waits::Publish(publish), _) => self.given_up(process, number, job, *publish),
            (Waits::Provider, Reply::Provider(outcome)) => self.attempted(process, number, job, *outcome),
            (Waits::Provider, _) => self.unanswered(process, number, job),
            (Waits::Attempt, _) => self.next_attempt(process, number, job),
            (Waits::Engine(run), _) => self.engine_ran(process, number, job, &run),
            (Waits::Answer, Reply::Loaded(found)) => self.router_loaded(process, number, job, found),
            (Waits::Answer, Reply::Claimed(holder)) => self.router_claimed(process, number, job, holder),
            (Waits::Answer, Reply::Looked(found)) => self.looked(process, number, job, found),
            (_, _) => self.put_off(process, number, job, ROUTER_LATER_MS),
        }
    }

    fn published(&mut self, process: usize, number: u64, job: Job, publish: Publish, said: &Said) {
        match publish.then {
            Then::Sent => match self.processes[process].role {
                Role::Router => self.router_sent(process, number, job, said),
                Role::Local => self.local_sent(process, number, job, said),
                Role::Cloud => self.cloud_sent(process, number, job, said),
            },
            Then::Claimed => self.cloud_claimed(process, number, job, said),
            Then::Noted(pause) => self.wait(process, number, job, pause, Waits::Attempt),
            Then::Attempted(run) => self.engine_runs(process, number, job, run),
            Then::Dead(Some(result)) => {
                let publish = Publish { parcel: result, then: Then::Dead(None), ..publish };
                self.publish(process, number, job, publish);
            }
            Then::Dead(None) => self.finish(process, job, Ack::Done),
        }
    }

    /// No answer, or no room: a worker tries again for a while.
    fn not_published(&mut self, process: usize, number: u64, job: Job, publish: Publish, router_ms: i64) {
        let role = self.processes[process].role;
        let pause = publish.pause;
        let again = role != Role::Router && publish.until.is_none_or(|until| self.now + pause < until);
        match publish.then {
            Then::Dead(_) => self.finish(process, job, Ack::Again(FULL_LATER_MS)),
            _ if again => {
                let publish = Publish { pause: (pause * 2).min(PAUSE_MS_MAX), ..publish };
                self.wait(process, number, job, pause, Waits::Resend(Box::new(publish)));
            }
            _ if role == Role::Router => self.put_off(process, number, job, router_ms),
            _ => self.given_up(process, number, job, publish),
        }
    }

    /// What a retry does not cure, or patience is over.
    fn given_up(&mut self, process: usize, number: u64, job: Job, publish: Publish) {
        match publish.then {
            Then::Dead(_) => self.finish(process, job, Ack::Again(FULL_LATER_MS)),
            // The end of an attempt may be missing; the next claim meets the same trouble, and nothing leaves then.
            Then::Noted(pause) => self.wait(process, number, job, pause, Waits::Attempt),
            _ => self.put_off(process, number, job, ROUTER_LATER_MS),
        }
    }

    /// Takes a message up again later; it stays with this process.
    pub(crate) fn put_off(&mut self, process: usize, number: u64, mut job: Job, router_ms: i64) {
        job.living = Living::None;
        let pause = if self.processes[process].role == Role::Router { router_ms } else { WORKER_LATER_MS };
        self.note(|| format!("{} puts off {}", name(process), job.delivery.message.position));
        self.wait(process, number, job, pause, Waits::Again);
    }

    /// The message is let go.
    pub(crate) fn finish(&mut self, process: usize, job: Job, ack: Ack) {
        self.note(|| format!("{} is done with {}: {ack:?}", name(process), job.delivery.message.position));
        self.acknowledge(&job.delivery, ack);
        let delay = self.dice.between(1, 4);
        self.after(delay, Event::Pull(process));
    }

    fn acknowledge(&mut self, delivery: &Delivery, ack: Ack) {
        let (consumer, sequence) = (delivery.consumer, delivery.message.position.sequence);
        self.send(Request::Acknowledge { consumer, sequence, ack }, None);
    }

    /// The message leads nowhere: its dead letter, then its result where there is one, then it is let go.
    pub(crate) fn bury(
        &mut self,
        process: usize,
        number: u64,
        job: Job,
        refused: &Refused,
        result: Option<Parcel>,
    ) {
        let position = job.delivery.message.position.clone();
        let role = match self.processes[process].role {
            Role::Router => "router",
            Role::Local => "local",
            Role::Cloud => "cloud",
        };
        let letter = Parcel {
            subject: format!("dead.{role}.{}", crate::cell::TENANT),
            msg_id: format!("dead/{position}"),
            headers: Headers::new()
                .with(header::CAUSE, position.to_string())
                .with(header::CODE, refused.code.as_str()),
            payload: bytes::Bytes::new(),
        };
        self.note(|| format!("{} gives up {position}: {}", name(process), refused.sentence));
        let publish =
            Publish { parcel: letter, until: Some(self.now), pause: PAUSE_MS, then: Then::Dead(result) };
        self.publish(process, number, job, publish);
    }

    /// Tells what nobody waits for. Only a withdrawal's notice has an effect on anybody here.
    pub(crate) fn tell(&mut self, subject: &str) {
        if !subject.starts_with("notice.cancel.") {
            return;
        }
        for process in 0..self.processes.len() {
            let lost = self.rates().drop;
            if self.processes[process].role != Role::Router && !self.dice.chance(lost) {
                let (epoch, delay) = (self.processes[process].epoch, self.latency());
                self.after(delay, Event::Notice { process, epoch, subject: subject.to_owned() });
            }
        }
    }

    /// The time as a process has it.
    pub(crate) fn clock(&self, process: usize) -> jiff::Timestamp {
        crate::broker::at(self.now + self.processes[process].clock_ms)
    }

    /// What a process takes for switched off.
    pub(crate) fn off(&self, process: usize) -> Rc<[tidegate_schemas::decision::Switch]> {
        if self.is(Mutant::SwitchesIgnored) { Rc::new([]) } else { Rc::clone(&self.processes[process].off) }
    }
}

/// A process by name.
pub(crate) fn name(process: usize) -> String {
    let kind = ["router", "local", "cloud"][(process / 2).min(2)];
    format!("{kind}-{}", process % 2 + 1)
}
