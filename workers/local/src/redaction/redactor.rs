//! The handler of the pool `redact`: performs what [`super::job`] says.

use std::sync::Arc;

use jiff::Timestamp;
use tidegate_bus::{Bus, Dead, Handler, Health, Inbound, Verdict};
use tidegate_schemas::code::Code;
use tidegate_schemas::vault::{ISSUE, Issued};
use tracing::{error, warn};

use super::ask::ask;
use super::follow::Followers;
use super::job::Job;
use crate::desk::Desk;
use crate::life::Sent;
use crate::send::send;
use crate::worker::{BUS_FAILED_MS, SEATED_MS, arrived, retry};

/// Redacts.
#[derive(Clone)]
pub(crate) struct Redactor {
    pub(crate) bus: Bus,
    pub(crate) desk: Arc<Desk>,
    pub(crate) health: Health,
    pub(crate) followers: Arc<Followers>,
}

impl Handler for Redactor {
    async fn handle(&self, message: &Inbound) -> Verdict {
        let Some(_seat) = self.desk.seat(message.sequence) else { return retry(SEATED_MS) };
        let job = match Job::read(&arrived(message)) {
            Ok(job) => job,
            Err(refused) => return Verdict::Dead(Box::new(Dead::new(refused.code, refused.sentence))),
        };
        let whose = (job.tenant.clone(), job.hop.id);
        if self.desk.is_canceled(&whose) || Timestamp::now() >= job.hop.deadline {
            // Who ended it has said so.
            return Verdict::Done;
        }
        let step = match self.redacted(&job).await {
            Ok(step) => step,
            Err(why) => {
                warn!(position = %job.position, %why, "Nothing was redacted, so nothing leaves.");
                self.health.error(format!("redacting: {why}"));
                job.given_up(Code::Internal)
            }
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
