//! Logs and metrics of a process. Neither ever carries content.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging to standard error: sentences for a terminal, JSON lines elsewhere. `TIDEGATE_LOG` filters.
pub(crate) fn logs(role: &'static str) {
    let filter =
        EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let started = if terminal { builder.try_init() } else { builder.json().try_init() };
    if started.is_ok() {
        tracing::debug!(role, "Logging started.");
    }
    quiet_panics();
}

/// A panic's message can hold what was being worked on; only where it happened is told.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        tracing::error!(
            place,
            "A handler panicked; its message is taken up again, and set aside if it keeps failing."
        );
    }));
}

/// Starts collecting metrics; the handle renders them for `/metrics`.
pub(crate) fn metrics() -> Result<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().context("starting the metrics recorder")
}
