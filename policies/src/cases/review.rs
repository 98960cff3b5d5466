//! Cases of verdicts: rows of reviewer and held work → permitted or not.

use serde::{Deserialize, Serialize};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::{Sensitivity, Stakes};
use tidegate_schemas::subject::Lane;

use super::Ran;
use crate::judge::Judge;
use crate::permission::{Permission, ReviewRequest};

/// One case of a reviewer who wants to let work go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewCase {
    /// What it shows, in words.
    pub name: String,
    /// Who decides.
    pub reviewer: Name,
    /// Queue of the review.
    pub queue: Name,
    /// Whether as edited by the reviewer.
    #[serde(default)]
    pub edited: bool,
    /// Who asked.
    pub agent: Name,
    /// The agent's tenant.
    pub tenant: Name,
    /// Where the work would run.
    pub lane: Lane,
    /// Effective sensitivity.
    pub sensitivity: Sensitivity,
    /// What is at stake.
    pub stakes: Stakes,
    /// What must come out.
    pub expect: Permission,
}

impl ReviewCase {
    /// Runs the case.
    #[must_use]
    pub fn run(&self, judge: &Judge, directory: &Directory) -> Ran {
        let asked = ReviewRequest {
            reviewer: &self.reviewer,
            queue: &self.queue,
            edited: self.edited,
            tenant: &self.tenant,
            agent: &self.agent,
            lane: self.lane,
            sensitivity: self.sensitivity,
            stakes: self.stakes,
        };
        let permission = judge.may_approve(directory, &asked);
        let differences = if permission == self.expect {
            Vec::new()
        } else {
            vec![format!("review: expected {:?}, got {permission:?}", self.expect)]
        };
        let policies = permission.policies.iter().cloned().collect();
        Ran { name: self.name.clone(), differences, policies, decision: None, permission: Some(permission) }
    }
}
