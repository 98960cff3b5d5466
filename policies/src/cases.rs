//! A bundle's own cases: rows of request → outcome, destination and determining policies (`cases/*.toml`), and cases
//! in the form of Cedar's own command line (`cases/*.json`).
//!
//! A case's task goes through the same door as a producer's ([`Task::read`]).

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::PolicySet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_schemas::breaker::Broken;
use tidegate_schemas::budget::Spent;
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{
    Approval, Considering, Decision, Facts, Obligation, Outcome, Redaction, Switch,
};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::labels::Labels;
use tidegate_schemas::scan::ModelScan;
use tidegate_schemas::subject::{Class, Lane};
use tidegate_schemas::task::{Kind, LimitsWire, Message, Task};

use crate::cedar_tests::{Asked, CedarTest};
use crate::judge::Judge;
use crate::permission::Permission;
use crate::taxonomy::Taxonomy;

pub use prompt::{ExpectedAnswer, PromptCase, conversation};
pub use replay::ReplayCase;
pub use review::ReviewCase;

mod prompt;
mod replay;
mod review;
#[cfg(test)]
mod tests;

/// When every case is submitted and judged.
const NOW: &str = "2026-11-23T12:00:00Z";

/// Cases, and who there is in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The directory that every case is judged by.
    pub directory: Directory,
    /// The cases.
    pub rows: Vec<Case>,
    /// Cases of replays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<ReplayCase>,
    /// Cases of verdicts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviews: Vec<ReviewCase>,
    /// Cases of prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<PromptCase>,
    /// Cases of Cedar's own command line: what no task reaches yet, and what others wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cedar: Vec<CedarTest>,
}

/// One case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, in words.
    pub name: String,
    /// Who asks.
    pub agent: Name,
    /// The agent's tenant.
    pub tenant: Name,
    /// Kind of work.
    #[serde(default = "chat")]
    pub kind: Kind,
    /// The input's text, for an input of the usual form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The whole input, where a text does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What the producer declares.
    pub labels: Labels,
    /// What the task may take.
    #[serde(default)]
    pub limits: LimitsWire,
    /// How soon somebody waits.
    #[serde(default)]
    pub class: Class,
    /// What is known beside the task.
    #[serde(default)]
    pub facts: CaseFacts,
    /// What must come out.
    pub expect: Expect,
}

/// Facts of a case; what is not given is as on a quiet day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseFacts {
    /// What is switched off.
    pub off: Vec<Switch>,
    /// Whether the cell may send to the cloud.
    pub egress_ready: bool,
    /// Whether a person agreed.
    pub approved: bool,
    /// The widest lane that an earlier decision leaves open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane_max: Option<Lane>,
    /// Destinations tried before.
    pub tried: BTreeSet<Name>,
    /// Expected waiting time by queue, milliseconds.
    pub wait_ms: BTreeMap<Name, u64>,
    /// Tasks of the tenant that wait or run.
    pub tenant_in_flight: u64,
    /// Decisions before this one.
    pub hop: u32,
    /// Feature flags that are on.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub flags: BTreeSet<Name>,
    /// What the bundle's model found in the texts: entity → count, empty for nothing; absent: it has not looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scanned: Option<BTreeMap<Name, u32>>,
    /// What was found in what would leave, where it comes back redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redaction: Option<Redaction>,
    /// Labels that the session held before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Labels>,
    /// Budgets that leave no room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<Spent>,
    /// Places that keep failing and are not tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
}

/// What must come out of a case. What is not given is not looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The outcome.
    pub outcome: Outcome,
    /// Where it runs, or would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// The determining policies, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<BTreeSet<String>>,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Verdicts of destinations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub considered: BTreeMap<Name, Considering>,
    /// Policies that must be among those behind a destination's verdict.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by: BTreeMap<Name, BTreeSet<String>>,
    /// Queue of the review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    /// How many must approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u8>,
    /// What was found, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<BTreeSet<Name>>,
}

/// A case that was run.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// What differs from what must come out; empty when it passed.
    pub differences: Vec<String>,
    /// Policies that determined something in it, or failed.
    pub policies: BTreeSet<String>,
    /// What was decided; absent when the case is no valid task, or of a replay, a verdict or a prompt, or Cedar's own.
    pub decision: Option<Decision>,
    /// What was answered to a replay or a verdict.
    pub permission: Option<Permission>,
}

fn chat() -> Kind {
    Kind::Chat
}

/// Something to run: a case of any form.
pub(crate) enum Subject<'a> {
    Task(&'a Case),
    Replay(&'a ReplayCase),
    Review(&'a ReviewCase),
    Prompt(&'a PromptCase),
    Cedar(Box<Asked<'a>>),
}

/// All cases of the judge's bundle, and more of Cedar's own form.
pub(crate) fn subjects<'a>(judge: &'a Judge, more: &'a [CedarTest]) -> Vec<Subject<'a>> {
    let cases = judge.bundle().cases();
    let cedar = cases.cedar.iter().chain(more);
    let cedar = cedar.map(|test| Subject::Cedar(Box::new(Asked::new(test, judge.engine().schema()))));
    let rows = cases.rows.iter().map(Subject::Task);
    let asked = cases.replays.iter().map(Subject::Replay).chain(cases.reviews.iter().map(Subject::Review));
    let prompts = cases.prompts.iter().map(Subject::Prompt);
    rows.chain(asked).chain(prompts).chain(cedar).collect()
}

/// Runs all cases of the judge's bundle.
#[must_use]
pub fn run(judge: &Judge) -> Vec<Ran> {
    let bench = Bench::new(judge);
    subjects(judge, &[]).iter().map(|subject| bench.run(subject)).collect()
}

/// What cases are run on: a judge, and its policies in one set where a case needs that.
pub(crate) struct Bench<'a> {
    judge: &'a Judge,
    whole: OnceCell<Result<PolicySet, String>>,
}

// === impl Bench ===

impl<'a> Bench<'a> {
    pub(crate) fn new(judge: &'a Judge) -> Self {
        Self { judge, whole: OnceCell::new() }
    }

    pub(crate) fn run(&self, subject: &Subject<'_>) -> Ran {
        let directory = &self.judge.bundle().cases().directory;
        match subject {
            Subject::Task(case) => case.run(self.judge, directory),
            Subject::Replay(case) => case.run(self.judge, directory),
            Subject::Review(case) => case.run(self.judge, directory),
            Subject::Prompt(case) => case.run(self.judge),
            Subject::Cedar(asked) => {
                let whole = || self.judge.engine().whole().map_err(|error| error.to_string());
                match self.whole.get_or_init(whole) {
                    Ok(policies) => asked.run(policies),
                    Err(reason) => Ran::unasked(asked.name().to_owned(), reason.clone()),
                }
            }
        }
    }
}

// === impl Ran ===

impl Ran {
    /// Whether everything came out as it must.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }

    /// A case that could not be asked.
    pub(crate) fn unasked(name: String, reason: String) -> Self {
        Self { name, differences: vec![reason], policies: BTreeSet::new(), decision: None, permission: None }
    }
}

// === impl Cases ===

impl Cases {
    /// How many there are, of all forms.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows.len() + self.replays.len() + self.reviews.len() + self.prompts.len() + self.cedar.len()
    }

    /// A case with a flag that no bundle of these words has.
    pub(crate) fn flags_fault(&self, taxonomy: &Taxonomy) -> Option<(&str, String)> {
        self.rows.iter().find_map(|row| {
            let flag = row.facts.flags.iter().find(|flag| !taxonomy.flags.contains_key(*flag))?;
            let fault =
                format!("case `{}` has the flag `{flag}`, which the taxonomy does not declare", row.name);
            Some((row.name.as_str(), fault))
        })
    }

    pub(crate) fn sort(&mut self) {
        self.rows.sort_by(|a, b| a.name.cmp(&b.name));
        self.replays.sort_by(|a, b| a.name.cmp(&b.name));
        self.reviews.sort_by(|a, b| a.name.cmp(&b.name));
        self.prompts.sort_by(|a, b| (&a.name, &a.prompt).cmp(&(&b.name, &b.prompt)));
        self.cedar.sort_by_cached_key(|test| (test.name.clone(), serde_json::to_string(test).ok()));
    }
}

// === impl CaseFacts ===

impl Default for CaseFacts {
    fn default() -> Self {
        Self {
            off: Vec::new(),
            egress_ready: true,
            approved: false,
            lane_max: None,
            tried: BTreeSet::new(),
            wait_ms: BTreeMap::new(),
            tenant_in_flight: 0,
            hop: 0,
            flags: BTreeSet::new(),
            scanned: None,
            redaction: None,
            session: None,
            spent: Vec::new(),
            broken: Vec::new(),
        }
    }
}

// === impl Case ===

impl PartialEq for Case {
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_value(self).ok() == serde_json::to_value(other).ok()
    }
}

impl Case {
    /// Runs the case.
    #[must_use]
    pub fn run(&self, judge: &Judge, directory: &Directory) -> Ran {
        match self.request(directory) {
            Ok((task, mut facts)) => {
                let model = judge.bundle().taxonomy().model_scan.as_ref().and_then(|model| model.sha256);
                facts.model_scan = self.facts.model_scan(model);
                let decision = judge.decide(&task, directory, &facts);
                let differences = self.expect.differences(&decision);
                let considered = decision.considered.iter().flat_map(|considered| &considered.policies);
                let policies = considered.chain(&decision.determining).cloned().collect();
                let decision = Some(decision);
                Ran { name: self.name.clone(), differences, policies, decision, permission: None }
            }
            Err(reason) => Ran::unasked(self.name.clone(), format!("no valid task: {reason}")),
        }
    }

    /// The task and the facts of the case.
    ///
    /// # Errors
    /// Why the case is no valid task.
    pub fn request(&self, directory: &Directory) -> Result<(Task, Facts), String> {
        let now: Timestamp = NOW.parse().map_err(|_| "the cases' time is malformed".to_owned())?;
        let body = self.envelope().to_string();
        let position = Position::new(format!("TASKS_{}", self.tenant), 1);
        let message = Message {
            tenant: &self.tenant,
            agent: &self.agent,
            kind: self.kind.as_str(),
            headers: &Headers::new(),
            payload: body.as_bytes(),
            position: &position,
            submitted: now,
        };
        let task = Task::read(&message).map_err(|rejected| rejected.refused.sentence)?;
        Ok((task, self.facts.facts(now, directory)?))
    }

    /// The task as its producer would send it.
    #[must_use]
    pub fn envelope(&self) -> Value {
        json!({
            "input": self.input.clone().unwrap_or_else(|| self.usual_input()),
            "labels": self.labels,
            "limits": self.limits,
            "class": self.class,
        })
    }

    fn usual_input(&self) -> Value {
        let text = self.text.as_deref().unwrap_or("What is the capital of France?");
        match self.kind {
            Kind::Chat => json!({ "messages": [{ "role": "user", "content": text }] }),
            Kind::Extract => json!({ "text": text, "schema": { "type": "object" } }),
            Kind::Classify => json!({ "text": text, "classes": ["good", "bad"] }),
            Kind::Embed => json!({ "texts": [text] }),
        }
    }
}

impl CaseFacts {
    /// What the bundle's model says, by its weights where they are pinned.
    fn model_scan(&self, model: Option<Digest>) -> ModelScan {
        let model = model.unwrap_or_else(|| Digest::plain(b"a model"));
        let done = |findings: &BTreeMap<Name, u32>| ModelScan::Done { model, findings: findings.clone() };
        self.scanned.as_ref().map_or(ModelScan::Closed, done)
    }

    fn facts(&self, now: Timestamp, directory: &Directory) -> Result<Facts, String> {
        let reviewer = Name::new("reviewer").map_err(|error| error.to_string())?;
        let approval = Approval {
            reviewer,
            verdict: "EVENTS:1".to_owned(),
            content: Digest::plain(b"what was agreed to"),
            edited: false,
            others: Vec::new(),
            queue: None,
            terms: None,
        };
        Ok(Facts {
            decision_id: uuid::Uuid::nil(),
            now,
            directory: directory.hash(),
            hop: self.hop,
            lane_max: self.lane_max,
            tried: self.tried.clone(),
            off: self.off.clone(),
            flags: self.flags.clone(),
            flags_revision: 0,
            release_revision: 0,
            inherited: None,
            approval: self.approved.then_some(approval),
            model_scan: self.model_scan(None),
            wait_ms: self.wait_ms.clone(),
            tenant_in_flight: self.tenant_in_flight,
            egress_ready: self.egress_ready,
            session: self.session.clone(),
            spent: self.spent.clone(),
            broken: self.broken.clone(),
            redaction: self.redaction.clone(),
        })
    }
}

// === impl Expect ===

impl Expect {
    /// What of a decision is not as expected, in words.
    #[must_use]
    pub fn differences(&self, decision: &Decision) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, wanted: String, got: String| {
            if wanted != got {
                found.push(format!("{what}: expected {wanted}, got {got}"));
            }
        };
        compare("outcome", self.outcome.as_str().to_owned(), decision.outcome.as_str().to_owned());
        if let Some(name) = &self.destination {
            let got = decision.destination.as_ref().map_or("none", |d| d.name.as_str());
            compare("destination", name.to_string(), got.to_owned());
        }
        if let Some(policies) = &self.policies {
            let got: BTreeSet<String> = decision.determining.iter().cloned().collect();
            compare("policies", format!("{policies:?}"), format!("{got:?}"));
        }
        if let Some(code) = self.code {
            compare(
                "code",
                code.to_string(),
                decision.code.map_or("none".to_owned(), |code| code.to_string()),
            );
        }
        if let Some(queue) = &self.queue {
            let got = decision.obligations.iter().find_map(|obligation| match obligation {
                Obligation::Review { queue, .. } => Some(queue.to_string()),
                Obligation::CostCap { .. } => None,
            });
            compare("queue", queue.to_string(), got.unwrap_or_else(|| "none".to_owned()));
        }
        if let Some(quorum) = self.quorum {
            let got = decision.obligations.iter().find_map(|obligation| match obligation {
                Obligation::Review { quorum, .. } => Some(*quorum),
                Obligation::CostCap { .. } => None,
            });
            compare("quorum", quorum.to_string(), got.map_or("none".to_owned(), |got| got.to_string()));
        }
        if let Some(findings) = &self.findings {
            let got: BTreeSet<Name> = decision.findings.keys().cloned().collect();
            compare("findings", format!("{findings:?}"), format!("{got:?}"));
        }
        for (name, wanted) in &self.considered {
            let got = decision.considered.iter().find(|c| c.destination == *name).map(|c| c.verdict);
            compare(name.as_str(), format!("{:?}", Some(wanted)), format!("{:?}", got.as_ref()));
        }
        for (name, wanted) in &self.by {
            let got = decision.considered.iter().find(|c| c.destination == *name);
            let got: BTreeSet<&String> = got.into_iter().flat_map(|c| &c.policies).collect();
            for id in wanted.iter().filter(|id| !got.contains(id)) {
                found.push(format!("{name}: expected among its policies {id}, got {got:?}"));
            }
        }
        found
    }
}
