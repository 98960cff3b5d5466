//! An operator's act: published as a control event, which is its record; the routers apply it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidegate_bus::{Bus, Identity, Outbound, Published};
use tidegate_recorder::look::{self, LookQuestion, Looked};
use tidegate_schemas::control::{Act, Control};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Name;
use tidegate_schemas::limits::REASON_BYTES_MAX;
use uuid::Uuid;

use super::record;
use crate::cell::Cell;

/// How long the recorder may take to look.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// The operator that this host's tools act as: `TIDEGATE_OPERATOR`, else `admin`.
pub(super) fn operator() -> Result<Name> {
    let name = std::env::var("TIDEGATE_OPERATOR").unwrap_or_else(|_| "admin".into());
    Name::new(name).context("TIDEGATE_OPERATOR")
}

/// Connects as this host's operator.
pub(super) async fn connect(cell: &Cell) -> Result<Bus> {
    cell.connect(Identity::Operator(operator()?)).await
}

/// The first message of a stream from a sequence on whose subject matches, as the recorder tells an operator.
pub(super) async fn look(bus: &Bus, stream: &str, subject: &str, from: u64) -> Result<Option<Looked>> {
    let question = LookQuestion { stream: stream.to_owned(), subject: subject.to_owned(), from };
    record::ask_for(bus, &look::subject(&operator()?), &question, LOOK_MAX).await
}

/// Publishes an act and waits until it is durable.
pub(super) async fn publish(cell: &Cell, act: Act, reason: &str) -> Result<Published> {
    publish_as(cell, operator()?, act, reason).await
}

/// The same, as this operator.
pub(super) async fn publish_as(cell: &Cell, operator: Name, act: Act, reason: &str) -> Result<Published> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        bail!("give a reason of 1 to {REASON_BYTES_MAX} bytes with --reason");
    }
    let bus = cell.connect(Identity::Operator(operator.clone())).await?;
    let subject = format!("control.{}.{operator}", act.topic());
    let control = Control { schema_version: 1, act, reason: reason.to_owned() };
    let message = Outbound::new(subject, serde_json::to_vec(&control)?)
        .with_id(Uuid::now_v7().to_string())
        .with_headers(Headers::new().with("content-type", "application/json"));
    bus.publish(message).await.context("publishing the act")
}
