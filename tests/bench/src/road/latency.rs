//! Latency at 1,000 tasks a second: from the moment an agent publishes until the work is delivered to whoever pulls it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer::pull};
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use tidegate_bus::Role;
use tidegate_bus::topology::ROUTER;
use tidegate_schemas::header::CAUSE;
use tidegate_schemas::subject::WORK_CLOUD;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Sync;
use super::cell::{Cell, agent, tasks_stream};
use super::raw::Raw;
use super::route::Routing;
use crate::task::{self, AGENT};

/// Tasks a second.
const RATE: u64 = 1_000;
/// Tasks that do not count: everything gets warm.
const WARM: usize = 500;
/// Tasks that count.
const COUNTED: usize = 4_000;
/// Longest wait for one.
const PATIENCE: Duration = Duration::from_secs(20);

/// Percentiles, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// The raw shape's. Where each single costs an fsync a busy disk may not take 1,000 a second, and small batches are quicker:
/// then the better of both counts.
pub(super) async fn raw(cell: &Cell, bytes: usize, sync: Sync) -> Result<Latency> {
    let singles = raw_once(cell, bytes, false).await?;
    if sync == Sync::Default {
        return Ok(singles);
    }
    let batches = raw_once(cell, bytes, true).await?;
    Ok(if batches.p99_ms < singles.p99_ms { batches } else { singles })
}

async fn raw_once(cell: &Cell, bytes: usize, batches: bool) -> Result<Latency> {
    cell.empty_work().await?;
    let raw = Raw::new(cell, if batches { "quick-batches" } else { "quick-singles" }).await?;
    // All tasks from before were routed by the bus's last round, so these are the next.
    let count = (WARM + COUNTED) as u64;
    let routing =
        tokio::spawn(
            async move { if batches { raw.batches(count).await } else { raw.singles(count).await } },
        );
    let latency = measure(cell, bytes).await;
    routing.await??;
    latency
}

/// The full road's.
pub(super) async fn road(cell: &Cell, bytes: usize) -> Result<Latency> {
    cell.empty_work().await?;
    let routing = Routing::start(cell).await?;
    let latency = measure(cell, bytes).await;
    routing.stop().await?;
    latency
}

async fn measure(cell: &Cell, bytes: usize) -> Result<Latency> {
    let before = cell.messages(&tasks_stream()).await?;
    let jetstream = jetstream::new(cell.bare(Role::Router).await?);
    let consumer: jetstream::consumer::Consumer<pull::Config> =
        jetstream.get_consumer_from_stream(ROUTER, WORK_CLOUD).await?;
    let mut work = consumer.stream().max_messages_per_batch(1_000).messages().await?;
    let sending = send(cell, bytes).await?;
    let mut arrived = vec![None; WARM + COUNTED];
    for _ in 0..arrived.len() {
        let next = tokio::time::timeout(PATIENCE, work.next()).await.context("work does not arrive")?;
        let (message, now) = (next.context("the consumer ended")??, Instant::now());
        let cause =
            message.headers.as_ref().and_then(|headers| headers.get(CAUSE)).map(|value| value.as_str());
        let sequence = cause.and_then(|cause| cause.rsplit(':').next()?.parse::<u64>().ok());
        let place = sequence.and_then(|sequence| usize::try_from(sequence.checked_sub(before + 1)?).ok());
        let slot = place.and_then(|place| arrived.get_mut(place)).context("work of an unknown task")?;
        slot.get_or_insert(now);
        message.ack().await.map_err(|error| anyhow::anyhow!(error))?;
    }
    let sent = sending.await??;
    let mut times = Histogram::<u64>::new(3)?;
    for (sent, arrived) in sent.iter().zip(&arrived).skip(WARM) {
        let took = arrived.context("a task was routed twice and another never")?.duration_since(*sent);
        times.record(u64::try_from(took.as_micros())?)?;
    }
    ensure!(times.len() == COUNTED as u64, "not every task was counted");
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Latency { p50_ms: ms(0.5), p99_ms: ms(0.99) })
}

/// Publishes at the rate and says when each task went. One connection keeps their order, so task `n` is the stream's `n`th.
async fn send(cell: &Cell, bytes: usize) -> Result<JoinHandle<Result<Vec<Instant>>>> {
    let client = cell.bare(agent()?).await?;
    Ok(tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE)?);
        let mut sent = Vec::with_capacity(WARM + COUNTED);
        for _ in 0..WARM + COUNTED {
            let id = Uuid::now_v7();
            let payload = task::payload(id, bytes)?;
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", id.to_string());
            tick.tick().await;
            sent.push(Instant::now());
            client.publish_with_headers(format!("task.{AGENT}.chat"), headers, payload.into()).await?;
        }
        client.flush().await?;
        Ok(sent)
    }))
}
