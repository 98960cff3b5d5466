//! Looking at every destination, and choosing.

use tidegate_schemas::breaker::Broken;
use tidegate_schemas::budget::Spent;
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Considered, Considering, Facts};
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Task;

use super::Judge;
use super::release::Released;
use crate::destination::DestinationSpec;
use crate::engine::{self, Answers, Circumstances, Question, Seat};

/// What the ids of the judge's own rules begin with. They hold whatever a bundle says.
pub(super) const FLOOR: &str = "floor-";

/// One task before all destinations.
pub(super) struct Round<'a> {
    pub(super) judge: &'a Judge,
    pub(super) task: &'a Task,
    pub(super) facts: &'a Facts,
    /// Whether anything had looked at its texts.
    pub(super) scanned: bool,
    pub(super) circumstances: &'a Circumstances,
    pub(super) seat: &'a Seat,
    pub(super) answers: Answers,
    /// The task once what was found in it is replaced, where that can be asked about.
    pub(super) released: Option<Released>,
}

/// What came of it.
pub(super) struct Considerations {
    /// Every destination, by name.
    pub(super) all: Vec<Considered>,
    /// The one that was taken, and the policies that permit it.
    pub(super) chosen: Option<(usize, Vec<String>)>,
    /// The first that a person could agree to.
    pub(super) held: Option<Held>,
    /// Whether the one that was taken is permitted only once what was found is replaced.
    pub(super) redact: bool,
    /// The most that the task itself lets it cost.
    pub(super) cost_max: Option<u64>,
}

/// A destination that a person could agree to.
pub(super) struct Held {
    pub(super) index: usize,
    /// The policies that ask for it.
    pub(super) policies: Vec<String>,
    /// Whether what was found is replaced before it leaves for there.
    pub(super) redacted: bool,
}

impl Round<'_> {
    pub(super) fn run(&self) -> Considerations {
        let specs = self.judge.bundle.destinations();
        let all = specs.iter().enumerate().map(|(index, spec)| self.consider(index, spec)).collect();
        let cost_max = self.task.limits.cost_usd_micros_max;
        let mut result = Considerations { all, chosen: None, held: None, redact: false, cost_max };
        for index in self.preferred(&result.all) {
            if self.choose(index, &mut result) {
                break;
            }
        }
        result
    }

    /// Positions of what is permitted, the best first.
    fn preferred(&self, all: &[Considered]) -> Vec<usize> {
        let specs = self.judge.bundle.destinations();
        let mut permitted: Vec<(usize, &DestinationSpec)> = specs
            .iter()
            .enumerate()
            .filter(|(index, _)| {
                let open = [Considering::Permitted, Considering::NeedsRedaction];
                all.get(*index).is_some_and(|considered| open.contains(&considered.verdict))
            })
            .collect();
        let tokens = self.circumstances.tokens;
        permitted.sort_by_key(|(_, spec)| {
            (spec.rank, spec.cost_usd_micros(tokens), self.latency_ms(spec), &spec.name)
        });
        permitted.into_iter().map(|(index, _)| index).collect()
    }

    /// Takes a permitted destination unless a person must agree first. Says whether it was taken.
    fn choose(&self, index: usize, result: &mut Considerations) -> bool {
        let Some(entry) = result.all.get_mut(index) else { return false };
        let redact = entry.verdict == Considering::NeedsRedaction;
        // Whether a person must look is asked about what would leave.
        let redacted = redact || self.is_redacted(index);
        let answers = match &self.released {
            Some(released) if redacted => &released.answers,
            _ => &self.answers,
        };
        if self.circumstances.settled.approved {
            entry.verdict = Considering::Chosen;
            result.chosen = Some((index, entry.policies.clone()));
            result.redact = redact;
            return true;
        }
        let answer = self.judge.engine.answer(answers, self.seat, Question::SkipReview, index);
        if answer.allowed {
            entry.verdict = Considering::Chosen;
            let mut policies = [entry.policies.clone(), answer.policies].concat();
            policies.sort_unstable();
            policies.dedup();
            result.chosen = Some((index, policies));
            result.redact = redact;
            return true;
        }
        entry.verdict = if answer.errored { Considering::Errored } else { Considering::NeedsReview };
        entry.policies.clone_from(&answer.policies);
        if !answer.errored && result.held.is_none() {
            result.held = Some(Held { index, policies: answer.policies, redacted });
        }
        false
    }

    fn consider(&self, index: usize, spec: &DestinationSpec) -> Considered {
        let as_it_is = self.verdict(index, spec);
        let (verdict, policies) = match spec.lane {
            Lane::Local => as_it_is,
            Lane::Cloud => self.once_redacted(index, spec, as_it_is),
        };
        Considered { destination: spec.name.clone(), verdict, policies }
    }

    fn verdict(&self, index: usize, spec: &DestinationSpec) -> (Considering, Vec<String>) {
        if !spec.can(&self.task.input, self.circumstances.tokens) {
            return (Considering::Incapable, Vec::new());
        }
        if self.facts.lane_max == Some(Lane::Local) && spec.lane == Lane::Cloud {
            return (Considering::Wider, Vec::new());
        }
        if self.facts.tried.contains(&spec.name) {
            return (Considering::Tried, Vec::new());
        }
        let answer = self.judge.engine.answer(&self.answers, self.seat, engine::route(spec), index);
        if answer.errored {
            return (Considering::Errored, answer.policies);
        }
        if !answer.allowed {
            return (self.denial(&answer.policies), answer.policies);
        }
        if let Some(rule) = self.floor(spec, self.circumstances) {
            return (Considering::Forbidden, vec![format!("{FLOOR}{rule}")]);
        }
        if self.circumstances.settled.off.contains(&spec.name) {
            return (Considering::Off, Vec::new());
        }
        if let Some(kept) = self.kept_back(spec) {
            return (kept, Vec::new());
        }
        (Considering::Permitted, answer.policies)
    }

    /// Forbidden, or only switched off: then every policy behind it says so by its `@code`.
    pub(super) fn denial(&self, policies: &[String]) -> Considering {
        let off = |id: &String| self.judge.notes.get(id).is_some_and(|note| note.code == Some(Code::LaneOff));
        match policies {
            [] => Considering::NotPermitted,
            some if some.iter().all(off) => Considering::Off,
            _ => Considering::Forbidden,
        }
    }

    /// What no bundle can permit.
    pub(super) fn floor(&self, spec: &DestinationSpec, of: &Circumstances) -> Option<&'static str> {
        let (facts, tokens) = (&of.settled, of.tokens);
        if facts.cost_usd_micros_max.is_some_and(|most| spec.cost_usd_micros(tokens) > most) {
            return Some("cost");
        }
        if self.task.limits.latency_ms_max.is_some_and(|most| spec.latency_ms > most) {
            return Some("latency");
        }
        if spec.lane == Lane::Local {
            return None;
        }
        let dear = spec.cost_usd_micros(tokens) > self.judge.bundle.manifest().cloud_cost_usd_micros_max;
        let rules = [
            (!facts.egress_ready, "egress-ready"),
            (facts.labels.sensitivity == Sensitivity::Restricted, "restricted"),
            (!self.scanned, "scan"),
            (facts.providers.as_ref().is_some_and(|allowed| !allowed.contains(&spec.target)), "provider"),
            (dear, "cost"),
        ];
        rules.into_iter().find_map(|(broken, rule)| broken.then_some(rule))
    }

    /// What keeps a task from a place that policies permit, and will not for ever.
    pub(super) fn kept_back(&self, spec: &DestinationSpec) -> Option<Considering> {
        let (task, facts) = (self.task, self.facts);
        let is_cloud = spec.lane == Lane::Cloud;
        let counts = |spent: &Spent| spent.of.covers(&task.tenant, &task.agent, &spec.target);
        let is_there = |broken: &Broken| {
            let place = &broken.place;
            place.provider == spec.target
                && Some(&place.endpoint) == spec.base_url.as_ref()
                && place.model == spec.model
        };
        let rules = [
            (is_cloud && facts.spent.iter().any(counts), Considering::Spent),
            (is_cloud && facts.broken.iter().any(is_there), Considering::Broken),
            (self.overloaded(spec), Considering::Overloaded),
        ];
        rules.into_iter().find_map(|(holds, verdict)| holds.then_some(verdict))
    }

    fn wait_ms(&self, spec: &DestinationSpec) -> u64 {
        self.facts.wait_ms.get(&spec.target).copied().unwrap_or(0)
    }

    fn latency_ms(&self, spec: &DestinationSpec) -> u64 {
        self.wait_ms(spec).saturating_add(spec.latency_ms)
    }

    /// Whether its queue is longer than the task can wait. That it is too slow even where nobody waits is no queue's fault.
    fn overloaded(&self, spec: &DestinationSpec) -> bool {
        let left = self.task.limits.deadline.duration_since(self.facts.now).as_millis();
        let wait = self.wait_ms(spec);
        let late = wait > 0 && i128::from(wait) > left;
        late || self.task.limits.latency_ms_max.is_some_and(|most| self.latency_ms(spec) > most)
    }
}
