//! What a role checks before it pulls: the server's level, its consumers as asked, and that it may acknowledge.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::bus::Bus;
use crate::error::ApiError;
use crate::event::{BusEvent, Denial};
use crate::spec::{ConsumerSpec, Drift, StreamSpec, drift, is_zero};

/// Lowest JetStream API level: that of nats-server 2.12, which keeps filters and knows atomic batches.
const API_LEVEL_MIN: u64 = 2;
/// Fields of a stream that its operator chooses.
const CHOSEN: [&str; 4] = ["max_bytes", "num_replicas", "max_consumers", "max_msgs"];
/// Fields of a stream by which messages come from or go to where our accounts do not rule.
const COPIES: [&str; 4] = ["mirror", "sources", "republish", "subject_transform"];
/// How much later than an answer the client may tell a denial that the server sent first.
const DENIAL_LAG: Duration = Duration::from_millis(20);

/// A role must not start.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The server's JetStream is too old.
    #[error(
        "the server's JetStream API level is {found}, {API_LEVEL_MIN} is needed; run nats-server 2.15 or newer"
    )]
    ApiLevel {
        /// Level found.
        found: u64,
    },
    /// A consumer is missing or cannot be seen.
    #[error(
        "cannot use consumer `{consumer}` of `{stream}`: {source}; run the provisioner, compare the accounts file"
    )]
    Consumer {
        /// Its stream.
        stream: String,
        /// Its name.
        consumer: String,
        /// Why.
        source: ApiError,
    },
    /// A consumer is not what this role needs.
    #[error(
        "consumer `{consumer}` of `{stream}` has {field} = {found} instead of {asked}; it might deliver what is not ours"
    )]
    Drift {
        /// Its stream.
        stream: String,
        /// Its name.
        consumer: String,
        /// The field.
        field: String,
        /// What this role needs.
        asked: String,
        /// What the server has.
        found: String,
    },
    /// A stream does not hold what this role relies on.
    #[error(
        "stream `{stream}` has {field} = {found} instead of {asked}; what it promises does not hold then: correct it with the NATS command line, or drain the cell and provision it anew"
    )]
    StreamDrift {
        /// Its name.
        stream: String,
        /// The field.
        field: String,
        /// What this role needs.
        asked: String,
        /// What the server has.
        found: String,
    },
    /// Acknowledgements would be dropped.
    #[error("this identity may not acknowledge by `{subject}`; compare its allow-list in the accounts file")]
    Ack {
        /// The subject.
        subject: String,
    },
    /// The server did not answer.
    #[error(transparent)]
    Api(#[from] ApiError),
}

#[derive(Deserialize)]
struct AccountInfo {
    #[serde(default)]
    api: ApiInfo,
}

#[derive(Deserialize, Default)]
struct ApiInfo {
    #[serde(default)]
    level: u64,
}

#[derive(Deserialize)]
struct Echo {
    config: Value,
}

impl Bus {
    /// Checks the server and these consumers before anything is pulled.
    ///
    /// # Errors
    /// [`CheckError`] with what to do.
    pub async fn check(&self, consumers: &[ConsumerSpec]) -> Result<(), CheckError> {
        let account: AccountInfo = self.api("$JS.API.INFO", Bytes::new()).await?;
        if account.api.level < API_LEVEL_MIN {
            return Err(CheckError::ApiLevel { found: account.api.level });
        }
        for spec in consumers {
            let (stream, consumer) = (spec.stream.clone(), spec.durable_name.clone());
            let subject = format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}");
            let echo: Echo = match self.api(&subject, Bytes::new()).await {
                Ok(echo) => echo,
                Err(source) => return Err(CheckError::Consumer { stream, consumer, source }),
            };
            if let Some(first) = drift(spec, &echo.config).into_iter().next() {
                let (field, asked, found) = (first.field, first.asked, first.found);
                return Err(CheckError::Drift { stream, consumer, field, asked, found });
            }
            self.check_ack(spec).await?;
        }
        Ok(())
    }

    /// Checks that streams are what our promises rest on: what they take and keep, and that nothing copies it elsewhere. How
    /// large they are, and how many copies the cluster keeps, is their operator's choice.
    ///
    /// # Errors
    /// [`CheckError::StreamDrift`] at the first difference.
    pub async fn check_streams(&self, streams: &[StreamSpec]) -> Result<(), CheckError> {
        for spec in streams {
            let echo: Echo = self.api(&format!("$JS.API.STREAM.INFO.{}", spec.name), Bytes::new()).await?;
            let differs = |drift: &Drift| !CHOSEN.contains(&drift.field.as_str());
            let copied = COPIES.iter().find_map(|field| {
                let found = echo.config.get(field).filter(|found| !is_zero(found))?;
                Some(Drift { field: (*field).to_owned(), asked: "none".to_owned(), found: found.to_string() })
            });
            if let Some(Drift { field, asked, found }) =
                copied.or_else(|| drift(spec, &echo.config).into_iter().find(differs))
            {
                return Err(CheckError::StreamDrift { stream: spec.name.clone(), field, asked, found });
            }
        }
        Ok(())
    }

    /// Acknowledges a delivery that cannot exist: harmless where it is permitted, denied where it is not.
    async fn check_ack(&self, spec: &ConsumerSpec) -> Result<(), CheckError> {
        let mut events = self.events();
        let (stream, consumer) = (&spec.stream, &spec.durable_name);
        // Both forms of the subject; the longer one names a domain and an account before the stream.
        let forms = [
            format!("$JS.ACK.{stream}.{consumer}.0.0.0.0.0"),
            format!("$JS.ACK._._.{stream}.{consumer}.0.0.0.0.0"),
        ];
        for subject in &forms {
            let sent = self.client().publish(subject.clone(), Bytes::from_static(b"+WPI")).await;
            sent.map_err(|error| ApiError::Send { subject: subject.clone(), reason: error.to_string() })?;
        }
        // The server denies before it answers what was asked later; only the client's own event task may lag a little.
        let subject = format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}");
        let _: Echo = self.api(&subject, Bytes::new()).await?;
        while let Ok(Ok(event)) = timeout(DENIAL_LAG, events.recv()).await {
            if let BusEvent::Denied(Denial { subject, .. }) = event
                && forms.contains(&subject)
            {
                return Err(CheckError::Ack { subject });
            }
        }
        Ok(())
    }
}
