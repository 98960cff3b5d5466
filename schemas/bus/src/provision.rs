//! Creates what the topology names. What exists stays as it is: a difference is reported, never repaired silently.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use crate::api::encode;
use crate::bus::Bus;
use crate::error::ApiError;
use crate::spec::{BucketSpec, ConsumerSpec, Drift, StreamSpec, drift};
use crate::topology::Topology;

/// What the provisioner did and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProvisionReport {
    /// Streams, buckets and consumers created, by name; a consumer as `<stream>/<consumer>`.
    pub created: Vec<String>,
    /// Those found as asked.
    pub unchanged: usize,
    /// Those that differ from what was asked, and how.
    pub drifted: Vec<(String, Vec<Drift>)>,
}

/// Provisioning stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The server refused or did not answer.
    #[error("cannot provision `{what}`: {source}")]
    Api {
        /// Stream, bucket or consumer.
        what: String,
        /// Why.
        source: ApiError,
    },
    /// The server took the request and made something else of it.
    #[error("the server made `{what}` otherwise than asked, in `{field}`; is it nats-server 2.15 or newer?")]
    NotAsAsked {
        /// Stream, bucket or consumer.
        what: String,
        /// The first field that differs.
        field: String,
    },
}

#[derive(Deserialize)]
struct Echo {
    config: Value,
}

#[derive(Serialize)]
struct CreateConsumer<'a> {
    stream_name: &'a str,
    config: &'a ConsumerSpec,
    action: &'static str,
}

impl ProvisionReport {
    /// Whether everything is as asked.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.drifted.is_empty()
    }
}

/// Creates what is missing and reports what differs. Running it again changes nothing.
///
/// # Errors
/// [`ProvisionError`] at the first thing that cannot be created or does not come out as asked.
pub async fn provision(bus: &Bus, topology: &Topology) -> Result<ProvisionReport, ProvisionError> {
    let mut report = ProvisionReport::default();
    let buckets: Vec<StreamSpec> = topology.buckets.iter().map(BucketSpec::stream).collect();
    for spec in topology.streams.iter().chain(&buckets) {
        let info = format!("$JS.API.STREAM.INFO.{}", spec.name);
        let create = format!("$JS.API.STREAM.CREATE.{}", spec.name);
        ensure(bus, &mut report, &spec.name, &info, &create, encode(spec), spec).await?;
    }
    for spec in &topology.consumers {
        let (stream, name) = (&spec.stream, &spec.durable_name);
        let info = format!("$JS.API.CONSUMER.INFO.{stream}.{name}");
        let create = format!("$JS.API.CONSUMER.CREATE.{stream}.{name}");
        let payload = encode(&CreateConsumer { stream_name: stream, config: spec, action: "create" });
        ensure(bus, &mut report, &format!("{stream}/{name}"), &info, &create, payload, spec).await?;
    }
    info!(
        created = report.created.len(),
        unchanged = report.unchanged,
        drifted = report.drifted.len(),
        "Provisioned."
    );
    Ok(report)
}

async fn ensure<T: Serialize>(
    bus: &Bus,
    report: &mut ProvisionReport,
    what: &str,
    info: &str,
    create: &str,
    payload: Bytes,
    asked: &T,
) -> Result<(), ProvisionError> {
    let failed = |source| ProvisionError::Api { what: what.to_owned(), source };
    match bus.api::<Echo>(info, Bytes::new()).await {
        Ok(echo) => {
            let differences = drift(asked, &echo.config);
            if differences.is_empty() {
                report.unchanged += 1;
            } else {
                warn!(what, fields = differences.len(), "A stream or consumer is not as the topology asks.");
                report.drifted.push((what.to_owned(), differences));
            }
            Ok(())
        }
        Err(error) if error.is_not_found() => {
            let echo: Echo = bus.api(create, payload).await.map_err(failed)?;
            if let Some(first) = drift(asked, &echo.config).into_iter().next() {
                return Err(ProvisionError::NotAsAsked { what: what.to_owned(), field: first.field });
            }
            report.created.push(what.to_owned());
            Ok(())
        }
        Err(error) => Err(failed(error)),
    }
}

impl Bus {
    /// Gives a bucket that exists the age at which its values go, where that is another; nothing else of it changes.
    ///
    /// # Errors
    /// [`ProvisionError`].
    pub async fn age_bucket(&self, spec: &BucketSpec) -> Result<(), ProvisionError> {
        let stream = spec.stream();
        let failed = |source| ProvisionError::Api { what: stream.name.clone(), source };
        let info = format!("$JS.API.STREAM.INFO.{}", stream.name);
        let echo: Echo = self.api(&info, Bytes::new()).await.map_err(failed)?;
        let others = drift(&stream, &echo.config);
        // Whoever made it otherwise in another way is told so, and has it as it is.
        if !others.is_empty()
            && others.iter().all(|drift| ["max_age", "duplicate_window"].contains(&drift.field.as_str()))
        {
            let subject = format!("$JS.API.STREAM.UPDATE.{}", stream.name);
            self.api::<Echo>(&subject, encode(&stream)).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Raises the size of a stream that exists; it never lowers it.
    ///
    /// # Errors
    /// [`ProvisionError`].
    pub async fn raise_stream_bytes(&self, spec: &StreamSpec) -> Result<(), ProvisionError> {
        let failed = |source| ProvisionError::Api { what: spec.name.clone(), source };
        let state = self.stream_info(&spec.name).await.map_err(failed)?;
        if state.bytes_max.is_some_and(|max| max < spec.max_bytes) {
            let subject = format!("$JS.API.STREAM.UPDATE.{}", spec.name);
            self.api::<Echo>(&subject, encode(spec)).await.map_err(failed)?;
        }
        Ok(())
    }
}
