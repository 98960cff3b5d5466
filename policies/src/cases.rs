//! A bundle's own cases: rows of request → outcome, destination and determining policies (`cases/*.toml`).
//!
//! A case's task goes through the same door as a producer's ([`Task::read`]).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::{Approval, Considering, Decision, Facts, Obligation, Outcome, Switch};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::labels::Labels;
use tidegate_schemas::subject::{Class, Lane};
use tidegate_schemas::task::{Kind, LimitsWire, Message, Task};

use crate::judge::Judge;
use crate::permission::Permission;

pub use replay::ReplayCase;

mod replay;
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
    /// Queue of the review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
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
    /// What was decided; absent when the case is no valid task, or of a replay.
    pub decision: Option<Decision>,
    /// What was answered to a replay.
    pub permission: Option<Permission>,
}

fn chat() -> Kind {
    Kind::Chat
}

/// Runs all cases of the judge's bundle.
#[must_use]
pub fn run(judge: &Judge) -> Vec<Ran> {
    let bundle = judge.bundle();
    let cases = bundle.cases();
    let tasks = cases.rows.iter().map(|case| case.run(judge, &cases.directory));
    tasks.chain(cases.replays.iter().map(|case| case.run(judge, &cases.directory))).collect()
}

// === impl Cases ===

impl Cases {
    pub(crate) fn sort(&mut self) {
        self.rows.sort_by(|a, b| a.name.cmp(&b.name));
        self.replays.sort_by(|a, b| a.name.cmp(&b.name));
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
            Ok((task, facts)) => {
                let decision = judge.decide(&task, directory, &facts);
                let differences = self.expect.differences(&decision);
                Ran { name: self.name.clone(), differences, decision: Some(decision), permission: None }
            }
            Err(reason) => Ran {
                name: self.name.clone(),
                differences: vec![format!("no valid task: {reason}")],
                decision: None,
                permission: None,
            },
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
    fn facts(&self, now: Timestamp, directory: &Directory) -> Result<Facts, String> {
        let reviewer = Name::new("reviewer").map_err(|error| error.to_string())?;
        let approval = Approval {
            reviewer,
            verdict: "EVENTS:1".to_owned(),
            content: Digest::plain(b"what was agreed to"),
            edited: false,
        };
        Ok(Facts {
            decision_id: uuid::Uuid::nil(),
            now,
            directory: directory.hash(),
            hop: self.hop,
            lane_max: self.lane_max,
            tried: self.tried.clone(),
            off: self.off.clone(),
            flags_revision: 0,
            inherited: None,
            approval: self.approved.then_some(approval),
            wait_ms: self.wait_ms.clone(),
            tenant_in_flight: self.tenant_in_flight,
            egress_ready: self.egress_ready,
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
                Obligation::Review { queue } => Some(queue.to_string()),
                Obligation::CostCap { .. } => None,
            });
            compare("queue", queue.to_string(), got.unwrap_or_else(|| "none".to_owned()));
        }
        if let Some(findings) = &self.findings {
            let got: BTreeSet<Name> = decision.findings.keys().cloned().collect();
            compare("findings", format!("{findings:?}"), format!("{got:?}"));
        }
        for (name, wanted) in &self.considered {
            let got = decision.considered.iter().find(|c| c.destination == *name).map(|c| c.verdict);
            compare(name.as_str(), format!("{:?}", Some(wanted)), format!("{:?}", got.as_ref()));
        }
        found
    }
}
