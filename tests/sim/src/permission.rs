//! Permission before bytes: what reaches a provider is held against the streams alone.

use jiff::SignedDuration;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Salt;
use tidegate_schemas::header;
use tidegate_schemas::limits::CLOCK_SKEW_MS_MAX;
use tidegate_schemas::ticket::Claims;

use crate::broker::{Broker, Kept, at};
use crate::call::Leaving;
use crate::cell::Cell;
use crate::check::{Checker, Invariant, decision};

/// Times that one ticket's payload may be sent at most.
const ATTEMPTS_MAX: u32 = 3;

impl Checker {
    /// Bytes have reached a provider.
    pub(crate) fn arrived(&mut self, broker: &Broker, cell: &Cell, leaving: &Leaving, now: i64) {
        self.received += 1;
        if let Err(why) = self.permitted(broker, cell, leaving) {
            let what = format!("{} received bytes of {}: {why}", leaving.provider, leaving.work);
            self.breach(Invariant::Permission, now, what);
        }
        let reservation = format!("{}/{}", leaving.ticket, leaving.number);
        if !self.admitted.contains(&reservation) {
            let what = format!("bytes of {} left, and no budget or no breaker let them", leaving.work);
            self.breach(Invariant::FailClosed, now, what);
        }
        let times = self.tickets.entry(leaving.ticket).or_default();
        *times += 1;
        if *times > ATTEMPTS_MAX {
            let what = format!("the ticket of {} was used {times} times", leaving.work);
            self.breach(Invariant::BoundedAttempts, now, what);
        }
    }

    fn permitted(&mut self, broker: &Broker, cell: &Cell, leaving: &Leaving) -> Result<(), &'static str> {
        let work = broker.get(&leaving.work).ok_or("no such work")?;
        let claims = verified(cell, work, leaving)?;
        let decision = decision(work).ok_or("no decision")?;
        let place = decision.destination.as_ref().ok_or("the decision names no place")?;
        if decision.outcome != Outcome::Cloud || decision.id != claims.decision {
            return Err("its decision is another, or permits no provider");
        }
        let named = (&place.target, &place.model, &place.region);
        if named != (&leaving.provider, &leaving.model, &claims.region) {
            return Err("its decision permits another place");
        }
        if decision.content != Some(claims.content) {
            return Err("its decision is about other bytes");
        }
        let key = (leaving.ticket, leaving.number);
        let begun = self.begun.get(&key).ok_or("no attempt is on record")?;
        let fits = begun.attempt.content == Some(claims.content)
            && begun.attempt.target == leaving.provider
            && begun.attempt.task == claims.task;
        if !fits || begun.work.is_none() {
            return Err("the attempt on record is about something else");
        }
        if begun.at > leaving.sent_at {
            return Err("the attempt was recorded after the bytes had left");
        }
        if !self.sent.insert(key) {
            return Err("one attempt on record, and the bytes came twice");
        }
        match self.truths.get(&leaving.work) {
            Some((false, _)) => Err("the task must not leave"),
            Some((true, true)) if decision.facts.approval.is_none() => Err("nobody agreed to it"),
            _ => Ok(()),
        }
    }
}

/// The ticket as the stream holds it, for the bytes as they came, by the clock of who sent them: it verified when the work was
/// read, and had not expired when they left.
fn verified(cell: &Cell, work: &Kept, leaving: &Leaving) -> Result<Claims, &'static str> {
    let salt = work.headers.get(header::SALT).and_then(|text| Salt::try_from(text.to_owned()).ok());
    let salt = salt.ok_or("no salt")?;
    let ticket = work.headers.get(header::TICKET).ok_or("no ticket")?;
    let cleared = cell.verifier.verify(ticket, &salt, leaving.bytes.clone(), leaving.read_at);
    let claims = cleared.map_err(|_| "its ticket does not verify")?.claims().clone();
    let late = at(leaving.sent_at + leaving.clock_ms).duration_since(claims.expires);
    if late > SignedDuration::from_millis(CLOCK_SKEW_MS_MAX) {
        return Err("its ticket had expired");
    }
    if claims.id == leaving.ticket { Ok(claims) } else { Err("its ticket is another") }
}
