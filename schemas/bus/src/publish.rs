//! Publishing that adapts: few messages wait → single publishes in a window; many → atomic batches, so that the server pays
//! one fsync for a thousand messages.
//!
//! One task owns all of it: what waits, what is on its way, and one wildcard inbox for the acknowledgements. It does not
//! retry what failed; but a batch that the server refuses, or that a broken connection interrupted, is published again one by
//! one where each message has an id.

mod answer;
mod backlog;
mod pace;
mod queue;
mod shelf;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures::{FutureExt, StreamExt};
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::metric;
use tidegate_schemas::subject::{EVENTS, REPLAY, RESULTS, STEPS, WORK_CLOUD, WORK_LOCAL};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;
use tracing::debug;

use self::answer::{Answer, server_error, word};
use self::backlog::Backlog;
use self::queue::{Move, Queue};
use self::shelf::{Shelf, Shipment};
use crate::config::{BusConfig, PublishMode};
use crate::error::PublishError;
use crate::event::{BusEvent, Denial, DeniedAction};
use crate::message::{Outbound, Published};
use crate::wire::{self, InBatch};

/// How often messages on their way are checked for their time-out.
const SWEEP_EVERY: Duration = Duration::from_millis(200);
/// Queues kept while nothing waits in them, count.
const QUEUES_KEPT: usize = 512;
/// Messages taken from the channel at once, count.
const TAKE_MAX: usize = 1_024;

/// Hands messages to the publishing task.
#[derive(Debug)]
pub(crate) struct Publisher {
    jobs: mpsc::Sender<Job>,
    backlog: Arc<Backlog>,
}

/// A message and who waits for its acknowledgement.
#[derive(Debug)]
struct Job {
    message: Outbound,
    since: Instant,
    answer: oneshot::Sender<Result<Published, PublishError>>,
}

struct Actor {
    client: Client,
    inbox: String,
    timeout: Duration,
    queues: HashMap<String, Queue<Job>>,
    shelf: Shelf<Job>,
    batch_prefix: String,
    mode: PublishMode,
    backlog: Arc<Backlog>,
}

// === impl Publisher ===

impl Publisher {
    /// Subscribes the acknowledgement inbox and starts the task, which ends when the publisher is dropped and nothing is on
    /// its way any more.
    pub(crate) async fn start(
        client: &Client,
        config: &BusConfig,
        events: broadcast::Receiver<BusEvent>,
    ) -> Result<Self, String> {
        let inbox = client.new_inbox();
        let acks = client.subscribe(format!("{inbox}.*")).await.map_err(|error| error.to_string())?;
        let (jobs, receiver) = mpsc::channel(config.limits.publish_queue_max);
        let backlog = Arc::new(Backlog::default());
        let actor = Actor {
            client: client.clone(),
            batch_prefix: inbox.rsplit('.').next().unwrap_or_default().to_owned(),
            inbox,
            timeout: config.limits.publish_timeout(),
            mode: config.limits.publish_mode,
            queues: HashMap::new(),
            shelf: Shelf::default(),
            backlog: Arc::clone(&backlog),
        };
        tokio::spawn(actor.run(receiver, acks, events));
        Ok(Self { jobs, backlog })
    }

    /// More waits at the server than this process can take up at once.
    pub(crate) fn behind(&self) {
        self.backlog.seen();
    }

    pub(crate) async fn publish(&self, message: Outbound) -> Result<Published, PublishError> {
        let (answer, receiver) = oneshot::channel();
        let job = Job { message, since: Instant::now(), answer };
        self.jobs.send(job).await.map_err(|_| PublishError::Closed)?;
        receiver.await.map_err(|_| PublishError::Closed)?
    }
}

// === impl Actor ===

impl Actor {
    async fn run(
        mut self,
        mut jobs: mpsc::Receiver<Job>,
        mut acks: Subscriber,
        mut events: broadcast::Receiver<BusEvent>,
    ) {
        let mut taken = Vec::with_capacity(TAKE_MAX);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut wake = None;
        let mut open = true;
        while open || !self.is_idle() {
            let linger = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ack = acks.next() => {
                    let Some(ack) = ack else { break };
                    self.answer(&ack);
                    // Take what else is here before the queues are looked at again: one look serves many.
                    for _ in 0..TAKE_MAX {
                        let Some(Some(ack)) = acks.next().now_or_never() else { break };
                        self.answer(&ack);
                    }
                }
                count = jobs.recv_many(&mut taken, TAKE_MAX), if open => {
                    open = count > 0;
                    for job in taken.drain(..) {
                        self.queue(&job.message.subject).push(job);
                    }
                }
                event = events.recv() => match event {
                    Ok(BusEvent::Denied(denial)) => self.denied(&denial),
                    Ok(BusEvent::Disconnected) => self.shelf.connection_broke(),
                    Ok(BusEvent::Connected) => self.connection_is_back(),
                    Ok(BusEvent::Closed) => break,
                    Err(_) => {}
                },
                _ = sweep.tick() => self.expire(),
                () = linger => {}
            }
            wake = self.send_ready().await;
        }
    }

    fn is_idle(&self) -> bool {
        self.shelf.is_empty() && self.queues.values().all(Queue::is_empty)
    }

    fn queue(&mut self, subject: &str) -> &mut Queue<Job> {
        let key = queue_key(subject);
        // `entry` would make a String for each message.
        if !self.queues.contains_key(key.as_ref()) {
            self.queues.insert(key.to_string(), Queue::new(self.mode));
        }
        self.queue_at(key.into_owned())
    }

    fn queue_at(&mut self, key: String) -> &mut Queue<Job> {
        self.queues.entry(key).or_insert_with(|| Queue::new(self.mode))
    }

    /// Sends what its queue permits to go now; says when to look again.
    async fn send_ready(&mut self) -> Option<Instant> {
        let mut wake: Option<Instant> = None;
        let mut ready = Vec::new();
        let (now, behind) = (Instant::now(), self.backlog.is_there());
        for (key, queue) in &mut self.queues {
            loop {
                let (jobs, batch) = match queue.next_move(now, behind) {
                    Move::Single(job) => (vec![job], false),
                    Move::Batch(jobs) => (jobs, true),
                    Move::WaitUntil(at) => {
                        wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
                        break;
                    }
                    Move::Nothing => break,
                };
                let together = queue.on_their_way(batch);
                ready.push(Shipment { queue: key.clone(), jobs, batch, sent: now, together });
            }
        }
        for shipment in ready {
            self.send(shipment).await;
        }
        wake
    }

    async fn send(&mut self, shipment: Shipment<Job>) {
        let token = self.shelf.next_token();
        let batch_id = shipment.batch.then(|| format!("{}{token}", self.batch_prefix));
        let count = shipment.jobs.len();
        let mut failed = false;
        for (index, job) in shipment.jobs.iter().enumerate() {
            let commit = index + 1 == count;
            let place = batch_id.as_deref().map(|id| InBatch { id, sequence: index + 1, commit });
            let (headers, payload) = wire::outgoing(&job.message, place);
            let subject = job.message.subject.clone();
            let sent = if commit {
                let reply = format!("{}.{token}", self.inbox);
                self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            } else {
                self.client.publish_with_headers(subject, headers, payload).await
            };
            failed |= sent.is_err();
        }
        self.shelf.put(token, shipment);
        if failed {
            self.finish(token, |_| Err(PublishError::Closed));
        }
    }

    /// Reads an acknowledgement and tells who waits.
    fn answer(&mut self, ack: &Message) {
        let Some(token) = ack.subject.rsplit('.').next().and_then(|token| token.parse().ok()) else { return };
        if ack.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
            self.finish(token, |job| Err(PublishError::NoStream { subject: job.message.subject.clone() }));
            return;
        }
        let Ok(answer) = serde_json::from_slice::<Answer<'_>>(&ack.payload) else {
            debug!(bytes = ack.payload.len(), "An acknowledgement has an unknown form.");
            return;
        };
        let Some(error) = answer.error else {
            self.taken(token, &answer.stream, answer.seq, answer.duplicate);
            return;
        };
        if self.shelf.is_batch(token) {
            self.one_by_one(token);
        } else {
            self.finish(token, |job| Err(server_error(&job.message, &error)));
        }
    }

    fn taken(&mut self, token: u64, stream: &str, last: u64, duplicate: bool) {
        let how = if self.shelf.is_batch(token) { "batch" } else { "single" };
        let mut before_last = self.shelf.len_of(token);
        if let Some(shipment) = self.shelf.get(token)
            && let Some(queue) = self.queues.get_mut(&shipment.queue)
        {
            let now = Instant::now();
            let elapsed = now.duration_since(shipment.sent);
            match shipment.batch {
                true => queue.batch_taken(now, elapsed, shipment.together),
                false => queue.single_taken(now, elapsed, shipment.together),
            }
        }
        metrics::counter!(metric::BUS_PUBLISHED, "how" => how).increment(before_last);
        self.finish(token, |_| {
            before_last = before_last.saturating_sub(1);
            Ok(Published { stream: stream.to_owned(), sequence: last.saturating_sub(before_last), duplicate })
        });
    }

    /// Ends a shipment: each of its messages gets its answer.
    fn finish(&mut self, token: u64, mut answer: impl FnMut(&Job) -> Result<Published, PublishError>) {
        let Some(shipment) = self.shelf.take(token) else { return };
        self.queue_at(shipment.queue).returned(shipment.batch);
        let now = Instant::now();
        for job in shipment.jobs {
            let result = answer(&job);
            match &result {
                Ok(_) => {
                    let seconds = now.duration_since(job.since).as_secs_f64();
                    metrics::histogram!(metric::BUS_PUBLISH_SECONDS).record(seconds);
                }
                Err(error) => {
                    metrics::counter!(metric::BUS_PUBLISH_ERRORS, "error" => word(error)).increment(1);
                }
            }
            // Whoever waited may have gone; the message is in the stream all the same.
            let _ = job.answer.send(result);
        }
    }

    /// Puts the messages of a shipment back, to go alone.
    fn one_by_one(&mut self, token: u64) {
        let Some(shipment) = self.shelf.take(token) else { return };
        let queue = self.queue_at(shipment.queue);
        queue.returned(shipment.batch);
        shipment.jobs.into_iter().for_each(|job| queue.push_alone(job));
    }

    fn denied(&mut self, denial: &Denial) {
        if denial.action == DeniedAction::Subscribe {
            return;
        }
        let matches =
            |job: &Job| denial.action == DeniedAction::Reply || job.message.subject == denial.subject;
        for token in self.shelf.tokens_with(matches) {
            if self.shelf.is_batch(token) {
                // Each then finds out for itself.
                self.one_by_one(token);
            } else {
                self.finish(token, |_| Err(PublishError::Denied { subject: denial.subject.clone() }));
            }
        }
    }

    /// What was on its way when the connection broke goes again where an id makes that safe.
    fn connection_is_back(&mut self) {
        for token in self.shelf.interrupted() {
            let safe =
                |job: &Job| job.message.msg_id.is_some() && job.message.expected_subject_sequence.is_none();
            if self.shelf.all(token, safe) {
                self.one_by_one(token);
            } else {
                self.finish(token, |job| {
                    Err(PublishError::Interrupted { subject: job.message.subject.clone() })
                });
            }
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let timeout = self.timeout;
        for token in self.shelf.tokens_with(|job| now.duration_since(job.since) > timeout) {
            self.finish(token, |job| Err(PublishError::Timeout { subject: job.message.subject.clone() }));
        }
        for queue in self.queues.values_mut() {
            for job in queue.expired(|job| now.duration_since(job.since) > timeout) {
                let _ = job.answer.send(Err(PublishError::Timeout { subject: job.message.subject.clone() }));
            }
        }
        // An idle queue is kept for what it learned of the server's pace.
        if self.queues.len() > QUEUES_KEPT {
            self.queues.retain(|_, queue| !queue.is_empty());
        }
    }
}

impl queue::Sized for Job {
    fn bytes(&self) -> usize {
        self.message.size()
    }

    fn alone(&self) -> bool {
        self.message.expected_subject_sequence.is_some()
    }

    fn since(&self) -> Instant {
        self.since
    }
}

/// Bytes of one batch: the server takes no more at once than one message's limit of us.
const BATCH_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Messages that share a stream share a queue. In a tenant's account the subject does not name the stream; then a queue may
/// hold part of a stream, never parts of two.
fn queue_key(subject: &str) -> std::borrow::Cow<'static, str> {
    let mut tokens = subject.split('.');
    match (tokens.next(), tokens.next()) {
        (Some("work"), Some("local")) => WORK_LOCAL.into(),
        (Some("work"), Some("cloud")) => WORK_CLOUD.into(),
        (Some("result"), _) => RESULTS.into(),
        (Some("step"), _) => STEPS.into(),
        (Some("attempt" | "review" | "verdict" | "dead" | "control" | "checkpoint"), _) => EVENTS.into(),
        (Some("replay"), _) => REPLAY.into(),
        (Some("task" | "cancel"), Some(tenant)) => format!("TASKS_{tenant}").into(),
        (Some("$KV"), Some(bucket)) => format!("KV_{bucket}").into(),
        _ => subject.to_owned().into(),
    }
}
