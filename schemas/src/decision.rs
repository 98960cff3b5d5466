//! A decision: what the judge concluded about one task, why, and from which facts. A pure function of bundle, task,
//! directory and facts; the same four give the same decision, bit for bit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::breaker::Broken;
use crate::budget::Spent;
use crate::code::Code;
use crate::digest::Digest;
use crate::ids::Name;
use crate::labels::{KnownLabels, Labels, Sensitivity, Stakes};
use crate::scan::ModelScan;
use crate::subject::Lane;

pub use terms::Terms;

mod grouped;
mod terms;

/// What was concluded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// Its id, one of the facts.
    pub id: Uuid,
    /// What happens to the task.
    pub outcome: Outcome,
    /// Where it runs; given when it is dispatched, and when it is held: where it would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// Every destination of the bundle, and why or why not, by name.
    #[serde(with = "grouped")]
    #[schemars(with = "Vec<grouped::Group<'static>>")]
    pub considered: Vec<Considered>,
    /// Policies that determined the outcome, sorted.
    pub determining: Vec<String>,
    /// Labels after detection.
    pub labels: Labels,
    /// Their names in the bundle's own words.
    #[serde(default, skip_serializing_if = "KnownLabels::is_empty")]
    pub known: KnownLabels,
    /// What the recognisers found: finding → count. Never the text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<Name, u32>,
    /// What looked for personal data.
    pub scan: Scan,
    /// What was known from outside the task.
    pub facts: Facts,
    /// What must happen beside the outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<Obligation>,
    /// Why it was held or rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The same in one plain sentence that quotes nothing of the task.
    pub sentence: String,
    /// The bundle that judged.
    pub bundle: Digest,
    /// Owner of the bundle, whom alerts name.
    pub owner: String,
    /// Owners of the policies that determined the outcome, sorted, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_owners: Vec<String>,
    /// The bundle's prompt that the task was rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptUsed>,
    /// Whom to ask about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_owner: Option<String>,
    /// Salted digest of the exact bytes that were judged and are sent on; absent until they are rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// What another bundle would have decided, where one is judged beside. Nothing comes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// One version of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PromptUsed {
    /// Its name in the bundle.
    pub name: Name,
    /// SHA-256 of its canonical form.
    pub hash: Digest,
}

/// What a bundle that is judged beside would have decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shadow {
    /// The bundle.
    pub bundle: Digest,
    /// What would happen to the task.
    pub outcome: Outcome,
    /// Name of the destination where it would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<Name>,
    /// Why it would be held or rejected; `judge_failed` also where judging failed altogether.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It runs on the local lane.
    Local,
    /// It runs on the cloud lane.
    Cloud,
    /// What was found in it is replaced by tokens first; what would leave then is judged again.
    Redact,
    /// A person decides first.
    Hold,
    /// It does not run.
    Reject,
}

impl Outcome {
    /// The outcome as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Redact => "redact",
            Self::Hold => "hold",
            Self::Reject => "reject",
        }
    }
}

/// Where work runs, as chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Destination {
    /// Its name in the bundle.
    pub name: Name,
    /// Inside or outside the boundary.
    pub lane: Lane,
    /// The pool (local) or provider (cloud) whose queue it is.
    pub target: Name,
    /// The model there.
    pub model: String,
    /// SHA-256 of the model's weights, where the bundle pins them: a local worker answers by no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<Digest>,
    /// SHA-256 of the adapter that must be merged into these weights. Where the bundle pins weights and no adapter, none may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_sha256: Option<Digest>,
    /// The region it runs in.
    pub region: Name,
    /// Whom to ask about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Whom to ask about the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model_owner: String,
}

/// One destination that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// Its name in the bundle.
    pub destination: Name,
    /// What came of it.
    pub verdict: Considering,
    /// Policies behind that, sorted.
    pub policies: Vec<String>,
}

/// What came of looking at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Considering {
    /// Permitted and taken.
    Chosen,
    /// Permitted; another was better.
    Permitted,
    /// Permitted only after a person agrees.
    NeedsReview,
    /// Permitted once what was found has been replaced by tokens; another was better.
    NeedsRedaction,
    /// A policy forbids it.
    Forbidden,
    /// No policy permits it.
    NotPermitted,
    /// Evaluation failed, which permits nothing.
    Errored,
    /// It cannot do this kind of work, or not with these inputs.
    Incapable,
    /// Its lane, provider or model is switched off.
    Off,
    /// Wider than what an earlier decision of this task allowed.
    Wider,
    /// It was tried before and failed.
    Tried,
    /// Its queue is longer than the task's deadline.
    Overloaded,
    /// A budget that the work would count in leaves no room.
    Spent,
    /// It kept failing, and is not tried again yet.
    Broken,
}

/// What looked for personal data in a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scan {
    /// Nothing.
    None,
    /// Patterns with checksums and key words.
    Recognisers,
    /// A model, named by its hash.
    Model(Digest),
}

/// What was found in what would leave, after what was found in the task had been replaced by tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redaction {
    /// Tokens that stand in it, count.
    pub tokens: u32,
    /// The model whose findings were replaced beside those of the recognisers: SHA-256 of its weights. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
    /// What is found in it still: finding → count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<Name, u32>,
    /// Kinds of data that it holds still.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub categories: BTreeSet<Name>,
}

impl Redaction {
    /// Whether nothing is found any more.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.findings.is_empty() && self.categories.is_empty()
    }
}

/// What is known from outside the task. Values, so that a decision can be made again from its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
    /// Id of the decision to be made (UUIDv7).
    pub decision_id: Uuid,
    /// The time.
    pub now: Timestamp,
    /// The directory that was asked.
    pub directory: Digest,
    /// Decisions of this task before this one.
    #[serde(default)]
    pub hop: u32,
    /// The widest lane that an earlier decision leaves open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane_max: Option<Lane>,
    /// Destinations tried before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tried: BTreeSet<Name>,
    /// What is switched off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<Switch>,
    /// Feature flags that are on for this task. A judge looks at those that its bundle declares.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub flags: BTreeSet<Name>,
    /// Revision of switches and flags: sequence in EVENTS of the act that left them.
    #[serde(default)]
    pub flags_revision: u64,
    /// Revision of the release: sequence in EVENTS of the act that left the bundles as they are; 0 where it was not told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub release_revision: u64,
    /// Labels of the result that the task goes on from (`parent_task`); the most restrictive where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited: Option<Labels>,
    /// A person's agreement, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What is known of a model's scan of the task's texts.
    #[serde(default, skip_serializing_if = "ModelScan::is_closed")]
    pub model_scan: ModelScan,
    /// Labels that the task's session held before it; absent: it names none, or nothing was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Labels>,
    /// What would leave after a redaction, as it was looked at again; absent: nothing was redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redaction: Option<Redaction>,
    /// Expected waiting time by queue (pool or provider), milliseconds; absent means unknown, taken as none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wait_ms: BTreeMap<Name, u64>,
    /// Budgets of the tenant, the agent and of providers that leave no room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<Spent>,
    /// Places that kept failing, and are not tried again yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
    /// Tasks of the tenant that wait or run.
    #[serde(default)]
    pub tenant_in_flight: u64,
    /// Whether this cell may send to the cloud at all (clock, signer and record are well).
    pub egress_ready: bool,
}

/// A person's agreement to one exact payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    /// Who, from the authorised subject.
    pub reviewer: Name,
    /// Position of the verdict.
    pub verdict: String,
    /// Salted digest of what was agreed to.
    pub content: Digest,
    /// Whether that is the reviewer's edit, and not what the producer sent.
    #[serde(default)]
    pub edited: bool,
    /// Who agreed before, where more than one must.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Name>,
    /// Queue of the review. An agreement that does not say it is for the one message that it let go, and for no later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    /// What was agreed to beside the text. As with the queue, one that does not say it is for no later message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

/// Something that is switched off; each field that is absent matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Pool or provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    /// Model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Switch {
    /// Whether it covers this tenant's work at this destination.
    #[must_use]
    pub fn covers(&self, tenant: &Name, destination: &Destination) -> bool {
        self.lane.is_none_or(|lane| lane == destination.lane)
            && self.tenant.as_ref().is_none_or(|name| name == tenant)
            && self.target.as_ref().is_none_or(|target| *target == destination.target)
            && self.model.as_ref().is_none_or(|model| *model == destination.model)
    }
}

/// What must happen beside the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "obligation")]
pub enum Obligation {
    /// A person decides first.
    Review {
        /// Queue whose reviewers decide.
        queue: Name,
        /// How many of them must approve, each for themselves; absent: one.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        quorum: u8,
        /// How it would go on once they agree. Absent: an earlier router did not say, and an agreement to it covers nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Terms>,
    },
    /// The provider call may cost at most this, millionths of a US dollar.
    CostCap {
        /// Millionths of a US dollar.
        usd_micros_max: u64,
    },
}

const fn one() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(revision: &u64) -> bool {
    *revision == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_one(count: &u8) -> bool {
    *count == 1
}

/// Whom to ask about what a decision was made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owners {
    /// Owner of the bundle that judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Owner of the destination that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Owner of the model there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Owner of the prompt that the task was rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Owners of the policies that determined the outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
}

impl Owners {
    /// The owner of a bundle alone.
    #[must_use]
    pub fn of_bundle(owner: impl Into<String>) -> Self {
        Self { bundle: Some(owner.into()), ..Self::default() }
    }

    /// Whether nobody is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |what, owner: &'_ Option<String>| owner.clone().map(|owner| (what, owner));
        let policies = (!self.policies.is_empty()).then(|| ("policies", self.policies.join(", ")));
        let all = [
            one("destination", &self.destination),
            one("model", &self.model),
            one("prompt", &self.prompt),
            policies,
            one("bundle", &self.bundle),
        ];
        for (at, (what, owner)) in all.into_iter().flatten().enumerate() {
            let gap = if at == 0 { "" } else { ", " };
            write!(f, "{gap}{owner} ({what})")?;
        }
        Ok(())
    }
}

impl Shadow {
    /// Whether it would have come to something else than this.
    #[must_use]
    pub fn differs(&self, outcome: Outcome, destination: Option<&Name>) -> bool {
        (self.outcome, self.destination.as_ref()) != (outcome, destination)
    }
}

impl From<Decision> for Shadow {
    fn from(decision: Decision) -> Self {
        let Decision { bundle, outcome, destination, code, .. } = decision;
        Self { bundle, outcome, destination: destination.map(|destination| destination.name), code }
    }
}

impl Decision {
    /// The effective sensitivity.
    #[must_use]
    pub fn sensitivity(&self) -> Sensitivity {
        self.labels.sensitivity
    }

    /// Whom alerts and dead letters name.
    #[must_use]
    pub fn owners(&self) -> Owners {
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let at = self.destination.as_ref();
        Owners {
            bundle: named(&self.owner),
            destination: at.and_then(|at| named(&at.owner)),
            model: at.and_then(|at| named(&at.model_owner)),
            prompt: self.prompt_owner.clone(),
            policies: self.policy_owners.clone(),
        }
    }

    /// What is at stake.
    #[must_use]
    pub fn stakes(&self) -> Stakes {
        self.labels.stakes
    }

    /// The decision bound to the exact bytes that were judged.
    #[must_use]
    pub fn bound_to(mut self, content: Digest) -> Self {
        self.content = Some(content);
        self
    }
}
