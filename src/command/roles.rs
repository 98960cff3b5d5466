//! One process a role: connect, check, serve, drain.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidegate_bus::{Bus, CancellationToken, Discovery, Health, Role};
use tidegate_gateway::{Ops, Snapshot};
use tidegate_router::RouterConfig;
use tokio::signal::unix::{SignalKind, signal};

use crate::cell::{Cell, replace};
use crate::cli::{Global, RoleArgs};
use crate::telemetry;
use crate::{launch, output};

mod cloud;
mod local;
mod recorder;
mod vault;

pub(super) use cloud::run as cloud;
pub(super) use local::run as local;
pub(super) use recorder::run as recorder;
pub(super) use vault::run as vault;

/// Messages that a router works on at once a stream.
const ROUTER_IN_FLIGHT_MAX: usize = 1_024;

pub(super) async fn router(global: &Global, args: &RoleArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let config = RouterConfig {
        cell: cell.config.name.to_string(),
        ticket_key_file: cell.ticket_key(),
        in_flight_max: ROUTER_IN_FLIGHT_MAX,
        egress_needs_record: true,
    };
    if args.check_config {
        return shown(
            global,
            &[
                ("cell", json!(config.cell), "cell.toml"),
                ("url", json!(cell.config.url), "cell.toml"),
                ("ticket_key_file", json!(config.ticket_key_file), "the cell's directory"),
                ("in_flight_max", json!(config.in_flight_max), "default"),
                ("egress_needs_record", json!(config.egress_needs_record), "default"),
            ],
        );
    }
    serve(&cell, Role::Router, args, async |bus, _, shutdown, health| {
        tidegate_router::run(bus, config, shutdown, health).await.context("running the router")
    })
    .await
}

/// Prints effective values and where each came from.
fn shown(global: &Global, rows: &[(&str, Value, &str)]) -> Result<ExitCode> {
    if global.json {
        let of = |(key, value, source): &(&str, Value, &str)| {
            ((*key).to_owned(), json!({ "value": value, "source": source }))
        };
        output::json(&rows.iter().map(of).collect::<serde_json::Map<_, _>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    for (key, value, source) in rows {
        output::line(format!("{key} = {value}  # {source}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A role's life: its doors, its discovery, its work, until SIGTERM or Ctrl-C; then it drains.
async fn serve<F>(cell: &Cell, role: Role, args: &RoleArgs, work: F) -> Result<ExitCode>
where
    F: AsyncFnOnce(Bus, &Discovery, CancellationToken, Health) -> Result<()>,
{
    launch::undumpable()?;
    let metrics = telemetry::metrics()?;
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let health = Health::new(role);
    let listener = tidegate_gateway::bind(args.ops, tidegate_gateway::Reach::Loopback)
        .await
        .context("opening the health door; choose another address with --ops")?;
    let address = listener.local_addr().context("asking for the address")?;
    let doors = ops(listener, health.clone(), metrics, shutdown.clone());
    let bus = cell.connect(role).await?;
    let discovery = bus.discovery(&health, env!("CARGO_PKG_VERSION")).await.context("announcing the role")?;
    if let Some(file) = &args.ops_file {
        replace(file, format!("http://{address}\n").as_bytes(), 0o644)?;
    }
    tracing::info!(role = role.as_str(), ops = %address, "Started.");
    let outcome = work(bus, &discovery, shutdown.clone(), health).await;
    shutdown.cancel();
    discovery.stop().await;
    let _ = doors.await;
    outcome?;
    tracing::info!(role = role.as_str(), "Drained and ended.");
    Ok(ExitCode::SUCCESS)
}

fn ops(
    listener: tokio::net::TcpListener,
    health: Health,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    shutdown: CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let snapshot = move || {
        let report = health.report();
        let missing: Vec<String> =
            report.not_ready.iter().map(|(part, why)| format!("{part}: {why}")).collect();
        let sentence = if report.ready { "ready".to_owned() } else { missing.join("; ") };
        Snapshot { live: true, ready: report.ready, sentence }
    };
    let ops = Ops { health: Arc::new(snapshot), metrics: Arc::new(move || metrics.render()) };
    tokio::spawn(async move {
        if let Err(error) = tidegate_gateway::serve_ops(listener, ops, shutdown).await {
            tracing::error!(%error, "The health door closed.");
        }
    })
}

/// Cancels on SIGTERM and Ctrl-C.
pub(super) fn stop_on_signal(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}
