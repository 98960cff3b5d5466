//! The life cycle of a message in the router: a pure step function. An event goes in, an action comes out; the shell
//! performs it and brings its answer as the next event. Time, randomness and everything read come in as values.
//!
//! ```text
//! begin(message) ─▶ Load? ─▶ Claim? ─▶ decide ─▶ Send ─▶ (duplicate? Load, compare) ─▶ Done
//! ```
//!
//! INVARIANT: `Done(Ack)` comes only after everything that the message causes was acknowledged by the streams, so a crash
//! at any point repeats the message, and the idempotency keys absorb what was sent before.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::labels::Labels;
use tidegate_schemas::subject::Subject;
use tidegate_schemas::ticket::Claims;

pub use context::{Bench, Context, Randomness};

mod agreement;
mod cancel;
mod conflict;
mod context;
mod dispatch;
mod outgoing;
mod redact;
mod scan;
mod session;
mod step;
mod task;
#[cfg(test)]
mod tests;
mod verdict;

/// A stored message, as it came or was loaded.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where it stands.
    pub position: Position,
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its payload.
    pub payload: Bytes,
    /// When the server stored it.
    pub time: Timestamp,
}

/// What the shell is asked to do. Exactly one at a time; its answer is the next event.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read messages; answered by [`Event::Loaded`] in the same order.
    Load(Vec<Place>),
    /// Take a key of the `reviews` bucket if nobody has; answered by [`Event::Claimed`].
    Claim {
        /// The key.
        key: String,
        /// Who takes it.
        value: String,
    },
    /// Read what a session has held, by its key in bucket `sessions`; answered by [`Event::Recalled`].
    Recall(String),
    /// Write what a session has held, if nobody has since it was read; answered by [`Event::Remembered`].
    Remember {
        /// The key.
        key: String,
        /// What it has held.
        labels: Labels,
        /// The revision that was read; none where there was no value.
        revision: Option<u64>,
    },
    /// Publish to a stream and wait for the acknowledgement; answered by [`Event::Sent`].
    Send(Message),
    /// The message is finished.
    Done(Disposition),
}

/// Where a message is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a position.
    At(Position),
    /// The terminal result of a task of the tenant's, whoever asked.
    Parent {
        /// Whose it is.
        tenant: Name,
        /// The task.
        task: TaskId,
    },
    /// The terminal result of a task.
    Result {
        /// Whose it is.
        tenant: Name,
        /// Who asked.
        agent: Name,
        /// The task.
        task: TaskId,
    },
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
    /// What was decided, where this is what a new decision leads to.
    pub outcome: Option<Outcome>,
    /// What the ticket is to say that goes with it: the shell has it signed, and puts it into the headers.
    pub ticket: Option<Box<Claims>>,
}

/// A message to publish without waiting: transitions, replies, notices.
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
    /// It leads nowhere: a dead letter.
    Dead(Refused),
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Messages that were read, or were not there.
    Loaded(Vec<Option<Stored>>),
    /// Who holds the key now.
    Claimed {
        /// Value of the key.
        holder: String,
    },
    /// What a session has held, and the revision of that.
    Recalled(Option<(Labels, u64)>),
    /// Whether it was written; if not, somebody else wrote meanwhile.
    Remembered(bool),
    /// What the stream said.
    Sent(Sent),
}

/// What a stream said to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It is stored.
    Stored(Position),
    /// A message with this idempotency key was stored before, there.
    Duplicate(Position),
    /// The subject holds a message already.
    Taken,
}

/// An action, and what to tell on the way.
#[derive(Debug, Clone)]
pub struct Step {
    /// What to tell; nobody waits for it.
    pub tell: Vec<Telling>,
    /// What to do next.
    pub action: Action,
}

impl Step {
    fn new(action: Action) -> Self {
        Self { tell: Vec::new(), action }
    }

    fn ack() -> Self {
        Self::new(Action::Done(Disposition::Ack))
    }

    fn dead(code: Code, sentence: &str) -> Self {
        Self::new(Action::Done(Disposition::Dead(Refused::new(code, sentence))))
    }

    fn telling(mut self, tell: Vec<Telling>) -> Self {
        self.tell.extend(tell);
        self
    }
}

/// Where a message's life stands between two steps.
#[derive(Debug)]
pub struct Life {
    message: Stored,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Task(task::Stage),
    Step(step::Stage),
    Verdict(Box<verdict::Stage>),
    /// The canceled result is on its way; what to tell once it is stored.
    Cancel(Vec<Telling>),
    Over,
}

impl Life {
    /// Begins the life of a message that came in.
    ///
    /// `headers_refused` says what is wrong with a producer's headers, where something is.
    pub fn begin(message: Stored, headers_refused: Option<Refused>, context: &Context<'_>) -> (Self, Step) {
        let (stage, step) = match Subject::parse(&message.subject) {
            Ok(Subject::Task { tenant, agent, kind }) => {
                let (stage, step) = match headers_refused {
                    Some(refused) => task::refused(&message, tenant, agent, refused, context),
                    None => task::begin(&message, tenant, agent, &kind, context),
                };
                (Stage::Task(stage), step)
            }
            Ok(Subject::Cancel { tenant, agent, task }) => {
                let (tell, step) = cancel::begin(&message, tenant, agent, task, context);
                (Stage::Cancel(tell), step)
            }
            Ok(Subject::Step(lane, tenant)) => {
                let (stage, step) = step::begin(&message, lane, tenant);
                (Stage::Step(stage), step)
            }
            Ok(Subject::Verdict { queue, tenant, reviewer }) => {
                let (stage, step) = verdict::begin(&message, queue, tenant, reviewer, context);
                (Stage::Verdict(Box::new(stage)), step)
            }
            // The server lets an agent withdraw by any word; only what can be a task's id leads somewhere.
            _ if message.subject.starts_with("cancel.") => {
                let sentence =
                    "a withdrawal names a task by its id: a UUID, or an identifier of yours without a dot";
                (Stage::Over, Step::dead(Code::InvalidField, sentence))
            }
            _ => (Stage::Over, Step::dead(Code::Unattributable, "no subject of the router's")),
        };
        (Self { message, stage }, step)
    }

    /// Whose task this is, and its id, while what it causes is on its way for the first time.
    #[must_use]
    pub fn named(&self) -> Option<(&Name, &Name, TaskId)> {
        match &self.stage {
            Stage::Task(task::Stage::Sent(sending)) => Some((&sending.tenant, &sending.agent, sending.task)),
            _ => None,
        }
    }

    /// The next step, after the answer to the last action.
    pub fn next(&mut self, event: Event, context: &Context<'_>) -> Step {
        match &mut self.stage {
            Stage::Task(stage) => task::next(stage, &self.message, event, context),
            Stage::Step(stage) => step::next(stage, &self.message, event, context),
            Stage::Verdict(stage) => verdict::next(stage, &self.message, event, context),
            Stage::Cancel(_) if matches!(event, Event::Sent(Sent::Taken)) => Step::ack(),
            Stage::Cancel(tell) => Step::ack().telling(std::mem::take(tell)),
            Stage::Over => Step::dead(Code::Internal, "an answer came after the end"),
        }
    }
}

fn elapsed(from: Timestamp, to: Timestamp) -> SignedDuration {
    to.duration_since(from)
}
