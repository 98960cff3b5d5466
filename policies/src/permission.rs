//! What operators may do that policies decide: to publish the record's content again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::replay::ReplayTo;

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
}
