//! From a task to what its decision causes: work, a review, or a rejected result.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tidegate_policies::{DestinationSpec, Judge, Tokens};
use tidegate_schemas::budget::Spent;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::{Considering, Decision, Destination, Obligation, Outcome, Shadow};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::limits::TICKET_LIFE_MS_MAX;
use tidegate_schemas::render;
use tidegate_schemas::result::{ResultError, State, TaskResult};
use tidegate_schemas::review::Review;
use tidegate_schemas::sensitive::Sensitive;
use tidegate_schemas::subject::Subject;
use tidegate_schemas::task::{Input, Kind, Task};
use tidegate_schemas::ticket::Claims;
use tidegate_schemas::trace::TraceParent;
use tidegate_schemas::work::{Hop, LocalWork};

use super::context::{Context, Earlier};
use super::{Message, Telling, elapsed, outgoing, redact, scan};

/// When to come again where no queue's length says it, milliseconds: a quota is counted once a second.
const RETRY_AFTER_MS: u64 = 1_000;
/// Times a ticket lets its payload be sent.
const ATTEMPTS_MAX: u32 = 3;

/// What a decision causes: one message, and what to tell.
#[derive(Debug)]
pub(super) struct Caused {
    pub(super) message: Message,
    pub(super) tell: Vec<Telling>,
    /// Told once the message is stored.
    pub(super) reply: Option<Telling>,
}

impl Caused {
    /// Work. Who takes it up tells that the task is being worked on.
    pub(super) fn work(message: Message) -> Self {
        Self { message, tell: Vec::new(), reply: None }
    }
}

/// Why a task comes to be decided, beside its first time.
#[derive(Debug, Clone, Default)]
pub(super) struct Coming {
    pub(super) earlier: Earlier,
    /// What went wrong before; a task that then finds no destination has failed of that.
    pub(super) failed_of: Option<Code>,
    /// What would leave in the task's stead: its input with tokens.
    pub(super) redacted: Option<Input>,
}

/// Decides, and makes the message that the decision causes. `cause` is the message that brought us here, `payload` the
/// task's exact payload.
pub(super) fn decide(
    task: &Task,
    payload: &[u8],
    cause: &Position,
    coming: Coming,
    context: &Context<'_>,
) -> Caused {
    let hop = Hop { trace: Some(trace(task, context)), ..Hop::of(task, coming.earlier.hop) };
    if context.now >= task.limits.deadline {
        let error = outgoing::error_of(Code::PastDeadline, "the deadline had passed when the task was read");
        return ended(task, &hop, cause, None, State::Failed, error, context);
    }
    let facts = context.facts(task, coming.earlier.clone());
    let judge = context.bench.of(task);
    let asked = task;
    // What is judged, signed and sent is one rendering; what cannot be rendered is rejected by the decision.
    let rendered = judge.rendered(task).unwrap_or(Cow::Borrowed(task));
    let task = rendered.as_ref();
    let mut decision = judge.decide(task, context.directory, &facts);
    // Where a scan comes first, nothing is decided yet that another bundle could differ in.
    let beside_it = context.bench.beside(judge).filter(|_| !scan::is_scan(&decision));
    decision.shadow = beside_it.and_then(|shadow| {
        let decide = || shadow.decide(asked, context.directory, &facts);
        context.bench.within(|| beside(shadow.bundle().hash(), decide))
    });
    let sent = match (decision.outcome, decision.destination.clone()) {
        (Outcome::Local, Some(destination)) => {
            Ok(local(task, &hop, cause, &mut decision, &destination, context))
        }
        (Outcome::Cloud, Some(destination)) => {
            let spec = judge.bundle().destination(&destination.name);
            match redact::as_it_leaves(task, coming.redacted, spec) {
                Ok(task) => cloud(&task, &hop, cause, &mut decision, (&destination, spec), context),
                Err(refused) => Err(refused),
            }
        }
        (Outcome::Redact, Some(_)) => redact::work(task, &hop, cause, &mut decision, judge, context),
        (Outcome::Hold, _) => Ok(hold(task, payload, &hop, cause, &mut decision, context)),
        (Outcome::Reject, _) => {
            let (state, error) = rejection(&decision, coming.failed_of, judge);
            Ok(ended(task, &hop, cause, Some(&decision), state, error, context))
        }
        (Outcome::Local | Outcome::Cloud | Outcome::Redact, None) => {
            Err(Refused::new(Code::JudgeFailed, "the decision names no destination"))
        }
    };
    sent.unwrap_or_else(|refused| {
        let rejected = Decision {
            outcome: Outcome::Reject,
            destination: None,
            content: None,
            code: Some(refused.code),
            sentence: refused.sentence.clone(),
            ..decision
        };
        ended(task, &hop, cause, Some(&rejected), State::Rejected, outgoing::error(&refused), context)
    })
}

/// What the shadow would have decided. Whatever becomes of it, the decision that it stands beside is made already.
pub(super) fn beside(bundle: Digest, decide: impl FnOnce() -> Decision) -> Shadow {
    // A judge is left as it was: it holds nothing that changes but memories, each written whole.
    let decided = catch_unwind(AssertUnwindSafe(decide));
    let failed =
        Shadow { bundle, outcome: Outcome::Reject, destination: None, code: Some(Code::JudgeFailed) };
    decided.map_or(failed, Shadow::from)
}

pub(super) fn trace(task: &Task, context: &Context<'_>) -> TraceParent {
    let random = context.random;
    task.trace.map_or_else(|| TraceParent::root(random.trace, random.span), |trace| trace.child(random.span))
}

/// A rejection; a task that fell back and found nothing else has failed of what went wrong first.
fn rejection(decision: &Decision, failed_of: Option<Code>, judge: &Judge) -> (State, ResultError) {
    let code = decision.code.unwrap_or(Code::PolicyDenied);
    let retry_after_ms = match code {
        Code::Overloaded => Some(retry_after_ms(decision, judge)),
        // No time helps what is more than a whole limit.
        Code::BudgetSpent if Spent::last_for_ever(&decision.facts.spent) => None,
        Code::BudgetSpent => {
            let ends = decision.facts.spent.iter().filter(|spent| !spent.never);
            ends_ms(decision, ends.map(|spent| spent.until))
        }
        Code::ProviderUnavailable => {
            ends_ms(decision, decision.facts.broken.iter().map(|broken| broken.until))
        }
        _ => None,
    };
    let (state, code) = failed_of.map_or((State::Rejected, code), |code| (State::Failed, code));
    (state, ResultError { code, message: decision.sentence.clone(), retry_after_ms })
}

/// The shortest wait among the queues that were too long.
fn retry_after_ms(decision: &Decision, judge: &Judge) -> u64 {
    let full = decision.considered.iter().filter(|other| other.verdict == Considering::Overloaded);
    let specs = full.filter_map(|other| judge.bundle().destination(&other.destination));
    let waits = specs.filter_map(|spec| decision.facts.wait_ms.get(&spec.target)).copied();
    waits.filter(|ms| *ms > 0).min().unwrap_or(RETRY_AFTER_MS)
}

/// The time until the first of these, milliseconds.
fn ends_ms(decision: &Decision, ends: impl Iterator<Item = Timestamp>) -> Option<u64> {
    let left = elapsed(decision.facts.now, ends.min()?).as_millis();
    u64::try_from(left).ok()
}

pub(super) fn step_of(hop: &Hop) -> String {
    format!("hop{}", hop.hop)
}

/// A terminal result of the router's own.
pub(super) fn ended(
    task: &Task,
    hop: &Hop,
    cause: &Position,
    decision: Option<&Decision>,
    state: State,
    error: ResultError,
    context: &Context<'_>,
) -> Caused {
    let mut result = TaskResult::ended(task.tenant.clone(), task.agent.clone(), task.id, state, error)
        .timed(task.submitted, context.now);
    result.external_id = task.external_id.clone();
    if let Some(decision) = decision {
        result = result.decided(decision);
    }
    let mut message = outgoing::result(&result, hop.headers(cause), decision, &step_of(hop));
    message.outcome = decision.map(|d| d.outcome);
    let reply = outgoing::reply(&message, &task.tenant, &task.agent, task.reply.as_ref());
    let tell = vec![outgoing::state(&task.tenant, &task.agent, task.id, state, decision)];
    Caused { message, tell, reply }
}

/// What the local lane is sent of a task.
pub(super) fn local_work(task: &Task, model: &str) -> LocalWork {
    LocalWork { schema_version: 1, kind: task.kind(), model: model.to_owned(), input: task.input.clone() }
}

fn local(
    task: &Task,
    hop: &Hop,
    cause: &Position,
    decision: &mut Decision,
    destination: &Destination,
    context: &Context<'_>,
) -> Caused {
    let payload = outgoing::json(&local_work(task, &destination.model));
    let salt = context.salt();
    decision.content = Some(salt.digest(&payload));
    let headers = hop
        .headers(cause)
        .with(header::DECISION, outgoing::compact(decision))
        .with(header::SALT, String::from(salt));
    let (pool, tenant) = (destination.target.clone(), task.tenant.clone());
    let message = Message {
        msg_id: hop.msg_id(&tenant, &step_of(hop), 0),
        subject: Subject::WorkLocal { pool, class: task.class, tenant }.to_string(),
        headers,
        payload,
        outcome: Some(decision.outcome),
        ticket: None,
    };
    Caused::work(message)
}

fn cloud(
    task: &Task,
    hop: &Hop,
    cause: &Position,
    decision: &mut Decision,
    (destination, spec): (&Destination, Option<&DestinationSpec>),
    context: &Context<'_>,
) -> Result<Caused, Refused> {
    let closed = || Refused::new(Code::LaneOff, "the cloud lane is closed: no ticket can be signed");
    if !context.signs {
        return Err(closed());
    }
    let spec = spec.ok_or_else(closed)?;
    let rendered = render::render(spec.dialect(), &destination.model, &task.input)?;
    let salt = context.salt();
    decision.content = Some(salt.digest(&rendered.bytes));
    let claims = claims(task, decision, destination, spec, &rendered, context)?;
    let headers = hop
        .headers(cause)
        .with(header::DECISION, outgoing::compact(decision))
        .with(header::OUTPUT, output_form(task.kind()))
        .with(header::SALT, String::from(salt));
    let budgets = context.directory.budgets_at(&task.tenant, &task.agent, &destination.target);
    let headers = match budgets.as_slice() {
        [] => headers,
        some => headers.with(header::BUDGETS, serde_json::to_string(some).unwrap_or_default()),
    };
    let (provider, tenant) = (destination.target.clone(), task.tenant.clone());
    let message = Message {
        msg_id: hop.msg_id(&tenant, &step_of(hop), 0),
        subject: Subject::WorkCloud { provider, class: task.class, tenant }.to_string(),
        headers,
        payload: Bytes::from(rendered.bytes),
        outcome: Some(decision.outcome),
        ticket: Some(Box::new(claims)),
    };
    Ok(Caused::work(message))
}

fn output_form(kind: Kind) -> &'static str {
    match kind {
        Kind::Chat | Kind::Embed => "text",
        Kind::Extract => "json",
        Kind::Classify => "class",
    }
}

fn claims(
    task: &Task,
    decision: &Decision,
    destination: &Destination,
    spec: &DestinationSpec,
    rendered: &render::Rendered,
    context: &Context<'_>,
) -> Result<Claims, Refused> {
    let capped = decision.obligations.iter().find_map(|obligation| match obligation {
        Obligation::CostCap { usd_micros_max } => Some(*usd_micros_max),
        Obligation::Review { .. } => None,
    });
    let life = SignedDuration::from_millis(TICKET_LIFE_MS_MAX);
    let expires =
        context.now.checked_add(life).map_err(|_| Refused::new(Code::Internal, "the clock is off"))?;
    let cap = [capped, task.limits.cost_usd_micros_max].into_iter().flatten().min();
    let content =
        decision.content.ok_or_else(|| Refused::new(Code::Internal, "the decision binds no bytes"))?;
    Ok(Claims {
        version: 1,
        id: context.random.ticket,
        audience: context.cell.to_owned(),
        tenant: task.tenant.clone(),
        agent: task.agent.clone(),
        task: task.id,
        decision: decision.id,
        bundle: decision.bundle,
        directory: context.directory_hash,
        content,
        content_bytes: rendered.bytes.len() as u64,
        provider: destination.target.clone(),
        model: destination.model.clone(),
        region: destination.region.clone(),
        base_url: spec.base_url.clone().unwrap_or_else(|| destination.target.clone()),
        attempts_max: attempts_max(cap, spec.cost_usd_micros(Tokens::of(&task.input))),
        output_tokens_max: rendered.output_tokens_max,
        cost_usd_micros_max: cap,
        not_before: context.now,
        expires,
        deadline: task.limits.deadline,
    })
}

/// How often the payload may be sent: as often as the cap pays for, should each attempt cost the most that it can.
fn attempts_max(cap: Option<u64>, each: u64) -> u32 {
    let paid = cap
        .and_then(|cap| cap.checked_div(each))
        .map_or(ATTEMPTS_MAX, |times| u32::try_from(times).unwrap_or(ATTEMPTS_MAX));
    // The judge has looked at one attempt's cost.
    paid.clamp(1, ATTEMPTS_MAX)
}

fn hold(
    task: &Task,
    payload: &[u8],
    hop: &Hop,
    cause: &Position,
    decision: &mut Decision,
    context: &Context<'_>,
) -> Caused {
    let salt = context.salt();
    decision.content = Some(salt.digest(payload));
    let left = elapsed(context.now, task.limits.deadline).as_millis();
    // By the bundle that holds it.
    let ms = context.bench.of(task).bundle().manifest().review_ms();
    let by = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    let review = Review {
        schema_version: 1,
        task: task.id,
        agent: task.agent.clone(),
        held: task.position.clone(),
        content: salt.digest(payload),
        salt,
        review_by: context.now.checked_add(by).unwrap_or(task.limits.deadline),
        deadline_left_ms: u64::try_from(left).unwrap_or(0),
        rendered: task
            .by_prompt
            .as_ref()
            .and_then(|_| serde_json::to_value(&task.input).ok())
            .map(Sensitive::new),
        decision: decision.clone(),
    };
    let headers = hop.headers(cause).with(header::DECISION, outgoing::compact(decision));
    let tenant = task.tenant.clone();
    let message = Message {
        msg_id: hop.msg_id(&tenant, &step_of(hop), 0),
        subject: Subject::Review { queue: queue(decision), tenant }.to_string(),
        headers,
        payload: outgoing::json(&review),
        outcome: Some(decision.outcome),
        ticket: None,
    };
    let tell =
        vec![outgoing::state(&task.tenant, &task.agent, task.id, State::InputRequired, Some(decision))];
    Caused { message, tell, reply: None }
}

pub(super) fn queue(decision: &Decision) -> Name {
    let named = decision.obligations.iter().find_map(|obligation| match obligation {
        Obligation::Review { queue, .. } => Some(queue.clone()),
        Obligation::CostCap { .. } => None,
    });
    named.unwrap_or_else(default_queue)
}

#[expect(clippy::expect_used, reason = "a constant that is a name")]
fn default_queue() -> Name {
    Name::new("default").expect("a name")
}
