//! The life cycle of a message in the cloud worker: a pure step function. An event goes in, an action comes out; the shell
//! performs it and brings its answer as the next event. Time and everything known come in as values.
//!
//! ```text
//! begin(message) ─▶ Look ─▶ Call ─┬─▶ (each attempt) Claim ─▶ Open or Shut ─▶ …
//!      │              │           └─▶ Called ─▶ Send(result) ─▶ (taken? Send late) ─▶ Done
//!      │              └─ off ─▶ Send(step) ─▶ Done
//!      ├─ ticket expired ─▶ Send(step) ─▶ Done
//!      └─ ticket forged or for something else ─▶ Done(dead letter)
//! ```
//!
//! INVARIANT: `Open` comes only after a claim of this attempt's number was stored, and stored as new, by the stream of
//! events: no byte leaves without a record before it, and no number is used twice.
//!
//! INVARIANT: `Done(Ack)` comes only after the result, the step or the late attempt was acknowledged by its stream, or
//! after a result of this task was seen there.

use bytes::Bytes;
use jiff::Timestamp;
use tidegate_providers::{Answer, Failure, ProviderError};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::Switch;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Position;
use tidegate_schemas::step::StepReason;
use tidegate_schemas::ticket::{Cleared, Verifier};

use fate::Fate;
use outgoing::Unused;
use work::{Fault, Work};

mod answer;
mod fate;
mod outgoing;
#[cfg(test)]
mod tests;
mod work;

/// Wait after the shell answered out of turn, milliseconds.
const CONFUSED_MS: u64 = 1_000;

/// A message as the consumer delivered it.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// Where it stands.
    pub position: Position,
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its payload: the exact bytes that may leave.
    pub payload: Bytes,
}

/// What is known while one message is worked on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The time.
    pub now: Timestamp,
    /// Checks tickets.
    pub verifier: &'a Verifier,
    /// What is switched off.
    pub off: &'a [Switch],
    /// Whether the task was withdrawn.
    pub canceled: bool,
}

/// What the shell is asked to do. Exactly one at a time; its answer is the next event.
#[derive(Debug)]
pub enum Action {
    /// Ask RESULTS whether it has a message on this subject; answered by [`Event::Looked`].
    Look(String),
    /// Call the provider; answered by [`Event::Called`], and by [`Event::Attempting`] before each attempt.
    Call(Box<Call>),
    /// Publish a claim of an attempt and wait for the acknowledgement; answered by [`Event::Claimed`].
    Claim(Message),
    /// Let the attempt begin.
    Open,
    /// Do not let the attempt begin; the call ends with [`Failure::Halted`].
    Shut,
    /// Publish this while the call pauses; its acknowledgement is not waited for by anybody.
    Note(Message),
    /// Publish to a stream and wait for the acknowledgement; answered by [`Event::Sent`].
    Send(Message),
    /// The message is finished.
    Done(Disposition),
}

/// A call to make.
#[derive(Debug)]
pub struct Call {
    /// What may leave.
    pub cleared: Cleared,
    /// When there must be an answer.
    pub deadline: Timestamp,
    /// Where text goes while it comes, core NATS.
    pub deltas: String,
}

/// A message to publish to a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Where to.
    pub subject: String,
    /// Idempotency key.
    pub msg_id: String,
    /// Headers.
    pub headers: Headers,
    /// Payload.
    pub payload: Bytes,
}

/// A message to publish without waiting.
#[derive(Debug, Clone, PartialEq)]
pub struct Telling {
    /// Where to.
    pub subject: String,
    /// Headers.
    pub headers: Headers,
    /// Payload.
    pub payload: Bytes,
}

/// What happens to the message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It is done.
    Ack,
    /// Not now: again after so many milliseconds.
    Retry {
        /// Milliseconds.
        after_ms: u64,
    },
    /// It leads nowhere: a dead letter. Never a result: who cannot show a ticket may not end a task.
    Dead(Refused),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Whether the task has a result.
    Looked(bool),
    /// The call is about to send bytes to this host.
    Attempting(String),
    /// What the stream said to a claim.
    Claimed(Sent),
    /// An attempt failed and another follows.
    Retrying(Failure),
    /// What became of the call.
    Called(Result<Box<Answer>, ProviderError>),
    /// What the stream said.
    Sent(Sent),
}

/// What a stream said to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is stored.
    Stored,
    /// A message with this idempotency key was stored before.
    Duplicate,
    /// The subject holds a message already.
    Taken,
    /// The server takes no message of this size.
    TooLarge,
}

/// An action, and what to tell on the way.
#[derive(Debug)]
pub struct Step {
    /// What to tell; nobody waits for it.
    pub tell: Option<Telling>,
    /// What to do next.
    pub action: Action,
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shut {
    /// The lane, provider or model was switched off.
    Off,
    /// Every attempt that the ticket permits is claimed.
    Exhausted,
}

#[derive(Debug)]
enum Stage {
    /// Looks whether the task has a result already.
    Looking,
    /// The provider is being called.
    Calling,
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

// === impl Step ===

impl Step {
    fn new(action: Action) -> Self {
        Self { tell: None, action }
    }

    fn ack() -> Self {
        Self::new(Action::Done(Disposition::Ack))
    }

    fn confused() -> Self {
        Self::new(Action::Done(Disposition::Retry { after_ms: CONFUSED_MS }))
    }
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
            Err(Fault::Expired(envelope)) => {
                let step = outgoing::step(&envelope, StepReason::Expired, 0);
                let refusal = Some("expired");
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
        self.stage = Stage::Calling;
        Step::new(Action::Call(Box::new(work.call())))
    }

    fn calling(&mut self, work: &Work, event: Event, context: &Context<'_>) -> Step {
        self.stage = Stage::Calling;
        match event {
            Event::Attempting(host) => {
                self.host = host;
                if work.is_off(context) {
                    self.shut = Some(Shut::Off);
                    return Step::new(Action::Shut);
                }
                self.claim(work, context)
            }
            Event::Retrying(failure) => Step::new(Action::Note(outgoing::retried(
                work,
                self.attempt,
                failure,
                &self.host,
                context.now,
            ))),
            Event::Called(outcome) => self.called(work, outcome, context),
            Event::Claimed(_) | Event::Looked(_) | Event::Sent(_) => {
                self.stage = Stage::Over;
                Step::confused()
            }
        }
    }

    fn claimed(&mut self, work: &Work, sent: Sent, context: &Context<'_>) -> Step {
        self.stage = Stage::Calling;
        match sent {
            Sent::Stored => {
                self.opened += 1;
                Step::new(Action::Open)
            }
            // An earlier delivery of this message claimed it, and may have sent the bytes.
            Sent::Duplicate => self.claim(work, context),
            Sent::Taken | Sent::TooLarge => Step::new(Action::Shut),
        }
    }

    fn claim(&mut self, work: &Work, context: &Context<'_>) -> Step {
        if self.attempt >= work.claims().attempts_max {
            self.shut = Some(Shut::Exhausted);
            return Step::new(Action::Shut);
        }
        self.attempt += 1;
        self.stage = Stage::Claiming;
        Step::new(Action::Claim(outgoing::started(work, self.attempt, &self.host, context.now)))
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
        match fate::of(&error, self.shut) {
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
                let returned = outgoing::returned(work, self.attempt, error.failure, &self.host, context.now);
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
            Sent::Stored | Sent::Duplicate => Step { tell: outgoing::reply(work, message), ..Step::ack() },
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

    fn withdrawn(&self, work: &Work, context: &Context<'_>) -> Option<Telling> {
        outgoing::reply(work, &answer::withdrawn(work, self.attempt, context.now))
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
