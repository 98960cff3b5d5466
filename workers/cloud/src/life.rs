//! The life cycle of a message in the cloud worker: a pure step function. An event goes in, an action comes out; the shell
//! performs it and brings its answer as the next event. Time and everything known come in as values.
//!
//! ```text
//! begin(message) ─▶ Look ─▶ Call ─┬─▶ (each attempt) Admit ─▶ Claim ─▶ Open or Shut ─▶ …
//!      │              │           └─▶ Called ─▶ Send(result) ─▶ (taken? Send late) ─▶ Done
//!      │              └─ off ─▶ Send(step) ─▶ Done
//!      ├─ ticket expired ─▶ Send(step) ─▶ Done
//!      └─ ticket forged or for something else ─▶ Done(dead letter)
//! ```
//!
//! INVARIANT: `Claim` comes only after breaker and budgets let this attempt through: what it can use is reserved then.
//!
//! INVARIANT: `Open` comes only after a claim of this attempt's number was stored, and stored as new, by the stream of
//! events: no byte leaves without a record before it, and no number is used twice.
//!
//! INVARIANT: `Done(Ack)` comes only after the result, the step or the late attempt was acknowledged by its stream, or
//! after a result of this task was seen there.

use tidegate_providers::{Answer, ProviderError};
use tidegate_schemas::budget::Spent;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::Owners;
use tidegate_schemas::step::StepReason;

use fate::Fate;
use outgoing::Unused;
use work::{Fault, Work};

pub(crate) use outgoing::is_answer;
pub use words::{
    Action, Admitted, Arrived, Asked, Call, Context, Disposition, Event, Message, Sent, Step, Telling,
};

mod answer;
mod fate;
mod outgoing;
#[cfg(test)]
mod tests;
mod words;
mod work;

/// Where a message's life stands between two steps.
#[derive(Debug)]
pub struct Life {
    work: Option<Box<Work>>,
    stage: Stage,
    /// The last attempt that was claimed, or found claimed.
    attempt: u32,
    /// Attempts that this delivery let begin.
    opened: u32,
    host: String,
    shut: Option<Shut>,
    refusal: Option<&'static str>,
}

/// Why an attempt was not let begin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shut {
    /// The lane, provider or model was switched off.
    Off,
    /// A budget leaves no room.
    Spent(Spent),
    /// The destination keeps failing.
    Broken,
    /// Every attempt that the ticket permits is claimed.
    Exhausted,
}

#[derive(Debug)]
enum Stage {
    /// Looks whether the task has a result already.
    Looking,
    /// The provider is being called.
    Calling,
    /// Within the call breaker and budgets are asked.
    Admitting,
    /// Within the call a claim is on its way.
    Claiming,
    /// A result is on its way; what it would leave if another is there.
    Ending(Message, Unused),
    /// The end of an attempt is on its way; this step follows.
    Returning(Message),
    /// Nothing follows what is on its way.
    Closing,
    /// Nothing is expected.
    Over,
}

// === impl Life ===

impl Life {
    /// Begins the life of a message that came in.
    #[must_use]
    pub fn begin(message: &Arrived, context: &Context<'_>) -> (Self, Step) {
        let life = |work, stage| Self {
            work,
            stage,
            attempt: 0,
            opened: 0,
            host: String::new(),
            shut: None,
            refusal: None,
        };
        match Work::read(message, context) {
            Ok(work) => {
                let look = Step::new(Action::Look(work.result_subject()));
                (life(Some(Box::new(work)), Stage::Looking), look)
            }
            Err(Fault::Expired(envelope, word)) => {
                let step = outgoing::step(&envelope, StepReason::Expired, 0);
                let refusal = Some(word);
                (Self { refusal, ..life(None, Stage::Closing) }, Step::new(Action::Send(step)))
            }
            Err(Fault::Ticket(refused, word)) => {
                let step = Step::new(Action::Done(Disposition::Dead(refused)));
                (Self { refusal: Some(word), ..life(None, Stage::Over) }, step)
            }
            Err(Fault::Unread(refused)) => {
                (life(None, Stage::Over), Step::new(Action::Done(Disposition::Dead(refused))))
            }
        }
    }

    /// Why the message's ticket was refused, where it was; a word for counting.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        self.refusal
    }

    /// Whom to ask about its destination and model.
    #[must_use]
    pub fn owners(&self) -> Owners {
        self.work.as_ref().map(|work| work.envelope.decision.owners()).unwrap_or_default()
    }

    /// The attempt under way.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The next step, after the answer to the last action.
    pub fn next(&mut self, event: Event, context: &Context<'_>) -> Step {
        let Some(work) = self.work.take() else {
            return match (&self.stage, event) {
                (Stage::Closing, Event::Sent(_)) => Step::ack(),
                _ => Step::confused(),
            };
        };
        let step = self.step(&work, event, context);
        self.work = Some(work);
        step
    }

    fn step(&mut self, work: &Work, event: Event, context: &Context<'_>) -> Step {
        match (std::mem::replace(&mut self.stage, Stage::Over), event) {
            (Stage::Looking, Event::Looked(true)) => Step::ack(),
            (Stage::Looking, Event::Looked(false)) => self.admit(work, context),
            (Stage::Calling, event) => self.calling(work, event, context),
            (Stage::Admitting, Event::Admitted(admitted)) => self.admitted(work, admitted, context),
            (Stage::Claiming, Event::Claimed(sent)) => self.claimed(work, sent, context),
            (Stage::Ending(message, unused), Event::Sent(sent)) => {
                self.ended(work, &message, unused, sent, context)
            }
            (Stage::Returning(step), Event::Sent(_)) => self.close(step),
            (Stage::Closing, Event::Sent(_)) => Step::ack(),
            // The shell answered something that was not asked: give the message another try rather than lose it.
            _ => Step::confused(),
        }
    }

    fn admit(&mut self, work: &Work, context: &Context<'_>) -> Step {
        if context.canceled {
            // The router has published the canceled result before it told us.
            return Step { tell: self.withdrawn(work, context), ..Step::ack() };
        }
        if work.is_off(context) {
            return self.close(outgoing::step(&work.envelope, StepReason::Off, 0));
        }
        if let Some((message, unused)) = answer::unaskable(work, context.now) {
            return self.end(message, unused);
        }
        self.stage = Stage::Calling;
        Step::new(Action::Call(Box::new(work.call())))
    }

    fn calling(&mut self, work: &Work, event: Event, context: &Context<'_>) -> Step {
        self.stage = Stage::Calling;
        match event {
            Event::Attempting(host) => {
                self.host = host;
                if work.is_off(context) {
                    return self.shut(Shut::Off);
                }
                self.ask(work)
            }
            Event::Retrying(failure) => Step::new(Action::Note(outgoing::retried(
                work,
                self.attempt,
                failure,
                &self.host,
                context.now,
            ))),
            Event::Called(outcome) => self.called(work, outcome, context),
            Event::Admitted(_) | Event::Claimed(_) | Event::Looked(_) | Event::Sent(_) => {
                self.stage = Stage::Over;
                Step::confused()
            }
        }
    }

    fn claimed(&mut self, work: &Work, sent: Sent, context: &Context<'_>) -> Step {
        self.stage = Stage::Calling;
        match sent {
            // The claim took its time; what was switched off meanwhile is sent nothing.
            Sent::Stored if work.is_off(context) => self.shut(Shut::Off),
            Sent::Stored => {
                self.opened += 1;
                let tell = if self.opened == 1 { vec![outgoing::working(work)] } else { Vec::new() };
                Step { tell, ..Step::new(Action::Open) }
            }
            // An earlier delivery of this message claimed it, and may have sent the bytes.
            Sent::Duplicate => self.ask(work),
            Sent::Taken | Sent::TooLarge => Step::new(Action::Shut),
        }
    }

    /// The next attempt, as long as the ticket permits one.
    fn ask(&mut self, work: &Work) -> Step {
        if self.attempt >= work.claims().attempts_max {
            return self.shut(Shut::Exhausted);
        }
        self.stage = Stage::Admitting;
        Step::new(Action::Admit(Box::new(work.asked(self.attempt + 1))))
    }

    fn admitted(&mut self, work: &Work, admitted: Admitted, context: &Context<'_>) -> Step {
        self.stage = Stage::Calling;
        match admitted {
            Admitted::Spent(spent) => self.shut(Shut::Spent(spent)),
            Admitted::Broken => self.shut(Shut::Broken),
            Admitted::Through => {
                self.attempt += 1;
                self.stage = Stage::Claiming;
                let started = outgoing::started(work, self.attempt, &self.host, context.now);
                Step::new(Action::Claim(started))
            }
        }
    }

    fn shut(&mut self, why: Shut) -> Step {
        self.shut = Some(why);
        Step::new(Action::Shut)
    }

    fn called(
        &mut self,
        work: &Work,
        outcome: Result<Box<Answer>, ProviderError>,
        context: &Context<'_>,
    ) -> Step {
        let error = match outcome {
            Ok(answer) => {
                let (message, unused) = answer::completed(work, *answer, self.attempt, context.now);
                return self.end(message, unused);
            }
            Err(error) => error,
        };
        match fate::of(&error, self.shut.as_ref()) {
            Fate::Failed(refused) => {
                let (message, unused) = answer::failed(work, refused, &error, self.attempt, context.now);
                self.end(message, unused)
            }
            Fate::Withdrawn if self.opened == 0 => {
                Step { tell: self.withdrawn(work, context), ..Step::ack() }
            }
            Fate::Withdrawn => {
                let tell = self.withdrawn(work, context);
                let unused = Unused::spent(error.usage, error.cost_usd_micros);
                let late = outgoing::late(work, self.attempt, unused, &self.host, context.now);
                Step { tell, ..self.close(late) }
            }
            Fate::Back(reason) => {
                let step = outgoing::step(&work.envelope, reason, self.attempt);
                if self.opened == 0 {
                    return self.close(step);
                }
                let why = (fate::code(&error, self.shut.as_ref()), error.failure.status());
                let returned = outgoing::returned(work, self.attempt, why, &self.host, context.now);
                self.stage = Stage::Returning(step);
                Step::new(Action::Send(returned))
            }
            Fate::Again => Step::confused(),
        }
    }

    fn ended(
        &mut self,
        work: &Work,
        message: &Message,
        unused: Unused,
        sent: Sent,
        context: &Context<'_>,
    ) -> Step {
        match sent {
            // The id names the bytes, so a duplicate is this result, sent twice.
            Sent::Stored | Sent::Duplicate => Step { tell: outgoing::told(work, message), ..Step::ack() },
            Sent::Taken => self.close(outgoing::late(work, self.attempt, unused, &self.host, context.now)),
            Sent::TooLarge => {
                let refused = Refused::new(
                    Code::TooLarge,
                    "the answer is larger than a message may be; ask for less at once",
                );
                let message = answer::oversized(work, refused, unused, self.attempt, context.now);
                self.end(message, unused)
            }
        }
    }

    /// The router has told the transition.
    fn withdrawn(&self, work: &Work, context: &Context<'_>) -> Vec<Telling> {
        outgoing::reply(work, &answer::withdrawn(work, self.attempt, context.now)).into_iter().collect()
    }

    fn end(&mut self, message: Message, unused: Unused) -> Step {
        self.stage = Stage::Ending(message.clone(), unused);
        Step::new(Action::Send(message))
    }

    /// Sends the last thing that there is to send.
    fn close(&mut self, message: Message) -> Step {
        self.stage = Stage::Closing;
        Step::new(Action::Send(message))
    }
}
