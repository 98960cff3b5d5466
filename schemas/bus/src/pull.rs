//! Pulling from one durable consumer: requests ahead of need, heartbeats, and the server's statuses.
//!
//! It never creates a consumer and never acknowledges. Deliveries come on an inbox of its own under the identity's prefix.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::bus::Bus;
use crate::message::Inbound;
use crate::spec::ConsumerSpec;
use crate::wire;

/// How long a pull request stands, nanoseconds: 20 seconds.
const EXPIRES_NS: u64 = 20 * 1_000_000_000;
/// How often the server says that it still knows of us, nanoseconds: 4 seconds.
const HEARTBEAT_NS: u64 = 4 * 1_000_000_000;
/// Bytes that one request may bring, count: several of the largest messages.
const REQUEST_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
/// Bytes of messages held at once, count; beyond it nothing more is asked for. Requests on their way may bring theirs all the
/// same.
pub(crate) const HELD_BYTES_MAX: usize = 16 * MESSAGE_BYTES_MAX;
/// What the server says of a request whose bytes or messages are used up.
const USED_UP: [&str; 2] = ["message size exceeds maxbytes", "batch completed"];
/// Silence after which the requests count as lost: two heartbeats and a little.
const SILENCE_MAX: Duration = Duration::from_secs(9);
/// Time that the server gets to take up the last request before the inbox goes away. A request whose inbox is gone when it is
/// taken up, in another account, counts as one that somebody waits for, and swallows messages until it expires.
const TAKE_UP: Duration = Duration::from_millis(60);
/// Pause before asking again after the server could not serve.
const PAUSE: Duration = Duration::from_millis(250);

/// What comes out of a consumer.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// A delivery and the subject of its acknowledgement.
    Message(Box<Inbound>, String),
    /// Something changed; ask again.
    Again,
    /// The consumer does not exist any more.
    Gone,
    /// The connection is closed for good.
    Closed,
}

/// Pulls from one consumer.
#[derive(Debug)]
pub(crate) struct Puller {
    bus: Bus,
    subscriber: Subscriber,
    inbox: String,
    next_subject: String,
    batch: usize,
    /// Messages that requests on their way may still bring.
    asked: usize,
    heard: Instant,
    asked_at: Instant,
    not_before: Instant,
    /// Whether the server answered the last request.
    pub(crate) is_served: bool,
}

impl Puller {
    pub(crate) async fn start(
        bus: &Bus,
        spec: &ConsumerSpec,
        batch: usize,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox = bus.client().new_inbox();
        let subscriber = bus.client().subscribe(inbox.clone()).await?;
        let now = Instant::now();
        Ok(Self {
            bus: bus.clone(),
            subscriber,
            inbox,
            next_subject: format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", spec.stream, spec.durable_name),
            batch: batch.max(1),
            asked: 0,
            heard: now,
            asked_at: now,
            not_before: now,
            is_served: false,
        })
    }

    /// Subject of the pull requests, which a denial names.
    pub(crate) fn subject(&self) -> &str {
        &self.next_subject
    }

    /// Asks for more where `room` messages more can be held beside so many bytes, and too few are asked for.
    pub(crate) async fn ask(&mut self, room: usize, held_bytes: usize) {
        let now = Instant::now();
        if now < self.not_before || held_bytes >= HELD_BYTES_MAX {
            return;
        }
        let want = room.saturating_sub(self.asked).min(self.batch);
        // Small requests cost as much as large ones: wait until half a batch is worth asking for.
        if want == 0 || (self.asked > 0 && want < self.batch.div_ceil(2)) {
            return;
        }
        // Until it has answered one the server is asked for what is there now: that is answered at once, where a request that
        // may stand is silent until its first heartbeat.
        let stands = match self.is_served {
            true => format!("\"expires\":{EXPIRES_NS},\"idle_heartbeat\":{HEARTBEAT_NS}"),
            false => "\"no_wait\":true".to_owned(),
        };
        let payload = format!("{{\"batch\":{want},\"max_bytes\":{REQUEST_BYTES_MAX},{stands}}}");
        let sent = self
            .bus
            .client()
            .publish_with_reply(self.next_subject.clone(), self.inbox.clone(), payload.into())
            .await;
        if sent.is_ok() {
            self.asked += want;
            self.asked_at = now;
            if self.asked == want {
                self.heard = now;
            }
        }
    }

    /// The next delivery, or why to look again. Cancel safe.
    pub(crate) async fn next(&mut self) -> Pulled {
        let now = Instant::now();
        let deadline = if self.asked > 0 {
            self.heard + SILENCE_MAX
        } else if now < self.not_before {
            self.not_before
        } else {
            now + SILENCE_MAX
        };
        match tokio::time::timeout_at(deadline, self.subscriber.next()).await {
            Ok(Some(message)) => self.read(message),
            Ok(None) => Pulled::Closed,
            Err(_) => {
                if self.asked > 0 {
                    debug!(subject = %self.next_subject, "No heartbeat; asking again.");
                    self.is_served = false;
                }
                self.asked = 0;
                self.heard = Instant::now();
                Pulled::Again
            }
        }
    }

    /// A delivery that is already here.
    pub(crate) fn next_now(&mut self) -> Option<Pulled> {
        use futures::FutureExt;
        let message = self.subscriber.next().now_or_never()??;
        Some(self.read(message))
    }

    /// Stops the requests. What comes after this and before [`Pulled::Closed`] was already on its way.
    pub(crate) async fn stop(&mut self) {
        let _ = self.bus.flush().await;
        tokio::time::sleep_until(self.asked_at + TAKE_UP).await;
        let _ = self.subscriber.drain().await;
    }

    /// Forgets the requests on their way: the connection broke, and the server forgot them too.
    pub(crate) fn connection_broke(&mut self) {
        self.asked = 0;
        self.is_served = false;
    }

    fn read(&mut self, message: Message) -> Pulled {
        self.heard = Instant::now();
        match message.status {
            None => {
                self.asked = self.asked.saturating_sub(1);
                self.is_served = true;
                match wire::inbound(message) {
                    Some((inbound, reply)) => Pulled::Message(Box::new(inbound), reply),
                    None => Pulled::Again,
                }
            }
            Some(StatusCode::IDLE_HEARTBEAT) => {
                self.is_served = true;
                Pulled::Again
            }
            Some(status) => self.read_end(status, &message),
        }
    }

    /// The end of a request: how many messages it did not bring.
    fn read_end(&mut self, status: StatusCode, message: &Message) -> Pulled {
        let description = message.description.as_deref().unwrap_or_default().to_ascii_lowercase();
        if status == StatusCode::NO_RESPONDERS {
            self.asked = 0;
            self.is_served = false;
            self.not_before = self.heard + PAUSE;
            return Pulled::Again;
        }
        if status.as_u16() == 409
            && (description.contains("consumer deleted") || description.contains("push based"))
        {
            return Pulled::Gone;
        }
        let left = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get_last("Nats-Pending-Messages"))
            .and_then(|value| value.as_str().parse::<usize>().ok());
        self.asked = left.map_or(0, |left| self.asked.saturating_sub(left));
        let usual = status.as_u16() == 408
            || status == StatusCode::NOT_FOUND
            || USED_UP.contains(&description.as_str());
        match usual {
            true => self.is_served = true,
            false => {
                warn!(subject = %self.next_subject, status = status.as_u16(), description, "A pull request ended early.");
                self.not_before = self.heard + PAUSE;
            }
        }
        Pulled::Again
    }
}

/// What an acknowledgement says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ack {
    /// Done with it.
    Done,
    /// Still at it: the wait starts anew.
    Progress,
    /// Deliver it again after this long.
    Again(Duration),
    /// Never deliver it again.
    Never,
}

impl Ack {
    /// The payload (ADR-15).
    pub(crate) fn payload(self) -> Bytes {
        match self {
            Self::Done => Bytes::from_static(b"+ACK"),
            Self::Progress => Bytes::from_static(b"+WPI"),
            Self::Again(delay) => format!("-NAK {{\"delay\":{}}}", delay.as_nanos()).into(),
            Self::Never => Bytes::from_static(b"+TERM"),
        }
    }
}

impl Bus {
    /// Sends an acknowledgement and does not wait: one that is lost means another delivery, which ids make harmless.
    pub(crate) async fn acknowledge(&self, reply: &str, ack: Ack) {
        if self.client().publish(reply.to_owned(), ack.payload()).await.is_err() {
            debug!("An acknowledgement could not be sent; the message will come again.");
        }
    }
}
