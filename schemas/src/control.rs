//! Operators' acts: `control.<topic>.<operator>`. The event is the record of the act; the router applies it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::budget::Scope;
use crate::code::Code;
use crate::decision::Switch;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::flag::{FlagSettings, Portion};
use crate::ids::{Identifier, Name, Position, TaskId};
use crate::release::{Guard, Guards, ShareBy};
use crate::replay::{ReplayOutcome, ReplayTo};

/// An act. Who stands in the subject, which the server authorised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// What.
    pub act: Act,
    /// Why, in the operator's words; at most 2,000 bytes.
    pub reason: String,
}

/// What an operator does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "act")]
pub enum Act {
    /// Topic `lane`: switches something off.
    LaneOff {
        /// What.
        switch: Switch,
    },
    /// Topic `lane`: switches it on again.
    LaneOn {
        /// What; must be one that is off.
        switch: Switch,
    },
    /// Topic `flag`: says for whom a feature flag is on, in place of what was said of them before.
    FlagSet {
        /// The flag; one that a released bundle declares, unless it is to be on for nobody.
        flag: Name,
        /// Tenants that this is about, at most 256; none: all, also those that were named before.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        tenants: BTreeSet<Name>,
        /// For which part of their tasks it is on.
        portion: Portion,
    },
    /// Topic `bundle`: makes a bundle the active one. The archive is the bundle's canonical JSON.
    BundleActivate {
        /// Its hash.
        hash: Digest,
        /// Its content.
        archive: String,
        /// The active bundle, where it was proven that by this one no more may leave than by that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_wider: Option<Digest>,
    },
    /// Topic `bundle`: keeps a bundle in the cell, so that it can be released; nothing is decided by it yet.
    BundlePush {
        /// Its hash.
        hash: Digest,
        /// Its content.
        archive: String,
    },
    /// Topic `bundle`: has a bundle judge beside, without effect.
    BundleShadow {
        /// Which; absent: none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<Digest>,
    },
    /// Topic `bundle`: has a bundle decide for a share of the tasks.
    BundleCanary {
        /// Which.
        hash: Digest,
        /// Its share, basis points: 1 to 10,000.
        share_bp: u16,
        /// What is drawn.
        by: ShareBy,
        /// Guards that do not watch it.
        #[serde(default, skip_serializing_if = "Guards::is_empty")]
        unguarded: Guards,
        /// The active bundle, where it was proven that by this one no more may leave than by that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_wider: Option<Digest>,
    },
    /// Topic `bundle`: makes a bundle that the cell keeps the active one; the one before is remembered.
    BundlePromote {
        /// Which.
        hash: Digest,
        /// The active bundle, where it was proven that by this one no more may leave than by that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_wider: Option<Digest>,
    },
    /// Topic `bundle`: the canary ends; where there is none, the bundle before becomes the active one.
    BundleRollback {
        /// What is taken back: the canary or, where there is none, the active bundle. Refused where that is another meanwhile,
        /// so that an act that comes twice takes back one step.
        from: Digest,
        /// The guard that took the canary back, where no operator did. It takes back nothing else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guard: Option<Guard>,
        /// Of a guard: sequence of the act by which the trial began that it watched. It ends no other trial of the same bundle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
    },
    /// Topic `bundle`: agrees that by a bundle more may leave than by the active one, for another operator who then releases it.
    BundleApprove {
        /// Which.
        hash: Digest,
        /// The active bundle that it was held against.
        against: Digest,
    },
    /// Topic `directory`: makes a directory the active one, if the one that it was made from still is.
    DirectoryActivate {
        /// Hash of the directory that it was made from; a cell's first one is made from itself.
        base: Digest,
        /// The directory.
        directory: Box<Directory>,
    },
    /// Topic `dead`: takes a dead letter's message up again.
    DeadRequeue {
        /// The dead letter.
        letter: Position,
    },
    /// Topic `dead`: leaves a dead letter's message for good.
    DeadDiscard {
        /// The dead letter.
        letter: Position,
    },
    /// Topic `replay`: a replay begins.
    ReplayStart {
        /// The replay's id.
        replay: String,
        /// Hash of the plan's list of sequences.
        plan: Digest,
        /// Records in it.
        records: u64,
        /// Where they are published.
        #[serde(default)]
        target: ReplayTo,
    },
    /// Topic `replay`: a replay is to stop where it is.
    ReplayCancel {
        /// The replay's id.
        replay: String,
    },
    /// Topic `replay`: a replay ended; said by the recorder.
    ReplayEnd {
        /// The replay's id.
        replay: String,
        /// Records published.
        published: u64,
        /// What came of it.
        #[serde(default)]
        outcome: ReplayOutcome,
    },
    /// Topic `record`: the record no longer holds what was signed, and goes on under a new origin.
    RecordBreak {
        /// Records that were signed.
        records: u64,
        /// The checkpoint that signed them.
        note: String,
    },
    /// Topic `record`: what this is about is neither pruned nor erased until the hold is removed or ends.
    HoldAdd {
        /// The hold's id.
        hold: Uuid,
        /// What it is about.
        target: HoldTarget,
        /// When it ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Topic `record`: a hold ends.
    HoldRemove {
        /// The hold's id.
        hold: Uuid,
    },
    /// Topic `record`: bodies of records are past their retention and go; said by the recorder before it does it.
    PruneBodies {
        /// Index of the first record.
        first: u64,
        /// Records whose bodies go.
        records: u64,
    },
    /// Topic `record`: records are past their retention and go, but for their hashes; said by the recorder before it does it.
    PruneRecords {
        /// Index of the first record.
        first: u64,
        /// Records that go.
        records: u64,
    },
    /// Topic `record`: the record's keys are to be sealed under another master key.
    KeyRotate {},
    /// Topic `ticket`: another key signs tickets; the one before counts until the last ticket that it signed has run out.
    TicketKeyRotate {
        /// Its id.
        key: Name,
        /// Its public half, 64 hexadecimal digits: with it a recorded ticket can be checked for ever.
        public: String,
        /// SHA-256 of the public half's 32 bytes.
        hash: Digest,
        /// Whether the one before counts no longer from now on, as it was lost.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        at_once: bool,
    },
    /// Topic `budget`: what a budget has used in its windows is forgotten, and its ledger begun anew, readable or not.
    BudgetReset {
        /// Whose.
        of: Scope,
    },
    /// Topic `refused`: an operator's act was not applied; said by a router, with the reason as the act's.
    Refused {
        /// Sequence in EVENTS of the act.
        event: u64,
        /// Why.
        code: Code,
    },
    /// Topic `erase`: a data subject's keys are to be destroyed, and its messages deleted.
    Erase {
        /// Whose data subject.
        tenant: Name,
        /// What the record calls it, 1 to 16 names of 32 hexadecimal digits. Never its id: that would outlive it here.
        subjects: Vec<String>,
    },
    /// Topic `erase`: messages of a data subject that are about to be deleted in a stream; said by the recorder.
    EraseMessages {
        /// Sequence in EVENTS of the act.
        event: u64,
        /// The stream.
        stream: String,
        /// First and last sequences.
        ranges: Vec<(u64, u64)>,
    },
    /// Topic `erase`: an erasure ended; said by the recorder.
    EraseEnd {
        /// Sequence in EVENTS of the act.
        event: u64,
        /// What the record called the data subject.
        subjects: Vec<String>,
        /// Records that cannot be read any more.
        records: u64,
        /// Messages that were deleted.
        messages: u64,
        /// What came of it.
        outcome: EraseOutcome,
    },
}

/// What a hold is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "on")]
pub enum HoldTarget {
    /// All of a tenant.
    Tenant {
        /// The tenant.
        tenant: Name,
    },
    /// One task, of whatever tenant.
    Task {
        /// The task.
        task: TaskId,
    },
    /// What holds data of one person.
    Subject {
        /// The person's tenant.
        tenant: Name,
        /// Who, by a digest that the record's master key makes: 32 hexadecimal digits. The name itself stands nowhere.
        reference: String,
    },
}

/// What came of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EraseOutcome {
    /// Nothing that was sealed for the data subject can be read any more.
    Erased,
    /// The record held nothing under such a name.
    NothingHeld,
    /// The act was malformed; nothing was done.
    Refused,
}

impl Act {
    /// The topic token of the act's subject.
    #[must_use]
    pub fn topic(&self) -> &'static str {
        match self {
            Self::LaneOff { .. } | Self::LaneOn { .. } => "lane",
            Self::FlagSet { .. } => "flag",
            Self::BundleActivate { .. }
            | Self::BundlePush { .. }
            | Self::BundleShadow { .. }
            | Self::BundleCanary { .. }
            | Self::BundlePromote { .. }
            | Self::BundleRollback { .. }
            | Self::BundleApprove { .. } => "bundle",
            Self::DirectoryActivate { .. } => "directory",
            Self::DeadRequeue { .. } | Self::DeadDiscard { .. } => "dead",
            Self::ReplayStart { .. } | Self::ReplayCancel { .. } | Self::ReplayEnd { .. } => "replay",
            Self::RecordBreak { .. }
            | Self::KeyRotate {}
            | Self::HoldAdd { .. }
            | Self::HoldRemove { .. }
            | Self::PruneBodies { .. }
            | Self::PruneRecords { .. } => "record",
            Self::TicketKeyRotate { .. } => "ticket",
            Self::BudgetReset { .. } => "budget",
            Self::Refused { .. } => "refused",
            Self::Erase { .. } | Self::EraseMessages { .. } | Self::EraseEnd { .. } => "erase",
        }
    }
}

/// Subject under which routers say what they refuse.
pub const REFUSED: &str = "control.refused.router";

/// Value of key `switches` in bucket `flags`: what is off, and which feature flags are on. One value, so that a decision goes by one
/// revision of both, and what is missing is missing of both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flags {
    /// Sequence of the control event in EVENTS that this state follows.
    pub event: u64,
    /// What is off.
    pub switches: Vec<Switch>,
    /// Feature flags that are on for somebody. Absent before there were any.
    #[serde(default, skip_serializing_if = "FlagSettings::is_empty")]
    pub flags: FlagSettings,
}

/// Bucket of what is off, and of feature flags.
pub const FLAGS_BUCKET: &str = "flags";
/// Its key.
pub const FLAGS_KEY: &str = "switches";

/// Value of key `active` in the buckets `directory` and `release`: which version counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Sequence of the control event in EVENTS that moved it; 0 for a first version that is not on record.
    pub event: u64,
    /// The version.
    pub hash: Digest,
}

/// Bucket of directory versions, by hash.
pub const DIRECTORY_BUCKET: &str = "directory";
/// Bucket of bundle archives, by hash.
pub const BUNDLES_BUCKET: &str = "bundles";
/// Bucket of which bundle counts.
pub const RELEASE_BUCKET: &str = "release";
/// Key of the pointer in the buckets `directory` and `release`.
pub const ACTIVE_KEY: &str = "active";
/// Bucket of the labels that sessions have held. They only rise.
pub const SESSIONS_BUCKET: &str = "sessions";
/// How long what a session held is known after its last task, and who agreed to a held task after the last of them, days: longer than
/// the vault keeps a value, than a review is held, and than records keep their bodies. So neither bucket grows for ever.
pub const STATE_DAYS: u64 = 90;
/// How old what is known of a session may be when it is used, hours; then it is written anew, so that its days count from its last
/// task.
pub const SESSION_KEPT_HOURS: i64 = 24;

/// Key of a tenant's session in bucket `sessions`. A session's name is its producer's own, so it stands there as a hash.
#[must_use]
pub fn session_key(tenant: &Name, session: &Identifier) -> String {
    let hash = Digest::plain(format!("{tenant}\n{session}").as_bytes());
    format!("{tenant}.{hash}")
}

/// Bucket of first verdicts, by review.
pub const REVIEWS_BUCKET: &str = "reviews";

/// Key of a review's `n`th agreement in bucket `reviews`, from 1, where more than one is asked for; its value is the position
/// of the verdict and the reviewer.
#[must_use]
pub fn agreement_key(review: u64, n: u8) -> String {
    format!("review-{review}-{n}")
}

/// Key of a review in bucket `reviews`; its value is the position of the verdict that stands.
#[must_use]
pub fn review_key(review: u64) -> String {
    format!("review-{review}")
}
