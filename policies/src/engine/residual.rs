//! Residuals: what is left of the policies for one principal when every action and destination is known.
//!
//! A decision asks each destination, and most conditions do not depend on it. So each condition is folded for every pair of
//! action and destination ([`super::fold`]), equal ones are kept once, and one request asks all of them. Which hold follows
//! from the context; from that, and each policy's effect, follows the same [`Answer`] that the policies themselves give.
//!
//! INVARIANT: an answer is remembered only for circumstances of which the context was validated, and only by what the
//! residuals look at: nothing outside [`Settled`] but what the quick ones say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Effect, Entities, Policy, PolicyId, PolicySet, Request,
};
use serde_json::Value;

use super::context::{QUICK, Settled, TIME};
use super::fold::{self, Folder, Known};
use super::{Answer, Question};

/// Answers that a principal's residuals remember, for all their destinations, count; beyond it all are forgotten. A producer
/// can vary what they depend on, and there are many principals.
const REMEMBERED_MAX: usize = 256;

/// The answers for every destination and question.
pub(super) type Answers = Vec<[Answer; 3]>;

/// The residuals of one principal.
pub(super) struct Residuals {
    /// Those that look at what changes from task to task.
    quick: Asked,
    /// The others.
    steady: Asked,
    /// Whether one looks at the time.
    timed: bool,
    terms: Vec<[Vec<Term>; 3]>,
    remembered: Mutex<HashMap<Settled, Remembered>>,
}

/// Answers by what the quick residuals say.
type Remembered = Vec<(Vec<Truth>, Arc<Answers>)>;

/// Residuals that are asked together.
#[derive(Default)]
struct Asked {
    set: PolicySet,
    /// Attributes without which one does not hold.
    needs: Vec<Vec<String>>,
}

/// What one residual says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    No,
    Yes,
    Failed,
}

/// A policy for one destination and question.
struct Term {
    policy: String,
    effect: Effect,
    holds: Holds,
}

#[derive(Debug, Clone, Copy)]
enum Holds {
    Always,
    Quick(usize),
    Steady(usize),
}

/// Gathers residuals.
struct Builder {
    residuals: Residuals,
    known: Known,
    /// Conditions of policies, by id.
    conditions: HashMap<PolicyId, Value>,
    /// Residuals by their text.
    found: HashMap<String, Holds>,
}

// === impl Residuals ===

impl Residuals {
    /// Folds the policies of each pair. `pairs` gives the request (its context does not count) and the policies of each.
    pub(super) fn new<'a>(
        authorizer: &Authorizer,
        entities: &Entities,
        pairs: impl Iterator<Item = [(Request, &'a PolicySet); 3]>,
    ) -> Option<Self> {
        let residuals = Self {
            quick: Asked::default(),
            steady: Asked::default(),
            timed: false,
            terms: Vec::new(),
            remembered: Mutex::default(),
        };
        let mut builder =
            Builder { residuals, known: Known::new(), conditions: HashMap::new(), found: HashMap::new() };
        for pair in pairs {
            let mut terms = [Vec::new(), Vec::new(), Vec::new()];
            for (terms, (request, policies)) in terms.iter_mut().zip(pair) {
                let folder = Folder::new(authorizer, entities, &request)?;
                for policy in policies.policies() {
                    terms.extend(builder.term(policy, &folder)?);
                }
                terms.sort_by(|a, b| a.policy.cmp(&b.policy));
            }
            builder.residuals.terms.push(terms);
        }
        Some(builder.residuals)
    }

    /// Whether any answer may depend on the time.
    pub(super) fn look_at_the_time(&self) -> bool {
        self.timed
    }

    /// The answers in these circumstances. `context` gives the validated context, where it is needed, and `ask` asks Cedar.
    pub(super) fn answers(
        &self,
        settled: &Settled,
        context: impl FnOnce() -> Result<Context, String>,
        ask: impl Fn(&PolicySet, Context) -> Option<Said>,
    ) -> Result<Arc<Answers>, String> {
        let mut context = Lazy { make: Some(context), made: None };
        let failed = || "the residuals could not be asked".to_owned();
        let quick = if self.quick.may_hold(settled) {
            self.quick.truths(&ask(&self.quick.set, context.get()?).ok_or_else(failed)?)
        } else {
            vec![Truth::No; self.quick.needs.len()]
        };
        if let Some(answers) = self.remembered(settled, &quick) {
            return Ok(answers);
        }
        let steady = self.steady.truths(&ask(&self.steady.set, context.get()?).ok_or_else(failed)?);
        let answer = |terms: &Vec<Term>| answer(terms, &quick, &steady);
        let answers: Answers =
            self.terms.iter().map(|terms| [0, 1, 2].map(|at| answer(&terms[at]))).collect();
        let answers = Arc::new(answers);
        self.remember(settled, quick, &answers);
        Ok(answers)
    }

    fn remembered(&self, settled: &Settled, quick: &[Truth]) -> Option<Arc<Answers>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let found = remembered.get(settled)?.iter().find(|(truths, _)| truths == quick)?;
        Some(Arc::clone(&found.1))
    }

    fn remember(&self, settled: &Settled, quick: Vec<Truth>, answers: &Arc<Answers>) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = remembered.values().map(Vec::len).sum();
        if held * answers.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.entry(settled.clone()).or_default().push((quick, Arc::clone(answers)));
    }
}

/// What Cedar said to residuals: positions of those that hold, and of those that failed.
#[derive(Debug, Default)]
pub(super) struct Said {
    hold: Vec<usize>,
    failed: Vec<usize>,
}

impl Said {
    /// Reads Cedar's response; none where it names what is no residual.
    pub(super) fn of(response: &cedar_policy::Response) -> Option<Self> {
        let at = |id: &PolicyId| AsRef::<str>::as_ref(id).parse().ok();
        let hold = response.diagnostics().reason().map(at).collect::<Option<_>>()?;
        let errors = response.diagnostics().errors();
        let failed = errors
            .map(|error| match error {
                AuthorizationError::PolicyEvaluationError(error) => at(error.policy_id()),
            })
            .collect::<Option<_>>()?;
        Some(Self { hold, failed })
    }
}

/// What a principal's policies answer for one pair. As Cedar combines them, but that any failure denies.
fn answer(terms: &[Term], quick: &[Truth], steady: &[Truth]) -> Answer {
    let truth = |term: &Term| match term.holds {
        Holds::Always => Truth::Yes,
        Holds::Quick(at) => quick.get(at).copied().unwrap_or(Truth::Failed),
        Holds::Steady(at) => steady.get(at).copied().unwrap_or(Truth::Failed),
    };
    let with = |wanted: Truth, effect: Option<Effect>| -> Vec<String> {
        let fits = |term: &&Term| truth(term) == wanted && effect.is_none_or(|effect| term.effect == effect);
        terms.iter().filter(fits).map(|term| term.policy.clone()).collect()
    };
    let failed = with(Truth::Failed, None);
    if !failed.is_empty() {
        return Answer { allowed: false, errored: true, policies: failed };
    }
    let forbids = with(Truth::Yes, Some(Effect::Forbid));
    if !forbids.is_empty() {
        return Answer { allowed: false, errored: false, policies: forbids };
    }
    let permits = with(Truth::Yes, Some(Effect::Permit));
    Answer { allowed: !permits.is_empty(), errored: false, policies: permits }
}

// === impl Asked ===

impl Asked {
    /// Whether any could hold, or fail, in these circumstances.
    fn may_hold(&self, settled: &Settled) -> bool {
        self.needs.iter().any(|needs| needs.iter().all(|name| settled.has(name)))
    }

    fn truths(&self, said: &Said) -> Vec<Truth> {
        let mut truths = vec![Truth::No; self.needs.len()];
        for (list, truth) in [(&said.hold, Truth::Yes), (&said.failed, Truth::Failed)] {
            for at in list {
                if let Some(entry) = truths.get_mut(*at) {
                    *entry = truth;
                }
            }
        }
        truths
    }

    fn add(&mut self, residual: &Value) -> Option<usize> {
        let at = self.needs.len();
        let policy = Policy::from_json(Some(PolicyId::new(at.to_string())), fold::permit(residual)).ok()?;
        self.set.add(policy).ok()?;
        self.needs.push(fold::needs(residual));
        Some(at)
    }
}

// === impl Builder ===

impl Builder {
    /// What is left of a policy for one pair; nothing where it cannot apply. None at all where it cannot be folded.
    fn term(&mut self, policy: &Policy, folder: &Folder<'_>) -> Option<Option<Term>> {
        if !self.conditions.contains_key(policy.id()) {
            let condition = fold::condition(&policy.to_json().ok()?)?;
            self.conditions.insert(policy.id().clone(), condition);
        }
        let residual = folder.fold(self.conditions.get(policy.id())?, &mut self.known);
        let holds = match fold::truth(&residual) {
            Some(false) => return Some(None),
            Some(true) => Holds::Always,
            None => self.residual(&residual)?,
        };
        Some(Some(Term { policy: policy.id().to_string(), effect: policy.effect(), holds }))
    }

    fn residual(&mut self, residual: &Value) -> Option<Holds> {
        let text = residual.to_string();
        if let Some(holds) = self.found.get(&text) {
            return Some(*holds);
        }
        if !fold::is_of_context_only(&text) {
            return None;
        }
        let looks = fold::looks(residual);
        self.residuals.timed |= looks.at_all || looks.at.contains(TIME);
        let holds = if looks.at_all || QUICK.iter().any(|name| looks.at.contains(*name)) {
            Holds::Quick(self.residuals.quick.add(residual)?)
        } else {
            Holds::Steady(self.residuals.steady.add(residual)?)
        };
        self.found.insert(text, holds);
        Some(holds)
    }
}

/// A context that is made when it is first needed.
struct Lazy<F> {
    make: Option<F>,
    made: Option<Context>,
}

impl<F: FnOnce() -> Result<Context, String>> Lazy<F> {
    fn get(&mut self) -> Result<Context, String> {
        if let Some(make) = self.make.take() {
            self.made = Some(make()?);
        }
        self.made.clone().ok_or_else(|| "the context could not be made".to_owned())
    }
}

/// The three questions of a destination, in their order.
pub(super) fn questions<T>(of: impl Fn(Question) -> Option<T>) -> Option<[T; 3]> {
    let [local, cloud, review] = Question::ALL.map(of);
    Some([local?, cloud?, review?])
}
