//! What goes into the life cycle and what comes out of it.

use bytes::Bytes;
use jiff::Timestamp;
use tidegate_providers::{Answer, Failure, ProviderError};
use tidegate_schemas::breaker::Place;
use tidegate_schemas::budget::{Amounts, Budget, Spent};
use tidegate_schemas::code::Refused;
use tidegate_schemas::decision::Switch;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Position, TaskId};
use tidegate_schemas::ticket::{Cleared, Verifier};

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
    /// Span of this delivery within the task's trace: random bits.
    pub span: u64,
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
    /// Ask breaker and budgets about an attempt, and reserve what it can use; answered by [`Event::Admitted`].
    Admit(Box<Asked>),
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

/// An attempt that is to be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Id of what is reserved for it: the same whichever delivery of the work makes it.
    pub reservation: String,
    /// This delivery.
    pub by: u64,
    /// Its task.
    pub task: TaskId,
    /// The budgets that it counts in.
    pub budgets: Vec<Budget>,
    /// Where it goes.
    pub place: Place,
    /// The most that it can use; of cost the most that its ticket permits, in whose place the shell puts what the price list says.
    pub most: Amounts,
}

/// What breaker and budgets say to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// It may be made: what it can use is reserved.
    Through,
    /// A budget leaves no room.
    Spent(Spent),
    /// Its destination keeps failing.
    Broken,
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
    /// What breaker and budgets said.
    Admitted(Admitted),
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
    pub tell: Vec<Telling>,
    /// What to do next.
    pub action: Action,
}

// === impl Step ===

impl Step {
    pub(super) fn new(action: Action) -> Self {
        Self { tell: Vec::new(), action }
    }

    pub(super) fn ack() -> Self {
        Self::new(Action::Done(Disposition::Ack))
    }

    pub(super) fn confused() -> Self {
        Self::new(Action::Done(Disposition::Retry { after_ms: CONFUSED_MS }))
    }
}
