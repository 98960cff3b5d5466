//! The bus alone: our pull loop and our publishing with a handler that decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tidegate_bus::topology::ROUTER;
use tidegate_bus::{
    Bus, CancellationToken, ConsumerSpec, Handler, Health, Inbound, Outbound, PullOptions, Role, Verdict,
    serve,
};
use tidegate_schemas::header::{CAUSE, Headers};
use tidegate_schemas::subject::WORK_LOCAL;

use super::Drain;
use super::cell::{Cell, tasks_stream};

/// Messages worked on at once, as in the router.
const IN_FLIGHT: usize = 1_024;

/// Publishes what it gets elsewhere.
struct Forward {
    bus: Bus,
    to: &'static str,
    id: String,
    left: Arc<AtomicU64>,
    done: CancellationToken,
}

impl Handler for Forward {
    async fn handle(&self, message: &Inbound) -> Verdict {
        let headers = Headers::new().with(CAUSE, message.position().to_string());
        let copy = Outbound::new(self.to, message.payload.clone())
            .with_id(format!("{} {}", self.id, message.sequence))
            .with_headers(headers);
        if self.bus.publish(copy).await.is_err() {
            return Verdict::Retry { after: Duration::from_millis(100) };
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.cancel();
        }
        Verdict::Done
    }
}

/// Drains all tasks.
pub(super) async fn drain(cell: &Cell, id: &str) -> Result<Drain> {
    let consumer = ConsumerSpec::new(tasks_stream(), ROUTER, &[]);
    let count = cell.messages(&tasks_stream()).await?;
    forward(cell, Role::Router, consumer, "work.cloud.openai.interactive.bench", id, count).await
}

/// Drains all local work from the role's own durable and says how many messages a second.
pub(super) async fn across(cell: &Cell, role: Role, count: u64, round: usize) -> Result<f64> {
    let (durable, to) = match role {
        Role::Router => (ROUTER, "review.q.bench"),
        _ => ("default", "attempt.local.bench"),
    };
    let consumer = ConsumerSpec::new(WORK_LOCAL, durable, &[]);
    Ok(forward(cell, role, consumer, to, &format!("{role} {round}"), count).await?.rate)
}

async fn forward(
    cell: &Cell,
    role: Role,
    consumer: ConsumerSpec,
    to: &'static str,
    id: &str,
    count: u64,
) -> Result<Drain> {
    let (bus, done) = (cell.bus(role).await?, CancellationToken::new());
    let left = Arc::new(AtomicU64::new(count));
    let handler = Forward { bus: bus.clone(), to, id: id.to_owned(), left, done: done.clone() };
    let options = PullOptions::new(consumer).with_in_flight(IN_FLIGHT, IN_FLIGHT);
    let (meter, begun) = (cell.meter(), Instant::now());
    let running = tokio::spawn(serve(bus, options, handler, done.clone(), Health::new(role)));
    done.cancelled().await;
    let (seconds, us) = (begun.elapsed().as_secs_f64(), meter.us());
    running.await??;
    Ok(Drain::of(count, seconds, us))
}
