//! Reading a consumer in order, in groups, with the acknowledgement in the reader's own hands: for the recorder, which commits
//! a group of messages before it lets any of them go.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::bus::Bus;
use crate::event::BusEvent;
use crate::message::Inbound;
use crate::pull::{Ack, Pulled, Puller};
use crate::serve::ServeError;
use crate::spec::ConsumerSpec;

/// Shortest delay of a message that is given back: a bare nak would come back at once.
const GIVE_BACK: Duration = Duration::from_millis(100);
/// Longest wait for the end of the requests on their way.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Reads one consumer.
#[derive(Debug)]
pub struct Reader {
    bus: Bus,
    spec: ConsumerSpec,
    puller: Puller,
    events: broadcast::Receiver<BusEvent>,
    ahead: usize,
    held: usize,
    held_bytes: usize,
}

/// A message that is held until it is let go.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Inbound,
    reply: String,
}

impl Bus {
    /// Reads a consumer, holding at most `ahead` messages that are not let go, and about 64 MiB.
    ///
    /// # Errors
    /// [`ServeError::Closed`].
    pub async fn reader(&self, spec: &ConsumerSpec, ahead: usize) -> Result<Reader, ServeError> {
        let puller =
            Puller::start(self, spec, (ahead / 2).clamp(1, 1_000)).await.map_err(|_| ServeError::Closed)?;
        Ok(Reader {
            bus: self.clone(),
            spec: spec.clone(),
            puller,
            events: self.events(),
            ahead,
            held: 0,
            held_bytes: 0,
        })
    }
}

impl Reader {
    /// Waits for the next message and takes what is here with it, at most `max`, in the order of delivery. Redeliveries stand
    /// where they come: compare sequences. Cancel safe.
    ///
    /// # Errors
    /// [`ServeError`] when the consumer or the connection is gone for good.
    pub async fn take(&mut self, max: usize) -> Result<Vec<Delivery>, ServeError> {
        let mut group = Vec::new();
        while group.is_empty() {
            self.ask().await;
            let pulled = tokio::select! {
                biased;
                event = self.events.recv() => {
                    match event {
                        Ok(BusEvent::Disconnected) => self.puller.connection_broke(),
                        Ok(BusEvent::Denied(denial)) if denial.subject == self.puller.subject() => {
                            return Err(ServeError::Denied { subject: denial.subject });
                        }
                        Ok(BusEvent::Closed) | Err(RecvError::Closed) => return Err(ServeError::Closed),
                        Ok(_) | Err(RecvError::Lagged(_)) => {}
                    }
                    continue;
                }
                pulled = self.puller.next() => pulled,
            };
            let mut next = Some(pulled);
            while let Some(pulled) = next.take() {
                match pulled {
                    Pulled::Message(message, reply) => group.push(Delivery { message: *message, reply }),
                    Pulled::Again => {}
                    Pulled::Closed => return Err(ServeError::Closed),
                    Pulled::Gone => {
                        let (stream, consumer) = (self.spec.stream.clone(), self.spec.durable_name.clone());
                        return Err(ServeError::Gone { stream, consumer });
                    }
                }
                if group.len() < max {
                    next = self.puller.next_now();
                }
            }
        }
        self.held += group.len();
        self.held_bytes += group.iter().map(|delivery| delivery.message.size()).sum::<usize>();
        Ok(group)
    }

    async fn ask(&mut self) {
        self.puller.ask(self.ahead.saturating_sub(self.held), self.held_bytes).await;
    }

    fn let_go(&mut self, delivery: &Delivery) {
        self.held = self.held.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(delivery.message.size());
    }

    /// As [`Self::take`], but waits at most until `deadline`, then returns nothing.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub async fn take_until(&mut self, max: usize, deadline: Instant) -> Result<Vec<Delivery>, ServeError> {
        tokio::time::timeout_at(deadline, self.take(max)).await.unwrap_or_else(|_| Ok(Vec::new()))
    }

    /// Whether the server answers the reader's requests.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.puller.is_served
    }

    /// Lets messages go: their effects are durable.
    pub async fn done(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        for delivery in deliveries {
            self.let_go(&delivery);
            self.bus.acknowledge(&delivery.reply, Ack::Done).await;
        }
        self.ask().await;
    }

    /// Keeps a message longer than the consumer's wait for acknowledgement.
    pub async fn progress(&self, delivery: &Delivery) {
        self.bus.acknowledge(&delivery.reply, Ack::Progress).await;
    }

    /// Ends the reading: what is still on its way is given back. A reader that is just dropped leaves a request behind that
    /// swallows messages until it expires.
    pub async fn close(mut self) {
        self.puller.stop().await;
        let deadline = Instant::now() + CLOSE_MAX;
        while let Ok(pulled) = tokio::time::timeout_at(deadline, self.puller.next()).await {
            match pulled {
                Pulled::Message(_, reply) => self.bus.acknowledge(&reply, Ack::Again(GIVE_BACK)).await,
                Pulled::Again => {}
                Pulled::Gone | Pulled::Closed => break,
            }
        }
        // A connection that is gone has given everything back already.
        let _ = self.bus.flush().await;
    }

    /// Gives a message back, to come again after `delay` (at least 100 ms).
    pub async fn again(&mut self, delivery: Delivery, delay: Duration) {
        self.let_go(&delivery);
        self.bus.acknowledge(&delivery.reply, Ack::Again(delay.max(GIVE_BACK))).await;
    }
}
