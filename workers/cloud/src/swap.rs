//! Changing one value of a bucket that others change too: read, change, write if nobody wrote meanwhile, else again. The one place
//! of this crate that does so.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_bus::{Bus, KvError};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tokio::time::Instant;
use uuid::Uuid;

/// Longest that a change is tried: shorter than a ticket lives, so that its work is put off rather than sent late.
const PATIENCE: Duration = Duration::from_secs(5);
/// First pause after somebody else was first, milliseconds; it doubles, and each is drawn from its second half.
const PAUSE_MS: u64 = 2;
const PAUSE_MS_MAX: u64 = 64;

/// Why a value was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwapError {
    /// The bucket cannot be read or written.
    #[error(transparent)]
    Bucket(#[from] KvError),
    /// What stands there cannot be read.
    #[error(
        "key `{key}` of bucket `{bucket}` is malformed; nothing that it counts leaves until `tidegate budget reset` begins it anew"
    )]
    Malformed {
        /// The bucket.
        bucket: &'static str,
        /// The key.
        key: String,
    },
    /// Others were first all the time.
    #[error("key `{key}` of bucket `{bucket}` is changed by too many at once; its work is put off")]
    Busy {
        /// The bucket.
        bucket: &'static str,
        /// The key.
        key: String,
    },
}

/// What becomes of a value that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Nothing is changed.
    Refuse,
    /// A new one takes its place, as if there had been none.
    Renew,
}

/// Changes a value, which may not be there yet; `change` gives the new one, or none to leave it, and what to answer. It may be
/// asked more than once, each time about what stands there then, and what it answered last counts. A write whose answer was lost is
/// read again: a change must know itself again.
///
/// # Errors
/// [`SwapError`]; what was to be changed may or may not be then.
pub(crate) async fn swap<T: Serialize + DeserializeOwned, R>(
    bus: &Bus,
    bucket: &'static str,
    key: &str,
    unread: Unread,
    mut change: impl FnMut(Option<T>) -> (Option<T>, R),
) -> Result<R, SwapError> {
    let until = Instant::now() + PATIENCE;
    let mut pause = PAUSE_MS;
    loop {
        let entry = bus.kv_get(bucket, key).await?;
        let revision = entry.as_ref().map(|entry| entry.revision);
        let before = entry.map(|entry| json::read(&entry.value, MESSAGE_BYTES_MAX)).transpose();
        let before = match (before, unread) {
            (Ok(before), _) => before,
            (Err(_), Unread::Renew) => None,
            (Err(_), Unread::Refuse) => return Err(SwapError::Malformed { bucket, key: key.to_owned() }),
        };
        let (after, answer) = change(before);
        let Some(after) = after else { return Ok(answer) };
        let value = serde_json::to_vec(&after).unwrap_or_default();
        match bus.kv_swap(bucket, key, value, revision).await {
            Ok(_) => return Ok(answer),
            Err(KvError::Conflict { .. }) => {}
            Err(KvError::Write(error)) if error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= until {
            return Err(SwapError::Busy { bucket, key: key.to_owned() });
        }
        tokio::time::sleep(Duration::from_millis(jittered(pause))).await;
        pause = (pause * 2).min(PAUSE_MS_MAX);
    }
}

/// Between half of it and all.
fn jittered(pause_ms: u64) -> u64 {
    let half = pause_ms / 2;
    half + Uuid::new_v4().as_u64_pair().0 % (half + 1)
}
