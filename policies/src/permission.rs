//! What people may do that policies decide: to publish the record's content again, and to let held work go on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::{Sensitivity, Stakes};
use tidegate_schemas::replay::ReplayTo;
use tidegate_schemas::subject::Lane;

use crate::engine::{Answer, Principal};
use crate::judge::Judge;

/// A replay that somebody wants.
#[derive(Debug, Clone, Copy)]
pub struct ReplayRequest<'a> {
    /// Who; the server authorised the name.
    pub operator: &'a Name,
    /// Where the records would be published.
    pub target: &'a ReplayTo,
    /// Whose they are.
    pub tenants: &'a BTreeSet<Name>,
    /// Whether some are of no tenant.
    pub cell: bool,
    /// How many.
    pub records: u64,
}

/// Held work that a reviewer wants to let go on, as it stands or edited.
#[derive(Debug, Clone, Copy)]
pub struct ReviewRequest<'a> {
    /// Who; the server authorised the name.
    pub reviewer: &'a Name,
    /// Queue of the review.
    pub queue: &'a Name,
    /// Whether as edited by the reviewer.
    pub edited: bool,
    /// The tenant of who asked.
    pub tenant: &'a Name,
    /// Who asked.
    pub agent: &'a Name,
    /// Where the work would run.
    pub lane: Lane,
    /// Effective sensitivity of what is held.
    pub sensitivity: Sensitivity,
    /// What is at stake.
    pub stakes: Stakes,
}

/// Whether it may be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// Whether every part of it is permitted.
    pub allowed: bool,
    /// Policies that permit it, or those that forbid it, sorted. None where no policy permits it.
    pub policies: Vec<String>,
}

impl Judge {
    /// Whether an operator may replay records. Denied: who is not known, what any policy forbids for any tenant, what no
    /// policy permits, and what cannot be evaluated.
    #[must_use]
    pub fn may_replay(&self, directory: &Directory, asked: &ReplayRequest<'_>) -> Permission {
        if !directory.operators.contains(asked.operator) {
            return Permission { allowed: false, policies: Vec::new() };
        }
        let answers = self.engine().ask_replay(asked);
        let allowed = answers.iter().all(|answer| answer.allowed);
        let decisive = answers.into_iter().filter(|answer| answer.allowed == allowed);
        let policies: BTreeSet<String> = decisive.flat_map(|answer| answer.policies).collect();
        Permission { allowed, policies: policies.into_iter().collect() }
    }

    /// Whether a reviewer may let held work go on. Denied: who is not known, whose queue it is not, what any policy forbids,
    /// what no policy permits, and what cannot be evaluated. Under a bundle whose schema does not know the action, which was
    /// made before verdicts could be ruled on, the directory alone decides.
    #[must_use]
    pub fn may_approve(&self, directory: &Directory, asked: &ReviewRequest<'_>) -> Permission {
        let denied = || Permission { allowed: false, policies: Vec::new() };
        let decides = directory.reviewers.get(asked.reviewer).is_some_and(|r| r.queues.contains(asked.queue));
        let agent = directory.tenants.get(asked.tenant).and_then(|tenant| tenant.agents.get(asked.agent));
        let Some(agent) = agent.filter(|_| decides) else { return denied() };
        if !self.engine().rules_reviews() {
            return Permission { allowed: true, policies: Vec::new() };
        }
        let principal = Principal::new(asked.tenant, asked.agent, agent);
        let Answer { allowed, policies, .. } = self.engine().ask_review(asked, &principal);
        Permission { allowed, policies }
    }
}
