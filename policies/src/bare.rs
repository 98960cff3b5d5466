//! The bare authoriser: on a task's own requests, which no decision can cost less than, and with the whole set of policies, which the
//! judge's quicker ways must agree with. It decides nothing.

use std::sync::Arc;

use cedar_policy::{PolicySet, Request};
use tidegate_schemas::decision::{Considering, Facts};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::task::Task;

use crate::BundleError;
use crate::engine::{Answers, Question, Seat, route};
use crate::judge::Judge;

/// The requests of one decision, made beforehand.
pub struct Bare<'a> {
    judge: &'a Judge,
    seat: Arc<Seat>,
    asked: Vec<(Question, usize, Request)>,
}

// === impl Bare ===

impl<'a> Bare<'a> {
    /// What deciding this task asks: each destination that can, and the review of the chosen one.
    pub(crate) fn new(judge: &'a Judge, task: &Task, directory: &Directory, facts: &Facts) -> Option<Self> {
        let decision = judge.decide(task, directory, facts);
        let (seat, context) = judge.prepared(task, directory, facts)?;
        let mut asked = Vec::new();
        let specs = judge.bundle().destinations();
        for (place, (spec, considered)) in specs.iter().zip(&decision.considered).enumerate() {
            if considered.verdict == Considering::Incapable {
                continue;
            }
            let review = (considered.verdict == Considering::Chosen).then_some(Question::SkipReview);
            for question in [Some(route(spec)), review].into_iter().flatten() {
                asked.push((question, place, judge.engine().request(&seat, question, place, &context)?));
            }
        }
        Some(Self { judge, seat, asked })
    }

    /// How many requests there are.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.asked.len()
    }

    /// Asks all of them, and counts what is permitted.
    #[must_use]
    pub fn authorise(&self) -> usize {
        let permits = |(question, place, request): &&(Question, usize, Request)| {
            self.judge.engine().permits(&self.seat, *question, *place, request)
        };
        self.asked.iter().filter(permits).count()
    }
}

/// Every policy and link of a bundle in one set, as Cedar's own authoriser is asked.
pub struct Plain(PolicySet);

/// What came of comparing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Requests: each question about each destination.
    pub requests: usize,
    /// Of those, answered by the judge from residuals or memory.
    pub quick: usize,
    /// Requests that are answered otherwise: permitted or not, failed or not, or by other policies.
    pub differences: Vec<String>,
}

// === impl Plain ===

impl Plain {
    /// All that a judge's bundle says.
    ///
    /// # Errors
    /// [`BundleError`] when the set cannot be made; one that was read can.
    pub fn new(judge: &Judge) -> Result<Self, BundleError> {
        judge.engine().whole().map(Self)
    }

    /// Asks everything that can be asked about a task, of the judge and of the whole set.
    pub fn compare(
        &self,
        judge: &Judge,
        task: &Task,
        directory: &Directory,
        facts: &Facts,
        into: &mut Compared,
    ) {
        let Some((seat, circumstances)) = judge.looked_at(task, directory, facts) else { return };
        let engine = judge.engine();
        let (Ok(answers), Ok(context)) =
            (engine.answers(&seat, &circumstances), engine.context(&circumstances))
        else {
            into.differences.push("it cannot be asked about".to_owned());
            return;
        };
        for (place, spec) in judge.bundle().destinations().iter().enumerate() {
            for question in Question::ALL {
                into.requests += 1;
                into.quick += usize::from(matches!(answers, Answers::Known(_)));
                let quick = engine.answer(&answers, &seat, question, place);
                if quick != engine.ask_of(&seat, question, place, &context, &self.0) {
                    into.differences.push(format!("{} at {}", question.as_str(), spec.name));
                }
            }
        }
    }
}
