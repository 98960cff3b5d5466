//! What reviewers agreed to, held against what would be done now: who may let it go on, and whether an approval still stands.

use tidegate_policies::{Judge, ReviewRequest};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::{Approval, Decision, Obligation, Outcome};
use tidegate_schemas::header;
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Task;

use super::context::Context;
use super::{Message, dispatch};

/// What a reviewer is asked about, but for what would be done.
pub(super) struct Asked<'a> {
    /// Who decides about the task.
    pub(super) judge: &'a Judge,
    /// Queue of the review.
    pub(super) queue: &'a Name,
    /// Whether as edited by the reviewer.
    pub(super) edited: bool,
    /// Tenant of who asked.
    pub(super) tenant: &'a Name,
    /// Who asked.
    pub(super) agent: &'a Name,
}

// === impl Asked ===

impl Asked<'_> {
    /// Whether this reviewer may let the work go on as a decision has it.
    pub(super) fn permits(
        &self,
        reviewer: &Name,
        decision: &Decision,
        context: &Context<'_>,
    ) -> Result<(), Refused> {
        let permission = self.judge.may_approve(
            context.directory,
            &ReviewRequest {
                reviewer,
                queue: self.queue,
                edited: self.edited,
                tenant: self.tenant,
                agent: self.agent,
                // What would run nowhere known is taken for what leaves.
                lane: decision.destination.as_ref().map_or(Lane::Cloud, |place| place.lane),
                sensitivity: decision.labels.sensitivity,
                stakes: decision.labels.stakes,
            },
        );
        if permission.allowed {
            return Ok(());
        }
        let why = match permission.policies.as_slice() {
            [] => "no policy of the bundle permits it to this reviewer".to_owned(),
            policies => format!("forbidden by {}", policies.join(", ")),
        };
        Err(Refused::new(Code::PolicyDenied, format!("the verdict is not permitted: {why}")))
    }
}

/// Whether an approval of work that went to a place stands for sending it again: by itself the task would be held for that place
/// and none other, as it was described and in the form that was agreed to, in the queue that agreed, for no more reviewers than did;
/// each of these may agree to it now; and with the approval it goes there.
pub(super) fn stands(
    approval: &Approval,
    sent: &Decision,
    (would, will): (&Decision, &Decision),
    task: &Task,
    context: &Context<'_>,
) -> bool {
    let Some(queue) = approval.queue.as_ref().filter(|queue| **queue == dispatch::queue(would)) else {
        return false;
    };
    let there =
        |decision: &Decision| decision.destination.is_some() && decision.destination == sent.destination;
    let (tenant, agent) = (&task.tenant, &task.agent);
    let asked = Asked { judge: context.bench.of(task), queue, edited: approval.edited, tenant, agent };
    let all = || std::iter::once(&approval.reviewer).chain(&approval.others);
    would.outcome == Outcome::Hold
        && there(would)
        && there(will)
        && would.prompt == sent.prompt
        && would.terms().is_some_and(|terms| approval.terms == Some(terms))
        && usize::from(quorum(would)) <= all().count()
        && all().all(|reviewer| asked.permits(reviewer, would, context).is_ok())
}

/// How many must approve.
pub(super) fn quorum(decision: &Decision) -> u8 {
    let asked = decision.obligations.iter().filter_map(|obligation| match obligation {
        Obligation::Review { quorum, .. } => Some(*quorum),
        Obligation::CostCap { .. } => None,
    });
    asked.max().unwrap_or(1)
}

/// The decision that goes with a message.
pub(super) fn decision_of(message: &Message) -> Option<Decision> {
    serde_json::from_str(message.headers.get(header::DECISION)?).ok()
}
