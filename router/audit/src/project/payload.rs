//! Payloads of roles' messages, read only as far as a leaf speaks of them.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_schemas::attempt::{Attempt, Phase};
use tidegate_schemas::code::Code;
use tidegate_schemas::control::HoldTarget;
use tidegate_schemas::dead::DeadLetter;
use tidegate_schemas::decision::{Outcome, PromptUsed, Scan, Shadow, Switch};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::labels::{KnownLabels, Sensitivity, Stakes};
use tidegate_schemas::release::Guard;
use tidegate_schemas::result::{State, Timings, Usage};
use tidegate_schemas::step::{Step, StepReason};
use tidegate_schemas::subject::Lane;
use uuid::Uuid;

use super::word::{WORDS_MAX, labels, word};
use super::{Effect, Projection};
use crate::erase::{SUBJECTS_MAX, is_reference};
use crate::hold::HoldChange;
use crate::leaf::{ActWord, DecisionLeaf, Detail, PhaseWord, RANGES_MAX, StepWord, VerdictWord};

#[derive(Deserialize)]
struct DecisionHead {
    id: Uuid,
    outcome: Outcome,
    #[serde(default)]
    destination: Option<DestinationHead>,
    determining: Vec<String>,
    labels: LabelsHead,
    #[serde(default)]
    known: KnownLabels,
    scan: Scan,
    facts: FactsHead,
    #[serde(default)]
    code: Option<Code>,
    bundle: Digest,
    #[serde(default)]
    prompt: Option<PromptUsed>,
    #[serde(default)]
    content: Option<Digest>,
    #[serde(default)]
    shadow: Option<Shadow>,
}

#[derive(Deserialize)]
struct DestinationHead {
    name: Name,
    model: String,
    region: Name,
}

#[derive(Deserialize)]
struct LabelsHead {
    sensitivity: Sensitivity,
    #[serde(default)]
    stakes: Stakes,
}

#[derive(Deserialize)]
struct FactsHead {
    directory: Digest,
    #[serde(default)]
    hop: u32,
}

#[derive(Deserialize)]
struct ResultHead {
    state: State,
    #[serde(default)]
    error: Option<ErrorHead>,
    #[serde(default)]
    destination: Option<DestinationHead>,
    #[serde(default)]
    model: Option<ModelHead>,
    #[serde(default)]
    usage: Usage,
    #[serde(default)]
    cost_usd_micros: Option<u64>,
    #[serde(default)]
    timings: Timings,
    #[serde(default)]
    decision: Option<Uuid>,
    #[serde(default)]
    attempts: u32,
}

#[derive(Deserialize)]
struct ErrorHead {
    code: Code,
}

#[derive(Deserialize)]
struct ModelHead {
    requested: String,
    #[serde(default)]
    sha256: Option<Digest>,
    #[serde(default)]
    adapter_sha256: Option<Digest>,
}

#[derive(Deserialize)]
struct ReviewHead {
    task: TaskId,
    agent: Name,
    content: Digest,
    review_by: Timestamp,
    #[serde(default)]
    decision: Option<DecisionHead>,
}

#[derive(Deserialize)]
struct VerdictHead {
    review: Position,
    content: Digest,
    action: ActionHead,
}

#[derive(Deserialize)]
struct ActionHead {
    action: VerdictWord,
}

#[derive(Deserialize)]
struct ControlHead {
    act: ActHead,
}

#[derive(Deserialize)]
struct ActHead {
    act: ActWord,
    #[serde(default)]
    hash: Option<Digest>,
    #[serde(default)]
    plan: Option<Digest>,
    #[serde(default)]
    from: Option<Digest>,
    #[serde(default)]
    flag: Option<Name>,
    #[serde(default)]
    guard: Option<Guard>,
    #[serde(default)]
    since: Option<u64>,
    #[serde(default)]
    against: Option<Digest>,
    #[serde(default)]
    not_wider: Option<Digest>,
    #[serde(default)]
    letter: Option<Position>,
    #[serde(default)]
    switch: Option<Switch>,
    #[serde(default)]
    records: Option<u64>,
    #[serde(default)]
    published: Option<u64>,
    #[serde(default)]
    first: Option<u64>,
    #[serde(default)]
    hold: Option<Uuid>,
    #[serde(default)]
    tenant: Option<Name>,
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    ranges: Vec<(u64, u64)>,
    #[serde(default)]
    code: Option<Code>,
}

/// A control act, as far as holds go.
#[derive(Deserialize)]
struct HoldHead {
    act: HoldAct,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", tag = "act")]
enum HoldAct {
    HoldAdd {
        hold: Uuid,
        target: HoldTarget,
        #[serde(default)]
        until: Option<Timestamp>,
    },
    HoldRemove {
        hold: Uuid,
    },
}

impl Projection {
    /// The decision that stands in the headers.
    pub(super) fn decided(&mut self, headers: &Headers) {
        let head = headers.get(header::DECISION).map(serde_json::from_str::<DecisionHead>);
        match head {
            Some(Ok(head)) => self.decision_head(head),
            Some(Err(_)) => self.malformed = true,
            None => {}
        }
    }

    fn decision_head(&mut self, head: DecisionHead) {
        self.code = self.code.or(head.code);
        let (destination, model, region) = match head.destination {
            Some(d) => (Some(d.name), Some(word(&d.model)), Some(d.region)),
            None => (None, None, None),
        };
        self.decision = Some(DecisionLeaf {
            id: head.id,
            outcome: head.outcome,
            destination,
            model,
            region,
            sensitivity: head.labels.sensitivity,
            stakes: head.labels.stakes,
            labels: labels(head.known),
            policies: head.determining.iter().take(WORDS_MAX).map(|policy| word(policy)).collect(),
            scan: head.scan,
            hop: head.facts.hop,
            bundle: head.bundle,
            directory: head.facts.directory,
            prompt: head.prompt,
            content: head.content,
            shadow: head.shadow,
        });
    }

    pub(super) fn result(&mut self, headers: &Headers, payload: &[u8]) {
        self.decided(headers);
        let Some(head) = self.read::<ResultHead>(payload) else {
            // Whatever it says, it holds the task's one place in RESULTS: nothing else can follow.
            self.effect = Effect::Ended(State::Failed);
            return;
        };
        self.malformed |= !head.state.is_terminal();
        self.state = Some(head.state);
        self.code = head.error.map(|error| error.code);
        self.effect = Effect::Ended(if head.state.is_terminal() { head.state } else { State::Failed });
        self.detail = Some(Detail::Result {
            destination: head.destination.map(|destination| destination.name),
            model: head.model.as_ref().map(|model| word(&model.requested)),
            model_sha256: head.model.as_ref().and_then(|model| model.sha256),
            adapter_sha256: head.model.and_then(|model| model.adapter_sha256),
            usage: head.usage,
            cost_usd_micros: head.cost_usd_micros,
            timings: head.timings,
            decision: head.decision,
            attempts: head.attempts,
        });
    }

    pub(super) fn step(&mut self, payload: &[u8]) {
        let Some(step) = self.read::<Step>(payload) else { return };
        let reason = match step.reason {
            StepReason::Expired => StepWord::Expired,
            StepReason::Off => StepWord::Off,
            StepReason::Fallback { code } => {
                self.code = Some(code);
                StepWord::Fallback
            }
            StepReason::Spent { .. } => {
                self.code = Some(Code::BudgetSpent);
                StepWord::Spent
            }
            StepReason::Scanned { .. } => StepWord::Scanned,
            StepReason::ScanFailed { code } => {
                self.code = Some(code);
                StepWord::ScanFailed
            }
            StepReason::Redacted { .. } => StepWord::Redacted,
            StepReason::Restore { .. } => StepWord::Restore,
        };
        self.detail = Some(Detail::Step { reason, destination: step.destination, attempts: step.attempts });
    }

    pub(super) fn attempt(&mut self, lane: Lane, payload: &[u8]) {
        let Some(attempt) = self.read::<Attempt>(payload) else { return };
        self.agent = Some(attempt.agent);
        self.task = Some(attempt.task);
        let (phase, code, status, paid) = match attempt.phase {
            Phase::Started => (PhaseWord::Started, None, None, None),
            Phase::Retried { code, status } => (PhaseWord::Retried, Some(code), status, None),
            Phase::Returned { code, status } => (PhaseWord::Returned, Some(code), status, None),
            Phase::Late { usage, cost_usd_micros, .. } => {
                (PhaseWord::Late, None, None, Some((usage, cost_usd_micros)))
            }
        };
        self.code = code;
        self.detail = Some(Detail::Attempt {
            attempt: attempt.attempt,
            phase,
            lane,
            target: attempt.target,
            ticket: attempt.ticket,
            content: attempt.content,
            content_bytes: attempt.content_bytes,
            host: attempt.host.as_deref().map(word),
            status,
            usage: paid.map(|(usage, _)| usage),
            cost_usd_micros: paid.and_then(|(_, cost)| cost),
        });
    }

    pub(super) fn review(&mut self, headers: &Headers, queue: Name, payload: &[u8]) {
        self.decided(headers);
        let Some(head) = self.read::<ReviewHead>(payload) else { return };
        self.agent = Some(head.agent);
        self.task = Some(head.task);
        if let (None, Some(decision)) = (&self.decision, head.decision) {
            self.decision_head(decision);
        }
        self.effect = Effect::Held(head.review_by);
        self.detail = Some(Detail::Review { queue, review_by: head.review_by, content: head.content });
    }

    pub(super) fn verdict(&mut self, queue: Name, reviewer: Name, payload: &[u8]) {
        let Some(head) = self.read::<VerdictHead>(payload) else { return };
        self.cause = self.cause.take().or_else(|| Some(head.review.clone()));
        self.link = Some(head.review.clone());
        self.detail = Some(Detail::Verdict {
            queue,
            reviewer,
            action: head.action.action,
            review: head.review,
            content: head.content,
        });
    }

    pub(super) fn dead(&mut self, role: Name, payload: &[u8]) {
        let Some(letter) = self.read::<DeadLetter>(payload) else { return };
        self.cause = self.cause.take().or_else(|| Some(letter.message.clone()));
        self.link = Some(letter.message.clone());
        self.task = letter.task;
        self.code = Some(letter.code);
        self.detail = Some(Detail::Dead { role, message: letter.message, delivered: letter.delivered });
    }

    pub(super) fn control(&mut self, operator: Name, payload: &[u8]) {
        let Some(ControlHead { mut act }) = self.read::<ControlHead>(payload) else { return };
        if matches!(act.act, ActWord::HoldAdd | ActWord::HoldRemove) {
            self.hold = self.read::<HoldHead>(payload).map(|head| match head.act {
                HoldAct::HoldAdd { hold, target, until } => HoldChange::Add { hold, target, until },
                HoldAct::HoldRemove { hold } => HoldChange::Remove { hold },
            });
        }
        let switch = act.switch.unwrap_or_default();
        let first = act.ranges.first().and_then(|(first, _)| format!("{}:{first}", act.stream?).parse().ok());
        let deleted = |(from, to): &(u64, u64)| to.saturating_sub(*from).saturating_add(1);
        let deleted = first.is_some().then(|| act.ranges.iter().map(deleted).fold(0, u64::saturating_add));
        if act.act != ActWord::EraseMessages || act.ranges.len() > RANGES_MAX {
            act.ranges.clear();
        }
        self.code = act.code.or(self.code);
        self.detail = Some(Detail::Control {
            operator,
            act: act.act,
            hash: act.hash.or(act.plan).or(act.from),
            letter: act.letter.or(first),
            lane: switch.lane,
            tenant: switch.tenant.or(act.tenant),
            target: switch.target,
            subjects: act.subjects.into_iter().filter(|name| is_reference(name)).take(SUBJECTS_MAX).collect(),
            records: act.records.or(act.published).or(deleted),
            ranges: act.ranges,
            first: act.first,
            hold: act.hold,
            flag: act.flag,
            guard: act.guard,
            since: act.since,
            against: act.against.or(act.not_wider),
        });
    }

    fn read<T: DeserializeOwned>(&mut self, payload: &[u8]) -> Option<T> {
        let read = serde_json::from_slice(payload).ok();
        self.malformed |= read.is_none();
        read
    }
}
