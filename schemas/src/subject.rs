//! Every subject and stream name, once. Built from parsed names, so no token can hold a dot or a wildcard.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{BadId, Name, ReplyToken, TaskId, Token};

/// Stream of steps.
pub const STEPS: &str = "STEPS";
/// Stream of local work.
pub const WORK_LOCAL: &str = "WORK_LOCAL";
/// Stream of cloud work.
pub const WORK_CLOUD: &str = "WORK_CLOUD";
/// Stream of terminal results.
pub const RESULTS: &str = "RESULTS";
/// Stream of attempts, reviews, verdicts, dead letters, control and checkpoints.
pub const EVENTS: &str = "EVENTS";
/// Stream of replayed records.
pub const REPLAY: &str = "REPLAY";

/// Stream of one tenant's tasks. Names are lower case and may hold `-` and `_`, as stream names may.
#[must_use]
pub fn tasks_stream(tenant: &Name) -> String {
    format!("TASKS_{tenant}")
}

/// The tenant of a tasks stream.
#[must_use]
pub fn tenant_of_stream(stream: &str) -> Option<Name> {
    stream.strip_prefix("TASKS_").and_then(|tenant| Name::new(tenant).ok())
}

/// Where work runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Inside the boundary.
    Local,
    /// At a provider.
    Cloud,
}

impl Lane {
    /// The lane as a subject token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How soon somebody waits for the work.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Somebody waits.
    #[default]
    Interactive,
    /// Nobody waits.
    Batch,
}

impl Class {
    /// The class as a subject token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

/// A subject of the cell, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `task.<tenant>.<agent>.<kind>`; the kind is the producer's word, not yet known to be one of ours.
    Task {
        /// Who pays and owns.
        tenant: Name,
        /// Who asks.
        agent: Name,
        /// The kind token.
        kind: Token,
    },
    /// `cancel.<tenant>.<agent>.<task>`; the task by its id, or by the producer's own identifier.
    Cancel {
        /// Who pays and owns.
        tenant: Name,
        /// Who asks.
        agent: Name,
        /// The task withdrawn.
        task: TaskId,
    },
    /// `step.<lane>.<tenant>`.
    Step(Lane, Name),
    /// `work.local.<pool>.<class>.<tenant>`.
    WorkLocal {
        /// The pool that pulls it.
        pool: Name,
        /// How soon somebody waits.
        class: Class,
        /// Whose it is.
        tenant: Name,
    },
    /// `work.cloud.<provider>.<class>.<tenant>`.
    WorkCloud {
        /// The provider that it goes to.
        provider: Name,
        /// How soon somebody waits.
        class: Class,
        /// Whose it is.
        tenant: Name,
    },
    /// `result.<tenant>.<agent>.<task>`.
    Result {
        /// Whose it is.
        tenant: Name,
        /// Who asked.
        agent: Name,
        /// The task.
        task: TaskId,
    },
    /// `attempt.<lane>.<tenant>`.
    Attempt(Lane, Name),
    /// `review.<queue>.<tenant>`.
    Review {
        /// Queue of the reviewers.
        queue: Name,
        /// Whose it is.
        tenant: Name,
    },
    /// `verdict.<queue>.<tenant>.<reviewer>`.
    Verdict {
        /// Queue of the reviewers.
        queue: Name,
        /// Whose it is.
        tenant: Name,
        /// Who decided; the server authorised the token.
        reviewer: Name,
    },
    /// `dead.<role>.<tenant>`.
    Dead {
        /// Role that gave up.
        role: Name,
        /// Whose message it was, or `_` written as `unknown`.
        tenant: Name,
    },
    /// `control.<topic>.<operator>`.
    Control {
        /// What about.
        topic: Name,
        /// Who; the server authorised the token.
        operator: Name,
    },
    /// `checkpoint`.
    Checkpoint,
}

impl Subject {
    /// Whether a message on it can be taken up again after it was given up.
    #[must_use]
    pub fn is_taken_up(&self) -> bool {
        match self {
            Self::Task { .. }
            | Self::Cancel { .. }
            | Self::Step(..)
            | Self::WorkLocal { .. }
            | Self::WorkCloud { .. }
            | Self::Verdict { .. } => true,
            Self::Result { .. }
            | Self::Attempt(..)
            | Self::Review { .. }
            | Self::Dead { .. }
            | Self::Control { .. }
            | Self::Checkpoint => false,
        }
    }

    /// Reads a subject of the cell's streams.
    ///
    /// # Errors
    /// [`BadId`] when it is none of them.
    pub fn parse(subject: &str) -> Result<Self, BadId> {
        const BAD: BadId = BadId { what: "a subject", rule: "one of the cell's" };
        let name = |token: &str| Name::new(token);
        let lane = |token: &str| match token {
            "local" => Ok(Lane::Local),
            "cloud" => Ok(Lane::Cloud),
            _ => Err(BAD),
        };
        let class = |token: &str| match token {
            "interactive" => Ok(Class::Interactive),
            "batch" => Ok(Class::Batch),
            _ => Err(BAD),
        };
        let tokens: Vec<&str> = subject.splitn(8, '.').collect();
        Ok(match *tokens.as_slice() {
            ["task", tenant, agent, kind] => {
                Self::Task { tenant: name(tenant)?, agent: name(agent)?, kind: Token::new(kind)? }
            }
            ["cancel", tenant, agent, task] => {
                let (tenant, agent) = (name(tenant)?, name(agent)?);
                // By the id that its producer gave it, like everything that a producer says of it.
                let (task, _) = TaskId::named(&tenant, &agent, task)?;
                Self::Cancel { tenant, agent, task }
            }
            ["step", l, tenant] => Self::Step(lane(l)?, name(tenant)?),
            ["work", "local", pool, c, tenant] => {
                Self::WorkLocal { pool: name(pool)?, class: class(c)?, tenant: name(tenant)? }
            }
            ["work", "cloud", provider, c, tenant] => {
                Self::WorkCloud { provider: name(provider)?, class: class(c)?, tenant: name(tenant)? }
            }
            ["result", tenant, agent, task] => {
                Self::Result { tenant: name(tenant)?, agent: name(agent)?, task: task.parse()? }
            }
            ["attempt", l, tenant] => Self::Attempt(lane(l)?, name(tenant)?),
            ["review", queue, tenant] => Self::Review { queue: name(queue)?, tenant: name(tenant)? },
            ["verdict", queue, tenant, reviewer] => {
                Self::Verdict { queue: name(queue)?, tenant: name(tenant)?, reviewer: name(reviewer)? }
            }
            ["dead", role, tenant] => Self::Dead { role: name(role)?, tenant: name(tenant)? },
            ["control", topic, operator] => Self::Control { topic: name(topic)?, operator: name(operator)? },
            ["checkpoint"] => Self::Checkpoint,
            _ => return Err(BAD),
        })
    }

    /// The tenant, where the subject names one.
    #[must_use]
    pub fn tenant(&self) -> Option<&Name> {
        match self {
            Self::Task { tenant, .. }
            | Self::Cancel { tenant, .. }
            | Self::WorkLocal { tenant, .. }
            | Self::WorkCloud { tenant, .. }
            | Self::Result { tenant, .. }
            | Self::Review { tenant, .. }
            | Self::Verdict { tenant, .. }
            | Self::Dead { tenant, .. }
            | Self::Step(_, tenant)
            | Self::Attempt(_, tenant) => Some(tenant),
            Self::Control { .. } | Self::Checkpoint => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task { tenant, agent, kind } => write!(f, "task.{tenant}.{agent}.{kind}"),
            Self::Cancel { tenant, agent, task } => write!(f, "cancel.{tenant}.{agent}.{task}"),
            Self::Step(lane, tenant) => write!(f, "step.{lane}.{tenant}"),
            Self::WorkLocal { pool, class, tenant } => {
                write!(f, "work.local.{pool}.{}.{tenant}", class.as_str())
            }
            Self::WorkCloud { provider, class, tenant } => {
                write!(f, "work.cloud.{provider}.{}.{tenant}", class.as_str())
            }
            Self::Result { tenant, agent, task } => write!(f, "result.{tenant}.{agent}.{task}"),
            Self::Attempt(lane, tenant) => write!(f, "attempt.{lane}.{tenant}"),
            Self::Review { queue, tenant } => write!(f, "review.{queue}.{tenant}"),
            Self::Verdict { queue, tenant, reviewer } => write!(f, "verdict.{queue}.{tenant}.{reviewer}"),
            Self::Dead { role, tenant } => write!(f, "dead.{role}.{tenant}"),
            Self::Control { topic, operator } => write!(f, "control.{topic}.{operator}"),
            Self::Checkpoint => f.write_str("checkpoint"),
        }
    }
}

/// `delta.<tenant>.<agent>.<task>`, core NATS: streamed tokens.
#[must_use]
pub fn delta(tenant: &Name, agent: &Name, task: TaskId) -> String {
    format!("delta.{tenant}.{agent}.{task}")
}

/// `draft.<tenant>.<agent>.<task>`, core NATS: streamed tokens of a redacted task, for the local zone only.
#[must_use]
pub fn draft(tenant: &Name, agent: &Name, task: TaskId) -> String {
    format!("draft.{tenant}.{agent}.{task}")
}

/// `state.<tenant>.<agent>.<task>`, core NATS: transitions.
#[must_use]
pub fn state(tenant: &Name, agent: &Name, task: TaskId) -> String {
    format!("state.{tenant}.{agent}.{task}")
}

/// `reply.<tenant>.<agent>.<token>`, core NATS: the result again, for a producer that named a token.
#[must_use]
pub fn reply(tenant: &Name, agent: &Name, token: &ReplyToken) -> String {
    format!("reply.{tenant}.{agent}.{token}")
}

/// `notice.cancel.<tenant>.<task>`, core NATS: a worker may stop.
#[must_use]
pub fn notice_cancel(tenant: &Name, task: TaskId) -> String {
    format!("notice.cancel.{tenant}.{task}")
}

/// All cancellations.
pub const NOTICE_CANCEL_ALL: &str = "notice.cancel.>";

/// `notice.kv.<bucket>`, core NATS: the bucket's active value moved; the payload is the new revision.
#[must_use]
pub fn notice_kv(bucket: &str) -> String {
    format!("notice.kv.{bucket}")
}

/// Asks the recorder how many tasks of each tenant are open and how the record stands: an empty question, answered with a
/// [`Standing`](crate::standing::Standing).
pub const QUERY_OPEN: &str = "query.audit.open";

/// All notices.
pub const NOTICE_ALL: &str = "notice.>";
