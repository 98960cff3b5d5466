//! Waiting for something with a deadline, never for a while.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see.
///
/// # Errors
/// When the deadline passes first, with what was waited for.
pub async fn until<T, F, Fut>(what: &str, deadline: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if Instant::now() > end {
            bail!("waited {} s for {what}", deadline.as_secs());
        }
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.tick().await;
        tick.tick().await;
    }
}
