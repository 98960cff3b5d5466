//! The suite: every question about a bundle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cedar_policy::Policy;
use tidegate_policies::{Bundle, Judge, cases};
use tidegate_schemas::decision::Considering;

use crate::ask::{self, Question};
use crate::solver::{NotProven, Session, Solver};
use crate::witness::Counterexample;
use crate::world::World;
use crate::{ProveError, pool};

/// What came of a question.
#[derive(Debug)]
pub enum Verdict {
    /// It holds, for every request that there can be.
    Proven,
    /// It does not hold.
    Refuted {
        /// What is wrong, in words.
        why: String,
        /// A request for which it does not hold, where it is about requests.
        counterexample: Option<Box<Counterexample>>,
    },
    /// Nobody knows.
    NotProven(NotProven),
}

/// A question and what came of it.
#[derive(Debug)]
pub struct Finding {
    /// The property's id; `never-fails:<policy>` and `applies:<policy>` are asked of every bundle.
    pub id: String,
    /// What it says.
    pub title: String,
    /// Whom to ask about it.
    pub owner: String,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

impl Verdict {
    pub(crate) fn refuted(counterexample: Counterexample) -> Self {
        Self::Refuted {
            why: counterexample.confirmed.clone(),
            counterexample: Some(Box::new(counterexample)),
        }
    }
}

/// Proves what a bundle says of itself, and what is asked of every bundle. `tell` hears of each finding as it comes, with how
/// many there are and will be. Where `only` names questions, the others are left out.
///
/// # Errors
/// [`ProveError`] when the bundle cannot be asked about at all, or when `only` names nothing.
pub fn prove(
    bundle: &Arc<Bundle>,
    solver: &Solver,
    only: &[String],
    tell: &(dyn Fn(&Finding, usize, usize) + Sync),
) -> Result<Vec<Finding>, ProveError> {
    let world = World::new(Arc::clone(bundle))?;
    let mut questions = questions(&world);
    if !only.is_empty() {
        questions.retain(|question| only.contains(&question.id()));
    }
    if let Some(unknown) = only.iter().find(|id| !questions.iter().any(|question| question.id() == **id)) {
        return Err(ProveError::Unknown(unknown.clone()));
    }
    let shown = shown(bundle)?;
    let (all, done) = (questions.len(), AtomicUsize::new(0));
    Ok(pool::each(solver, questions, |session, question| {
        let finding = find(&world, &shown, session, question);
        tell(&finding, done.fetch_add(1, Ordering::Relaxed) + 1, all);
        finding
    }))
}

fn questions(world: &World) -> Vec<Question<'_>> {
    let own = world.bundle.properties().iter().map(Question::Holds);
    let fails = world.policies.iter().map(Question::NeverFails);
    own.chain(fails).chain(world.policies.iter().map(Question::Applies)).collect()
}

/// Policies that one of the bundle's own cases shows to apply: each of these is an example, and none has to be looked for.
fn shown(bundle: &Arc<Bundle>) -> Result<BTreeSet<String>, ProveError> {
    let mut ids = BTreeSet::new();
    for ran in cases::run(&Judge::new(Arc::clone(bundle))?) {
        ids.extend(ran.permission.into_iter().flat_map(|permission| permission.policies));
        let Some(decision) = ran.decision else { continue };
        let asked = decision.considered.into_iter().filter(|seen| seen.verdict != Considering::Errored);
        ids.extend(asked.flat_map(|seen| seen.policies));
    }
    Ok(ids)
}

fn find(
    world: &World,
    shown: &BTreeSet<String>,
    session: Result<&mut Session, NotProven>,
    question: Question<'_>,
) -> Finding {
    let started = Instant::now();
    let verdict = match session {
        Ok(_) if matches!(question, Question::Applies(policy) if shown.contains(&policy.id().to_string())) => {
            Verdict::Proven
        }
        Ok(session) => ask::answer(world, session, question),
        Err(error) => Verdict::NotProven(error),
    };
    let took = started.elapsed();
    let of = |policy: &Policy| {
        world.bundle.annotation(policy.id().as_ref(), "owner").unwrap_or_default().to_owned()
    };
    let (title, owner) = match question {
        Question::Holds(property) => (property.title.clone(), property.owner.clone()),
        Question::NeverFails(policy) => ("the policy evaluates on every request".to_owned(), of(policy)),
        Question::Applies(policy) => {
            ("there are requests to which the policy applies".to_owned(), of(policy))
        }
    };
    Finding { id: question.id(), title, owner, verdict, took }
}

impl Question<'_> {
    fn id(&self) -> String {
        match self {
            Self::Holds(property) => property.id.clone(),
            Self::NeverFails(policy) => format!("never-fails:{}", policy.id()),
            Self::Applies(policy) => format!("applies:{}", policy.id()),
        }
    }
}
