//! A step: work came back. The router follows its cause to the work that it once sent, from there to the task, and decides
//! anew: stricter or the same, never wider.

use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Approval, Decision, Outcome};
use tidegate_schemas::digest::Salt;
use tidegate_schemas::header;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::json;
use tidegate_schemas::limits::{HOPS_MAX, MESSAGE_BYTES_MAX};
use tidegate_schemas::redact::Token;
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::step::{Step as StepWire, StepReason};
use tidegate_schemas::subject::{Lane, Subject};
use tidegate_schemas::task::Task;
use tidegate_schemas::trace::TraceParent;
use tidegate_schemas::work::Hop;

use super::agreement::{self, decision_of};
use super::context::{Context, Earlier};
use super::dispatch::{self, Coming};
use super::scan;
use super::verdict::reread;
use super::{Action, Disposition, Event, Place, Sent, Step, Stored, Telling, outgoing, redact};

#[derive(Debug)]
pub(super) enum Stage {
    Work(Box<StepWire>, Lane, Name),
    Task(Box<Returned>),
    Sent(Vec<Telling>),
    Over,
}

/// Work that came back, with what its headers say.
#[derive(Debug)]
pub(super) struct Returned {
    step: StepWire,
    hop: Hop,
    decision: Decision,
    salt: Option<Salt>,
    lane: Lane,
    tenant: Name,
    /// Tokens in the bytes that left, where a provider's answer is to be restored.
    tokens: Vec<Token>,
}

pub(super) fn begin(message: &Stored, lane: Lane, tenant: Name) -> (Stage, Step) {
    let cause: Option<Position> = message.headers.get(header::CAUSE).and_then(|text| text.parse().ok());
    match (json::read::<StepWire>(&message.payload, MESSAGE_BYTES_MAX), cause) {
        (Ok(step), Some(cause)) => {
            (Stage::Work(Box::new(step), lane, tenant), Step::new(Action::Load(vec![Place::At(cause)])))
        }
        (Err(refused), _) => (Stage::Over, Step::dead(refused.code, "the step is malformed")),
        (_, None) => (Stage::Over, Step::dead(Code::Unattributable, "the step names no cause")),
    }
}

pub(super) fn next(stage: &mut Stage, message: &Stored, event: Event, context: &Context<'_>) -> Step {
    let (then, step) = match (std::mem::replace(stage, Stage::Over), event) {
        (Stage::Work(step, lane, tenant), Event::Loaded(found)) => {
            match found.into_iter().next().flatten().and_then(|work| returned(*step, &work, lane, &tenant)) {
                Some(returned) => {
                    let load = Action::Load(vec![Place::At(returned.hop.task.clone())]);
                    (Stage::Task(Box::new(returned)), Step::new(load))
                }
                None => (
                    Stage::Over,
                    Step::dead(Code::Unattributable, "the step's cause is no work of this lane"),
                ),
            }
        }
        (Stage::Task(returned), Event::Loaded(found)) => match found.into_iter().next().flatten() {
            Some(task) => again(&returned, &task, message, context),
            None => (Stage::Over, Step::dead(Code::Unattributable, "the step's task is not there any more")),
        },
        (Stage::Sent(tell), Event::Sent(Sent::Stored(_))) => (Stage::Over, Step::ack().telling(tell)),
        // Decided before we were stopped, or ended meanwhile.
        (Stage::Sent(_), Event::Sent(_)) => (Stage::Over, Step::ack()),
        _ => (Stage::Over, Step::dead(Code::Internal, "an answer came out of turn")),
    };
    *stage = then;
    step
}

/// Takes from the work message, which only the router can have published, what the worker is not trusted to say.
fn returned(step: StepWire, work: &Stored, lane: Lane, tenant: &Name) -> Option<Returned> {
    let of = match Subject::parse(&work.subject).ok()? {
        Subject::WorkLocal { tenant, .. } => (Lane::Local, tenant),
        Subject::WorkCloud { tenant, .. } => (Lane::Cloud, tenant),
        _ => return None,
    };
    if of != (lane, tenant.clone()) {
        return None;
    }
    let hop = Hop::read(&work.headers).ok()?;
    let decision: Decision = serde_json::from_str(work.headers.get(header::DECISION)?).ok()?;
    let salt = work.headers.get(header::SALT).and_then(|text| Salt::try_from(text.to_owned()).ok());
    let mut tokens = Vec::new();
    match &step.reason {
        // Only what leaves is counted.
        StepReason::Spent { .. } if lane != Lane::Cloud => return None,
        // Only what was sent to be redacted comes back so.
        StepReason::Redacted { .. } if decision.outcome != Outcome::Redact => return None,
        StepReason::Restore { .. } if lane != Lane::Cloud || decision.facts.redaction.is_none() => {
            return None;
        }
        StepReason::Restore { .. } => tokens = redact::tokens_of(&work.payload),
        _ => {}
    }
    Some(Returned { step, hop, decision, salt, lane, tenant: tenant.clone(), tokens })
}

fn again(returned: &Returned, stored: &Stored, message: &Stored, context: &Context<'_>) -> (Stage, Step) {
    let Some(mut task) = reread(stored, &stored.payload) else {
        return (Stage::Over, Step::dead(Code::Unattributable, "the step's task cannot be read"));
    };
    if task.id != returned.hop.id || task.tenant != returned.tenant {
        return (Stage::Over, Step::dead(Code::Unattributable, "the step's task is another one"));
    }
    task.limits.deadline = returned.hop.deadline;
    task.trace = traced(returned, message).or(task.trace);
    if let StepReason::Restore { result } = &returned.step.reason {
        return restore(returned, result, &task, message, context);
    }
    let mut tried = returned.decision.facts.tried.clone();
    let mut failed_of = None;
    match &returned.step.reason {
        // Nothing was tried where it would run.
        _ if scan::is_scan(&returned.decision) => {}
        StepReason::Fallback { code } => {
            tried.extend(returned.decision.destination.as_ref().map(|d| d.name.clone()));
            failed_of = Some(*code);
        }
        StepReason::Expired
        | StepReason::Off
        | StepReason::Spent { .. }
        | StepReason::Scanned { .. }
        | StepReason::ScanFailed { .. }
        | StepReason::Redacted { .. }
        | StepReason::Restore { .. } => {}
    }
    let hop = returned.hop.hop + 1;
    if hop > HOPS_MAX {
        failed_of = Some(failed_of.unwrap_or(Code::ProviderUnavailable));
        tried.extend(context.bench.of(&task).bundle().destinations().iter().map(|d| d.name.clone()));
    }
    let before = &returned.decision.facts;
    let mut earlier = Earlier {
        hop,
        lane_max: lane_max(returned),
        tried,
        approval: None,
        inherited: before.inherited.clone(),
        model_scan: scan::after(
            &returned.step.reason,
            returned.lane,
            &returned.decision,
            returned.salt.as_ref(),
            &task,
            context,
        ),
        session: before.session.clone(),
        spent: before.spent.clone(),
        redaction: None,
    };
    if let StepReason::Spent { budget } = &returned.step.reason {
        earlier.spent.push(budget.clone());
    }
    let mut redacted = None;
    let mut approval = may_stand(returned);
    if let StepReason::Redacted { input, spans, by_model, .. } = &returned.step.reason {
        // The way through the local lane narrows nothing; what comes back as something else stays there.
        let came = (input, spans.as_slice(), by_model.as_ref());
        match redact::look(came, &task, &returned.decision, context.bench.of(&task)) {
            redact::Looked::Redacted(redaction) => {
                earlier.lane_max = before.lane_max;
                earlier.model_scan = scan::read_again(earlier.model_scan, by_model.as_ref());
                earlier.redaction = Some(redaction);
                approval.clone_from(&before.approval);
                redacted = Some(input.clone());
            }
            redact::Looked::Outdated => earlier.lane_max = before.lane_max,
            redact::Looked::Foreign => failed_of = Some(failed_of.unwrap_or(Code::Unattributable)),
        }
    }
    let caused = |approval: Option<Approval>| {
        let earlier = Earlier { approval, ..earlier.clone() };
        let coming = Coming { earlier, failed_of, redacted: redacted.clone() };
        dispatch::decide(&task, &stored.payload, &message.position, coming, context)
    };
    let alone = caused(None);
    let caused = match approval {
        None => alone,
        Some(approval) => {
            let agreed = caused(Some(approval.clone()));
            let both = decision_of(&alone.message).zip(decision_of(&agreed.message));
            let stands = both.is_some_and(|(would, will)| {
                agreement::stands(&approval, &returned.decision, (&would, &will), &task, context)
            });
            if stands { agreed } else { alone }
        }
    };
    let tell = caused.tell.into_iter().chain(caused.reply).collect();
    (Stage::Sent(tell), Step::new(Action::Send(caused.message)))
}

/// A provider's answer goes to the pool that puts values back.
fn restore(
    returned: &Returned,
    result: &TaskResult,
    task: &Task,
    message: &Stored,
    context: &Context<'_>,
) -> (Stage, Step) {
    let hop = Hop { trace: Some(dispatch::trace(task, context)), ..returned.hop.clone() };
    let (of, tokens) = ((&hop, &returned.decision), returned.tokens.clone());
    match redact::restoring(result.clone(), task, of, tokens, &message.position) {
        Ok(caused) => (Stage::Sent(caused.tell), Step::new(Action::Send(caused.message))),
        // It is paid for, and cannot be told: the task ends now and not at its deadline.
        Err(refused) if refused.code == Code::TooLarge => {
            let (cause, error) = (&message.position, outgoing::error(&refused));
            let caused =
                dispatch::ended(task, &hop, cause, Some(&returned.decision), State::Failed, error, context);
            (Stage::Sent(caused.tell), Step::new(Action::Send(caused.message)))
        }
        Err(refused) => (Stage::Over, Step::new(Action::Done(Disposition::Dead(refused)))),
    }
}

/// The trace goes on from the worker's span, as long as that is of the trace that the router gave it.
fn traced(returned: &Returned, message: &Stored) -> Option<TraceParent> {
    let given = returned.hop.trace?;
    let theirs = message.headers.get(header::TRACEPARENT).and_then(|text| text.parse::<TraceParent>().ok());
    Some(theirs.filter(|theirs| theirs.trace_id() == given.trace_id()).unwrap_or(given))
}

/// A person agreed to one payload at one destination. What is judged here is what the producer sent, so an edit's approval is
/// no word about it; and where the destination failed or is off, another one was never agreed to. These are held again, as is what
/// [`agreement::stands`] finds to be something else than what was agreed to.
fn may_stand(returned: &Returned) -> Option<Approval> {
    let expired = matches!(returned.step.reason, StepReason::Expired);
    returned.decision.facts.approval.clone().filter(|approval| expired && !approval.edited)
}

/// A task that ran on a lane goes on to no wider one. One that was scanned has not run: it is decided for the first time.
fn lane_max(returned: &Returned) -> Option<Lane> {
    let before = returned.decision.facts.lane_max;
    if scan::is_scan(&returned.decision) { before } else { Some(narrower(before, returned.lane)) }
}

fn narrower(before: Option<Lane>, lane: Lane) -> Lane {
    before.map_or(lane, |before| before.min(lane))
}
