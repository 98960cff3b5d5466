//! Liveness, readiness and metrics: what an operator's tools ask of every role.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::serve::{DoorLimits, ServeError, until};

/// Connections at once: a few probes and scrapers.
const LIMITS: DoorLimits = DoorLimits { connections_max: 64, idle_max: Duration::from_secs(60) };

/// How a role is, at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether the process works at all; where not, it is to be restarted.
    pub live: bool,
    /// Whether it can do its work now.
    pub ready: bool,
    /// The same in one plain sentence: what is missing and what to do.
    pub sentence: String,
}

/// What the door tells. Both functions are called for each request and must not block.
#[derive(Clone)]
pub struct Ops {
    /// How the role is.
    pub health: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    /// All metrics in Prometheus' text format, version 0.0.4.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ops")
    }
}

/// Serves `/livez`, `/readyz` and `/metrics` on a listener from [`crate::bind`] until `shutdown`.
///
/// # Errors
/// [`ServeError`] when the system ends the listener.
pub async fn serve_ops(
    listener: TcpListener,
    ops: Ops,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    until(listener, ops_router(ops), LIMITS, shutdown).await
}

/// The routes of [`serve_ops`].
fn ops_router(ops: Ops) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(ops)
}

#[derive(Serialize)]
struct Told {
    ok: bool,
    sentence: String,
}

async fn livez(State(ops): State<Ops>) -> Response {
    let Snapshot { live, sentence, .. } = (ops.health)();
    tell(live, sentence)
}

async fn readyz(State(ops): State<Ops>) -> Response {
    let Snapshot { live, ready, sentence } = (ops.health)();
    tell(live && ready, sentence)
}

async fn metrics(State(ops): State<Ops>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (ops.metrics)()).into_response()
}

fn tell(ok: bool, sentence: String) -> Response {
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(Told { ok, sentence })).into_response()
}
