//! Cases of replays: rows of request → permitted or not.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::replay::ReplayTo;

use super::Ran;
use crate::judge::Judge;
use crate::permission::{Permission, ReplayRequest};

/// One case of a replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayCase {
    /// What it shows, in words.
    pub name: String,
    /// Who wants it.
    pub operator: Name,
    /// Where the records go.
    pub target: ReplayTo,
    /// Whose they are.
    #[serde(default)]
    pub tenants: BTreeSet<Name>,
    /// Whether some are of no tenant.
    #[serde(default)]
    pub cell: bool,
    /// How many.
    pub records: u64,
    /// What must come out.
    pub expect: Permission,
}

impl ReplayCase {
    /// Runs the case.
    #[must_use]
    pub fn run(&self, judge: &Judge, directory: &Directory) -> Ran {
        let (operator, target, tenants) = (&self.operator, &self.target, &self.tenants);
        let asked = ReplayRequest { operator, target, tenants, cell: self.cell, records: self.records };
        let permission = judge.may_replay(directory, &asked);
        let differences = if permission == self.expect {
            Vec::new()
        } else {
            vec![format!("replay: expected {:?}, got {permission:?}", self.expect)]
        };
        let policies = permission.policies.iter().cloned().collect();
        Ran { name: self.name.clone(), differences, policies, decision: None, permission: Some(permission) }
    }
}
