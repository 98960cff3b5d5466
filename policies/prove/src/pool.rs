//! Questions put to as many solvers as there are processors.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::solver::{NotProven, Session, Solver};

/// Most solvers at once, count.
const SOLVERS_MAX: usize = 8;

/// How many solvers work at once.
pub(crate) fn solvers(questions: usize) -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(SOLVERS_MAX).min(questions)
}

/// Answers every question; the answers come in the order of the questions.
pub(crate) fn each<Q: Send, A: Send>(
    solver: &Solver,
    questions: Vec<Q>,
    answer: impl Fn(Result<&mut Session, NotProven>, Q) -> A + Sync,
) -> Vec<A> {
    let threads = solvers(questions.len());
    let open = Mutex::new(questions.into_iter().enumerate());
    let done: Mutex<Vec<(usize, A)>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut session = solver.session();
                loop {
                    // Taken in a statement of its own: the lock must not be held while the solver works.
                    let next = open.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((at, question)) = next else { break };
                    let answered = answer(session.as_mut().map_err(|error| error.clone()), question);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, answered));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, answered)| answered).collect()
}
