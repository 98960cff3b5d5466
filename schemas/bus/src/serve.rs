//! The pull loop: a handler says what became of a message, and only the loop acknowledges.
//!
//! Each message runs as a task that the loop owns. Panics are caught; a message that keeps killing its handler becomes a dead
//! letter ([`suspect`]). A message that is put off stays with this process (with progress acknowledgements), so that every
//! redelivery the server counts is one that nobody explained. On shutdown what runs may end within the drain time, the rest is
//! given back.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tidegate_schemas::code::Code;
use tidegate_schemas::metric;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, error, info, warn};

use crate::bus::Bus;
use crate::dead::{self, Dead};
use crate::event::BusEvent;
use crate::health::Health;
use crate::message::Inbound;
use crate::pull::{Ack, Pulled, Puller};
use crate::room::tell_room;
use suspect::Suspects;

pub use options::PullOptions;

mod options;
mod suspect;

/// Deliveries taken in one turn of the loop, count.
const TURN_MAX: usize = 256;
/// Shortest delay of a message that is given back, milliseconds: a bare nak would come back at once.
const GIVE_BACK_MS_MIN: u64 = 300;
/// First delay after a panic, milliseconds; it doubles with each delivery.
const PANIC_DELAY_MS: u64 = 200;
/// Longest delay after a panic, milliseconds.
const PANIC_DELAY_MS_MAX: u64 = 5_000;
/// Delay after a dead letter could not be published, milliseconds.
const DEAD_DELAY_MS: u64 = 2_000;

/// What a handler says of a message.
#[derive(Debug)]
pub enum Verdict {
    /// Its effects are durable.
    Done,
    /// Not now. The message stays here and is handled again after this long (with jitter); while many are put off nothing new
    /// is pulled.
    Retry {
        /// How long to wait.
        after: Duration,
    },
    /// It cannot be processed. The dead letter and its results are made durable before the message is let go.
    Dead(Box<Dead>),
}

/// Handles messages of one consumer.
pub trait Handler: Send + Sync + 'static {
    /// Handles a message. It may run more than once for the same message: effects need ids.
    fn handle(&self, message: &Inbound) -> impl Future<Output = Verdict> + Send;

    /// What is said and published when a message is given up because its handler fails again and again. Called before any
    /// parsing of the payload; it should look at subject and headers only.
    fn poison(&self, message: &Inbound) -> Dead {
        let _ = message;
        Dead::new(Code::Poison, "the message made its handler fail again and again; it was given up")
    }
}

/// The loop ended otherwise than by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The consumer was deleted.
    #[error("consumer `{consumer}` of `{stream}` is gone; run the provisioner")]
    Gone {
        /// Its stream.
        stream: String,
        /// Its name.
        consumer: String,
    },
    /// This identity may not pull from it.
    #[error("this identity may not use `{subject}`; compare its allow-list in the accounts file")]
    Denied {
        /// The subject.
        subject: String,
    },
    /// The connection is closed for good.
    #[error("the connection to the bus is closed")]
    Closed,
}

struct Shared<H> {
    bus: Bus,
    handler: H,
    options: PullOptions,
    permits: Semaphore,
    health: Health,
    suspects: Suspects,
    /// Bytes of all messages that are held.
    held_bytes: AtomicUsize,
    /// No new handler starts.
    drain: CancellationToken,
    /// Handlers that still run are dropped.
    hurry: CancellationToken,
}

impl<H> Shared<H> {
    /// Waits for a turn; a suspect's is a turn that it shares with no other message.
    async fn turn(&self, suspect: bool) -> Result<SemaphorePermit<'_>, AcquireError> {
        if !suspect {
            return self.permits.acquire().await;
        }
        suspect::any_order().await;
        self.permits.acquire_many(u32::try_from(self.options.in_flight).unwrap_or(u32::MAX)).await
    }
}

/// What became of a message.
enum Outcome {
    Done,
    GiveBack,
    Panicked,
    Dead(Box<Dead>),
}

/// Pulls and handles until `shutdown` is cancelled, then drains.
///
/// # Errors
/// [`ServeError`] when the consumer or the connection is gone for good; what was held is given back first.
pub async fn serve<H: Handler>(
    bus: Bus,
    options: PullOptions,
    handler: H,
    shutdown: CancellationToken,
    health: Health,
) -> Result<(), ServeError> {
    let shared = Arc::new(Shared {
        permits: Semaphore::new(options.in_flight),
        bus,
        handler,
        options,
        health,
        suspects: Suspects::default(),
        held_bytes: AtomicUsize::new(0),
        drain: CancellationToken::new(),
        hurry: CancellationToken::new(),
    });
    let spec = &shared.options.consumer;
    let name = format!("{}/{}", spec.stream, spec.durable_name);
    let mut puller =
        Puller::start(&shared.bus, spec, shared.options.batch).await.map_err(|_| ServeError::Closed)?;
    let mut tasks = JoinSet::new();
    shared.health.not_ready(&name, "the consumer has not answered yet");
    let room = AbortOnDropHandle::new(tokio::spawn(tell_room(shared.bus.clone(), shared.health.clone())));
    let ended = pull(&shared, &name, &mut puller, &mut tasks, &shutdown).await;
    drop(room);
    shared.health.draining();
    drain(&shared, &name, &mut puller, &mut tasks).await;
    ended
}

async fn pull<H: Handler>(
    shared: &Arc<Shared<H>>,
    name: &str,
    puller: &mut Puller,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let spec = &shared.options.consumer;
    let held_max = shared.options.in_flight + shared.options.ahead;
    let mut events = shared.bus.events();
    let mut was_served = None;
    loop {
        while tasks.try_join_next().is_some() {}
        if was_served != Some(puller.is_served) {
            was_served = Some(puller.is_served);
            match puller.is_served {
                true => shared.health.ready(name),
                false => shared.health.not_ready(name, "the server does not answer pull requests"),
            }
        }
        let held_bytes = shared.held_bytes.load(Ordering::Relaxed);
        puller.ask(held_max.saturating_sub(tasks.len()), held_bytes).await;
        let pulled = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            event = events.recv() => {
                match event {
                    Ok(BusEvent::Disconnected) => puller.connection_broke(),
                    Ok(BusEvent::Denied(denial)) if denial.subject == puller.subject() => {
                        return Err(ServeError::Denied { subject: denial.subject });
                    }
                    Ok(BusEvent::Closed) | Err(RecvError::Closed) => return Err(ServeError::Closed),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                }
                continue;
            }
            pulled = puller.next() => pulled,
            Some(_) = tasks.join_next() => continue,
        };
        let mut next = Some(pulled);
        let mut taken = 0;
        while let Some(pulled) = next.take() {
            match pulled {
                Pulled::Message(message, reply) => {
                    if message.pending > held_max as u64 {
                        shared.bus.behind();
                    }
                    shared.held_bytes.fetch_add(message.size(), Ordering::Relaxed);
                    // Boxed: the runtime moves what it is given several times, and this is large.
                    tasks.spawn(Box::pin(own(shared.clone(), *message, reply).in_current_span()));
                }
                Pulled::Again => {}
                Pulled::Gone => {
                    let (stream, consumer) = (spec.stream.clone(), spec.durable_name.clone());
                    return Err(ServeError::Gone { stream, consumer });
                }
                Pulled::Closed => return Err(ServeError::Closed),
            }
            taken += 1;
            if taken < TURN_MAX {
                next = puller.next_now();
            }
        }
    }
}

/// Ends what runs, gives back what waits or was on its way.
async fn drain<H: Handler>(
    shared: &Arc<Shared<H>>,
    name: &str,
    puller: &mut Puller,
    tasks: &mut JoinSet<()>,
) {
    shared.drain.cancel();
    puller.stop().await;
    let deadline = tokio::time::Instant::now() + Duration::from_millis(shared.options.drain_ms);
    let mut closed = false;
    loop {
        tokio::select! {
            pulled = puller.next(), if !closed => match pulled {
                Pulled::Message(_, reply) => shared.bus.acknowledge(&reply, give_back()).await,
                Pulled::Again => {}
                Pulled::Gone | Pulled::Closed => closed = true,
            },
            ended = tasks.join_next(), if !tasks.is_empty() => drop(ended),
            () = tokio::time::sleep_until(deadline), if !shared.hurry.is_cancelled() => {
                warn!(consumer = name, running = tasks.len(), "Drain time is over; giving the rest back.");
                shared.hurry.cancel();
                // The subscription ends only with the connection where that is broken.
                closed = true;
            }
            else => break,
        }
        if closed && tasks.is_empty() {
            break;
        }
    }
    let _ = shared.bus.flush().await;
    info!(consumer = name, "Drained.");
}

/// Runs one message to its end and acknowledges accordingly.
async fn own<H: Handler>(shared: Arc<Shared<H>>, message: Inbound, reply: String) {
    let role = shared.health.role().as_str();
    let counters = shared.health.counters();
    counters.in_flight.fetch_add(1, Ordering::Relaxed);
    if message.delivered > 1 {
        counters.redelivered.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(metric::BUS_REDELIVERIES, "role" => role).increment(1);
    }
    let outcome = {
        let work = attempt(&shared, &message);
        tokio::pin!(work);
        let progress_every = Duration::from_nanos(shared.options.consumer.ack_wait_ns / 3);
        loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                () = shared.hurry.cancelled() => break Outcome::GiveBack,
                () = tokio::time::sleep(progress_every) => shared.bus.acknowledge(&reply, Ack::Progress).await,
            }
        }
    };
    let verdict = settle(&shared, &message, &reply, outcome).await;
    metrics::counter!(metric::MESSAGES, "role" => role, "verdict" => verdict).increment(1);
    counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    shared.held_bytes.fetch_sub(message.size(), Ordering::Relaxed);
}

/// Handles a message, again and again while it is put off.
async fn attempt<H: Handler>(shared: &Shared<H>, message: &Inbound) -> Outcome {
    let mut suspect = message.delivered > shared.options.unexplained_max;
    let (suspects, sequence) = (&shared.suspects, message.sequence);
    if suspect && suspects.gives_up(sequence, message.delivered, shared.options.unexplained_max) {
        let dead = std::panic::catch_unwind(AssertUnwindSafe(|| shared.handler.poison(message)));
        let fallback = |_| Dead::new(Code::Poison, "the message made its handler fail again and again");
        return Outcome::Dead(Box::new(dead.unwrap_or_else(fallback)));
    }
    loop {
        let permit = tokio::select! {
            biased;
            () = shared.drain.cancelled() => return Outcome::GiveBack,
            permit = shared.turn(suspect) => permit,
        };
        let running = suspects.runs(sequence);
        let verdict = AssertUnwindSafe(shared.handler.handle(message)).catch_unwind().await;
        drop((running, permit));
        match verdict {
            Ok(Verdict::Done) => return Outcome::Done,
            Ok(Verdict::Dead(dead)) => return Outcome::Dead(dead),
            Err(_) => {
                suspects.panicked(sequence);
                return Outcome::Panicked;
            }
            Ok(Verdict::Retry { after }) => {
                // Its handler came through.
                suspect = false;
                shared.health.counters().retried.fetch_add(1, Ordering::Relaxed);
                tokio::select! {
                    () = shared.drain.cancelled() => return Outcome::GiveBack,
                    () = tokio::time::sleep(with_jitter(after)) => {}
                }
            }
        }
    }
}

/// The acknowledgement that an outcome deserves; returns its name.
async fn settle<H: Handler>(
    shared: &Shared<H>,
    message: &Inbound,
    reply: &str,
    outcome: Outcome,
) -> &'static str {
    let counters = shared.health.counters();
    let (ack, verdict) = match outcome {
        Outcome::Done => {
            counters.handled.fetch_add(1, Ordering::Relaxed);
            (Ack::Done, "done")
        }
        Outcome::GiveBack => (give_back(), "given_back"),
        Outcome::Panicked => {
            counters.panicked.fetch_add(1, Ordering::Relaxed);
            metrics::counter!(metric::BUS_PANICS, "role" => shared.health.role().as_str()).increment(1);
            error!(position = %message.position(), delivered = message.delivered, "A handler panicked.");
            shared.health.error(format!("a handler panicked on {}", message.position()));
            let doubled = PANIC_DELAY_MS.saturating_mul(1 << message.delivered.saturating_sub(1).min(6));
            (Ack::Again(with_jitter(Duration::from_millis(doubled.min(PANIC_DELAY_MS_MAX)))), "panicked")
        }
        Outcome::Dead(dead) => {
            let code = dead.code;
            match dead::publish(&shared.bus, shared.health.role(), message, *dead).await {
                Ok(()) => {
                    counters.dead.fetch_add(1, Ordering::Relaxed);
                    warn!(position = %message.position(), code = %code, "A message was given up.");
                    (Ack::Never, "dead")
                }
                Err(error) => {
                    error!(position = %message.position(), %error, "A dead letter could not be published.");
                    shared.health.error(error.to_string());
                    (Ack::Again(with_jitter(Duration::from_millis(DEAD_DELAY_MS))), "dead_failed")
                }
            }
        }
    };
    shared.bus.acknowledge(reply, ack).await;
    verdict
}

fn give_back() -> Ack {
    Ack::Again(with_jitter(Duration::from_millis(GIVE_BACK_MS_MIN)))
}

/// The duration and up to a fifth more, so that what failed together does not come back together.
fn with_jitter(duration: Duration) -> Duration {
    duration + duration.mul_f64(rand::random::<f64>() / 5.0)
}
