//! A role's process: what it holds in memory, which a crash takes, and the messages that it has in hand.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidegate_router::life::Randomness;
use tidegate_router::recent::Recent;
use tidegate_schemas::decision::Switch;

use crate::broker::{Delivery, Kept, Parcel, Said};
use crate::call::Call;
use crate::provider::Outcome;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Router,
    Local,
    Cloud,
}

/// A process. What it remembers is gone when it dies.
pub(crate) struct Process {
    pub(crate) role: Role,
    /// Counts its lives: what was sent to an earlier one reaches nobody.
    pub(crate) epoch: u32,
    pub(crate) up: bool,
    pub(crate) stopped_until: i64,
    /// How far its clock is ahead, milliseconds.
    pub(crate) clock_ms: i64,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) recent: Rc<Recent>,
    pub(crate) canceled: BTreeSet<String>,
    /// What it knows to be switched off.
    pub(crate) off: Rc<[Switch]>,
    /// Whether it knows that record and clock are well.
    pub(crate) egress_open: bool,
    /// Whether a chat model is loaded.
    pub(crate) chats: bool,
}

/// A message in hand.
pub(crate) struct Job {
    pub(crate) delivery: Delivery,
    pub(crate) living: Living,
    /// Counts its actions: an answer to an earlier one is nobody's.
    pub(crate) turn: u32,
    pub(crate) waits: Waits,
    pub(crate) progress_at: i64,
    /// When its life began, by the process' clock.
    pub(crate) begun: jiff::Timestamp,
    pub(crate) random: Randomness,
    /// What the router knew when it decided, where an answer is between that and what it sends.
    pub(crate) knew: Option<Knew>,
}

/// What bears on whether work may leave.
#[derive(Debug, Clone)]
pub(crate) struct Knew {
    pub(crate) egress_open: bool,
    pub(crate) off: Rc<[Switch]>,
}

/// Its life.
pub(crate) enum Living {
    None,
    Router(Box<tidegate_router::life::Life>),
    Local(Box<tidegate_local::life::Life>),
    Cloud(Box<tidegate_cloud::life::Life>, Option<Box<Call>>),
}

/// What a message in hand waits for.
pub(crate) enum Waits {
    /// An answer that goes to its life.
    Answer,
    /// A stream's answer.
    Publish(Box<Publish>),
    /// A pause, and then the same message once more.
    Resend(Box<Publish>),
    /// The provider.
    Provider,
    /// A pause between two attempts.
    Attempt,
    /// The engine.
    Engine(Box<tidegate_local::life::Run>),
    /// A pause, and then its life from the beginning.
    Again,
}

/// A publish that is tried until the stream has an answer.
pub(crate) struct Publish {
    pub(crate) parcel: Parcel,
    /// Until when it is tried again; absent: as long as the process lives.
    pub(crate) until: Option<i64>,
    pub(crate) pause: i64,
    pub(crate) then: Then,
}

/// What follows a stream's answer.
pub(crate) enum Then {
    /// The life is told that it was sent.
    Sent,
    /// The life is told what came of its claim.
    Claimed,
    /// The end of an attempt is on record, or is not: a pause, and the next attempt.
    Noted(i64),
    /// The engine runs.
    Attempted(Box<tidegate_local::life::Run>),
    /// The dead letter is stored; then its result, then the message is let go.
    Dead(Option<Parcel>),
}

/// Whom an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct To {
    pub(crate) process: usize,
    pub(crate) epoch: u32,
    pub(crate) job: u64,
    pub(crate) turn: u32,
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Reply {
    Said(Said),
    Loaded(Vec<Option<Rc<Kept>>>),
    Claimed(String),
    Looked(bool),
    Provider(Box<Outcome>),
    /// The server would not.
    Failed,
    /// Nobody answered.
    Silence,
    /// A pause is over.
    Wake,
}

impl Process {
    pub(crate) fn new(role: Role, chats: bool) -> Self {
        Self {
            role,
            epoch: 0,
            up: true,
            stopped_until: 0,
            clock_ms: 0,
            jobs: BTreeMap::new(),
            recent: Rc::new(Recent::default()),
            canceled: BTreeSet::new(),
            off: Rc::new([]),
            egress_open: true,
            chats,
        }
    }

    /// Dies: everything in memory is gone.
    pub(crate) fn die(&mut self) {
        self.epoch += 1;
        self.up = false;
        self.jobs.clear();
        self.canceled.clear();
        self.recent = Rc::new(Recent::default());
        self.stopped_until = 0;
    }

    /// Whether another message in hand here is the same.
    pub(crate) fn has_in_hand(&self, delivery: &Delivery) -> bool {
        self.jobs.values().any(|job| {
            job.delivery.message.mark == delivery.message.mark && !matches!(job.waits, Waits::Again)
        })
    }
}
