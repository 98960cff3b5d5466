//! A verdict: a reviewer decided. It binds the exact payload that was held, and the first verdict of a review stands.
//! Where a policy wants several reviewers to approve, each takes one place of the review, and the last one's word decides.

use jiff::SignedDuration;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::control::{agreement_key, review_key};
use tidegate_schemas::decision::{Approval, Decision, Outcome, Terms};
use tidegate_schemas::header;
use tidegate_schemas::ids::Name;
use tidegate_schemas::json;
use tidegate_schemas::limits::{MESSAGE_BYTES_MAX, REASON_BYTES_MAX};
use tidegate_schemas::result::{State, TaskResult};
use tidegate_schemas::review::{Action as Word, Review, Verdict};
use tidegate_schemas::scan::ModelScan;
use tidegate_schemas::subject::{Lane, Subject};
use tidegate_schemas::task::{Again, Task};
use tidegate_schemas::trace::TraceParent;
use tidegate_schemas::work::Hop;

use super::agreement::{Asked, decision_of, quorum};
use super::context::{Context, Earlier};
use super::dispatch::{self, Coming};
use super::{Action, Disposition, Event, Message, Place, Sent, Step, Stored, Telling, outgoing, scan};

#[derive(Debug)]
pub(super) enum Stage {
    Review(Given),
    Claim(Box<Message>, Vec<Telling>),
    Task(Given, Box<Review>),
    /// One of several approves, and takes a place.
    Agree(Box<Agreeing>),
    Sent(Vec<Telling>),
    Over,
}

/// An approval that takes a place among those that are asked for.
#[derive(Debug)]
pub(super) struct Agreeing {
    given: Given,
    review: Review,
    held: Stored,
    place: u8,
    /// Who has the places before.
    others: Vec<Name>,
}

/// A verdict that was given by somebody who may.
#[derive(Debug)]
pub(super) struct Given {
    verdict: Verdict,
    queue: Name,
    tenant: Name,
    reviewer: Name,
    /// Trace context of the review.
    trace: Option<TraceParent>,
}

pub(super) fn begin(
    message: &Stored,
    queue: Name,
    tenant: Name,
    reviewer: Name,
    context: &Context<'_>,
) -> (Stage, Step) {
    let verdict = match json::read::<Verdict>(&message.payload, MESSAGE_BYTES_MAX) {
        Ok(verdict) => verdict,
        Err(refused) => return (Stage::Over, Step::dead(refused.code, "the verdict is malformed")),
    };
    let reason = verdict.reason.expose();
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        return (Stage::Over, Step::dead(Code::InvalidField, "a verdict needs a reason of 1 to 2,000 bytes"));
    }
    if !context.directory.reviewers.get(&reviewer).is_some_and(|known| known.queues.contains(&queue)) {
        return (
            Stage::Over,
            Step::dead(Code::UnknownPrincipal, "the directory gives this reviewer no such queue"),
        );
    }
    let load = Action::Load(vec![Place::At(verdict.review.clone())]);
    (Stage::Review(Given { verdict, queue, tenant, reviewer, trace: None }), Step::new(load))
}

pub(super) fn next(stage: &mut Stage, message: &Stored, event: Event, context: &Context<'_>) -> Step {
    let (then, step) = match (std::mem::replace(stage, Stage::Over), event) {
        (Stage::Review(mut given), Event::Loaded(found)) => {
            let review = found.into_iter().next().flatten();
            given.trace = review
                .as_ref()
                .and_then(|r| r.headers.get(header::TRACEPARENT))
                .and_then(|text| text.parse().ok());
            match review.ok_or("the review is not there").and_then(|r| held(&given, &r)) {
                Ok(review) if context.now > review.review_by => (
                    Stage::Over,
                    Step::dead(Code::ReviewExpired, "the verdict came after the review had expired"),
                ),
                Ok(review) => {
                    let load = Action::Load(vec![Place::At(review.held.clone())]);
                    (Stage::Task(given, Box::new(review)), Step::new(load))
                }
                Err(sentence) => (Stage::Over, Step::dead(Code::Unattributable, sentence)),
            }
        }
        (Stage::Claim(sent, tell), Event::Claimed { holder }) => {
            if holder == message.position.to_string() {
                (Stage::Sent(tell), Step::new(Action::Send(*sent)))
            } else {
                (Stage::Over, Step::dead(Code::IdConflict, "another verdict of this review came first"))
            }
        }
        (Stage::Task(given, review), Event::Loaded(found)) => match found.into_iter().next().flatten() {
            Some(held) => looked_at(given, *review, held, message, context),
            None => (Stage::Over, Step::dead(Code::InvalidField, "the held task is not there any more")),
        },
        (Stage::Agree(agreeing), Event::Claimed { holder }) => agree(*agreeing, &holder, message, context),
        (Stage::Sent(tell), Event::Sent(Sent::Stored(_))) => (Stage::Over, Step::ack().telling(tell)),
        (Stage::Sent(_), Event::Sent(_)) => (Stage::Over, Step::ack()),
        _ => (Stage::Over, Step::dead(Code::Internal, "an answer came out of turn")),
    };
    *stage = then;
    step
}

type Next = (Stage, Step);

/// The held task is at hand: the verdict decides, or takes a place among those that are asked for.
fn looked_at(given: Given, review: Review, held: Stored, message: &Stored, context: &Context<'_>) -> Next {
    if !matches!(given.verdict.action, Word::Reject)
        && let Err(refused) = permitted(&given, &given.reviewer, &review, &review.decision, &held, context)
    {
        return dead(refused);
    }
    let asked = quorum(&review.decision);
    match &given.verdict.action {
        Word::Approve if asked > 1 => {
            // What can lead nowhere takes no place.
            match decide(&given, &review, &held, Vec::new(), message, context) {
                Ok(_) => Agreeing { given, review, held, place: 1, others: Vec::new() }.claim(message),
                Err(refused) => dead(refused),
            }
        }
        Word::Edit { .. } if asked > 1 => dead(invalid(
            "several must agree to the same text, so an edit decides nothing; reject it instead",
        )),
        _ => match decide(&given, &review, &held, Vec::new(), message, context) {
            Ok((sent, tell)) => claim(&given, sent, tell, message),
            Err(refused) => dead(refused),
        },
    }
}

fn dead(refused: Refused) -> Next {
    (Stage::Over, Step::new(Action::Done(Disposition::Dead(refused))))
}

fn invalid(sentence: &str) -> Refused {
    Refused::new(Code::InvalidField, sentence)
}

/// Takes the review itself, only once it is known what follows: a verdict that leads nowhere must not keep the next one out.
fn claim(given: &Given, sent: Message, tell: Vec<Telling>, message: &Stored) -> Next {
    let (key, value) = (review_key(given.verdict.review.sequence), message.position.to_string());
    (Stage::Claim(Box::new(sent), tell), Step::new(Action::Claim { key, value }))
}

impl Agreeing {
    fn claim(self, message: &Stored) -> Next {
        let key = agreement_key(self.given.verdict.review.sequence, self.place);
        let value = format!("{} {}", message.position, self.given.reviewer);
        (Stage::Agree(Box::new(self)), Step::new(Action::Claim { key, value }))
    }
}

/// Who has the place: this verdict, the same reviewer by another one, or somebody else, and then the next place is tried.
/// Places are taken in order, so a reviewer who has one is met before a second could be taken. Where all are taken whoever may
/// approve can end it: the one who took the last place may have died before that.
fn agree(agreeing: Agreeing, holder: &str, message: &Stored, context: &Context<'_>) -> Next {
    let Some(reviewer) = holder.split_once(' ').and_then(|(_, name)| Name::new(name).ok()) else {
        return dead(Refused::new(Code::Internal, "a place of the review is held by nobody known"));
    };
    let mut agreeing = agreeing;
    let asked = quorum(&agreeing.review.decision);
    if reviewer == agreeing.given.reviewer {
        if agreeing.place < asked {
            // Others have yet to agree; the review waits on.
            return (Stage::Over, Step::ack());
        }
    } else {
        agreeing.others.push(reviewer);
        if agreeing.place < asked {
            agreeing.place += 1;
            return agreeing.claim(message);
        }
    }
    let Agreeing { given, review, held, mut others, .. } = agreeing;
    // Who agreed before and may not any more does not count.
    others.retain(|other| permitted(&given, other, &review, &review.decision, &held, context).is_ok());
    if others.len() + 1 < usize::from(asked) {
        return dead(invalid(
            "somebody who approved before may not any more; reject it, and let it be submitted again",
        ));
    }
    match decide(&given, &review, &held, others, message, context) {
        Ok((sent, tell)) => claim(&given, sent, tell, message),
        Err(refused) => dead(refused),
    }
}

/// Whether the bundle that decides about the task lets this reviewer let the work go on as a decision has it.
fn permitted(
    given: &Given,
    reviewer: &Name,
    review: &Review,
    decision: &Decision,
    held: &Stored,
    context: &Context<'_>,
) -> Result<(), Refused> {
    // What cannot be read leads nowhere, whoever permits it.
    let judge = reread(held, &held.payload).map_or(context.bench.active, |task| context.bench.of(&task));
    let edited = matches!(given.verdict.action, Word::Edit { .. });
    let asked = Asked { judge, queue: &given.queue, edited, tenant: &given.tenant, agent: &review.agent };
    asked.permits(reviewer, decision, context)
}

/// The review that the verdict is about: of the same queue and tenant, and of the digest that the reviewer saw.
fn held(given: &Given, stored: &Stored) -> Result<Review, &'static str> {
    let of = Subject::Review { queue: given.queue.clone(), tenant: given.tenant.clone() };
    if stored.subject != of.to_string() {
        return Err("the verdict names no review of its queue and tenant");
    }
    let review: Review =
        json::read(&stored.payload, MESSAGE_BYTES_MAX).map_err(|_| "the review is malformed")?;
    if review.content != given.verdict.content {
        return Err("the verdict is about another payload than the one held");
    }
    if review.agent == given.reviewer {
        return Err("who asks cannot decide");
    }
    Ok(review)
}

/// What follows. An agreement is for the place as it was described, the form in which the task would leave, the queue, the number
/// of reviewers and the version of the prompt of the review: where the task would now be held for another it is held again, and where nothing holds it any more nobody needs to agree.
fn decide(
    given: &Given,
    review: &Review,
    stored: &Stored,
    others: Vec<Name>,
    message: &Stored,
    context: &Context<'_>,
) -> Result<(Message, Vec<Telling>), Refused> {
    if review.salt.digest(&stored.payload) != review.content {
        return Err(invalid("the held task is not what the reviewer saw"));
    }
    let mut original =
        reread(stored, &stored.payload).ok_or_else(|| invalid("the held task cannot be read"))?;
    original.trace = given.trace.or(original.trace);
    let trace = original.trace;
    let edited = matches!(given.verdict.action, Word::Edit { .. });
    let (mut task, payload) = match &given.verdict.action {
        Word::Reject => return Ok(rejected(&original, review, message, context)),
        Word::Approve => (original, stored.payload.clone()),
        Word::Edit { input, labels } => again(stored, &stored.payload)
            .edited(&original, input.expose(), labels.as_ref())
            .map_err(invalid)?,
    };
    task.trace = trace;
    let left = SignedDuration::from_millis(i64::try_from(review.deadline_left_ms).unwrap_or(0));
    task.limits.deadline =
        context.now.checked_add(left).map_err(|_| invalid("the deadline is out of range"))?;
    let caused = |approval: Option<Approval>| {
        let before = &review.decision.facts;
        let earlier = Earlier {
            hop: before.hop + 1,
            lane_max: before.lane_max,
            tried: before.tried.clone(),
            approval,
            inherited: before.inherited.clone(),
            // What a reviewer wrote no model has read.
            model_scan: match edited {
                true => ModelScan::Closed,
                false => scan::kept(&review.decision, &task, context),
            },
            session: before.session.clone(),
            spent: before.spent.clone(),
            redaction: None,
        };
        let coming = Coming { earlier, ..Coming::default() };
        dispatch::decide(&task, &payload, &message.position, coming, context)
    };
    let alone = caused(None);
    let would = decision_of(&alone.message).filter(|would| would.outcome == Outcome::Hold);
    let Some(would) = would else { return Ok(told(alone)) };
    permitted(given, &given.reviewer, review, &would, stored, context)?;
    // Whoever agreed before is asked about what would run now, too.
    let mut others = others;
    others.retain(|other| permitted(given, other, review, &would, stored, context).is_ok());
    let count = others.len() + 1;
    let agreed = caused(Some(Approval {
        reviewer: given.reviewer.clone(),
        verdict: message.position.to_string(),
        content: review.salt.digest(&payload),
        edited,
        others,
        queue: Some(given.queue.clone()),
        terms: would.terms(),
    }));
    let goes_there = decision_of(&agreed.message).is_some_and(|will| will.destination == would.destination);
    match goes_there && covers(given, review, count, &would, edited) {
        true => Ok(told(agreed)),
        // The text that was edited stands in no message that a review could name.
        false if edited => Err(invalid("as edited it waits for another review; reject it instead")),
        false => Ok(told(alone)),
    }
}

fn told(caused: dispatch::Caused) -> (Message, Vec<Telling>) {
    (caused.message, caused.tell.into_iter().chain(caused.reply).collect())
}

/// Whether what this many reviewers of the queue agreed to is what the task would be held for.
fn covers(given: &Given, review: &Review, count: usize, would: &Decision, edited: bool) -> bool {
    let lane = |decision: &Decision| decision.destination.as_ref().map(|place| place.lane);
    // What does not leave after all needs no more agreement than what would have left.
    let narrower = (lane(&review.decision), lane(would)) == (Some(Lane::Cloud), Some(Lane::Local));
    // Another place may go by the same name. What the reviewer wrote leaves as it was written.
    let alike =
        |before: Terms, now: Terms| before.place == now.place && (edited || before.redacted == now.redacted);
    let same = review.decision.terms().zip(would.terms()).is_some_and(|(before, now)| alike(before, now));
    // What another version of the prompt makes of the task was not seen; what a reviewer wrote in its place was.
    let seen = would.prompt == review.decision.prompt || (edited && would.prompt.is_none());
    (same || narrower) && seen && dispatch::queue(would) == given.queue && usize::from(quorum(would)) <= count
}

fn rejected(
    task: &Task,
    review: &Review,
    message: &Stored,
    context: &Context<'_>,
) -> (Message, Vec<Telling>) {
    let error = outgoing::error_of(Code::ReviewRejected, "a reviewer rejected the task");
    let mut result =
        TaskResult::ended(task.tenant.clone(), task.agent.clone(), task.id, State::Rejected, error)
            .timed(task.submitted, context.now)
            .decided(&review.decision);
    result.external_id = task.external_id.clone();
    let trace = Some(dispatch::trace(task, context));
    let hop = Hop { trace, ..Hop::of(task, review.decision.facts.hop + 1) };
    let sent = outgoing::result(&result, hop.headers(&message.position), Some(&review.decision), "verdict");
    let told = outgoing::state(&task.tenant, &task.agent, task.id, State::Rejected, None);
    let reply = outgoing::reply(&sent, &task.tenant, &task.agent, task.reply.as_ref());
    (sent, std::iter::once(told).chain(reply).collect())
}

/// Reads a task's message again, with this payload.
pub(super) fn reread(stored: &Stored, payload: &[u8]) -> Option<Task> {
    again(stored, payload).read()
}

fn again<'a>(stored: &'a Stored, payload: &'a [u8]) -> Again<'a> {
    let Stored { subject, headers, position, time, .. } = stored;
    Again { subject, headers, payload, position, submitted: *time }
}
