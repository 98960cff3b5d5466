//! Rows of the report's tables.

use serde::Serialize;
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::result::State;

use super::counts::Indices;
use crate::entry::GapReason;
use crate::leaf::{ActWord, Flag, RecordKind};

/// How tasks of one class ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Data class: as judged, else as declared; absent where neither is recorded.
    pub class: Option<Sensitivity>,
    /// Terminal state.
    pub state: State,
    /// Tasks.
    pub tasks: u64,
}

/// Tasks that were rejected for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Stable code.
    pub code: Option<Code>,
    /// Policies that determined it.
    pub policies: Vec<String>,
    /// Tasks.
    pub tasks: u64,
}

/// Tasks that ended otherwise than completed or rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Terminal state.
    pub state: State,
    /// Stable code.
    pub code: Option<Code>,
    /// Tasks.
    pub tasks: u64,
}

/// Decisions of one outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// What happens to the task.
    pub outcome: Outcome,
    /// Data class.
    pub class: Sensitivity,
    /// Decisions.
    pub decisions: u64,
}

/// One tenant's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Whose.
    pub tenant: String,
    /// Tasks submitted.
    pub submitted: u64,
    /// Tasks ended.
    pub ended: u64,
    /// Calls to providers begun.
    pub calls: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Cost, millionths of a US dollar.
    pub cost_usd_micros: u64,
}

/// Messages that were given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dead {
    /// The role that gave up.
    pub role: String,
    /// Stable code.
    pub code: Option<Code>,
    /// Dead letters.
    pub letters: u64,
}

/// Records with one flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// What is odd.
    pub flag: Flag,
    /// Where.
    pub records: Indices,
}

/// Missing sequences of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The stream.
    pub stream: String,
    /// Why.
    pub reason: GapReason,
    /// Gaps.
    pub gaps: u64,
    /// Messages in them.
    pub messages: u64,
}

/// What operators did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acted {
    /// What.
    pub act: ActWord,
    /// Times.
    pub times: u64,
}

/// A bundle that judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Its hash.
    pub bundle: Digest,
    /// Decisions.
    pub decisions: u64,
}

/// Records of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// What they are.
    pub kind: RecordKind,
    /// Records.
    pub records: u64,
}
