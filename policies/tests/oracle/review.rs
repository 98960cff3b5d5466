//! Who may let held work go on by the prose ("People"), and whether the judge says so.

use serde_json::json;
use tidegate_policies::{Judge, ReviewRequest};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::labels::{Sensitivity, Stakes};
use tidegate_schemas::subject::Lane;

use crate::door::name;

/// What decides about verdicts.
pub(crate) const POLICIES: [&str; 3] = ["review-by-queue", "review-suspended", "review-edited-egress"];

/// A verdict that somebody wants to give.
#[derive(Debug, Clone, Copy)]
struct Wish {
    reviewer: &'static str,
    queue: &'static str,
    agent: &'static str,
    edited: bool,
    lane: Lane,
    sensitivity: Sensitivity,
}

impl Wish {
    fn is_permitted(self) -> bool {
        let own = self.reviewer == "alice" && self.queue == "privacy";
        let leaves = self.lane == Lane::Cloud && self.sensitivity == Sensitivity::Confidential;
        own && self.agent == "assistant" && !(self.edited && leaves)
    }
}

/// Wishes of which the judge says otherwise than the prose.
pub(crate) fn differences(judge: &Judge) -> Vec<String> {
    let told = json!({
        "schema_version": 1,
        "tenants": { "demo": { "owner": "d@example.com", "agents": {
            "assistant": {}, "suspect": { "roles": ["suspended"] } } } },
        "reviewers": { "alice": { "queues": ["privacy"] }, "bob": { "queues": [] } }
    });
    let directory: Directory = serde_json::from_value(told).unwrap();
    let (tenant, mut different) = (name("demo"), Vec::new());
    for wish in wishes() {
        let (reviewer, queue, agent) = (name(wish.reviewer), name(wish.queue), name(wish.agent));
        let asked = ReviewRequest {
            reviewer: &reviewer,
            queue: &queue,
            edited: wish.edited,
            tenant: &tenant,
            agent: &agent,
            lane: wish.lane,
            sensitivity: wish.sensitivity,
            stakes: Stakes::High,
        };
        if judge.may_approve(&directory, &asked).allowed != wish.is_permitted() {
            different.push(format!("{wish:?}"));
        }
    }
    different
}

fn wishes() -> Vec<Wish> {
    let mut wishes = Vec::new();
    for (reviewer, queue) in
        [("alice", "privacy"), ("alice", "default"), ("bob", "privacy"), ("nobody", "privacy")]
    {
        for agent in ["assistant", "suspect", "stranger"] {
            for (edited, lane) in
                [(false, Lane::Local), (false, Lane::Cloud), (true, Lane::Local), (true, Lane::Cloud)]
            {
                for sensitivity in [
                    Sensitivity::Public,
                    Sensitivity::Internal,
                    Sensitivity::Confidential,
                    Sensitivity::Restricted,
                ] {
                    wishes.push(Wish { reviewer, queue, agent, edited, lane, sensitivity });
                }
            }
        }
    }
    wishes
}
