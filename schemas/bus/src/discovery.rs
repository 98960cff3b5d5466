//! NATS micro services (ADR-32): every role answers `$SRV.PING`, `INFO` and `STATS`, and may answer queries.

use std::collections::HashMap;

use async_nats::service::{Request, Service, ServiceExt};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;

use crate::bus::Bus;
use crate::error::ApiError;
use crate::health::Health;

/// A role as a micro service. It stops answering when dropped.
pub struct Discovery {
    service: Service,
}

/// Requests to one endpoint.
pub struct Endpoint {
    endpoint: async_nats::service::endpoint::Endpoint,
}

/// One request to an endpoint.
pub struct Query {
    request: Request,
}

impl Bus {
    /// Announces this process as `tidegate-<role>`; its health is the data of its statistics.
    ///
    /// # Errors
    /// [`ApiError::Send`].
    pub async fn discovery(&self, health: &Health, version: &str) -> Result<Discovery, ApiError> {
        let role = health.role();
        let data = health.clone();
        let stats = move |_: String, _: async_nats::service::endpoint::Stats| {
            serde_json::to_value(data.report()).unwrap_or(Value::Null)
        };
        let service = self
            .client()
            .service_builder()
            .description(format!("Tidegate {role}"))
            .metadata(HashMap::from([("role".to_owned(), role.to_string())]))
            .stats_handler(stats)
            .start(format!("tidegate-{role}"), version)
            .await
            .map_err(|error| ApiError::Send { subject: "$SRV".to_owned(), reason: error.to_string() })?;
        let discovery = Discovery { service };
        // Statistics are kept for each endpoint, so there is always one.
        let health_subject = format!("health.{role}");
        let mut endpoint = discovery.endpoint("health", &health_subject).await?;
        let report = health.clone();
        tokio::spawn(async move {
            while let Some(query) = endpoint.next().await {
                let body = serde_json::to_vec(&report.report()).unwrap_or_default();
                query.respond(body.into()).await;
            }
        });
        Ok(discovery)
    }
}

impl Discovery {
    /// Answers requests on `subject`; several processes of a role share the requests.
    ///
    /// # Errors
    /// [`ApiError::Send`].
    pub async fn endpoint(&self, name: &str, subject: &str) -> Result<Endpoint, ApiError> {
        let builder = self.service.endpoint_builder().name(name);
        let endpoint = builder
            .add(subject)
            .await
            .map_err(|error| ApiError::Send { subject: subject.to_owned(), reason: error.to_string() })?;
        Ok(Endpoint { endpoint })
    }

    /// Stops answering.
    pub async fn stop(self) {
        let _ = self.service.stop().await;
    }
}

impl Endpoint {
    /// The next request; `None` when the service stopped.
    pub async fn next(&mut self) -> Option<Query> {
        self.endpoint.next().await.map(|request| Query { request })
    }
}

impl Query {
    /// Subject it came on.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.request.message.subject.as_str()
    }

    /// What is asked.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.request.message.payload
    }

    /// Answers. Who asked may have gone.
    pub async fn respond(self, payload: Bytes) {
        let _ = self.request.respond(Ok(payload)).await;
    }

    /// Refuses, with a code like those of HTTP and one sentence without content.
    pub async fn refuse(self, code: usize, sentence: &str) {
        let error = async_nats::service::error::Error { code, status: sentence.to_owned() };
        let _ = self.request.respond(Err(error)).await;
    }
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Discovery")
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Endpoint")
    }
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("subject", &self.subject()).finish_non_exhaustive()
    }
}
