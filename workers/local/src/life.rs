//! The life cycle of a message in the local worker: a pure step function. An event goes in, an action comes out; the shell
//! performs it and brings its answer as the next event. Time and everything known come in as values.
//!
//! ```text
//! begin(message) ─▶ Look? ─▶ Run ─▶ Send(result) ─▶ (taken? Send late) ─▶ Done
//!                     └─ off, no such model here ─▶ Send(step) ─▶ Done
//! ```
//!
//! INVARIANT: `Done(Ack)` comes only after the result, the step or the late attempt was acknowledged by its stream, or
//! after a result of this task was seen there.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tidegate_engine::{EngineError, JobInput, Output, Spent, SubmitError};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::{Owners, Switch};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::step::StepReason;

use outgoing::Unused;
use work::Work;

mod answer;
mod outgoing;
mod question;
mod scan;
mod work;

#[cfg(test)]
mod tests;

pub(crate) use outgoing::told;
pub use question::chat_request;
pub(crate) use scan::{counted, longest};

/// First wait after the engine had no room, milliseconds.
const OVERLOADED_MS: u64 = 250;
/// Wait after the engine had stopped, milliseconds: this process is about to end.
const STOPPED_MS: u64 = 1_000;
/// What waited longer may have been withdrawn while no worker listened; nearly always this process has heard of it.
const FRESH: SignedDuration = SignedDuration::from_secs(1);

/// A message as the consumer delivered it.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// Where it stands.
    pub position: Position,
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its payload.
    pub payload: Bytes,
    /// Deliveries so far, this one included.
    pub delivered: u64,
    /// When the stream took it.
    pub published: Timestamp,
    /// Span of this delivery within the task's trace: random bits.
    pub span: u64,
}

/// What is known while one message is worked on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The time.
    pub now: Timestamp,
    /// What is switched off.
    pub off: &'a [Switch],
    /// Who was told to stop: whether the task was withdrawn.
    pub canceled: bool,
    /// What the engine has.
    pub models: &'a Models,
}

/// What the engine has.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// Whether a chat model is loaded.
    pub chat: bool,
    /// Whether an embedding model is loaded.
    pub embed: bool,
    /// Whether a token classifier is loaded.
    pub scan: bool,
    /// SHA-256 of its weights.
    pub scan_sha256: Option<Digest>,
    /// SHA-256 of the chat model's file.
    pub chat_sha256: Option<Digest>,
    /// SHA-256 of the adapter that is merged into the chat model, if one is.
    pub chat_adapter_sha256: Option<Digest>,
    /// SHA-256 of the embedding model's weights.
    pub embed_sha256: Option<Digest>,
    /// Names in the bundle that they answer to; empty: every name.
    pub names: std::collections::BTreeSet<String>,
}

/// What the shell is asked to do. Exactly one at a time; its answer is the next event.
pub enum Action {
    /// See whether the task has its terminal result; answered by [`Event::Looked`].
    Look {
        /// Whose it is.
        tenant: Name,
        /// Who asked.
        agent: Name,
        /// The task.
        task: TaskId,
    },
    /// Run this on the engine; answered by [`Event::Ran`] once the attempt's record is acknowledged, too.
    Run(Box<Run>),
    /// Publish to a stream and wait for the acknowledgement; answered by [`Event::Sent`].
    Send(Message),
    /// The message is finished.
    Done(Disposition),
}

/// Something to run.
pub struct Run {
    /// Whose it is and which task: what a cancellation names.
    pub tenant: Name,
    /// The task.
    pub task: TaskId,
    /// The record that it begins.
    pub attempt: Message,
    /// Told once the engine has taken it.
    pub working: Telling,
    /// What to do.
    pub input: JobInput,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// Where tokens go while they come, where they are wanted.
    pub deltas: Option<Deltas>,
}

/// Where tokens go while they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deltas {
    /// Subject, core NATS.
    pub subject: String,
    /// The attempt that each names.
    pub attempt: u32,
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
#[derive(Debug, Clone, PartialEq)]
pub enum Disposition {
    /// It is done.
    Ack,
    /// Not now: again after so many milliseconds.
    Retry {
        /// Milliseconds.
        after_ms: u64,
    },
    /// It leads nowhere: a dead letter, and the failed result where the task can be told.
    Dead {
        /// Why.
        refused: Refused,
        /// The task and its result.
        result: Option<(TaskId, Box<Message>)>,
        /// What to tell once the result is stored.
        tell: Vec<Telling>,
        /// Whom to ask: the owners that the decision names.
        owners: Owners,
    },
}

/// What happened.
pub enum Event {
    /// Whether the task has its terminal result.
    Looked(bool),
    /// What became of the run.
    Ran(Ran),
    /// What the stream said.
    Sent(Sent),
}

/// What became of a run.
pub enum Ran {
    /// It ended well.
    Finished(Box<Output>),
    /// It ended badly; what it cost, where it had begun.
    Failed(EngineError, Option<Box<Spent>>),
    /// It never began.
    NotTaken(SubmitError),
}

/// What a stream said to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is stored.
    Stored,
    /// The very same message was stored before: the id of a result names its bytes.
    Duplicate,
    /// The subject holds a message already.
    Taken,
    /// The server takes no message of this size.
    TooLarge,
}

/// An action, and what to tell on the way.
pub struct Step {
    /// What to tell; nobody waits for it.
    pub tell: Vec<Telling>,
    /// What to do next.
    pub action: Action,
}

/// Where a message's life stands between two steps.
pub struct Life {
    work: Option<Box<Work>>,
    stage: Stage,
}

enum Stage {
    /// Looks whether the task has a result already.
    Looking,
    /// Runs.
    Running,
    /// A result is on its way.
    Ending(Box<Ending>),
    /// Something else than a result is on its way; nothing follows it.
    Closing,
    /// Nothing is expected.
    Over,
}

/// A result on its way.
struct Ending {
    message: Message,
    unused: Unused,
}

// === impl Step ===

impl Step {
    fn new(action: Action) -> Self {
        Self { tell: Vec::new(), action }
    }

    fn ack() -> Self {
        Self::new(Action::Done(Disposition::Ack))
    }

    fn retry(after_ms: u64) -> Self {
        Self::new(Action::Done(Disposition::Retry { after_ms }))
    }
}

// === impl Life ===

impl Life {
    /// Begins the life of a message that came in.
    #[must_use]
    pub fn begin(message: &Arrived, context: &Context<'_>) -> (Self, Step) {
        match Work::read(message) {
            Ok(work) => {
                let mut life = Self { work: Some(Box::new(work)), stage: Stage::Over };
                // Somebody may have finished what is delivered again, or withdrawn what waited while nobody here listened.
                let waited = context.now.duration_since(message.published) > FRESH;
                let step = if message.delivered > 1 || waited { life.look() } else { life.admit(context) };
                (life, step)
            }
            Err(refused) => {
                let dead = work::dead(message, refused, context.now);
                (Self { work: None, stage: Stage::Over }, Step::new(Action::Done(dead)))
            }
        }
    }

    /// What is given up because it fails again and again: why, and the failed result where the task can be told.
    #[must_use]
    pub fn poisoned(message: &Arrived, now: Timestamp) -> Disposition {
        work::dead(message, work::poison(), now)
    }

    /// The next step, after the answer to the last action.
    pub fn next(&mut self, event: Event, context: &Context<'_>) -> Step {
        match (std::mem::replace(&mut self.stage, Stage::Over), event) {
            (Stage::Looking, Event::Looked(false)) => self.admit(context),
            (Stage::Looking, Event::Looked(true)) => Step::ack(),
            (Stage::Running, Event::Ran(ran)) => self.ran(ran, context),
            (Stage::Ending(ending), Event::Sent(sent)) => self.ended(*ending, sent, context),
            (Stage::Closing, Event::Sent(_)) => Step::ack(),
            // The shell answered something that was not asked: give the message another try rather than lose it.
            _ => Step::retry(STOPPED_MS),
        }
    }

    fn with_work(&mut self, then: impl FnOnce(&mut Self, &Work) -> Step) -> Step {
        match self.work.take() {
            Some(work) => {
                let step = then(self, &work);
                self.work = Some(work);
                step
            }
            None => Step::retry(STOPPED_MS),
        }
    }

    fn look(&mut self) -> Step {
        self.with_work(|life, work| {
            life.stage = Stage::Looking;
            let (tenant, agent, task) = (work.tenant.clone(), work.hop.agent.clone(), work.hop.id);
            Step::new(Action::Look { tenant, agent, task })
        })
    }

    /// Runs it, unless there is a reason not to.
    fn admit(&mut self, context: &Context<'_>) -> Step {
        self.with_work(|life, work| {
            if context.canceled {
                // The router has published the canceled result before it told us.
                return Step { tell: Self::withdrawn(work, context), ..Step::ack() };
            }
            if context.now >= work.hop.deadline {
                let (message, unused) = answer::too_late(work, context.now);
                return life.send(message, unused);
            }
            if scan::is_scan(work) {
                return life.scan(work, context);
            }
            if let Some(reason) = work.no_go(context) {
                return life.step(work, reason);
            }
            match question::ask(work) {
                Ok(input) => {
                    life.stage = Stage::Running;
                    Step::new(Action::Run(Box::new(work.run(input, context.now))))
                }
                Err(refused) => {
                    let (message, unused) = answer::refused(work, refused, context.now);
                    life.send(message, unused)
                }
            }
        })
    }

    /// Has it scanned, or says at once that it cannot be.
    fn scan(&mut self, work: &Work, context: &Context<'_>) -> Step {
        if let Some(reason) = scan::no_go(work, context) {
            return self.step(work, reason);
        }
        self.stage = Stage::Running;
        let run = work.run(scan::ask(work), context.now);
        Step::new(Action::Run(Box::new(Run {
            deadline: scan::deadline(work, context.now),
            deltas: None,
            ..run
        })))
    }

    fn step(&mut self, work: &Work, reason: StepReason) -> Step {
        self.stage = Stage::Closing;
        Step::new(Action::Send(outgoing::step(work, reason)))
    }

    fn ran(&mut self, ran: Ran, context: &Context<'_>) -> Step {
        self.with_work(|life, work| match ran {
            Ran::Finished(output) if scan::is_scan(work) => life.step(work, scan::ended(&output)),
            Ran::NotTaken(SubmitError::Overloaded { .. })
                if scan::is_scan(work) && scan::waited_too_long(work, context.now) =>
            {
                life.step(work, StepReason::ScanFailed { code: Code::Overloaded })
            }
            Ran::Failed(error, _)
                if scan::is_scan(work) && !matches!(error, EngineError::Canceled | EngineError::ShutDown) =>
            {
                life.step(work, scan::failed(&error))
            }
            Ran::Finished(output) => {
                let (message, unused) = answer::finished(work, *output, context.now);
                life.send(message, unused)
            }
            Ran::Failed(EngineError::Canceled, spent) => {
                let tell = Self::withdrawn(work, context);
                Step { tell, ..life.late(work, answer::unused(spent.as_deref()), context) }
            }
            // Another process takes it up.
            Ran::Failed(EngineError::ShutDown, _) | Ran::NotTaken(SubmitError::Stopped) => {
                Step::retry(STOPPED_MS)
            }
            Ran::NotTaken(SubmitError::Overloaded { .. }) => Step::retry(OVERLOADED_MS),
            Ran::Failed(EngineError::UnsupportedKind { .. }, _) => life.step(work, work::incapable()),
            Ran::Failed(error, spent) => {
                let (message, unused) = answer::failed(work, &error, spent.as_deref(), context.now);
                life.send(message, unused)
            }
        })
    }

    fn ended(&mut self, ending: Ending, sent: Sent, context: &Context<'_>) -> Step {
        match sent {
            Sent::Stored | Sent::Duplicate => self.told(&ending.message),
            Sent::Taken => self.with_work(|life, work| life.late(work, ending.unused, context)),
            Sent::TooLarge => self.with_work(|life, work| {
                let (message, unused) = answer::oversized(work, ending.unused, context.now);
                life.send(message, unused)
            }),
        }
    }

    fn send(&mut self, message: Message, unused: Unused) -> Step {
        self.stage = Stage::Ending(Box::new(Ending { message: message.clone(), unused }));
        Step::new(Action::Send(message))
    }

    /// The router has told the transition.
    fn withdrawn(work: &Work, context: &Context<'_>) -> Vec<Telling> {
        let message = answer::withdrawn(work, context.now);
        outgoing::reply(&work.tenant, &work.hop, &message).into_iter().collect()
    }

    fn late(&mut self, work: &Work, unused: Unused, context: &Context<'_>) -> Step {
        self.stage = Stage::Closing;
        Step::new(Action::Send(outgoing::late(work, unused, context.now)))
    }

    fn told(&mut self, message: &Message) -> Step {
        let told = |work: &Work| outgoing::told(&work.tenant, &work.hop, Some(&work.decision), message);
        let tell = self.work.as_deref().map(told).unwrap_or_default();
        Step { tell, ..Step::ack() }
    }
}
