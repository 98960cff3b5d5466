//! Asking the vault: one question, one answer, within a time. Whatever else comes of it is none.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_bus::Bus;
use tidegate_schemas::vault::{ANSWER_MS_MAX, REQUEST_BYTES_MAX};

/// Asks, and reads the answer; an error is a sentence without content.
pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
    bus: &Bus,
    subject: &str,
    question: &Q,
) -> Result<A, String> {
    let question = serde_json::to_vec(question).map_err(|_| "the question cannot be written".to_owned())?;
    if question.len() > REQUEST_BYTES_MAX {
        return Err("the question is longer than the vault takes".to_owned());
    }
    let timeout = Duration::from_millis(ANSWER_MS_MAX);
    let answer =
        bus.request(subject, Bytes::from(question), timeout).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&answer.payload)
        .map_err(|_| "the vault refused, or answered in another form".to_owned())
}
