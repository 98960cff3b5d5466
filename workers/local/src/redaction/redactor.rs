//! The handler of the pool `redact`: performs what [`super::job`] says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tidegate_bus::{Bus, Dead, Handler, Health, Inbound, Verdict};
use tidegate_engine::{Engine, EngineError, JobEvent, JobInput, SubmitError};
use tidegate_schemas::code::Code;
use tidegate_schemas::vault::{ISSUE, Issued};
use tracing::{error, warn};

use super::ask::ask;
use super::follow::Followers;
use super::job::Job;
use super::reading::no_go;
use crate::desk::Desk;
use crate::inference;
use crate::life::{Models, Sent, longest};
use crate::send::send;
use crate::worker::{BUS_FAILED_MS, SEATED_MS, arrived, retry};

/// Wait while the engine takes nothing, milliseconds.
const ENGINE_FULL_MS: u64 = 200;

/// Why no model has read a text.
enum Unread {
    /// It may later, here or elsewhere.
    Later,
    /// It will not.
    Never(Code),
}

/// Redacts.
#[derive(Clone)]
pub(crate) struct Redactor {
    pub(crate) bus: Bus,
    pub(crate) engine: Engine,
    pub(crate) models: Arc<Models>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) health: Health,
    pub(crate) followers: Arc<Followers>,
}

impl Handler for Redactor {
    async fn handle(&self, message: &Inbound) -> Verdict {
        let Some(_seat) = self.desk.seat(message.sequence) else { return retry(SEATED_MS) };
        let mut job = match Job::read(&arrived(message)) {
            Ok(job) => job,
            Err(refused) => return Verdict::Dead(Box::new(Dead::new(refused.code, refused.sentence))),
        };
        let whose = (job.tenant.clone(), job.hop.id);
        if self.desk.is_canceled(&whose) || Timestamp::now() >= job.hop.deadline {
            // Who ended it has said so.
            return Verdict::Done;
        }
        let unread = match self.read(&mut job).await {
            Ok(()) => None,
            Err(Unread::Later) => return retry(ENGINE_FULL_MS),
            Err(Unread::Never(code)) => job.unread(code),
        };
        let step = match unread {
            Some(step) => {
                warn!(position = %job.position, "No model could read a text, so nothing leaves.");
                step
            }
            None => self.redacted(&job).await.unwrap_or_else(|why| {
                warn!(position = %job.position, %why, "Nothing was redacted, so nothing leaves.");
                self.health.error(format!("redacting: {why}"));
                job.given_up(Code::Internal)
            }),
        };
        let sent = match send(&self.bus, &step).await {
            // With tokens in it the input is longer than a message: it stays inside as it is.
            Ok(Sent::TooLarge) => send(&self.bus, &job.given_up(Code::TooLarge)).await,
            sent => sent,
        };
        match sent {
            Ok(_) => Verdict::Done,
            Err(error) => {
                error!(position = %job.position, %error, "A step was put off.");
                retry(BUS_FAILED_MS)
            }
        }
    }
}

impl Redactor {
    /// Has the model that the work names read the texts.
    async fn read(&self, job: &mut Job) -> Result<(), Unread> {
        let Some(by_model) = job.by_model() else { return Ok(()) };
        let now = Timestamp::now();
        if let Some(code) = no_go((&job.texts(), job.published), by_model, &self.models, now) {
            return Err(Unread::Never(code));
        }
        let input = JobInput::Scan { texts: job.texts().into_iter().map(str::to_owned).collect() };
        let ends = now.checked_add(longest()).unwrap_or(job.hop.deadline).min(job.hop.deadline);
        let left = Duration::try_from(ends.duration_since(now)).unwrap_or_default();
        let mut reading = match inference::begin(&self.engine, input, Some(Instant::now() + left), false) {
            Ok(reading) => reading,
            Err(SubmitError::Overloaded { .. } | SubmitError::Stopped) => return Err(Unread::Later),
        };
        let running = self.desk.run((job.tenant.clone(), job.hop.id), reading.cancel_flag());
        let read = reading.next().await;
        drop(running);
        match read {
            JobEvent::Done(output) => job.join(&output).map_err(Unread::Never),
            JobEvent::Failed(EngineError::ShutDown | EngineError::Canceled, _) => Err(Unread::Later),
            JobEvent::Failed(..) | JobEvent::Token { .. } => Err(Unread::Never(Code::ModelFailed)),
        }
    }

    async fn redacted(&self, job: &Job) -> Result<crate::life::Message, String> {
        let asked = job.question().map_err(|refused| refused.sentence)?;
        let issued: Issued = ask(&self.bus, ISSUE, &asked).await?;
        let (step, known) = job.answer(&asked, &issued).map_err(|refused| refused.sentence)?;
        if job.streams() {
            // Before anything can leave, so that no piece is missed.
            self.followers.follow(&self.bus, job, known).await;
        }
        Ok(step)
    }
}
