//! What a pull loop holds at once is bounded in bytes, not only in messages.

use std::sync::Arc;
use std::time::Duration;

use tidegate_bus::{Bus, CancellationToken, Inbound, Outbound, Role, Verdict, serve};
use tokio::sync::Semaphore;

use crate::cell::{Cell, With, health, options, until};

/// Messages of one go: of the larger ones far more than may be held.
const MESSAGES: u64 = 40;
/// Nearly the largest payload, bytes.
const LARGE: usize = 4 * 1024 * 1024 - 64 * 1024;
/// Bytes that a loop holds: 64 MiB, and two requests of 16 MiB that were on their way then.
const HELD_BYTES_MAX: usize = 96 * 1024 * 1024 + LARGE;
/// How long the server gets to deliver everything.
const WINDOW: Duration = Duration::from_secs(3);

async fn pending(bus: &Bus) -> u64 {
    bus.consumer_info("WORK_LOCAL", "default").await.unwrap().pending
}

/// Messages that the server could deliver while no handler ended; all are handled in the end.
async fn held(bytes: usize) -> u64 {
    let cell = Cell::start_with("2m").await;
    let router = cell.role(Role::Router).await;
    for index in 0..MESSAGES {
        let message = Outbound::new("work.local.default.batch.acme", vec![b'x'; bytes]);
        router.publish(message.with_id(format!("w{index}"))).await.unwrap();
    }
    let gate = Arc::new(Semaphore::new(0));
    let closed = gate.clone();
    let handler = With(move |_: Inbound| {
        let closed = closed.clone();
        async move {
            drop(closed.acquire().await);
            Verdict::Done
        }
    });
    let stop = CancellationToken::new();
    let bus = cell.role(Role::Local).await;
    let pull = options(&cell, "WORK_LOCAL", "default");
    let running = tokio::spawn(serve(bus, pull, handler, stop.clone(), health(Role::Local)));
    let everything = async { while pending(&router).await > 0 {} };
    let _ = tokio::time::timeout(WINDOW, everything).await;
    let held = MESSAGES - pending(&router).await;
    gate.add_permits(1);
    until("everything is handled", || async {
        let state = router.consumer_info("WORK_LOCAL", "default").await.unwrap();
        state.pending == 0 && state.ack_pending == 0
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
    held
}

#[tokio::test]
async fn large_messages_are_held_by_their_bytes() {
    let large = usize::try_from(held(LARGE).await).unwrap();
    assert!((1..=HELD_BYTES_MAX / LARGE).contains(&large), "{large} of {LARGE} bytes");
    assert_eq!(held(1_024).await, MESSAGES, "negative control: small ones are all held");
}
