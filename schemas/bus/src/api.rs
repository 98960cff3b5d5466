//! The JetStream API by its subjects (ADR-2, ADR-31), so that each call names exactly what an allow-list must hold.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bus::Bus;
use crate::error::{ApiError, wire_code};
use crate::message::Stored;
use crate::wire;

/// Times that an API request which nobody got is sent again, and how long after.
const SILENT_TRIES: u32 = 4;
const SILENT_AGAIN: Duration = Duration::from_millis(250);

/// Messages one multi-get may return (the server's limit), count.
pub(crate) const MULTI_GET_MAX: usize = 1_024;

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StreamState {
    /// Messages.
    pub messages: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// First sequence held; one past the last when it is empty.
    #[serde(rename = "first_seq")]
    pub first: u64,
    /// Last sequence given.
    #[serde(rename = "last_seq")]
    pub last: u64,
    /// Sequences between first and last that are gone.
    #[serde(default, rename = "num_deleted")]
    pub deleted: u64,
    /// Consumers.
    #[serde(default)]
    pub consumer_count: u64,
    /// When the last message was taken.
    #[serde(default, rename = "last_ts")]
    pub last_at: Option<Timestamp>,
    /// Bytes it may take; `None` without a limit.
    #[serde(skip)]
    pub bytes_max: Option<u64>,
}

/// Where a consumer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerState {
    /// Every stream sequence up to this one is acknowledged or does not match the filter.
    pub ack_floor: u64,
    /// Last stream sequence delivered.
    pub delivered: u64,
    /// Deliveries, each time that a message was delivered.
    pub deliveries: u64,
    /// Messages not yet delivered.
    pub pending: u64,
    /// Delivered and not yet acknowledged.
    pub ack_pending: u64,
    /// Of these, delivered more than once.
    pub redelivered: u64,
    /// Pull requests that wait.
    pub waiting: u64,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: StreamLimits,
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamLimits {
    #[serde(default)]
    max_bytes: i64,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    #[serde(default)]
    delivered: Sequences,
    #[serde(default)]
    ack_floor: Sequences,
    #[serde(default)]
    num_ack_pending: u64,
    #[serde(default)]
    num_redelivered: u64,
    #[serde(default)]
    num_waiting: u64,
    #[serde(default)]
    num_pending: u64,
}

#[derive(Deserialize, Default)]
struct Sequences {
    #[serde(default)]
    stream_seq: u64,
    #[serde(default)]
    consumer_seq: u64,
}

#[derive(Deserialize)]
struct StreamNames {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ConsumerNames {
    #[serde(default)]
    consumers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct SubjectCounts {
    state: SubjectState,
}

#[derive(Deserialize)]
struct SubjectState {
    #[serde(default)]
    subjects: Option<BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct Purged {
    #[serde(default)]
    purged: u64,
}

impl Bus {
    /// What a stream holds.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::is_not_found`] when there is no such stream.
    pub async fn stream_info(&self, stream: &str) -> Result<StreamState, ApiError> {
        let info: StreamInfo = self.api(&format!("$JS.API.STREAM.INFO.{stream}"), Bytes::new()).await?;
        Ok(StreamState {
            bytes_max: u64::try_from(info.config.max_bytes).ok().filter(|max| *max > 0),
            ..info.state
        })
    }

    /// Where a consumer stands.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::is_not_found`] when there is no such consumer.
    pub async fn consumer_info(&self, stream: &str, consumer: &str) -> Result<ConsumerState, ApiError> {
        let subject = format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}");
        let info: ConsumerInfo = self.api(&subject, Bytes::new()).await?;
        Ok(ConsumerState {
            ack_floor: info.ack_floor.stream_seq,
            delivered: info.delivered.stream_seq,
            deliveries: info.delivered.consumer_seq,
            pending: info.num_pending,
            ack_pending: info.num_ack_pending,
            redelivered: info.num_redelivered,
            waiting: info.num_waiting,
        })
    }

    /// Names of the cell's streams, at most 1,024 (the server's page).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn stream_names(&self) -> Result<Vec<String>, ApiError> {
        let page: StreamNames = self.api("$JS.API.STREAM.NAMES", Bytes::from_static(b"{}")).await?;
        Ok(page.streams.unwrap_or_default())
    }

    /// Names of a stream's consumers, at most 1,024 (the server's page).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn consumer_names(&self, stream: &str) -> Result<Vec<String>, ApiError> {
        let subject = format!("$JS.API.CONSUMER.NAMES.{stream}");
        let page: ConsumerNames = self.api(&subject, Bytes::from_static(b"{}")).await?;
        Ok(page.consumers.unwrap_or_default())
    }

    /// Whether the stream holds a message on exactly this subject, without seeing it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn subject_exists(&self, stream: &str, subject: &str) -> Result<bool, ApiError> {
        let payload = format!("{{\"subjects_filter\":{}}}", json_string(subject));
        let info: SubjectCounts = self.api(&format!("$JS.API.STREAM.INFO.{stream}"), payload.into()).await?;
        Ok(info.state.subjects.is_some_and(|subjects| !subjects.is_empty()))
    }

    /// The stream's last message on exactly this subject.
    ///
    /// # Errors
    /// [`ApiError`]; that there is none is `Ok(None)`.
    pub async fn last_for_subject(&self, stream: &str, subject: &str) -> Result<Option<Stored>, ApiError> {
        self.direct_get(&format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Bytes::new()).await
    }

    /// The stream's message with this sequence.
    ///
    /// # Errors
    /// [`ApiError`]; that it is not there (any more) is `Ok(None)`.
    pub async fn get(&self, stream: &str, sequence: u64) -> Result<Option<Stored>, ApiError> {
        let payload = format!("{{\"seq\":{sequence}}}");
        self.direct_get(&format!("$JS.API.DIRECT.GET.{stream}"), payload.into()).await
    }

    /// The stream's first message from this sequence on whose subject matches; `filter` may hold wildcards.
    ///
    /// # Errors
    /// [`ApiError`]; that there is none is `Ok(None)`.
    pub async fn first_from(
        &self,
        stream: &str,
        filter: &str,
        sequence: u64,
    ) -> Result<Option<Stored>, ApiError> {
        let payload = format!("{{\"seq\":{sequence},\"next_by_subj\":{}}}", json_string(filter));
        self.direct_get(&format!("$JS.API.DIRECT.GET.{stream}"), payload.into()).await
    }

    /// The result of a task as an agent of its own tenant looks it up: its account adds the tenant.
    ///
    /// # Errors
    /// [`ApiError`]; that there is none yet is `Ok(None)`.
    pub async fn own_result(&self, agent: &str, task: &str) -> Result<Option<Stored>, ApiError> {
        self.last_for_subject(tidegate_schemas::subject::RESULTS, &format!("result.{agent}.{task}")).await
    }

    /// The last message of each subject that matches, at most 1,024 subjects.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn last_per_subject(&self, stream: &str, filter: &str) -> Result<Vec<Stored>, ApiError> {
        self.last_of_each(stream, &[filter]).await
    }

    /// The last messages on whatever matches these filters, at most 1,024 subjects together.
    pub(crate) async fn last_of_each(&self, stream: &str, filters: &[&str]) -> Result<Vec<Stored>, ApiError> {
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let filters = serde_json::to_string(filters).unwrap_or_default();
        let payload = format!("{{\"multi_last\":{filters},\"batch\":{MULTI_GET_MAX}}}");
        let inbox = self.client().new_inbox();
        let send = |reason: String| ApiError::Send { subject: subject.clone(), reason };
        let mut answers = self.client().subscribe(inbox.clone()).await.map_err(|e| send(e.to_string()))?;
        self.client()
            .publish_with_reply(subject.clone(), inbox, payload.into())
            .await
            .map_err(|e| send(e.to_string()))?;
        let mut found = Vec::new();
        while found.len() <= MULTI_GET_MAX {
            let next = tokio::time::timeout(self.request_timeout(), answers.next()).await;
            let Ok(Some(message)) = next else { return Err(ApiError::Timeout { subject }) };
            match message.status {
                None => found.push(
                    wire::stored(&message).ok_or_else(|| ApiError::Malformed { subject: subject.clone() })?,
                ),
                Some(StatusCode::NO_RESPONDERS) => return Err(ApiError::NoResponder { subject }),
                Some(status) if status.as_u16() == 204 || status == StatusCode::NOT_FOUND => break,
                Some(_) => return Err(status_error(subject, &message)),
            }
        }
        Ok(found)
    }

    /// Deletes one message. With `erase` its bytes are overwritten on disk.
    ///
    /// # Errors
    /// [`ApiError`]; that it is not there (any more) is `Ok(false)`.
    pub async fn delete(&self, stream: &str, sequence: u64, erase: bool) -> Result<bool, ApiError> {
        #[derive(Serialize)]
        struct Delete {
            seq: u64,
            no_erase: bool,
        }
        let payload = encode(&Delete { seq: sequence, no_erase: !erase });
        let answer: Result<serde::de::IgnoredAny, _> =
            self.api(&format!("$JS.API.STREAM.MSG.DELETE.{stream}"), payload).await;
        match answer {
            Ok(_) => Ok(true),
            Err(ApiError::Server {
                err_code: wire_code::SEQUENCE_NOT_FOUND | wire_code::MESSAGE_NOT_FOUND,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes every message below `before` and returns how many.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn purge_before(&self, stream: &str, before: u64) -> Result<u64, ApiError> {
        #[derive(Serialize)]
        struct Purge {
            seq: u64,
        }
        if before <= 1 {
            // The server reads sequence 0 as "everything".
            return Ok(0);
        }
        let subject = format!("$JS.API.STREAM.PURGE.{stream}");
        let answer: Purged = self.api(&subject, encode(&Purge { seq: before })).await?;
        Ok(answer.purged)
    }

    /// Asks the JetStream API and reads the answer or its error.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: Bytes,
    ) -> Result<T, ApiError> {
        let mut tries = SILENT_TRIES;
        let answer = loop {
            match self.request_raw(subject, payload.clone(), self.request_timeout()).await {
                // Nobody got it. While a server takes over new accounts, nobody is there for a moment.
                Err(ApiError::NoResponder { .. }) if tries > 0 => {
                    tries -= 1;
                    tokio::time::sleep(SILENT_AGAIN).await;
                }
                answer => break answer?,
            }
        };
        let malformed = |_| ApiError::Malformed { subject: subject.to_owned() };
        let failed: ErrorAnswer = serde_json::from_slice(&answer.payload).map_err(malformed)?;
        if let Some(error) = failed.error {
            return Err(refusal(subject.to_owned(), error));
        }
        serde_json::from_slice(&answer.payload).map_err(malformed)
    }

    async fn direct_get(&self, subject: &str, payload: Bytes) -> Result<Option<Stored>, ApiError> {
        let answer = self.request_raw(subject, payload, self.request_timeout()).await?;
        match answer.status {
            None => wire::stored(&answer)
                .map(Some)
                .ok_or_else(|| ApiError::Malformed { subject: subject.to_owned() }),
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(_) => Err(status_error(subject.to_owned(), &answer)),
        }
    }
}

fn refusal(subject: String, error: ErrorBody) -> ApiError {
    let ErrorBody { err_code, description: reason } = error;
    match err_code {
        wire_code::NO_RESOURCES | wire_code::NO_STORAGE => ApiError::Full { subject, reason },
        wire_code::NO_STREAM_MADE => ApiError::NotMade { subject, reason },
        _ => ApiError::Server { subject, err_code, reason },
    }
}

fn status_error(subject: String, message: &async_nats::Message) -> ApiError {
    let reason = message.description.clone().unwrap_or_default();
    ApiError::Server {
        subject,
        err_code: message.status.map_or(0, |status| u64::from(status.as_u16())),
        reason,
    }
}

/// JSON of one of our own requests.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // Plain structs of numbers and strings cannot fail to encode; an empty request would be refused by the server.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
