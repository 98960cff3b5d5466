//! What operators may see of the streams themselves: when a message was stored, and of dead letters and refusals also what they
//! say. Neither holds a task's content, so nothing of a task leaves here.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_bus::{ApiError, Bus, CancellationToken, Discovery, Endpoint, Query};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::EVENTS;
use tokio::task::JoinSet;

use crate::service::{Refusal, encode, question};

/// Subjects of operators' looks, `query.look.<operator>`: a [`LookQuestion`], answered with a [`Looked`] or null.
pub const LOOKS: &str = "query.look.*";
/// Beginnings of the subjects in EVENTS whose payload is shown.
const SHOWN: [&str; 2] = ["dead.", "control.refused."];

/// The first message of a stream from a sequence on whose subject matches.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookQuestion {
    /// The stream.
    pub stream: String,
    /// Subject; may hold wildcards.
    pub subject: String,
    /// Least sequence.
    pub from: u64,
}

/// What is told of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Looked {
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored.
    pub published: Timestamp,
    /// What it says; only of a dead letter, and of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<Box<RawValue>>,
}

/// Subject of an operator's own looks.
#[must_use]
pub fn subject(operator: &Name) -> String {
    format!("query.look.{operator}")
}

/// Answers looks until shutdown.
///
/// # Errors
/// [`ApiError`] when the subject cannot be listened on.
pub(crate) async fn serve(
    discovery: &Discovery,
    bus: &Bus,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<(), ApiError> {
    let endpoint = discovery.endpoint("look", LOOKS).await?;
    tasks.spawn(listen(endpoint, bus.clone(), shutdown.clone()));
    Ok(())
}

async fn listen(mut endpoint: Endpoint, bus: Bus, shutdown: CancellationToken) {
    loop {
        let query = tokio::select! {
            () = shutdown.cancelled() => return,
            query = endpoint.next() => query,
        };
        let Some(query) = query else { return };
        match answer(&query, &bus).await {
            Ok(payload) => query.respond(payload.into()).await,
            Err(Refusal(code, sentence)) => query.refuse(code, &sentence).await,
        }
    }
}

async fn answer(query: &Query, bus: &Bus) -> Result<Vec<u8>, Refusal> {
    let LookQuestion { stream, subject, from } = question(query)?;
    // It becomes a token of a subject of the server's own.
    if stream.is_empty() || !stream.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        return Err(Refusal(400, "the stream's name is none".to_owned()));
    }
    let found = bus.first_from(&stream, &subject, from).await;
    let found = found.map_err(|error| Refusal(503, error.to_string()))?;
    encode(&found.map(|stored| Looked {
        sequence: stored.sequence,
        published: stored.published,
        says: says(&stream, &stored.subject, &stored.payload),
    }))
}

fn says(stream: &str, subject: &str, payload: &Bytes) -> Option<Box<RawValue>> {
    let shown = stream == EVENTS && SHOWN.iter().any(|begin| subject.starts_with(begin));
    shown.then(|| serde_json::from_slice(payload).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dead_letters_and_refusals_are_shown_to_an_operator() {
        let payload = Bytes::from_static(b"{\"sentence\":\"x\"}");
        let rows = [
            (EVENTS, "dead.router.acme", true),
            (EVENTS, "control.refused.router", true),
            (EVENTS, "control.lane.olga", false),
            (EVENTS, "review.stakes.acme", false),
            (EVENTS, "verdict.stakes.acme.ann", false),
            ("TASKS_dead", "dead.router.acme", false),
            ("RESULTS", "result.acme.bot.x", false),
            ("TASKS_acme", "task.acme.bot.chat", false),
        ];
        for (stream, subject, shown) in rows {
            assert_eq!(says(stream, subject, &payload).is_some(), shown, "{stream} {subject}");
        }
        assert!(says(EVENTS, "dead.router.acme", &Bytes::from_static(b"no JSON")).is_none());
    }
}
