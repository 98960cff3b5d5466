//! A call under way, as the providers' client conducts it: it asks the life before each attempt, looks at the time before
//! and after, and tries again only what is transient.

use bytes::Bytes;
use jiff::SignedDuration;
use tidegate_cloud::life::{Action, Admitted, Asked as Counted, Call as Asked, Event as Told, Step};
use tidegate_providers::error::Wait;
use tidegate_providers::{Failure, ProviderError};
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::limits::CLOCK_SKEW_MS_MAX;
use uuid::Uuid;

use crate::broker::Parcel;
use crate::check::Invariant;
use crate::cloud::parcel;
use crate::host::name;
use crate::mutant::Mutant;
use crate::network::{Flight, Request};
use crate::process::{Job, Living, Then, Waits};
use crate::provider::Outcome;
use crate::world::{Event, World};

/// First pause between two attempts, milliseconds; it doubles.
const PAUSE_MS: i64 = 500;

/// A call under way.
pub(crate) struct Call {
    pub(crate) asked: Asked,
    pub(crate) attempts: u32,
    pub(crate) published: bool,
    /// The provider refused the content.
    pub(crate) refused: bool,
}

/// Bytes on their way to a provider, with what the worker says of them.
#[derive(Debug, Clone)]
pub(crate) struct Leaving {
    pub(crate) work: Position,
    pub(crate) provider: Name,
    pub(crate) model: String,
    pub(crate) bytes: Bytes,
    pub(crate) ticket: Uuid,
    pub(crate) number: u32,
    /// When its worker read it, by the worker's clock.
    pub(crate) read_at: jiff::Timestamp,
    pub(crate) sent_at: i64,
    pub(crate) clock_ms: i64,
}

impl Call {
    pub(crate) fn new(asked: Asked) -> Self {
        Self { asked, attempts: 0, published: false, refused: false }
    }
}

impl World<'_> {
    /// Why no attempt may begin now, where time or a withdrawal is in the way.
    fn in_time(&self, process: usize, job: &Job, asked: &Asked) -> Option<Failure> {
        let now = self.clock(process);
        let skew = SignedDuration::from_millis(CLOCK_SKEW_MS_MAX);
        if self.was_withdrawn(process, job) {
            Some(Failure::Canceled)
        } else if now >= asked.deadline {
            Some(Failure::Deadline)
        } else if now.duration_since(asked.cleared.claims().expires) > skew {
            Some(Failure::Expired)
        } else {
            None
        }
    }

    pub(crate) fn next_attempt(&mut self, process: usize, number: u64, mut job: Job) {
        let Living::Cloud(mut life, Some(call)) = std::mem::replace(&mut job.living, Living::None) else {
            return self.put_off(process, number, job, 0);
        };
        let late = self.in_time(process, &job, &call.asked);
        let used = call.attempts >= call.asked.cleared.claims().attempts_max;
        if let Some(failure) = late.or(used.then_some(Failure::Halted)) {
            job.living = Living::Cloud(life, Some(call));
            return self.ended(process, number, job, failure);
        }
        let host = format!("{}.example.com", call.asked.cleared.claims().provider);
        let step = self.with_cloud(process, &job, |known| life.next(Told::Attempting(host), known));
        job.living = Living::Cloud(life, Some(call));
        self.claims(process, number, job, step);
    }

    /// The life claims, lets begin, or does not.
    pub(crate) fn claims(&mut self, process: usize, number: u64, job: Job, step: Step) {
        for telling in &step.tell {
            self.tell(&telling.subject);
        }
        match step.action {
            Action::Admit(asked) => self.admitted(process, number, job, &asked),
            Action::Claim(message) if self.is(Mutant::AttemptAfterSend) => {
                let request = Request::Publish(parcel(message), None);
                self.after(3_000, Event::Land(Box::new(Flight { request, to: None })));
                self.claim_answered(process, number, job, tidegate_cloud::life::Sent::Stored);
            }
            Action::Claim(message) => {
                let publish = self.patient(parcel(message), Then::Claimed, false);
                self.publish(process, number, job, publish);
            }
            Action::Open => self.leave(process, number, job),
            _ => self.ended(process, number, job, Failure::Halted),
        }
    }

    fn admitted(&mut self, process: usize, number: u64, mut job: Job, asked: &Counted) {
        let Living::Cloud(mut life, Some(call)) = std::mem::replace(&mut job.living, Living::None) else {
            return self.put_off(process, number, job, 0);
        };
        let claims = call.asked.cleared.claims();
        let mut admitted = self.admits(asked, (&claims.tenant, &claims.agent));
        if matches!(admitted, Admitted::Through) {
            self.checker.admitted.insert(asked.reservation.clone());
        } else {
            self.checker.kept_back += 1;
            self.note(|| format!("{} is kept back: {admitted:?}", name(process)));
        }
        if self.is(Mutant::BudgetIgnored) {
            admitted = Admitted::Through;
        }
        let step = self.with_cloud(process, &job, |known| life.next(Told::Admitted(admitted), known));
        job.living = Living::Cloud(life, Some(call));
        self.claims(process, number, job, step);
    }

    /// The bytes leave, if there is still time.
    fn leave(&mut self, process: usize, number: u64, mut job: Job) {
        let Living::Cloud(life, Some(mut call)) = std::mem::replace(&mut job.living, Living::None) else {
            return self.put_off(process, number, job, 0);
        };
        if let Some(failure) = self.in_time(process, &job, &call.asked) {
            job.living = Living::Cloud(life, Some(call));
            return self.ended(process, number, job, failure);
        }
        self.may_leave(process, &job);
        call.attempts += 1;
        let claims = call.asked.cleared.claims();
        let leaving = Leaving {
            work: job.delivery.message.position.clone(),
            provider: claims.provider.clone(),
            model: claims.model.clone(),
            bytes: call.asked.cleared.bytes().clone(),
            ticket: claims.id,
            number: life.attempt(),
            read_at: job.begun,
            sent_at: self.now,
            clock_ms: self.processes[process].clock_ms,
        };
        self.note(|| format!("{} sends bytes of {} to {}", name(process), leaving.work, leaving.provider));
        job.living = Living::Cloud(life, Some(call));
        if self.is(Mutant::SentTwice) {
            self.send(Request::Leave(Box::new(leaving.clone())), None);
        }
        self.ask(process, number, job, Request::Leave(Box::new(leaving)), Waits::Provider);
    }

    /// Whether the worker knew that its destination is off.
    fn may_leave(&mut self, process: usize, job: &Job) {
        let headers = &job.delivery.message.headers;
        let decision = headers.get(tidegate_schemas::header::DECISION);
        let decision: Option<tidegate_schemas::decision::Decision> =
            decision.and_then(|text| serde_json::from_str(text).ok());
        let Some(place) = decision.and_then(|decision| decision.destination) else { return };
        let mut tenants = self.cell.directory.tenants.keys();
        let off = &self.processes[process].off;
        if tenants.any(|tenant| off.iter().any(|switch| switch.covers(tenant, &place))) {
            let what = format!(
                "{} sent {} to {}, which it knew to be off",
                name(process),
                job.delivery.message.position,
                place.name
            );
            self.breach(Invariant::FailClosed, what);
        }
    }

    pub(crate) fn unanswered(&mut self, process: usize, number: u64, job: Job) {
        let failure = Failure::Timeout(Wait::Header);
        let silent = Outcome::Failed { failure, published: false, retry_after: None };
        self.attempted(process, number, job, silent);
    }

    /// An attempt has ended.
    pub(crate) fn attempted(&mut self, process: usize, number: u64, mut job: Job, outcome: Outcome) {
        let withdrawn = self.was_withdrawn(process, &job);
        let now = self.clock(process);
        let Living::Cloud(mut life, Some(mut call)) = std::mem::replace(&mut job.living, Living::None) else {
            return self.put_off(process, number, job, 0);
        };
        let (mut failure, retry_after) = match outcome {
            Outcome::Answered(answer) if !withdrawn && now < call.asked.deadline => {
                job.living = Living::Cloud(life, Some(call));
                return self.called(process, number, job, Ok(answer));
            }
            Outcome::Answered(_) => (Failure::Deadline, None),
            Outcome::Failed { failure, published, retry_after } => {
                call.published |= published;
                (failure, retry_after)
            }
        };
        call.refused |= failure == Failure::Refused;
        if failure == Failure::Refused && self.is(Mutant::RefusedElsewhere) {
            failure = Failure::Quota;
        }
        if withdrawn {
            failure = Failure::Canceled;
        }
        let left = i64::try_from(call.asked.deadline.duration_since(now).as_millis()).unwrap_or(0);
        let pause = retry_after.unwrap_or(PAUSE_MS << call.attempts.min(4));
        let again = failure.is_transient()
            && !call.published
            && call.attempts < call.asked.cleared.claims().attempts_max
            && pause < left;
        if !again {
            job.living = Living::Cloud(life, Some(call));
            return self.ended(process, number, job, failure);
        }
        let step = self.with_cloud(process, &job, |known| life.next(Told::Retrying(failure), known));
        job.living = Living::Cloud(life, Some(call));
        match step.action {
            Action::Note(message) => {
                let publish = self.patient(parcel(message), Then::Noted(pause), false);
                self.publish(process, number, job, publish);
            }
            _ => self.wait(process, number, job, pause, Waits::Attempt),
        }
    }

    /// The call ends without an answer.
    fn ended(&mut self, process: usize, number: u64, job: Job, failure: Failure) {
        let (attempts, published) = match &job.living {
            Living::Cloud(_, Some(call)) => (call.attempts, call.published),
            _ => (0, false),
        };
        let error = ProviderError {
            failure,
            attempts,
            published,
            request_id: None,
            usage: None,
            cost_usd_micros: None,
        };
        self.called(process, number, job, Err(error));
    }

    /// What leaves the worker after a refusal is the task's end, and no request for another place.
    pub(crate) fn ends_here(&mut self, job: &Job, parcel: &Parcel) {
        let refused = matches!(&job.living, Living::Cloud(_, Some(call)) if call.refused);
        if refused && parcel.subject.starts_with("step.") {
            let what =
                format!("{}: refused content goes back for another place", job.delivery.message.position);
            self.breach(Invariant::Narrowing, what);
        }
    }
}
