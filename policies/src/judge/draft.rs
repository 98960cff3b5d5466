//! Writing a decision down.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{
    Considered, Considering, Decision, Facts, Obligation, Outcome, Scan, Terms,
};
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::Labels;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::ByPrompt;

use super::consider::{Considerations, Held};
use super::{Judge, sentence};

/// A decision of which the outcome is still open.
pub(super) struct Draft<'a> {
    pub(super) judge: &'a Judge,
    pub(super) facts: &'a Facts,
    pub(super) labels: Labels,
    pub(super) findings: BTreeMap<Name, u32>,
    pub(super) scan: Scan,
    /// What the task was rendered from.
    pub(super) by: Option<&'a ByPrompt>,
}

impl Draft<'_> {
    fn decision(self, outcome: Outcome, sentence: String, considered: Vec<Considered>) -> Decision {
        let known = self.judge.bundle.taxonomy().known(&self.labels);
        Decision {
            schema_version: 1,
            id: self.facts.decision_id,
            outcome,
            destination: None,
            considered,
            determining: Vec::new(),
            labels: self.labels,
            known,
            findings: self.findings,
            scan: self.scan,
            facts: self.facts.clone(),
            obligations: Vec::new(),
            code: None,
            sentence,
            bundle: self.judge.bundle.hash(),
            owner: self.judge.bundle.owner().to_owned(),
            policy_owners: Vec::new(),
            prompt: self.by.map(|by| by.prompt.clone()),
            prompt_owner: self.by.map(|by| by.owner.clone()),
            content: None,
            shadow: None,
        }
    }

    /// Owners of policies, sorted, each once.
    fn owners(&self, policies: &[String]) -> Vec<String> {
        let owners = policies.iter().filter_map(|id| Some(self.judge.notes.get(id)?.owner.as_str()));
        let owners: BTreeSet<&str> = owners.filter(|owner| !owner.is_empty()).collect();
        owners.into_iter().map(str::to_owned).collect()
    }

    pub(super) fn reject(self, code: Code, sentence: String, considered: Vec<Considered>) -> Decision {
        let mut determining: Vec<String> =
            considered.iter().flat_map(|c| c.policies.iter().cloned()).collect();
        determining.sort_unstable();
        determining.dedup();
        let policy_owners = self.owners(&determining);
        let decision = self.decision(Outcome::Reject, sentence, considered);
        Decision { code: Some(code), determining, policy_owners, ..decision }
    }

    pub(super) fn conclude(self, result: Considerations) -> Decision {
        match (result.chosen, result.held) {
            (Some(chosen), _) => self.dispatch(chosen, result.redact, result.all, result.cost_max),
            (None, Some(held)) => self.hold(held, result.all),
            (None, None) => {
                let code = code(&result.all);
                let sentence = match code {
                    Code::BudgetSpent => sentence::spent(&self.facts.spent),
                    _ => sentence::rejected(code, &result.all, &self.judge.notes),
                };
                self.reject(code, sentence, result.all)
            }
        }
    }

    fn dispatch(
        self,
        (index, policies): (usize, Vec<String>),
        redact: bool,
        all: Vec<Considered>,
        cost_max: Option<u64>,
    ) -> Decision {
        let destination = self.judge.chosen.get(index).cloned();
        let lane = destination.as_ref().map_or(Lane::Local, |chosen| chosen.lane);
        let caps = policies.iter().filter_map(|id| self.judge.notes.get(id)?.cost_cap);
        let bundle = self.judge.bundle.manifest().cloud_cost_usd_micros_max;
        let cap = caps.chain(cost_max).fold(bundle, u64::min);
        let (outcome, obligations) = match lane {
            Lane::Local => (Outcome::Local, Vec::new()),
            Lane::Cloud => (Outcome::Cloud, vec![Obligation::CostCap { usd_micros_max: cap }]),
        };
        let (outcome, sentence) = if redact {
            (Outcome::Redact, sentence::redacted(destination.as_ref(), &policies))
        } else {
            (outcome, sentence::dispatched(destination.as_ref(), &policies))
        };
        let policy_owners = self.owners(&policies);
        let decision = self.decision(outcome, sentence, all);
        Decision { destination, determining: policies, policy_owners, obligations, ..decision }
    }

    fn hold(self, held: Held, all: Vec<Considered>) -> Decision {
        let Held { index, policies, redacted } = held;
        let terms = self.judge.terms.get(index).map(|place| Terms { place: *place, redacted });
        let destination = self.judge.chosen.get(index).cloned();
        let named = policies.iter().find_map(|id| self.judge.notes.get(id)?.queue.clone());
        let queue = named.unwrap_or_else(|| self.judge.bundle.manifest().review_queue.clone());
        let quorum = policies.iter().filter_map(|id| self.judge.notes.get(id)?.quorum).max().unwrap_or(1);
        let sentence = sentence::held(&policies, &self.judge.notes);
        let policy_owners = self.owners(&policies);
        let decision = self.decision(Outcome::Hold, sentence, all);
        Decision {
            destination,
            determining: policies,
            policy_owners,
            obligations: vec![Obligation::Review { queue, quorum, terms }],
            ..decision
        }
    }
}

/// Why nothing was permitted: the reason nearest to a permission.
fn code(all: &[Considered]) -> Code {
    let has = |verdict: Considering| all.iter().any(|considered| considered.verdict == verdict);
    let order = [
        (Considering::Overloaded, Code::Overloaded),
        (Considering::Spent, Code::BudgetSpent),
        (Considering::Broken, Code::ProviderUnavailable),
        (Considering::Off, Code::LaneOff),
        (Considering::Errored, Code::JudgeFailed),
        (Considering::Tried, Code::ProviderUnavailable),
        (Considering::Forbidden, Code::PolicyDenied),
        (Considering::NotPermitted, Code::PolicyDenied),
        (Considering::Wider, Code::PolicyDenied),
    ];
    order.into_iter().find(|(verdict, _)| has(*verdict)).map_or(Code::NoCapableDestination, |(_, code)| code)
}
