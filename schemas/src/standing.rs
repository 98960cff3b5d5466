//! How the record stands, as the recorder tells whoever decides by it. Core NATS only: it is in no stream.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::Name;

/// Answer to [`QUERY_OPEN`](crate::subject::QUERY_OPEN). A recorder that cannot record gives none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Open tasks by tenant; absent while the record is too far behind to count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<BTreeMap<Name, u64>>,
    /// Messages that are in a stream and not yet in the record, count.
    pub behind: u64,
    /// The time by the recorder's clock.
    pub now: Timestamp,
}
