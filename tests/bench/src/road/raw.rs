//! The raw shape: pull → trivial decision → publish acknowledged → ack, with the bare client and nothing of ours in between.
//!
//! With the default sync interval single publishes in a window of 1,024; with `always` atomic batches of at most 1,000 with a
//! linger of 2 to 10 ms, two in flight, which is the fastest that the server takes them. Each message has its id, since no
//! road of ours can go without.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, AckKind, Message};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tidegate_bus::Role;
use tidegate_bus::topology::ROUTER;

use super::cell::{Cell, tasks_stream};
use super::{Drain, Sync};

/// Publishes on their way at once, count.
const WINDOW: usize = 1_024;
/// Messages of one atomic batch, count.
const BATCH: usize = 1_000;
/// Batches on their way at once, count.
const BATCHES: usize = 2;
/// Wait for a batch to fill while none is on its way.
const LINGER_IDLE: Duration = Duration::from_millis(2);
/// The same while one is.
const LINGER_BUSY: Duration = Duration::from_millis(10);
/// Where everything goes.
const TO: &str = "work.cloud.openai.interactive.bench";

/// The raw shape's client.
pub(super) struct Raw {
    client: Client,
    jetstream: jetstream::Context,
    id: String,
    /// What each message gets more than it came with.
    fill: Vec<u8>,
}

/// Drains all tasks; each message gets `fill` bytes more than it came with.
pub(super) async fn drain(cell: &Cell, sync: Sync, id: &str, fill: usize) -> Result<Drain> {
    let raw = Raw { fill: vec![b'x'; fill], ..Raw::new(cell, id).await? };
    let count = cell.messages(&tasks_stream()).await?;
    let (meter, begun) = (cell.meter(), Instant::now());
    match sync {
        Sync::Default => raw.singles(count).await?,
        Sync::Durable => raw.batches(count).await?,
    }
    Ok(Drain::of(count, begun.elapsed().as_secs_f64(), meter.us()))
}

/// Pulls and acknowledges all tasks, and does nothing with them.
pub(super) async fn pull(cell: &Cell, id: &str) -> Result<Drain> {
    let raw = Raw::new(cell, id).await?;
    let count = cell.messages(&tasks_stream()).await?;
    let (meter, begun) = (cell.meter(), Instant::now());
    let mut messages = raw.messages(WINDOW).await?;
    for _ in 0..count {
        acknowledge(&messages.next().await.context("the consumer ended")??).await?;
    }
    raw.client.flush().await?;
    Ok(Drain::of(count, begun.elapsed().as_secs_f64(), meter.us()))
}

// === impl Raw ===

impl Raw {
    pub(super) async fn new(cell: &Cell, id: &str) -> Result<Self> {
        let client = cell.bare(Role::Router).await?;
        let jetstream =
            jetstream::ContextBuilder::new().ack_timeout(Duration::from_secs(60)).build(client.clone());
        Ok(Self { jetstream, client, id: id.to_owned(), fill: Vec::new() })
    }

    async fn messages(&self, ahead: usize) -> Result<pull::Stream> {
        let consumer: jetstream::consumer::Consumer<pull::Config> =
            self.jetstream.get_consumer_from_stream(ROUTER, tasks_stream()).await?;
        Ok(consumer.stream().max_messages_per_batch(ahead).messages().await?)
    }

    /// The trivial decision: everything goes the same way. Id and cause are what any router has to say.
    fn headers(&self, message: &Message) -> Result<HeaderMap> {
        let sequence = message.info().map_err(|error| anyhow::anyhow!(error))?.stream_sequence;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{} {sequence}", self.id));
        headers.insert("tidegate-cause", format!("{}:{sequence}", tasks_stream()));
        Ok(headers)
    }

    fn payload(&self, message: &Message) -> Bytes {
        if self.fill.is_empty() {
            return message.payload.clone();
        }
        [&self.fill, message.payload.as_ref()].concat().into()
    }

    /// Routes `count` messages, each published by itself.
    pub(super) async fn singles(&self, count: u64) -> Result<()> {
        let mut messages = self.messages(WINDOW).await?;
        let mut under_way = FuturesUnordered::new();
        let (mut taken, mut done) = (0, 0);
        while done < count {
            tokio::select! {
                Some(message) = messages.next(), if taken < count && under_way.len() < WINDOW => {
                    let message = message?;
                    let (headers, payload) = (self.headers(&message)?, self.payload(&message));
                    let published = self.jetstream.publish_with_headers(TO, headers, payload).await?;
                    under_way.push(async move {
                        published.await?;
                        acknowledge(&message).await
                    });
                    taken += 1;
                }
                Some(ended) = under_way.next() => {
                    ended?;
                    done += 1;
                }
            }
        }
        self.client.flush().await?;
        Ok(())
    }

    /// Routes `count` messages in atomic batches.
    pub(super) async fn batches(&self, count: u64) -> Result<()> {
        let mut messages = self.messages(BATCH * (BATCHES + 1)).await?;
        let mut under_way = FuturesUnordered::new();
        let mut group: Vec<Message> = Vec::with_capacity(BATCH);
        let (mut taken, mut done, mut batch) = (0, 0, 0);
        let mut due = Instant::now();
        while done < count {
            let wants = taken < count && group.len() < BATCH;
            let may_go = !group.is_empty() && under_way.len() < BATCHES;
            if may_go && (!wants || due <= Instant::now()) {
                batch += 1;
                under_way.push(self.send(std::mem::take(&mut group), batch).await?);
                continue;
            }
            tokio::select! {
                Some(message) = messages.next(), if wants => {
                    if group.is_empty() {
                        due = Instant::now() + if under_way.is_empty() { LINGER_IDLE } else { LINGER_BUSY };
                    }
                    group.push(message?);
                    taken += 1;
                    // What else is here costs no further look at the clock.
                    while taken < count && group.len() < BATCH {
                        let Some(Some(message)) = messages.next().now_or_never() else { break };
                        group.push(message?);
                        taken += 1;
                    }
                }
                Some(ended) = under_way.next() => done += ended?,
                () = tokio::time::sleep_until(due.into()), if may_go => {}
            }
        }
        self.client.flush().await?;
        Ok(())
    }

    /// Sends a batch; what it returns waits for its acknowledgement and acknowledges its messages.
    async fn send(
        &self,
        group: Vec<Message>,
        batch: u64,
    ) -> Result<impl Future<Output = Result<u64>> + use<>> {
        let mut commit = None;
        for (index, message) in group.iter().enumerate() {
            let mut headers = self.headers(message)?;
            headers.insert("Nats-Batch-Id", format!("{}-{batch}", self.id));
            headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            if index + 1 == group.len() {
                headers.insert("Nats-Batch-Commit", "1");
                commit = Some((headers, self.payload(message)));
            } else {
                self.client.publish_with_headers(TO, headers, self.payload(message)).await?;
            }
        }
        let (client, (headers, payload)) = (self.client.clone(), commit.context("an empty batch")?);
        Ok(async move {
            let answer = client.request_with_headers(TO, headers, payload).await?;
            let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
            ensure!(answer.get("error").is_none(), "a batch was refused: {answer}");
            for message in &group {
                acknowledge(message).await?;
            }
            Ok(group.len() as u64)
        })
    }
}

async fn acknowledge(message: &Message) -> Result<()> {
    message.ack_with(AckKind::Ack).await.map_err(|error| anyhow::anyhow!(error))
}
