//! The connection of one identity, shared by everything that its process does on the bus.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::{Client, Request, Subscriber};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tidegate_schemas::header::Headers;
use tokio::sync::broadcast;

use crate::config::BusConfig;
use crate::connect::{ConnectError, open};
use crate::error::{ApiError, PublishError};
use crate::event::{BusEvent, Denial, DeniedAction};
use crate::identity::Identity;
use crate::message::{Outbound, Published};
use crate::publish::Publisher;
use crate::room::Room;
use crate::wire;

/// Events kept for a listener that lags, count.
const EVENTS_KEPT: usize = 256;

/// A connection to the bus. Cheap to clone; it closes when the last clone is dropped.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

/// Longest wait for a flush: a client whose server is away keeps what it is given, and would wait as long.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

struct Inner {
    client: Client,
    config: BusConfig,
    events: broadcast::Sender<BusEvent>,
    publisher: Publisher,
    room: Room,
}

/// A message of core NATS: not stored, delivered to whoever listens now.
#[derive(Debug, Clone)]
pub struct CoreMessage {
    /// Subject.
    pub subject: String,
    /// Where an answer goes; use [`Bus::respond`].
    pub reply: Option<String>,
    /// Headers, sorted by name.
    pub headers: Vec<(String, String)>,
    /// Payload.
    pub payload: Bytes,
}

/// Messages of a core subscription; it ends when the connection closes.
#[derive(Debug)]
pub struct CoreStream {
    subscriber: Subscriber,
}

// === impl Bus ===

impl Bus {
    /// Connects, checks the server's version and starts the publisher.
    ///
    /// # Errors
    /// [`ConnectError`] with what to do.
    pub async fn connect(config: BusConfig) -> Result<Self, ConnectError> {
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let client = open(&config, events.clone()).await?;
        let publisher = Publisher::start(&client, &config, events.subscribe())
            .await
            .map_err(|reason| ConnectError::Unreachable { url: config.url.clone(), reason })?;
        Ok(Self { inner: Arc::new(Inner { client, config, events, publisher, room: Room::default() }) })
    }

    /// Who is connected.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.config.identity
    }

    /// Version of the server.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.inner.client.server_info().version
    }

    /// Whether the connection stands at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == async_nats::connection::State::Connected
    }

    /// How many connections were made so far. It has grown before the first message of a new one can be read.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.inner.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Publishes into a stream and waits until the message is durable there.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::is_retryable`] says whether the same message may go through later.
    pub async fn publish(&self, message: Outbound) -> Result<Published, PublishError> {
        check_subject(&message.subject)?;
        let (bytes, bytes_max) = (message.size(), self.inner.client.max_payload());
        if bytes > bytes_max {
            return Err(PublishError::TooLarge { subject: message.subject, bytes, bytes_max });
        }
        let taken = self.inner.publisher.publish(message).await;
        if let Err(error) = &taken {
            self.inner.room.note(error);
        }
        taken
    }

    /// Why there is no room, if a message was refused for want of it of late; holds no content.
    pub(crate) fn no_room(&self) -> Option<String> {
        self.inner.room.refused()
    }

    /// More waits at the server than this process can take up at once: publishing may linger for larger batches.
    pub(crate) fn behind(&self) {
        self.inner.publisher.behind();
    }

    /// Publishes on core NATS: whoever listens now gets it, nobody acknowledges it. A denial shows only in [`Self::denials`].
    ///
    /// # Errors
    /// [`PublishError::BadSubject`], [`PublishError::TooLarge`] or [`PublishError::Closed`].
    pub async fn publish_core(
        &self,
        subject: &str,
        headers: &Headers,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        check_subject(subject)?;
        let bytes = payload.len();
        let sent = if headers.is_empty() {
            self.inner.client.publish(subject.to_owned(), payload).await
        } else {
            let message = Outbound { headers: headers.clone(), ..Outbound::default() };
            let map = wire::header_map(&message, None, |_| true);
            self.inner.client.publish_with_headers(subject.to_owned(), map, payload).await
        };
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => PublishError::TooLarge {
                subject: subject.to_owned(),
                bytes,
                bytes_max: self.inner.client.max_payload(),
            },
            PublishErrorKind::InvalidSubject => PublishError::BadSubject { subject: subject.to_owned() },
            _ => PublishError::Closed,
        })
    }

    /// Listens on a core subject, which may hold wildcards. What a slow listener does not read in time is lost.
    ///
    /// # Errors
    /// [`ApiError::Send`]; a denial shows in [`Self::denials`].
    pub async fn subscribe_core(&self, subject: &str) -> Result<CoreStream, ApiError> {
        self.inner
            .client
            .subscribe(subject.to_owned())
            .await
            .map(|subscriber| CoreStream { subscriber })
            .map_err(|error| ApiError::Send { subject: subject.to_owned(), reason: error.to_string() })
    }

    /// Asks on a subject and waits for one answer.
    ///
    /// # Errors
    /// [`ApiError`]; a denial fails at once and names the subject.
    pub async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<CoreMessage, ApiError> {
        let message = self.request_raw(subject, payload, timeout).await?;
        Ok(CoreMessage::from(message))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`PublishError::BadSubject`] when the message asks for no answer, or for one outside of the inboxes: no role publishes
    /// to a subject of somebody else's choosing.
    pub async fn respond(
        &self,
        to: &CoreMessage,
        headers: &Headers,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let reply = to.reply.as_deref().unwrap_or_default();
        if !(reply.starts_with("_INBOX.") || reply.starts_with("_R_.")) {
            return Err(PublishError::BadSubject { subject: reply.to_owned() });
        }
        self.publish_core(reply, headers, payload).await
    }

    /// What the server denies this connection from now on.
    pub fn denials(&self) -> impl Stream<Item = Denial> + Send + Unpin + use<> {
        let events = self.inner.events.subscribe();
        Box::pin(futures::stream::unfold(events, |mut events| async move {
            loop {
                match events.recv().await {
                    Ok(BusEvent::Denied(denial)) => return Some((denial, events)),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }))
    }

    /// Waits until everything handed over so far has been written to the connection, at most two seconds.
    ///
    /// # Errors
    /// [`PublishError::Closed`] when the connection is gone, or away for so long.
    pub async fn flush(&self) -> Result<(), PublishError> {
        let flushed = tokio::time::timeout(FLUSH_WITHIN, self.inner.client.flush()).await;
        flushed.map_err(|_| PublishError::Closed)?.map_err(|_| PublishError::Closed)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<BusEvent> {
        self.inner.events.subscribe()
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.config.limits.request_timeout()
    }

    pub(crate) async fn request_raw(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<async_nats::Message, ApiError> {
        let mut events = self.inner.events.subscribe();
        let request = Request::new().payload(payload).timeout(Some(timeout));
        let answer = self.inner.client.send_request(subject.to_owned(), request);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return answer.map_err(|error| request_error(subject, &error)),
                event = events.recv() => {
                    if let Ok(BusEvent::Denied(denial)) = event
                        && denial.action == DeniedAction::Publish
                        && denial.subject == subject
                    {
                        return Err(ApiError::Denied { subject: denial.subject });
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("identity", &self.inner.config.identity).finish_non_exhaustive()
    }
}

fn request_error(subject: &str, error: &async_nats::RequestError) -> ApiError {
    let subject = subject.to_owned();
    match error.kind() {
        RequestErrorKind::TimedOut => ApiError::Timeout { subject },
        RequestErrorKind::NoResponders => ApiError::NoResponder { subject },
        _ => ApiError::Send { subject, reason: error.to_string() },
    }
}

fn check_subject(subject: &str) -> Result<(), PublishError> {
    let token = |token: &str| {
        !token.is_empty()
            && !token.bytes().any(|b| b.is_ascii_whitespace() || b == b'*' || b == b'>' || b < 0x20)
    };
    if subject.split('.').all(token) {
        Ok(())
    } else {
        Err(PublishError::BadSubject { subject: subject.to_owned() })
    }
}

// === impl CoreMessage ===

impl From<async_nats::Message> for CoreMessage {
    fn from(message: async_nats::Message) -> Self {
        Self {
            subject: message.subject.to_string(),
            reply: message.reply.map(|reply| reply.to_string()),
            headers: wire::header_pairs(message.headers.as_ref(), |_| true),
            payload: message.payload,
        }
    }
}

// === impl CoreStream ===

impl Stream for CoreStream {
    type Item = CoreMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CoreMessage>> {
        self.subscriber.poll_next_unpin(cx).map(|message| message.map(CoreMessage::from))
    }
}
