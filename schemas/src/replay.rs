//! Words of replays: where records are published again, how fast, and what came of it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::Digest;
use crate::ids::{Name, TaskId};

/// Fastest pace, records a second.
pub const RATE_MAX: u32 = 100_000;
/// Fastest of the original pace, per cent of it: ten thousand times.
pub const SPEED_PERCENT_MAX: u32 = 1_000_000;

/// Where records are published again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "to")]
pub enum ReplayTo {
    /// Subjects of the replay's own, in stream REPLAY: nothing acts on them.
    #[default]
    Subject,
    /// A support tool's own subject in stream REPLAY: results of its tenant only.
    Tool {
        /// The tool's tenant.
        tenant: Name,
        /// The tool.
        tool: Name,
    },
    /// The tasks' own subjects: tasks only, as new ones, judged afresh.
    Original,
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "pace")]
pub enum Pace {
    /// So many records a second.
    Rate {
        /// 1 to 100,000.
        per_second: u32,
    },
    /// With the pauses that lay between them.
    Original {
        /// 100 is as it was, 200 twice as fast; at most 1,000,000.
        speed_percent: u32,
    },
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayOutcome {
    /// All of it is published.
    #[default]
    Done,
    /// An operator cancelled it.
    Cancelled,
    /// It was not permitted, or its plan was not the record's; nothing was published.
    Refused,
}

impl ReplayTo {
    /// The word that policies know.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Tool { .. } => "tool",
            Self::Original => "original",
        }
    }
}

impl Pace {
    /// Whether it is within the limits.
    #[must_use]
    pub fn is_valid(self) -> bool {
        match self {
            Self::Rate { per_second } => (1..=RATE_MAX).contains(&per_second),
            Self::Original { speed_percent } => (1..=SPEED_PERCENT_MAX).contains(&speed_percent),
        }
    }
}

/// What begins the subjects of a replay: `replay.<id>`, or `replay.tool.<tenant>.<tool>.<id>`. The original subject follows.
#[must_use]
pub fn prefix(to: &ReplayTo, replay: Uuid) -> String {
    match to {
        ReplayTo::Tool { tenant, tool } => format!("replay.tool.{tenant}.{tool}.{replay}"),
        ReplayTo::Subject | ReplayTo::Original => format!("replay.{replay}"),
    }
}

/// Everything that is replayed to a support tool.
#[must_use]
pub fn tool_filter(tenant: &Name, tool: &Name) -> String {
    format!("replay.tool.{tenant}.{tool}.>")
}

/// The original subject of what was replayed to a support tool.
#[must_use]
pub fn original_subject(subject: &str) -> Option<&str> {
    subject.strip_prefix("replay.tool.")?.splitn(4, '.').nth(3)
}

/// The id under which a recorded task is submitted again: the same each time, so that it cannot run twice. A UUIDv7 of the
/// replay's begin (RFC 9562 §5.7) whose other bits are a digest.
#[must_use]
pub fn task_id(replay: Uuid, begun: Timestamp, index: u64) -> TaskId {
    let digest = Digest::plain(&[replay.as_bytes().as_slice(), &index.to_be_bytes()].concat());
    let mut bits = [0; 10];
    bits.iter_mut().zip(digest.as_bytes()).for_each(|(bit, byte)| *bit = *byte);
    let ms = u64::try_from(begun.as_millisecond()).unwrap_or(0);
    TaskId(uuid::Builder::from_unix_timestamp_millis(ms, &bits).into_uuid())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn subjects_of_a_replay_never_meet_those_of_a_tool() {
        let name = |text: &str| Name::new(text).unwrap();
        let id = Uuid::now_v7();
        let tool = ReplayTo::Tool { tenant: name("acme"), tool: name("desk") };
        let subject = format!("{}.result.acme.bot.x", prefix(&tool, id));
        assert_eq!(original_subject(&subject), Some("result.acme.bot.x"));
        assert!(subject.starts_with(tool_filter(&name("acme"), &name("desk")).trim_end_matches('>')));
        let own = format!("{}.result.acme.bot.x", prefix(&ReplayTo::Subject, id));
        assert_eq!(original_subject(&own), None, "a UUID is never the word `tool`");
    }

    #[test]
    fn a_task_that_is_submitted_again_has_one_new_id() {
        let (replay, begun) = (Uuid::now_v7(), Timestamp::now());
        let id = task_id(replay, begun, 7);
        assert_eq!(id, task_id(replay, begun, 7));
        assert_eq!(id.0.get_version_num(), 7);
        for other in [task_id(replay, begun, 8), task_id(Uuid::now_v7(), begun, 7)] {
            assert_ne!(id, other, "negative control");
        }
    }
}
