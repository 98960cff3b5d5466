//! The handler of the pool `restore`: performs what [`super::home`] says. The answer may be paid for, so a vault that does not
//! answer is asked again until the task's deadline.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tidegate_bus::{Bus, Dead, Handler, Health, Inbound, Verdict};
use tidegate_schemas::metric;
use tidegate_schemas::redact::Restored;
use tidegate_schemas::vault::{RESOLVE, Resolved};
use tracing::{debug, error, warn};

use super::ask::ask;
use super::home::Home;
use crate::desk::Desk;
use crate::life::{Message, Sent, told};
use crate::send::send;
use crate::worker::{BUS_FAILED_MS, SEATED_MS, arrived, count, retry};

/// Wait after the vault did not answer.
const VAULT_AGAIN: Duration = Duration::from_millis(500);

/// Restores.
#[derive(Clone)]
pub(crate) struct Restoring {
    pub(crate) bus: Bus,
    pub(crate) desk: Arc<Desk>,
    pub(crate) health: Health,
}

impl Handler for Restoring {
    async fn handle(&self, message: &Inbound) -> Verdict {
        let Some(_seat) = self.desk.seat(message.sequence) else { return retry(SEATED_MS) };
        let home = match Home::read(&arrived(message)) {
            Ok(home) => home,
            Err(refused) => return Verdict::Dead(Box::new(Dead::new(refused.code, refused.sentence))),
        };
        let asked = home.question();
        let resolved: Resolved = match ask(&self.bus, RESOLVE, &asked).await {
            Ok(resolved) => resolved,
            // The recorder has ended the task at its deadline.
            Err(_) if Timestamp::now() >= home.hop.deadline => return self.send_late(&home).await,
            Err(why) => {
                warn!(position = %home.position, %why, "An answer waits for the vault.");
                self.health.error(format!("restoring: {why}"));
                return Verdict::Retry { after: VAULT_AGAIN };
            }
        };
        match home.result(&asked, resolved, Timestamp::now()) {
            Ok((result, counts)) => self.end(&home, &result, counts).await,
            Err(refused) => Verdict::Dead(Box::new(Dead::new(refused.code, refused.sentence))),
        }
    }
}

impl Restoring {
    async fn end(&self, home: &Home, result: &Message, counts: Restored) -> Verdict {
        let (result, counts, sent) = match send(&self.bus, result).await {
            // The values are longer than their tokens, and the result with them longer than a message.
            Ok(Sent::TooLarge) => {
                let small = home.oversized(Timestamp::now());
                let sent = send(&self.bus, &small).await;
                (Cow::Owned(small), Restored::default(), sent)
            }
            sent => (Cow::Borrowed(result), counts, sent),
        };
        match sent {
            Ok(sent @ (Sent::Stored | Sent::Duplicate)) => {
                count(&result, sent);
                tell_counts(counts);
                for telling in told(&home.tenant, &home.hop, Some(&home.decision), &result) {
                    let told =
                        self.bus.publish_core(&telling.subject, &telling.headers, telling.payload).await;
                    if let Err(error) = told {
                        debug!(%error, "A transition could not be told.");
                    }
                }
                Verdict::Done
            }
            Ok(Sent::Taken | Sent::TooLarge) => self.send_late(home).await,
            Err(error) => {
                error!(position = %home.position, %error, "A result was put off.");
                self.health.error(error.to_string());
                retry(BUS_FAILED_MS)
            }
        }
    }

    async fn send_late(&self, home: &Home) -> Verdict {
        match send(&self.bus, &home.late(Timestamp::now())).await {
            Ok(_) => Verdict::Done,
            Err(error) => {
                error!(position = %home.position, %error, "A late answer was put off.");
                retry(BUS_FAILED_MS)
            }
        }
    }
}

/// Counts what became of tokens.
fn tell_counts(counts: Restored) {
    let Restored { restored, foreign, dropped, mangled } = counts;
    for (word, count) in
        [("restored", restored), ("foreign", foreign), ("dropped", dropped), ("mangled", mangled)]
    {
        metrics::counter!(metric::REDACTION_TOKENS, "outcome" => word).increment(count.into());
    }
}
