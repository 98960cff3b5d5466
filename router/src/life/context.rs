//! What a step may know beside its message: values, gathered by the shell.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tidegate_policies::{Judge, flag, release};
use tidegate_schemas::budget::Spent;
use tidegate_schemas::decision::{Approval, Facts, Redaction, Switch};
use tidegate_schemas::digest::{Digest, Salt};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::flag::FlagSettings;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Labels;
use tidegate_schemas::release::Canary;
use tidegate_schemas::scan::ModelScan;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Task;
use uuid::Uuid;

use crate::allowance::Allowance;
use crate::gates::Gates;
use crate::recent::Recent;

/// What is known while one message is worked on.
pub struct Context<'a> {
    /// The time.
    pub now: Timestamp,
    /// Random bits for ids, salts and spans of this message.
    pub random: Randomness,
    /// Who there is.
    pub directory: &'a Directory,
    /// The directory's hash.
    pub directory_hash: Digest,
    /// Who judges.
    pub bench: Bench<'a>,
    /// Whether tickets can be signed; if not, nothing goes to the cloud.
    pub signs: bool,
    /// The cell's name: the audience of its tickets.
    pub cell: &'a str,
    /// What is switched off.
    pub off: &'a [Switch],
    /// Feature flags, and for whom they are on.
    pub flags: &'a FlagSettings,
    /// Revision of switches and flags.
    pub flags_revision: u64,
    /// Revision of what is released.
    pub release_revision: u64,
    /// Expected waiting time by queue, milliseconds.
    pub wait_ms: &'a BTreeMap<Name, u64>,
    /// Tasks of each tenant that wait or run.
    pub in_flight: &'a BTreeMap<Name, u64>,
    /// What keeps work from providers for a while.
    pub gates: &'a Gates,
    /// Ids that were seen lately.
    pub recent: &'a Recent,
    /// Whether record and clock are well; if not, nothing goes to the cloud.
    pub egress_open: bool,
}

/// The judges of the bundles that are released.
#[derive(Debug, Clone, Copy)]
pub struct Bench<'a> {
    /// The active bundle's.
    pub active: &'a Judge,
    /// The canary's, and whose tasks it decides about.
    pub canary: Option<(Canary, &'a Judge)>,
    /// The one of the bundle that is judged beside.
    pub shadow: Option<&'a Judge>,
    /// How long that may take; absent: as long as it does.
    pub allowance: Option<&'a Allowance>,
}

/// Random bits of one message.
#[derive(Debug, Clone, Copy)]
pub struct Randomness {
    /// Id of the decision (UUIDv7).
    pub decision: Uuid,
    /// Id of the ticket (UUIDv7).
    pub ticket: Uuid,
    /// Salt of digests.
    pub salt: [u8; 32],
    /// Trace id, for tasks that bring none.
    pub trace: u128,
    /// Span id.
    pub span: u64,
}

/// What earlier decisions of the same task leave to this one.
#[derive(Debug, Clone, Default)]
pub(super) struct Earlier {
    pub(super) hop: u32,
    pub(super) lane_max: Option<Lane>,
    pub(super) tried: std::collections::BTreeSet<Name>,
    pub(super) approval: Option<Approval>,
    /// Labels of the result that the task goes on from.
    pub(super) inherited: Option<Labels>,
    /// What is known of a model's scan.
    pub(super) model_scan: ModelScan,
    /// What the task's session held before.
    pub(super) session: Option<Labels>,
    /// Budgets that left no room for it.
    pub(super) spent: Vec<Spent>,
    /// What would leave, as it was looked at again.
    pub(super) redaction: Option<Redaction>,
}

impl<'a> Bench<'a> {
    /// The active bundle alone.
    #[must_use]
    pub fn only(active: &'a Judge) -> Self {
        Self { active, canary: None, shadow: None, allowance: None }
    }

    /// What is judged beside a decision, if there is time for it.
    pub(super) fn within<T>(&self, judge: impl FnOnce() -> T) -> Option<T> {
        match self.allowance {
            Some(allowance) => allowance.within(judge),
            None => Some(judge()),
        }
    }

    /// Who decides about a task, at each of its steps.
    pub(super) fn of(&self, task: &Task) -> &'a Judge {
        match self.canary {
            Some((canary, judge)) if release::is_drawn(&canary, task) => judge,
            _ => self.active,
        }
    }

    /// Who judges beside this one.
    pub(super) fn beside(&self, judge: &Judge) -> Option<&'a Judge> {
        self.shadow.filter(|shadow| shadow.bundle().hash() != judge.bundle().hash())
    }
}

impl Context<'_> {
    pub(super) fn facts(&self, task: &Task, earlier: Earlier) -> Facts {
        Facts {
            decision_id: self.random.decision,
            now: self.now,
            directory: self.directory_hash,
            hop: earlier.hop,
            lane_max: earlier.lane_max,
            tried: earlier.tried,
            off: self.off.to_vec(),
            flags: flag::on(self.flags, task),
            flags_revision: self.flags_revision,
            release_revision: self.release_revision,
            inherited: earlier.inherited,
            approval: earlier.approval,
            model_scan: earlier.model_scan,
            wait_ms: self.wait_ms.clone(),
            tenant_in_flight: self.in_flight.get(&task.tenant).copied().unwrap_or(0),
            session: earlier.session,
            spent: self.gates.spent_of((&task.tenant, &task.agent), earlier.spent, self.now),
            broken: self.gates.broken(self.now),
            redaction: earlier.redaction,
            egress_ready: self.signs && self.egress_open,
        }
    }

    pub(super) fn salt(&self) -> Salt {
        Salt::new(self.random.salt)
    }
}
