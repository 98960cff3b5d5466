//! Listening to what changes beside the work: withdrawals and switches.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tidegate_bus::{Bus, CoreStream, KvError};
use tidegate_schemas::control::{FLAGS_BUCKET, FLAGS_KEY, Flags};
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::desk::{Desk, Whose};

/// How often the switches are read without a notice: one may be lost while the connection is away.
const FLAGS_EVERY: Duration = Duration::from_secs(1);

/// Notes withdrawals until `stop`.
pub(crate) async fn cancels(desk: Arc<Desk>, mut notices: CoreStream, stop: CancellationToken) {
    loop {
        let notice = tokio::select! {
            () = stop.cancelled() => return,
            notice = notices.next() => notice,
        };
        let Some(notice) = notice else { return };
        if let Some(whose) = withdrawn(&notice.subject) {
            desk.cancel(whose);
        }
    }
}

/// The task that a notice names.
fn withdrawn(subject: &str) -> Option<Whose> {
    let mut tokens = subject.strip_prefix("notice.cancel.")?.split('.');
    let (tenant, task) = (tokens.next()?, tokens.next()?);
    let whose = (Name::new(tenant).ok()?, task.parse::<TaskId>().ok()?);
    tokens.next().is_none().then_some(whose)
}

/// Keeps the switches up to date until `stop`.
pub(crate) async fn flags(bus: Bus, desk: Arc<Desk>, mut notices: CoreStream, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            notice = notices.next() => if notice.is_none() { return },
            () = tokio::time::sleep(FLAGS_EVERY) => {}
        }
        if let Err(error) = load_flags(&bus, &desk).await {
            // Local work goes on with the switches last known; the bus tells of its own trouble.
            warn!(%error, "The switches could not be read.");
        }
    }
}

/// Reads the switches.
pub(crate) async fn load_flags(bus: &Bus, desk: &Desk) -> Result<(), KvError> {
    let Some(entry) = bus.kv_get(FLAGS_BUCKET, FLAGS_KEY).await? else {
        // Local work goes on with what was known: nothing leaves the boundary by it.
        warn!("The switches are not there; those last known stay in force.");
        return Ok(());
    };
    match json::read::<Flags>(&entry.value, MESSAGE_BYTES_MAX) {
        Ok(flags) => {
            if desk.off().as_ref() != flags.switches.as_slice() {
                info!(off = flags.switches.len(), revision = entry.revision, "The switches changed.");
            }
            desk.set_off(flags.switches);
        }
        // What cannot be read was not written by the router; what was known stays in force.
        Err(refused) => warn!(code = %refused.code, revision = entry.revision, "The switches are malformed."),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_a_task() {
        let id = "0190a5a0-7f3e-7000-8000-000000000001";
        let rows = [
            (format!("notice.cancel.acme.{id}"), true),
            (format!("notice.cancel.acme.{id}.x"), false),
            (format!("notice.cancel.{id}"), false),
            ("notice.cancel.acme.7".to_owned(), false),
            (format!("notice.kv.acme.{id}"), false),
        ];
        for (subject, expected) in rows {
            assert_eq!(withdrawn(&subject).is_some(), expected, "{subject}");
        }
    }
}
