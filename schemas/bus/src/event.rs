//! What the connection tells on its own: denials, breaks and returns.

use async_nats::{Event, ServerError};

/// Something this identity tried that its allow-list does not hold. A denied request otherwise looks like a time-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What was tried.
    pub action: DeniedAction,
    /// On which subject.
    pub subject: String,
}

/// What was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedAction {
    /// A publish or request.
    Publish,
    /// A publish whose reply subject is not permitted.
    Reply,
    /// A subscription.
    Subscribe,
}

/// An event of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BusEvent {
    Connected,
    Disconnected,
    Denied(Denial),
    Closed,
}

impl BusEvent {
    /// The event for those of the client that matter to us.
    pub(crate) fn from_client(event: &Event) -> Option<Self> {
        match event {
            Event::Connected => Some(Self::Connected),
            Event::Disconnected => Some(Self::Disconnected),
            Event::Closed => Some(Self::Closed),
            Event::ServerError(ServerError::Other(text)) => Denial::parse(text).map(Self::Denied),
            _ => None,
        }
    }
}

impl Denial {
    /// Reads the server's words, for example `Permissions Violation for Publish to "work.local"`.
    fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let rest = lower.find("permissions violation for ").map(|at| &lower[at + 26..])?;
        let action = if rest.starts_with("publish with reply") {
            DeniedAction::Reply
        } else if rest.starts_with("publish") {
            DeniedAction::Publish
        } else if rest.starts_with("subscription") {
            DeniedAction::Subscribe
        } else {
            return None;
        };
        let subject = text.split('"').nth(1)?;
        Some(Self { action, subject: subject.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_servers_words() {
        let rows = [
            ("Permissions Violation for Publish to \"Work.x\"", Some((DeniedAction::Publish, "Work.x"))),
            (
                "nats: permissions violation for Subscription to \"a.>\"",
                Some((DeniedAction::Subscribe, "a.>")),
            ),
            (
                "Permissions Violation for Publish with Reply of \"$JS.ACK.a\"",
                Some((DeniedAction::Reply, "$JS.ACK.a")),
            ),
            ("Maximum Payload Violation", None),
        ];
        for (text, expected) in rows {
            let found = Denial::parse(text);
            assert_eq!(found.as_ref().map(|d| (d.action, d.subject.as_str())), expected, "{text}");
        }
    }
}
