//! The bare authoriser on a task's own requests: what no decision can cost less than. For benchmarks; it decides nothing.

use std::sync::Arc;

use cedar_policy::Request;
use tidegate_schemas::decision::{Considering, Facts};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::task::Task;

use crate::engine::{Question, Seat, route};
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
