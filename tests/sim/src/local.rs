//! The local worker's shell in the simulation, and an engine that answers, fails or has no room.

use std::sync::Arc;
use std::time::Duration;

use tidegate_engine::{
    EngineError, EntitySpan, FinishReason, JobInput, ModelInfo, Output, OutputContent, SubmitError, TextScan,
    Timings, Usage,
};
use tidegate_local::life::{
    Action, Arrived, Context, Disposition, Event as Told, Life, Message, Models, Ran, Run, Sent, Step,
};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::subject;

use crate::broker::{Ack, Parcel, Said, at, result_subject};
use crate::network::Request;
use crate::process::{Job, Living, Then, Waits};
use crate::world::World;

impl World<'_> {
    fn with_local<T>(&self, process: usize, job: &Job, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let models = Models { chat: self.processes[process].chats, ..self.cell.models.clone() };
        let off = self.off(process);
        let canceled = self.was_withdrawn(process, job);
        work(&Context { now: self.clock(process), off: &off, canceled, models: &models })
    }

    /// Whether the process was told that the task of this message was withdrawn.
    pub(crate) fn was_withdrawn(&self, process: usize, job: &Job) -> bool {
        let message = &job.delivery.message;
        let hop = tidegate_schemas::work::Hop::read(&message.headers);
        let known = &self.processes[process].canceled;
        let mut tenants = self.cell.directory.tenants.keys();
        hop.is_ok_and(|hop| tenants.any(|tenant| known.contains(&subject::notice_cancel(tenant, hop.id))))
    }

    pub(crate) fn begin_local(&mut self, process: usize, number: u64, mut job: Job) {
        let message = &job.delivery.message;
        let arrived = Arrived {
            position: message.position.clone(),
            subject: message.subject.clone(),
            headers: message.headers.clone(),
            payload: message.payload.clone(),
            delivered: job.delivery.delivered,
            published: at(message.at),
            span: job.random.span,
        };
        let (life, step) = self.with_local(process, &job, |known| Life::begin(&arrived, known));
        job.living = Living::Local(Box::new(life));
        self.local_does(process, number, job, step);
    }

    fn local_next(&mut self, process: usize, number: u64, mut job: Job, told: Told) {
        let Living::Local(mut life) = std::mem::replace(&mut job.living, Living::None) else {
            return self.put_off(process, number, job, 0);
        };
        let step = self.with_local(process, &job, |known| life.next(told, known));
        job.living = Living::Local(life);
        self.local_does(process, number, job, step);
    }

    fn local_does(&mut self, process: usize, number: u64, job: Job, step: Step) {
        match step.action {
            Action::Done(Disposition::Ack) => self.finish(process, job, Ack::Done),
            Action::Done(Disposition::Retry { after_ms }) => {
                let pause = i64::try_from(after_ms).unwrap_or(0);
                self.wait(process, number, Job { living: Living::None, ..job }, pause, Waits::Again);
            }
            Action::Done(Disposition::Dead { refused, result, .. }) => {
                let result = result.map(|(_, message)| parcel(*message));
                self.bury(process, number, job, &refused, result);
            }
            Action::Look { agent, task, .. } => {
                let subject = result_subject(&agent, task);
                self.ask(process, number, job, Request::Look(subject), Waits::Answer);
            }
            Action::Run(run) => self.run_on_engine(process, number, job, run),
            Action::Send(message) => {
                let publish = self.patient(parcel(message), Then::Sent, false);
                self.publish(process, number, job, publish);
            }
        }
    }

    /// The engine takes it, or has no room; its attempt is recorded meanwhile.
    fn run_on_engine(&mut self, process: usize, number: u64, job: Job, run: Box<Run>) {
        let faults = self.rates().engine;
        if self.dice.chance(faults / 3) {
            let full = SubmitError::Overloaded { limit: 8 };
            return self.local_next(process, number, job, Told::Ran(Ran::NotTaken(full)));
        }
        let publish = self.patient(parcel(run.attempt.clone()), Then::Attempted(run), false);
        self.publish(process, number, job, publish);
    }

    /// The attempt is on record; the engine answers after a while.
    pub(crate) fn engine_runs(&mut self, process: usize, number: u64, job: Job, run: Box<Run>) {
        let took = self.dice.between(5, 900);
        self.wait(process, number, job, took, Waits::Engine(run));
    }

    pub(crate) fn engine_ran(&mut self, process: usize, number: u64, job: Job, run: &Run) {
        let faults = self.rates().engine;
        let ran = if self.was_withdrawn(process, &job) {
            Ran::Failed(EngineError::Canceled, None)
        } else if self.clock(process) >= run.deadline {
            Ran::Failed(EngineError::DeadlineExceeded, None)
        } else if self.dice.chance(faults) {
            let errors = [
                EngineError::Panicked,
                EngineError::ShutDown,
                EngineError::Model { doing: "decoding" },
                EngineError::UnsupportedKind { kind: "chat" },
                EngineError::ContextTooLong { prompt_tokens: 9, context_tokens: 8 },
            ];
            Ran::Failed(errors[self.dice.below(errors.len())].clone(), None)
        } else {
            Ran::Finished(Box::new(output(&run.input, self.cell.models.scan_sha256)))
        };
        self.local_next(process, number, job, Told::Ran(ran));
    }

    pub(crate) fn local_looked(&mut self, process: usize, number: u64, job: Job, found: bool) {
        self.local_next(process, number, job, Told::Looked(found));
    }

    pub(crate) fn local_sent(&mut self, process: usize, number: u64, job: Job, said: &Said) {
        let sent = match said {
            Said::Stored(_) => Sent::Stored,
            Said::Duplicate(_) => Sent::Duplicate,
            Said::Taken | Said::Full => Sent::Taken,
        };
        self.local_next(process, number, job, Told::Sent(sent));
    }

    /// Whether the task has its result, said to whom asked.
    pub(crate) fn looked(&mut self, process: usize, number: u64, job: Job, found: bool) {
        match &job.living {
            Living::Local(_) => self.local_looked(process, number, job, found),
            Living::Cloud(..) => self.cloud_looked(process, number, job, found),
            Living::Router(_) | Living::None => self.put_off(process, number, job, 0),
        }
    }
}

fn parcel(message: Message) -> Parcel {
    let Message { subject, msg_id, headers, payload } = message;
    Parcel { subject, msg_id, headers, payload }
}

fn output(input: &JobInput, scan: Option<Digest>) -> Output {
    let content = match input {
        JobInput::Embed { texts } => OutputContent::Embeddings(texts.iter().map(|_| vec![1.0]).collect()),
        JobInput::Chat(request) if request.schema.is_some() => {
            OutputContent::Text(r#"{"class":"a"}"#.to_owned())
        }
        JobInput::Chat(_) => OutputContent::Text("a tide".to_owned()),
        JobInput::Scan { texts } => {
            // Somebody is named everywhere: no scan opens what is closed, so what may leave is known beforehand.
            let named = || EntitySpan { start: 0, end: 1, entity: "person".to_owned(), score: 0.9 };
            OutputContent::Scanned(texts.iter().map(|_| TextScan::Read(vec![named()])).collect())
        }
    };
    let model = ModelInfo {
        kind: "chat".to_owned(),
        name: "m".to_owned(),
        architecture: "llama".to_owned(),
        quantisation: "Q8_0".to_owned(),
        sha256: match (input, scan) {
            (JobInput::Scan { .. }, Some(weights)) => weights.to_string(),
            _ => "ab".repeat(32),
        },
        adapter_sha256: None,
        context_tokens: 2_048,
        threads: 1,
        kernels: "avx2".to_owned(),
    };
    Output {
        content,
        finish: FinishReason::Stop,
        usage: Usage { input_tokens: 3, output_tokens: 2 },
        timings: Timings { queued: Duration::ZERO, prompt: Duration::ZERO, decode: Duration::ZERO },
        model: Arc::new(model),
    }
}
