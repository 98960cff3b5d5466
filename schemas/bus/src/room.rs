//! Whether the server had room for what this process published of late.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::PublishError;

/// How long a refusal is told after the last one: longer than what was refused waits before it is tried again.
const TOLD_FOR: Duration = Duration::from_secs(15);

/// The last refusal for want of room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    refused: Mutex<Option<(Instant, String)>>,
}

impl Room {
    /// Notes why a message was not taken.
    pub(crate) fn note(&self, error: &PublishError) {
        if matches!(error, PublishError::Full { .. }) {
            let refused = Some((Instant::now(), error.to_string()));
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        }
    }

    /// Why there is no room, if something was refused of late; holds no content.
    pub(crate) fn refused(&self) -> Option<String> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.as_ref().is_some_and(|(at, _)| at.elapsed() > TOLD_FOR) {
            *refused = None;
        }
        refused.as_ref().map(|(_, why)| why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_until_none_came_for_a_while() {
        let room = Room::default();
        room.note(&PublishError::Timeout { subject: "a.b".to_owned() });
        assert_eq!(room.refused(), None, "negative control: another error says nothing of room");
        let full = || PublishError::Full { subject: "a.b".to_owned(), reason: "r".to_owned(), remedy: "m" };
        room.note(&full());
        tokio::time::advance(TOLD_FOR).await;
        assert_eq!(room.refused().as_deref(), Some("no room for `a.b`: r; m"));
        room.note(&full());
        tokio::time::advance(TOLD_FOR).await;
        assert!(room.refused().is_some(), "refused again meanwhile");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(room.refused(), None);
    }
}
