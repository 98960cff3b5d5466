//! Deciding: a pure function of bundle, task, directory and facts.
//!
//! Labels are raised by what is found; each destination is asked about once; among the permitted one is chosen; whatever
//! fails permits nothing. Text of the task changes a decision only through its labels, its size and what is found in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use cedar_policy::{Context, PolicySet};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::{Decision, Destination, Facts, Scan};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::{Directory, Tenant};
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::{Labels, Raise, Stakes};
use tidegate_schemas::scan::ModelScan;
use tidegate_schemas::task::Task;

use crate::bare::Bare;
use crate::bundle::{Bundle, BundleError};
use crate::engine::{Answer, Circumstances, Engine, Principal, Question, Seat};
use crate::prompt::Prompts;
use crate::taxonomy::scan::{Findings, Scanner};

pub(crate) use notes::Notes;

mod consider;
mod draft;
mod notes;
mod release;
mod scan;
mod sentence;
#[cfg(test)]
mod tests;

/// Principals whose policy slices are kept, count; beyond it all are built anew.
const SEATS_MAX: usize = 1_024;

/// A bundle, ready to judge.
///
/// Threads scale only with a judge each ([`Judge::for_thread`]): what Cedar shares inside one set it counts atomically.
pub struct Judge {
    bundle: Arc<Bundle>,
    engine: Engine,
    scanner: Scanner,
    notes: Notes,
    prompts: Arc<Prompts>,
    chosen: Vec<Destination>,
    /// What an agreement to each destination is bound to.
    terms: Vec<Digest>,
    /// A memory only: a seat is used when it was built for exactly this principal.
    seats: Mutex<HashMap<(Name, Name), Arc<Seat>>>,
}

impl Judge {
    /// Prepares a bundle.
    ///
    /// # Errors
    /// [`BundleError`] when it cannot be prepared; one that was read has been tried before.
    pub fn new(bundle: Arc<Bundle>) -> Result<Self, BundleError> {
        Ok(Self {
            engine: Engine::new(bundle.parts())?,
            scanner: Scanner::new(bundle.taxonomy()).map_err(BundleError::Content)?,
            notes: Notes::of(&bundle)?,
            prompts: Arc::new(Prompts::new(bundle.prompts(), &bundle.manifest().owner).map_err(unusable)?),
            chosen: bundle.destinations().iter().map(|spec| spec.chosen()).collect(),
            terms: bundle.destinations().iter().map(|spec| spec.terms_hash()).collect(),
            seats: Mutex::new(HashMap::new()),
            bundle,
        })
    }

    /// A judge of the same bundle for another thread, with policies parsed anew.
    ///
    /// # Errors
    /// As [`Judge::new`].
    pub fn for_thread(&self) -> Result<Self, BundleError> {
        Self::new(Arc::clone(&self.bundle))
    }

    /// The bundle that it judges by.
    #[must_use]
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The task's labels as they count, and what was found in its texts (finding → count).
    #[must_use]
    pub fn labels(&self, task: &Task) -> (Labels, BTreeMap<Name, u32>) {
        let (labels, findings, _) = self.look(&self.readied(task).0, None);
        (labels, findings.counts)
    }

    fn look(&self, task: &Task, facts: Option<&Facts>) -> (Labels, Findings, Scan) {
        let by_model = facts.map_or(&ModelScan::Closed, |facts| &facts.model_scan);
        let (scan, findings) = self.scanned(by_model, self.found(task));
        let declared = declared(task, facts);
        (self.bundle.taxonomy().raise(&declared, &findings.categories), findings, scan)
    }

    /// What is found in what would be sent, and in what was put into its prompt. What stands in both counts once.
    fn found(&self, task: &Task) -> Findings {
        let findings = self.found_in(&task.input);
        let Some(by) = &task.by_prompt else { return findings };
        let variables: Vec<&str> = by.variables.iter().map(|text| text.expose().as_str()).collect();
        findings.or(self.scanner.scan(&variables))
    }

    /// The task as it is to be judged and run: as it came, or with the input that this bundle's prompt makes of it.
    ///
    /// # Errors
    /// [`Refused`] in our words only, where there is no such prompt or it does not render with what the task gives.
    pub fn rendered<'t>(&self, task: &'t Task) -> Result<Cow<'t, Task>, Refused> {
        self.prompts.rendered(task)
    }

    pub(crate) fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Decides. Never fails: what cannot be judged is rejected with [`Code::JudgeFailed`].
    #[must_use]
    pub fn decide(&self, task: &Task, directory: &Directory, facts: &Facts) -> Decision {
        let (rendered, refused) = self.readied(task);
        let task = rendered.as_ref();
        let (labels, findings, scan) = self.look(task, Some(facts));
        let found = findings.total();
        let by = task.by_prompt.as_ref();
        let draft = draft::Draft { judge: self, facts, labels, findings: findings.counts, scan, by };
        match refused {
            None => self.settle_or_scan(task, directory, draft, found),
            Some(refused) => draft.reject(refused.code, refused.sentence, Vec::new()),
        }
    }

    /// The task rendered; or as it came, and why it cannot be.
    fn readied<'t>(&self, task: &'t Task) -> (Cow<'t, Task>, Option<Refused>) {
        match self.rendered(task) {
            Ok(rendered) => (rendered, None),
            Err(refused) => (Cow::Borrowed(task), Some(refused)),
        }
    }

    /// Decides as [`Judge::decide`] does, by what was found when `recorded` was decided, and by what had looked: the task's texts
    /// are not looked at.
    /// What the kinds of data in it mean is this bundle's.
    #[must_use]
    pub fn decide_as_found(&self, task: &Task, directory: &Directory, recorded: &Decision) -> Decision {
        let (rendered, refused) = self.readied(task);
        let task = rendered.as_ref();
        let by = task.by_prompt.as_ref();
        let facts = &recorded.facts;
        // What was found is among the recorded kinds of data; what was declared is there too, and counts once.
        let declared = declared(task, Some(facts));
        let mut findings = Findings {
            counts: recorded.findings.clone(),
            categories: recorded.labels.categories.clone(),
            ..Findings::default()
        };
        let mut scan = recorded.scan.clone();
        if by.map(|by| &by.prompt) != recorded.prompt.as_ref() && by.is_some() {
            // Another version of the prompt is another text, of which nothing was recorded.
            findings = findings.or(self.found(task));
            scan = self.scanner.fact();
        }
        let labels = self.bundle.taxonomy().raise(&declared, &findings.categories);
        let found = findings.total();
        let draft = draft::Draft { judge: self, facts, labels, findings: findings.counts, scan, by };
        match refused {
            None => self.settle_or_scan(task, directory, draft, found),
            Some(refused) => draft.reject(refused.code, refused.sentence, Vec::new()),
        }
    }

    /// Decides what is looked at: `found` findings, all together.
    fn settle(&self, task: &Task, directory: &Directory, draft: draft::Draft<'_>, found: u64) -> Decision {
        let facts = draft.facts;
        let Some((tenant, agent)) = directory.agent(&task.tenant, &task.agent) else {
            return draft.reject(Code::UnknownPrincipal, sentence::UNKNOWN_PRINCIPAL.to_owned(), Vec::new());
        };
        // What was admitted once, and comes back or was agreed to, is not turned away for the room it takes.
        let admitted = facts.hop > 0 || facts.approval.is_some();
        if !admitted && facts.tenant_in_flight > tenant.quota.in_flight_max {
            return draft.reject(Code::Overloaded, sentence::quota(tenant.quota.in_flight_max), Vec::new());
        }
        let circumstances = self.circumstances(task, &draft.labels, tenant, facts, (&draft.scan, found));
        let principal = Principal::new(&task.tenant, &task.agent, agent);
        let prepared = self.seat(task, principal).and_then(|seat| {
            let answers = self.engine.answers(&seat, &circumstances)?;
            Ok((seat, answers))
        });
        let Ok((seat, answers)) = prepared else {
            return draft.reject(Code::JudgeFailed, sentence::JUDGE_FAILED.to_owned(), Vec::new());
        };
        let released = self.released(task, (tenant, facts), &draft, &circumstances, &seat);
        let round = consider::Round {
            judge: self,
            task,
            facts,
            scanned: draft.scan != Scan::None,
            circumstances: &circumstances,
            seat: &seat,
            answers,
            released,
        };
        draft.conclude(round.run())
    }

    /// The bare authoriser on the requests that deciding this task makes; none where the task cannot be asked about.
    #[must_use]
    pub fn bare(&self, task: &Task, directory: &Directory, facts: &Facts) -> Option<Bare<'_>> {
        Bare::new(self, task, directory, facts)
    }

    /// A judge that lacks one policy or link. For trying whether anything notices.
    pub(crate) fn without(&self, id: &str) -> Self {
        Self {
            engine: self.engine.without(id),
            scanner: self.scanner.clone(),
            notes: self.notes.clone(),
            prompts: Arc::clone(&self.prompts),
            chosen: self.chosen.clone(),
            terms: self.terms.clone(),
            seats: Mutex::new(HashMap::new()),
            bundle: Arc::clone(&self.bundle),
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What a task would be judged with, for explaining.
    pub(crate) fn prepared(
        &self,
        task: &Task,
        directory: &Directory,
        facts: &Facts,
    ) -> Option<(Arc<Seat>, Context)> {
        let (seat, circumstances) = self.looked_at(task, directory, facts)?;
        Some((seat, self.engine.context(&circumstances).ok()?))
    }

    /// Who asks, and what is known of the task; none where nobody knows who asks.
    pub(crate) fn looked_at(
        &self,
        task: &Task,
        directory: &Directory,
        facts: &Facts,
    ) -> Option<(Arc<Seat>, Circumstances)> {
        let (rendered, _) = self.readied(task);
        let task = rendered.as_ref();
        let (labels, findings, scan) = self.look(task, Some(facts));
        let (tenant, agent) = directory.agent(&task.tenant, &task.agent)?;
        let found = (&scan, findings.total());
        let circumstances = self.circumstances(task, &labels, tenant, facts, found);
        let seat = self.seat(task, Principal::new(&task.tenant, &task.agent, agent)).ok()?;
        Some((seat, circumstances))
    }

    pub(crate) fn ask_of(
        &self,
        seat: &Seat,
        question: Question,
        place: usize,
        context: &Context,
        set: &PolicySet,
    ) -> Answer {
        self.engine.ask_of(seat, question, place, context, set)
    }

    /// What is known about a task, with what is computed for the policies: they compare only.
    fn circumstances(
        &self,
        task: &Task,
        labels: &Labels,
        tenant: &Tenant,
        facts: &Facts,
        (scan, findings): (&Scan, u64),
    ) -> Circumstances {
        let mut known = Circumstances::new(task, labels, tenant, facts, scan, findings);
        known.settled.off = self.off(task, facts);
        known.settled.flags = self.flags(facts);
        if let Some(most) = task.limits.cost_usd_micros_max {
            let specs = self.bundle.destinations().iter();
            let over = specs.filter(|spec| spec.cost_usd_micros(known.tokens) > most);
            known.settled.over_cost = over.map(|spec| spec.name.clone()).collect();
        }
        known
    }

    /// Names of destinations that a switch covers.
    fn off(&self, task: &Task, facts: &Facts) -> std::collections::BTreeSet<Name> {
        let covered =
            |place: &&Destination| facts.off.iter().any(|switch| switch.covers(&task.tenant, place));
        self.chosen.iter().filter(covered).map(|place| place.name.clone()).collect()
    }

    /// Flags that are on and that the bundle declares: another says nothing to its policies, and none of its answers depends on it.
    fn flags(&self, facts: &Facts) -> std::collections::BTreeSet<Name> {
        let declared = |flag: &&Name| self.bundle.taxonomy().flags.contains_key(*flag);
        facts.flags.iter().filter(declared).cloned().collect()
    }

    fn seat(&self, task: &Task, principal: Principal) -> Result<Arc<Seat>, String> {
        let key = (task.tenant.clone(), task.agent.clone());
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = seats.get(&key).filter(|seat| seat.is_of(&principal)) {
            return Ok(Arc::clone(seat));
        }
        let seat = Arc::new(Seat::new(&self.engine, principal)?);
        if seats.len() >= SEATS_MAX {
            seats.clear();
        }
        seats.insert(key, Arc::clone(&seat));
        Ok(seat)
    }
}

fn unusable(error: minijinja::Error) -> BundleError {
    BundleError::Content(format!("a prompt cannot be compiled: {}", error.kind()))
}

/// What is known of a task's data before anything is looked for: what is said of it, what it inherits, and what its session held.
fn declared<'a>(task: &'a Task, facts: Option<&Facts>) -> Cow<'a, Labels> {
    let said = said(task, facts.and_then(|facts| facts.inherited.as_ref()));
    match facts.and_then(|facts| facts.session.as_ref()) {
        Some(held) => Cow::Owned(said.raised_by(&Raise {
            sensitivity: held.sensitivity,
            categories: held.categories.clone(),
            regulations: held.regulations.clone(),
            stakes: Stakes::Low,
        })),
        None => said,
    }
}

/// The same without what its session held.
fn said<'a>(task: &'a Task, inherited: Option<&Labels>) -> Cow<'a, Labels> {
    match inherited {
        Some(parent) => Cow::Owned(task.labels.inheriting(parent)),
        None => Cow::Borrowed(&task.labels),
    }
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("bundle", &self.bundle.hash()).finish_non_exhaustive()
    }
}
