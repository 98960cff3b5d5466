//! Operators' acts: `control.<topic>.<operator>`. The event is the record of the act; the router applies it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::Switch;
use crate::digest::Digest;
use crate::directory::Directory;
use crate::ids::Position;

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
    /// Topic `bundle`: makes a bundle the active one. The archive is the bundle's canonical JSON.
    BundleActivate {
        /// Its hash.
        hash: Digest,
        /// Its content.
        archive: String,
    },
    /// Topic `directory`: makes a directory the active one.
    DirectoryActivate {
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
    },
    /// Topic `replay`: a replay ended.
    ReplayEnd {
        /// The replay's id.
        replay: String,
        /// Records published.
        published: u64,
    },
}

impl Act {
    /// The topic token of the act's subject.
    #[must_use]
    pub fn topic(&self) -> &'static str {
        match self {
            Self::LaneOff { .. } | Self::LaneOn { .. } => "lane",
            Self::BundleActivate { .. } => "bundle",
            Self::DirectoryActivate { .. } => "directory",
            Self::DeadRequeue { .. } | Self::DeadDiscard { .. } => "dead",
            Self::ReplayStart { .. } | Self::ReplayEnd { .. } => "replay",
        }
    }
}
