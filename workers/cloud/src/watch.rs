//! Listening to what changes beside the work: withdrawals and switches.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tidegate_bus::{Bus, CoreStream, KvError};
use tidegate_schemas::control::{FLAGS_BUCKET, FLAGS_KEY, Flags};
use tidegate_schemas::decision::Switch;
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::desk::{Desk, Whose};

/// How often the switches are read without a notice, which may be lost while the connection is away.
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
            // Without the bus no attempt can be recorded either, so nothing leaves until it is back.
            warn!(%error, "The switches could not be read.");
        }
    }
}

/// Reads the switches.
pub(crate) async fn load_flags(bus: &Bus, desk: &Desk) -> Result<(), KvError> {
    let entry = bus.kv_get(FLAGS_BUCKET, FLAGS_KEY).await?;
    let switches = match &entry {
        Some(entry) => read(&entry.value),
        None => gone(),
    };
    if desk.off().as_ref() != switches.as_slice() {
        let revision = entry.as_ref().map(|entry| entry.revision);
        info!(off = switches.len(), revision, "The switches changed.");
    }
    desk.set_off(switches);
    Ok(())
}

/// A provisioned cell has switches. Where there are none, nobody knows what they would say: everything is off.
fn gone() -> Vec<Switch> {
    error!("The switches are gone; nothing leaves until they are written anew.");
    vec![Switch::default()]
}

/// The switches, or one that covers everything where they cannot be read: closed is the safe side of this lane.
fn read(value: &[u8]) -> Vec<Switch> {
    match json::read::<Flags>(value, MESSAGE_BYTES_MAX) {
        Ok(flags) => flags.switches,
        Err(refused) => {
            error!(code = %refused.code, "The switches are malformed; nothing leaves until they are written anew.");
            vec![Switch::default()]
        }
    }
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

    #[test]
    fn switches_that_cannot_be_read_switch_everything_off() {
        assert_eq!(read(b"{\"event\":0,\"switches\":[]}"), []);
        for malformed in [b"".as_slice(), b"off", b"{\"event\":0}", b"{\"switches\":[],\"switches\":[]}"] {
            assert_eq!(read(malformed), [Switch::default()]);
        }
    }
}
