//! Replays: records published again, by a plan, paced, and going on by themselves where they stopped.
//!
//! An operator's `control.replay` act begins or cancels one, so it is on record before anything is published; then the operator
//! asks here to have it done. Whether it may be done is the active bundle's word (action `Replay`). How far it is stands in the
//! record's file. What is replayed to the stream REPLAY is marked and nothing acts on it; tasks can be submitted again as new ones.

use serde::{Deserialize, Serialize};
use tidegate_audit::{PlanHead, Replay};
use tidegate_bus::{ApiError, Bus, CancellationToken, Discovery};
use tidegate_schemas::ids::Name;
use tidegate_schemas::replay::Pace;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::shared::Shared;
use crate::writer::Keeper;

mod desk;
mod message;
mod pace;
mod permit;
mod run;

/// Subjects of operators' questions, `query.replay.<operator>`: a [`ReplayQuestion`], answered with a [`ReplayAnswer`].
pub const REPLAYS: &str = "query.replay.*";

/// What an operator asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask", deny_unknown_fields)]
pub enum ReplayQuestion {
    /// Have a replay done. Asked again it changes nothing.
    Run {
        /// Sequence in EVENTS of the act that begins it.
        event: u64,
        /// What the act names the hash of.
        plan: Box<PlanHead>,
        /// How fast.
        pace: Pace,
    },
    /// Stop one where it is.
    Cancel {
        /// Sequence in EVENTS of the act that cancels it.
        event: u64,
    },
    /// Where replays stand.
    Status {
        /// Which one; absent: all that are known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replay: Option<Uuid>,
    },
}

/// The replays that were asked about, the oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayAnswer {
    /// Where each stands.
    pub replays: Vec<Replay>,
}

/// Subject of an operator's own questions.
#[must_use]
pub fn subject(operator: &Name) -> String {
    format!("query.replay.{operator}")
}

/// Answers operators, and runs replays, until shutdown.
pub(crate) async fn serve(
    discovery: &Discovery,
    bus: &Bus,
    shared: &Shared,
    keeper: Keeper,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<(), ApiError> {
    let endpoint = discovery.endpoint("replay", REPLAYS).await?;
    let cell = run::Parts { bus: bus.clone(), shared: shared.clone(), keeper };
    tasks.spawn(desk::Desk::new(cell, shutdown.clone()).run(endpoint));
    Ok(())
}
