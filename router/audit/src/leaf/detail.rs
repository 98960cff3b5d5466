//! What only one kind of record has, in closed words.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::labels::{Sensitivity, Stakes};
use tidegate_schemas::release::Guard;
use tidegate_schemas::result::{Timings, Usage};
use tidegate_schemas::subject::{Class, Lane};
use tidegate_schemas::task::Kind;
use uuid::Uuid;

use crate::entry::GapReason;

/// Most ranges of sequences in a leaf: with the longest numbers two thirds of what a leaf may be long.
pub const RANGES_MAX: usize = 1_000;

/// What only one kind of record has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// Of a task.
    Task {
        /// Kind of work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<Kind>,
        /// How soon somebody waits.
        class: Class,
        /// Declared sensitivity.
        sensitivity: Sensitivity,
        /// Declared stakes.
        stakes: Stakes,
        /// When it must have ended.
        deadline: Timestamp,
        /// The task that it repeats.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replay_of: Option<TaskId>,
    },
    /// Of work.
    Work {
        /// Where it runs.
        lane: Lane,
        /// The pool or provider.
        target: Name,
        /// The ticket, on the cloud lane.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket: Option<Uuid>,
        /// When the task must have ended; a review may have moved it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// Of a step.
    Step {
        /// Why it came back.
        reason: StepWord,
        /// The destination.
        destination: Name,
        /// Times it was sent or run there.
        attempts: u32,
    },
    /// Of a result.
    Result {
        /// Destination that made it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        destination: Option<Name>,
        /// The model that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// SHA-256 of the model file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model_sha256: Option<Digest>,
        /// SHA-256 of the adapter that was merged into it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        adapter_sha256: Option<Digest>,
        /// Tokens.
        usage: Usage,
        /// Millionths of a US dollar.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_usd_micros: Option<u64>,
        /// How long it took.
        timings: Timings,
        /// Id of the decision behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<Uuid>,
        /// Times it was sent or run.
        attempts: u32,
    },
    /// Of an attempt.
    Attempt {
        /// Which, from 1.
        attempt: u32,
        /// What happened.
        phase: PhaseWord,
        /// Where it runs.
        lane: Lane,
        /// The pool or provider.
        target: Name,
        /// The ticket that permits it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ticket: Option<Uuid>,
        /// Salted digest of the bytes that leave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Digest>,
        /// Bytes that leave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_bytes: Option<u64>,
        /// Host that they go to, as the worker's own configuration names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// HTTP status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Tokens that were paid for and not used.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        /// What they cost, millionths of a US dollar.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_usd_micros: Option<u64>,
    },
    /// Of a review.
    Review {
        /// Queue whose reviewers decide.
        queue: Name,
        /// When it is rejected if nobody decides.
        review_by: Timestamp,
        /// Salted digest of what is held.
        content: Digest,
    },
    /// Of a verdict.
    Verdict {
        /// Queue whose reviewers decide.
        queue: Name,
        /// Who decided.
        reviewer: Name,
        /// What.
        action: VerdictWord,
        /// The review.
        review: Position,
        /// Salted digest of what the reviewer saw.
        content: Digest,
    },
    /// Of a dead letter.
    Dead {
        /// The role that gave up.
        role: Name,
        /// The message that was given up.
        message: Position,
        /// Times it was delivered.
        delivered: u64,
    },
    /// Of an operator's act.
    Control {
        /// Who.
        operator: Name,
        /// What.
        act: ActWord,
        /// The bundle, or the replay's plan; of a rollback, the bundle that was taken back; of a ticket key, its public half.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<Digest>,
        /// The dead letter; the first of the messages that are deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        letter: Option<Position>,
        /// The lane that is switched.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lane: Option<Lane>,
        /// The tenant that it is switched for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<Name>,
        /// The pool or provider that is switched.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<Name>,
        /// Data subjects that are erased, as leaves call them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        subjects: Vec<String>,
        /// Records of a replay; those that were signed before a break; those that are pruned, or cannot be read any more;
        /// messages that are deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        records: Option<u64>,
        /// First and last sequences of the messages that are deleted, where they are at most [`RANGES_MAX`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ranges: Vec<(u64, u64)>,
        /// Index of the first record that is pruned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<u64>,
        /// The hold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<Uuid>,
        /// The feature flag.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flag: Option<Name>,
        /// The guard that took a canary back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guard: Option<Guard>,
        /// Sequence of the act by which the trial began that the guard watched.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
        /// The bundle that another was held against: by who agreed, or by who says that it was proven not to be wider.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        against: Option<Digest>,
    },
    /// Of a gap.
    Gap {
        /// Last missing sequence.
        to: u64,
        /// Why.
        reason: GapReason,
    },
}

/// Why work came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepWord {
    /// The ticket expired.
    Expired,
    /// Something was switched off after the decision.
    Off,
    /// The destination did not answer.
    Fallback,
    /// A budget left no room.
    Spent,
    /// A model has scanned it.
    Scanned,
    /// No model could scan it.
    ScanFailed,
    /// What was found is replaced by tokens.
    Redacted,
    /// A provider's answer holds tokens.
    Restore,
}

/// What happened to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseWord {
    /// It is about to begin.
    Started,
    /// It ended, and another follows.
    Retried,
    /// It ended too late.
    Late,
    /// It ended, and the work went back.
    Returned,
}

/// What a reviewer decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictWord {
    /// It may run.
    Approve,
    /// It may run with another input.
    Edit,
    /// It must not run.
    Reject,
}

/// What an operator did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActWord {
    /// Switched something off.
    LaneOff,
    /// Switched it on.
    LaneOn,
    /// Said for whom a feature flag is on.
    FlagSet,
    /// Made a bundle active.
    BundleActivate,
    /// Had the cell keep a bundle.
    BundlePush,
    /// Had a bundle judged beside, or none any more.
    BundleShadow,
    /// Had a bundle decide for a share of the tasks.
    BundleCanary,
    /// Made a bundle active that the cell kept.
    BundlePromote,
    /// Took a canary back, or the active bundle.
    BundleRollback,
    /// Agreed that more may leave by a bundle.
    BundleApprove,
    /// Made a directory active.
    DirectoryActivate,
    /// Took a dead letter up again.
    DeadRequeue,
    /// Left a dead letter for good.
    DeadDiscard,
    /// Began a replay.
    ReplayStart,
    /// Cancelled a replay.
    ReplayCancel,
    /// Ended a replay.
    ReplayEnd,
    /// Accepted that the record no longer holds what was signed.
    RecordBreak,
    /// Keeps something from being pruned or erased.
    HoldAdd,
    /// Lets it go again.
    HoldRemove,
    /// Pruned bodies by retention.
    PruneBodies,
    /// Pruned records by retention.
    PruneRecords,
    /// Refused an operator's act: its cause.
    Refused,
    /// Had a data subject erased.
    Erase,
    /// Is about to delete messages of one that is erased.
    EraseMessages,
    /// Ended an erasure.
    EraseEnd,
    /// Changed the master key.
    KeyRotate,
    /// Changed the key that signs tickets.
    TicketKeyRotate,
    /// Had a budget count anew.
    BudgetReset,
    /// Something that this version has no word for.
    #[serde(other)]
    Other,
}
