//! What the record says of a canary: its tasks and the active bundle's, when they have ended; of a workflow's tasks, which end alike,
//! the first that a guard has something to say about. A function of the leaves in their
//! order, so that a recorder that begins again comes to the same.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidegate_audit::leaf::{ActWord, Detail, VerdictWord};
use tidegate_audit::{Leaf, RecordKind};
use tidegate_bus::topology::RECORDER;
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::release::{Canary, Candidates, Guard, Guards, ShareBy};
use tidegate_schemas::result::State;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Kind;

use super::arms::{Arm, Stratum, Watch};
use super::newest::Newest;
use super::wealth::FALSE_ALARM;
use super::{ArmLine, GuardLine, GuardState};

/// Of a tenant: open tasks that are followed, tasks that ended lately and workflows that are remembered, count of each. For one more the
/// oldest is forgotten, so what is new is always looked at, and one tenant's flood takes nothing of what the others' tasks say.
pub(super) const TENANT_TASKS_MAX: usize = 20_000;

/// Verdicts of one task that are remembered until something follows them, count.
const VERDICTS_MAX: usize = 64;

/// How long routers may take to take a canary back before it is told again.
const DONE_WITHIN: Duration = Duration::from_secs(5);

/// A canary's trial.
#[derive(Debug)]
pub(super) struct Trial {
    canary: Canary,
    active: Digest,
    tenants: HashMap<Name, Known>,
    guards: Vec<(Guard, Watch)>,
    alarm: Option<Guard>,
    /// Guards that one tenant alone would have take the canary back, and which.
    alone: HashMap<Guard, Name>,
    is_told: bool,
    /// Open tasks that were forgotten: what became of them is not looked at.
    forgotten: u64,
    /// Times that it was told by this process, and when last.
    attempts: u32,
    told_at: Option<Instant>,
}

/// What is remembered of a tenant.
#[derive(Debug, Default)]
struct Known {
    /// Its open tasks, by agent and id.
    tasks: Newest<(Name, TaskId), Seen>,
    /// Those that ended: a message that comes again under such an id has no other result, and would be followed for ever.
    ended: Newest<(Name, TaskId), ()>,
    /// Guards that a workflow has counted for, by the workflow as leaves call it. One that is forgotten counts anew.
    workflows: Newest<String, Guards>,
}

/// What is known of an open task.
#[derive(Debug, Default)]
struct Seen {
    kind: Option<Kind>,
    arm: Option<Arm>,
    /// Both bundles, or a third one, decided about it.
    is_mixed: bool,
    failed_to_judge: bool,
    went_to_cloud: bool,
    /// Verdicts that nothing has followed yet, and whether each is against what was decided.
    verdicts: Vec<(Position, bool)>,
    /// Whether a reviewer decided, and against it.
    overturned: Option<bool>,
}

// === impl Trial ===

impl Trial {
    /// The trial of what is in force; none without a canary.
    pub(super) fn of(now: &Candidates) -> Option<Self> {
        let canary = now.canary?;
        let watched = Guard::ALL.into_iter().filter(|guard| !canary.unguarded.contains(*guard));
        Some(Self {
            canary,
            active: now.active,
            tenants: HashMap::new(),
            guards: watched.map(|guard| (guard, Watch::of(guard))).collect(),
            alarm: None,
            alone: HashMap::new(),
            is_told: false,
            forgotten: 0,
            attempts: 0,
            told_at: None,
        })
    }

    /// Whether this is the trial of what is in force.
    pub(super) fn is_of(&self, now: &Candidates) -> bool {
        let same = |canary: &Canary| {
            // Another share of the same draw is the same trial.
            *canary == Canary { share_bp: canary.share_bp, ..self.canary }
        };
        now.active == self.active && now.canary.as_ref().is_some_and(same)
    }

    /// The canary.
    pub(super) fn canary(&self) -> &Canary {
        &self.canary
    }

    /// The bundle that it is held against.
    pub(super) fn active(&self) -> Digest {
        self.active
    }

    /// The guard that saw the canary do worse, unless that was told: by this process just now, or by the record.
    pub(super) fn alarm(&self) -> Option<Guard> {
        self.alarm.filter(|_| !self.is_told)
    }

    /// Looks again whether what was told was done: this is asked only while the canary is in force.
    pub(super) fn is_still_here(&mut self, now: Instant) {
        let told_at = *self.told_at.get_or_insert(now);
        if self.is_told && now.duration_since(told_at) >= DONE_WITHIN {
            self.is_told = false;
        }
    }

    /// It was told.
    pub(super) fn told(&mut self, now: Instant) {
        self.is_told = true;
        self.attempts += 1;
        self.told_at = Some(now);
    }

    /// Times that it was told already by this process.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Tenants that alone would have a guard take the canary back: those that were not told of before.
    pub(super) fn newly_alone(&mut self) -> Vec<(Guard, Name)> {
        let now = self
            .guards
            .iter()
            .filter_map(|(guard, watch)| Some((*guard, watch.wealth.alone(level())?.clone())));
        let new: Vec<_> = now.filter(|(guard, tenant)| self.alone.get(guard) != Some(tenant)).collect();
        self.alone.extend(new.iter().cloned());
        new
    }

    /// Takes in the next record.
    pub(super) fn see(&mut self, leaf: &Leaf) {
        if let Some(Detail::Control { operator, act: ActWord::BundleRollback, hash, since, .. }) =
            &leaf.detail
        {
            let own = (*hash, *since) == (Some(self.canary.hash), Some(self.canary.since));
            self.is_told |= operator.as_str() == RECORDER && own;
        }
        let (Some(tenant), Some(agent), Some(task)) = (&leaf.tenant, &leaf.agent, leaf.task) else { return };
        let key = (agent.clone(), task);
        let known = self.tenants.entry(tenant.clone()).or_default();
        if leaf.kind == RecordKind::Result {
            let seen = known.tasks.take(&key).unwrap_or_default();
            known.ended.put(key, ());
            return self.ended(leaf, seen, tenant);
        }
        // A task that has ended leaves nothing behind: what comes late, or again under its id, begins nothing.
        let begins = matches!(leaf.kind, RecordKind::Task | RecordKind::Work | RecordKind::Review)
            && known.ended.get(&key).is_none();
        if begins && known.tasks.get(&key).is_none() {
            self.forgotten += u64::from(known.tasks.put(key.clone(), Seen::default()));
        }
        let (canary, active) = (self.canary.hash, self.active);
        let Some(seen) = known.tasks.get_mut(&key) else { return };
        seen.followed(leaf);
        match (leaf.kind, &leaf.detail) {
            (RecordKind::Task, _) => seen.kind = leaf.task_kind(),
            (RecordKind::Work | RecordKind::Review, _) => seen.decided(leaf, canary, active),
            (_, Some(Detail::Verdict { action, .. })) => seen.verdict(leaf, *action),
            _ => {}
        }
    }

    fn ended(&mut self, leaf: &Leaf, mut seen: Seen, tenant: &Name) {
        seen.followed(leaf);
        let own_decision = leaf.decision.as_ref().filter(|decision| decision.outcome == Outcome::Reject);
        if own_decision.is_some() {
            seen.decided(leaf, self.canary.hash, self.active);
        }
        let (Some(arm), false) = (seen.arm, seen.is_mixed) else { return };
        // Who withdraws a task says nothing about a bundle.
        let Some(state) = leaf.state.filter(|state| *state != State::Canceled) else { return };
        let by_tenant = self.canary.by == ShareBy::Tenant;
        let stratum = Stratum { tenant: (!by_tenant).then(|| tenant.clone()), kind: seen.kind };
        // What a reviewer rejected carries the decision that had held it, and is none of this.
        let is_rejected = own_decision.is_some();
        let (cost, latency) = match &leaf.detail {
            Some(Detail::Result { cost_usd_micros, timings, .. }) if state == State::Completed => {
                (Some(cost_usd_micros.unwrap_or(0)), Some(timings.total_ms))
            }
            _ => (None, None),
        };
        let values = |guard| match guard {
            Guard::Errors => Some(u64::from(seen.failed_to_judge)),
            Guard::Rejections => Some(u64::from(is_rejected)),
            Guard::CloudShare => Some(u64::from(seen.went_to_cloud)),
            Guard::Failures => Some(u64::from(state == State::Failed)),
            Guard::Cost => cost,
            Guard::Latency => latency,
            Guard::Overturns => seen.overturned.map(u64::from),
        };
        let workflows = &mut self.tenants.entry(tenant.clone()).or_default().workflows;
        let counted = leaf.workflow.as_ref().map(|workflow| workflows.get(workflow).copied());
        // Its tasks end alike: more of them would be no more evidence.
        let before = counted.flatten().unwrap_or_default();
        let mut said = Vec::new();
        for (guard, watch) in self.guards.iter_mut().filter(|(guard, _)| !before.contains(*guard)) {
            if let Some(value) = values(*guard) {
                watch.add(arm, &stratum, tenant, value);
                said.push(*guard);
            }
        }
        if let Some(workflow) = &leaf.workflow {
            let all = Vec::from(before).into_iter().chain(said).collect();
            workflows.put(workflow.clone(), all);
        }
        let found = self.guards.iter().find(|(_, watch)| watch.wealth.evidence(level()) >= 1.0);
        self.alarm = self.alarm.or(found.map(|(guard, _)| *guard));
    }

    /// Why a guard takes the canary back, for people.
    pub(super) fn reason(&self, guard: Guard) -> String {
        let found = self.guards.iter().find(|(other, _)| *other == guard);
        let [canary, active] = found.map(|(_, watch)| [watch.canary, watch.active]).unwrap_or_default();
        format!(
            "guard `{}`: {} over {} tasks of the canary, {} over {} of the active bundle",
            guard.as_str(),
            canary.sum,
            canary.tasks,
            active.sum,
            active.tasks
        )
    }

    /// Open tasks that were forgotten, count.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Where each guard stands.
    pub(super) fn lines(&self) -> Vec<GuardLine> {
        let line = |guard: Guard| {
            let found = self.guards.iter().find(|(other, _)| *other == guard);
            let Some((_, watch)) = found else { return GuardLine::off(guard) };
            let evidence = watch.wealth.evidence(level());
            let state = if self.alarm == Some(guard) { GuardState::Alarm } else { GuardState::Watching };
            let arm = |total: super::arms::Total| ArmLine { tasks: total.tasks, sum: total.sum };
            let (canary, active) = (arm(watch.canary), arm(watch.active));
            let alone = watch.wealth.alone(level()).cloned();
            GuardLine { guard, state, pairs: watch.pairs, canary, active, evidence, alone }
        };
        Guard::ALL.into_iter().map(line).collect()
    }
}

/// All guards share the chance of a false alarm.
fn level() -> f64 {
    FALSE_ALARM / f64::from(u8::try_from(Guard::ALL.len()).unwrap_or(u8::MAX))
}

// === impl Seen ===

impl Seen {
    /// A verdict that came to nothing, because it was late, refused or one of several, says nothing: it counts with what follows it.
    fn verdict(&mut self, leaf: &Leaf, action: VerdictWord) {
        if self.verdicts.len() < VERDICTS_MAX {
            self.verdicts.push((leaf.position(), action != VerdictWord::Approve));
        }
    }

    /// Work or a result may be what a verdict led to.
    fn followed(&mut self, leaf: &Leaf) {
        let follows = matches!(leaf.kind, RecordKind::Work | RecordKind::Result);
        let Some(cause) = leaf.cause.as_ref().filter(|_| follows) else { return };
        let against = self.verdicts.iter().find(|(at, _)| at == cause).map(|(_, against)| *against);
        if let Some(against) = against {
            self.overturned = Some(self.overturned.unwrap_or(false) || against);
        }
    }

    fn decided(&mut self, leaf: &Leaf, canary: Digest, active: Digest) {
        let Some(decision) = &leaf.decision else { return };
        let arm = match decision.bundle {
            hash if hash == canary => Some(Arm::Canary),
            hash if hash == active => Some(Arm::Active),
            _ => None,
        };
        self.is_mixed |= arm.is_none() || self.arm.is_some_and(|before| Some(before) != arm);
        self.arm = self.arm.or(arm);
        self.failed_to_judge |= leaf.code == Some(Code::JudgeFailed);
        self.went_to_cloud |= matches!(leaf.detail, Some(Detail::Work { lane: Lane::Cloud, .. }));
    }
}
