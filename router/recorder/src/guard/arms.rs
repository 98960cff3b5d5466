//! Two arms, and what their tasks came to: values are paired within a kind of task, so that who asks for what makes no difference.

use std::collections::HashMap;

use tidegate_schemas::ids::Name;
use tidegate_schemas::release::Guard;
use tidegate_schemas::task::Kind;

use super::wealth::Wealth;

/// Kinds of tasks that are told apart; what is more is paired with each other.
const STRATA_MAX: usize = 4_096;

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    Canary,
    Active,
}

/// Among which tasks one is paired: of the same kind and, where a tenant's tasks may be on both sides, of the same tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Stratum {
    pub(super) tenant: Option<Name>,
    pub(super) kind: Option<Kind>,
}

/// What a guard holds against each other.
#[derive(Debug, Clone, Copy)]
enum Measure {
    /// Whether it is so.
    Rate,
    /// Whether one has a quarter more than the other, and more than this: extremes count no more than that.
    Amount { least: u64 },
}

/// One guard's pairs.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    measure: Measure,
    tolerance: f64,
    waiting: HashMap<Stratum, [Option<Waiting>; 2]>,
    pub(super) canary: Total,
    pub(super) active: Total,
    pub(super) pairs: u64,
    pub(super) wealth: Wealth,
}

/// A task that has no other side yet.
#[derive(Debug, Clone)]
struct Waiting {
    tenant: Name,
    value: u64,
}

/// All of an arm.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    pub(super) tasks: u64,
    pub(super) sum: u64,
}

// === impl Watch ===

impl Watch {
    /// What a guard looks at, and how much more of it is tolerated.
    pub(super) fn of(guard: Guard) -> Self {
        let (measure, tolerance) = match guard {
            Guard::Errors => (Measure::Rate, 0.0),
            Guard::Rejections | Guard::Failures => (Measure::Rate, 0.02),
            Guard::CloudShare | Guard::Overturns => (Measure::Rate, 0.05),
            // Millionths of a US dollar; milliseconds.
            Guard::Cost => (Measure::Amount { least: 100 }, 0.1),
            Guard::Latency => (Measure::Amount { least: 100 }, 0.1),
        };
        Self {
            measure,
            tolerance,
            waiting: HashMap::new(),
            canary: Total::default(),
            active: Total::default(),
            pairs: 0,
            wealth: Wealth::default(),
        }
    }

    /// Takes in a tenant's task of an arm: 0 or 1 of a rate, else how much.
    pub(super) fn add(&mut self, arm: Arm, stratum: &Stratum, tenant: &Name, value: u64) {
        let total = if arm == Arm::Canary { &mut self.canary } else { &mut self.active };
        total.tasks += 1;
        total.sum = total.sum.saturating_add(value);
        let known = self.waiting.len() < STRATA_MAX || self.waiting.contains_key(stratum);
        let stratum = if known { stratum.clone() } else { Stratum::default() };
        let sides = self.waiting.entry(stratum).or_default();
        // The newest of each: what changes for everybody in time would count against the side that has fewer, if older ones stood
        // for the other side.
        sides[usize::from(arm == Arm::Active)] = Some(Waiting { tenant: tenant.clone(), value });
        // A pair ends with the first task of the side that has fewer, whatever it came to.
        if let [Some(canary), Some(active)] = sides {
            self.pairs += 1;
            // Where a share is of the tenants, both sides are others': it is the canary's tenant that the canary is about.
            let difference = self.measure.difference(canary.value, active.value);
            self.wealth.bet(&canary.tenant, difference, self.tolerance);
            *sides = [None, None];
        }
    }
}

// === impl Measure ===

impl Measure {
    fn difference(self, canary: u64, active: u64) -> f64 {
        let least = match self {
            Self::Rate => return f64::from(i8::from(canary > active)) - f64::from(i8::from(active > canary)),
            Self::Amount { least } => least,
        };
        f64::from(i8::from(is_more(canary, active, least)))
            - f64::from(i8::from(is_more(active, canary, least)))
    }
}

fn is_more(one: u64, other: u64, least: u64) -> bool {
    one > other.saturating_add(other / 4).max(other.saturating_add(least))
}
