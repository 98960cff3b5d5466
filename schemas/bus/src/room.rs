//! Whether the server had room for what this process published of late.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::bus::Bus;
use crate::error::PublishError;
use crate::health::Health;

/// How long a refusal is told after the last one: longer than what was refused waits before it is tried again.
const TOLD_FOR: Duration = Duration::from_secs(15);

/// Between two looks whether the server takes what is published.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What of the process is not ready while it does not.
const PART: &str = "room";

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

/// Says of a process that it is not ready while what it publishes finds no room; until dropped.
pub async fn tell_room(bus: Bus, health: Health) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        match bus.no_room() {
            Some(why) => health.not_ready(PART, why),
            None => health.ready(PART),
        }
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
