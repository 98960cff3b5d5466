//! The cloud worker's shell in the simulation.

use tidegate_cloud::life::{Action, Arrived, Context, Disposition, Event as Told, Life, Message, Sent, Step};
use tidegate_providers::{Answer, ProviderError};
use tidegate_schemas::decision::Decision;
use tidegate_schemas::digest::Salt;
use tidegate_schemas::header;
use tidegate_schemas::ids::Name;
use tidegate_schemas::ticket::Claims;
use tidegate_schemas::work::Hop;

use crate::broker::{Ack, Kept, Parcel, Said};
use crate::call::Call;
use crate::cell::{CELL, TENANT};
use crate::mutant::Mutant;
use crate::network::Request;
use crate::process::{Job, Living, Then, Waits};
use crate::world::World;

impl World<'_> {
    pub(crate) fn with_cloud<T>(&self, process: usize, job: &Job, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let off = self.off(process);
        let canceled = self.was_withdrawn(process, job);
        work(&Context { now: self.clock(process), verifier: &self.cell.verifier, off: &off, canceled })
    }

    pub(crate) fn begin_cloud(&mut self, process: usize, number: u64, mut job: Job) {
        let message = &job.delivery.message;
        let mut arrived = Arrived {
            position: message.position.clone(),
            subject: message.subject.clone(),
            headers: message.headers.clone(),
            payload: message.payload.clone(),
            span: job.random.span,
        };
        if self.is(Mutant::TicketBelieved)
            && let Some(headers) = self.believed(process, message, job.random.ticket)
        {
            arrived.headers = headers;
        }
        let (life, step) = self.with_cloud(process, &job, |known| Life::begin(&arrived, known));
        job.living = Living::Cloud(Box::new(life), None);
        self.cloud_does(process, number, job, step);
    }

    /// Headers whose ticket verifies for whatever bytes came: what a worker that checks nothing would take it for.
    fn believed(&self, process: usize, message: &Kept, id: uuid::Uuid) -> Option<header::Headers> {
        let mut decision: Decision = serde_json::from_str(message.headers.get(header::DECISION)?).ok()?;
        let salt = Salt::try_from(message.headers.get(header::SALT)?.to_owned()).ok()?;
        let hop = Hop::read(&message.headers).ok()?;
        let place = decision.destination.clone()?;
        let content = salt.digest(&message.payload);
        decision.content = Some(content);
        let now = self.clock(process);
        let claims = Claims {
            version: 1,
            id,
            audience: CELL.to_owned(),
            tenant: Name::new(TENANT).ok()?,
            agent: hop.agent,
            task: hop.id,
            decision: decision.id,
            bundle: decision.bundle,
            directory: self.cell.directory_hash,
            content,
            content_bytes: message.payload.len() as u64,
            provider: place.target.clone(),
            model: place.model,
            region: place.region,
            base_url: place.target,
            attempts_max: 3,
            output_tokens_max: 8,
            cost_usd_micros_max: None,
            not_before: now,
            expires: now.checked_add(jiff::SignedDuration::from_secs(60)).ok()?,
            deadline: hop.deadline,
        };
        let mut headers = message.headers.clone();
        headers.set(header::DECISION, serde_json::to_string(&decision).ok()?);
        headers.set(header::TICKET, self.cell.signer.sign(&claims));
        Some(headers)
    }

    fn cloud_next(&mut self, process: usize, number: u64, mut job: Job, told: Told) {
        let Living::Cloud(mut life, call) = std::mem::replace(&mut job.living, Living::None) else {
            return self.put_off(process, number, job, 0);
        };
        let step = self.with_cloud(process, &job, |known| life.next(told, known));
        job.living = Living::Cloud(life, call);
        self.cloud_does(process, number, job, step);
    }

    fn cloud_does(&mut self, process: usize, number: u64, mut job: Job, step: Step) {
        for telling in &step.tell {
            self.tell(&telling.subject);
        }
        match step.action {
            Action::Done(Disposition::Ack) => self.finish(process, job, Ack::Done),
            Action::Done(Disposition::Retry { after_ms }) => {
                let pause = i64::try_from(after_ms).unwrap_or(0);
                self.wait(process, number, Job { living: Living::None, ..job }, pause, Waits::Again);
            }
            Action::Done(Disposition::Dead(refused)) => self.bury(process, number, job, &refused, None),
            Action::Look(subject) => {
                self.ask(process, number, job, Request::Look(subject), Waits::Answer);
            }
            Action::Call(asked) => {
                if let Living::Cloud(_, call) = &mut job.living {
                    *call = Some(Box::new(Call::new(*asked)));
                }
                self.next_attempt(process, number, job);
            }
            Action::Send(message) => {
                let is_result = message.subject.starts_with("result.");
                let publish = self.patient(parcel(message), Then::Sent, is_result);
                self.ends_here(&job, &publish.parcel);
                self.publish(process, number, job, publish);
            }
            Action::Admit(_) | Action::Claim(_) | Action::Open | Action::Shut | Action::Note(_) => {
                self.put_off(process, number, job, 0);
            }
        }
    }

    pub(crate) fn called(
        &mut self,
        process: usize,
        number: u64,
        job: Job,
        outcome: Result<Box<Answer>, ProviderError>,
    ) {
        self.cloud_next(process, number, job, Told::Called(outcome));
    }

    pub(crate) fn cloud_looked(&mut self, process: usize, number: u64, job: Job, found: bool) {
        self.cloud_next(process, number, job, Told::Looked(found));
    }

    pub(crate) fn cloud_claimed(&mut self, process: usize, number: u64, job: Job, said: &Said) {
        self.claim_answered(process, number, job, sent(said));
    }

    pub(crate) fn claim_answered(&mut self, process: usize, number: u64, mut job: Job, sent: Sent) {
        let Living::Cloud(mut life, call) = std::mem::replace(&mut job.living, Living::None) else {
            return self.put_off(process, number, job, 0);
        };
        let step = self.with_cloud(process, &job, |known| life.next(Told::Claimed(sent), known));
        job.living = Living::Cloud(life, call);
        self.claims(process, number, job, step);
    }

    pub(crate) fn cloud_sent(&mut self, process: usize, number: u64, job: Job, said: &Said) {
        self.cloud_next(process, number, job, Told::Sent(sent(said)));
    }
}

fn sent(said: &Said) -> Sent {
    match said {
        Said::Stored(_) => Sent::Stored,
        Said::Duplicate(_) => Sent::Duplicate,
        Said::Taken | Said::Full => Sent::Taken,
    }
}

pub(crate) fn parcel(message: Message) -> Parcel {
    let Message { subject, msg_id, headers, payload } = message;
    Parcel { subject, msg_id, headers, payload }
}
