//! Publishing what must not be lost: the one place of this crate that tries a publish again.

use std::time::Duration;

use tidegate_bus::{Bus, Outbound, PublishError};
use tokio::time::Instant;
use tracing::warn;

use crate::life::{Message, Sent};

/// First pause between two tries; it doubles up to eight times as much.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_millis(1_600);

/// Publishes under the same id until the stream has an answer.
///
/// A claim whose first acknowledgement was lost comes back as a duplicate: its number counts as used, and no byte leaves on
/// it.
///
/// # Errors
/// What a retry does not cure, or the last error when `patience` is over; without one it is tried as long as the worker runs.
pub(crate) async fn send(
    bus: &Bus,
    message: &Message,
    patience: Option<Duration>,
) -> Result<Sent, PublishError> {
    let until = patience.map(|patience| Instant::now() + patience);
    let mut pause = PAUSE;
    loop {
        let outbound = Outbound::new(message.subject.clone(), message.payload.clone())
            .with_id(message.msg_id.clone())
            .with_headers(message.headers.clone());
        match bus.publish(outbound).await {
            Ok(published) if published.duplicate => return Ok(Sent::Duplicate),
            Ok(_) => return Ok(Sent::Stored),
            Err(PublishError::Refused { .. }) => return Ok(Sent::Taken),
            Err(PublishError::TooLarge { .. }) => return Ok(Sent::TooLarge),
            Err(error)
                if error.is_retryable() && until.is_none_or(|until| Instant::now() + pause < until) =>
            {
                warn!(%error, "A publish failed and is tried again.");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}
