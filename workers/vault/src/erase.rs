//! Erasures: what the recorder is about to delete from a tenant's tasks is destroyed here as well. The act is in a stream, so a
//! vault that was down does it when it is back.

use std::time::Duration;

use tidegate_bus::{Handler, Inbound, Verdict};
use tidegate_schemas::control::{Act, Control};
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;
use tidegate_schemas::subject::tenant_of_stream;

use crate::service::{Shared, blocking};

/// Delay before an erasure that failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Carries out what the recorder says of erasures.
pub(crate) struct Erasing {
    pub(crate) store: Shared,
}

impl Handler for Erasing {
    async fn handle(&self, message: &Inbound) -> Verdict {
        // Operators' acts name a data subject by a key that only the record has; the recorder says which messages those are.
        let Ok(control) = json::read::<Control>(&message.payload, MESSAGE_BYTES_MAX) else {
            return Verdict::Done;
        };
        let Act::EraseMessages { stream, ranges, .. } = control.act else { return Verdict::Done };
        if tenant_of_stream(&stream).is_none() {
            return Verdict::Done;
        }
        match blocking(&self.store, move |store| store.erase(&stream, &ranges)).await {
            Ok(0) => Verdict::Done,
            Ok(values) => {
                tracing::info!(event = %message.position(), values, "Erased values.");
                Verdict::Done
            }
            Err(error) => {
                tracing::error!(event = %message.position(), %error, "Values could not be erased; trying again.");
                Verdict::Retry { after: AGAIN }
            }
        }
    }
}
