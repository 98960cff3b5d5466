//! What a task is once what was found in it has been replaced by tokens, and whether that may leave.
//!
//! Two permissions are needed: `RedactThenCloud` for the task as it is, with all that was found in it; and `RouteCloud` for what
//! is left, judged as any other text. Before the redaction what is left is foreseen; after it, it was looked at. Restricted data
//! is never released so, whatever a bundle says.

use std::collections::BTreeMap;

use cedar_policy::Context;
use tidegate_schemas::decision::{Considering, Decision, Facts, Redaction, Scan};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Tenant;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::redact::{ByModel, Span};
use tidegate_schemas::scan::ModelScan;
use tidegate_schemas::task::{Input, Task};

use super::consider::{FLOOR, Round};
use super::draft::Draft;
use super::{Judge, said};
use crate::destination::DestinationSpec;
use crate::engine::{Answers, Circumstances, Question, Seat};
use crate::taxonomy::NO_FINDING;
use crate::taxonomy::scan::Findings;

/// Most values of a task that are replaced: the vault takes as many in one question.
const VALUES_MAX: u64 = 1_024;

/// A task of which what was found is replaced.
pub(super) struct Released {
    /// The task as it is.
    whole: Context,
    /// What is left of it.
    left: Circumstances,
    /// What is answered about that.
    pub(super) answers: Answers,
    /// Whether what is left was looked at, and nothing is found in it any more. Unknown before.
    is_verified: Option<bool>,
}

type Verdict = (Considering, Vec<String>);

impl Judge {
    /// What a task would be without what was found in it. None where the bundle knows no redaction, nothing in the task can be
    /// replaced, or it is restricted.
    pub(super) fn released(
        &self,
        task: &Task,
        (tenant, facts): (&Tenant, &Facts),
        draft: &Draft<'_>,
        circumstances: &Circumstances,
        seat: &Seat,
    ) -> Option<Released> {
        if !self.engine.knows_redaction() || draft.labels.sensitivity == Sensitivity::Restricted {
            return None;
        }
        // What a reviewer wrote stands in no message that a step could name, so it could not be looked at again.
        let edited = facts.approval.as_ref().is_some_and(|approval| approval.edited);
        if edited || draft.findings.values().map(|count| u64::from(*count)).sum::<u64>() > VALUES_MAX {
            return None;
        }
        let by_model = self.scanned(&facts.model_scan, Findings::default()).1;
        if by_model.total() > 0 && !self.replaces(facts) {
            return None;
        }
        let found = match &facts.redaction {
            Some(redaction) => Findings {
                counts: redaction.findings.clone(),
                categories: redaction.categories.clone(),
                ..Findings::default()
            },
            None => match self.scanner.left_of(&draft.findings, &by_model.counts) {
                Some(left) => left,
                // Nothing to replace; whether what the session held may be left behind is asked all the same.
                None if facts.session.is_some() && draft.findings.is_empty() => Findings::default(),
                None => return None,
            },
        };
        // By `RedactThenCloud` a policy releases what was found, and what the session held; never what was said or inherited.
        let said = said(task, facts.inherited.as_ref());
        let labels = self.bundle.taxonomy().raise(&said, &found.categories);
        let scan: &Scan = &draft.scan;
        let left = self.circumstances(task, &labels, tenant, facts, (scan, found.total()));
        let answers = self.engine.answers(seat, &left).ok()?;
        let whole = self.engine.context(circumstances).ok()?;
        let is_verified = facts.redaction.as_ref().map(|redaction| redaction.is_verified());
        Some(Released { whole, left, answers, is_verified })
    }

    /// Whether all that was found in a task could be replaced by tokens, were it permitted.
    pub(crate) fn could_be_redacted(&self, decision: &Decision) -> bool {
        self.engine.knows_redaction()
            && decision.labels.sensitivity != Sensitivity::Restricted
            && self.scanner.left_of(&decision.findings, &BTreeMap::new()).is_some()
    }

    /// Whether what the model found is among what is replaced: who redacts finds it again by the same weights, says where, and has
    /// replaced it once the task comes back.
    fn replaces(&self, facts: &Facts) -> bool {
        let ModelScan::Done { model, .. } = &facts.model_scan else { return false };
        let is_pinned = self.pinned().is_some_and(|pinned| pinned.is_none_or(|pinned| pinned == *model));
        let is_same = |redaction: &Redaction| redaction.model == Some(*model);
        is_pinned && facts.redaction.as_ref().is_none_or(is_same)
    }

    /// The bundle's model, where it has one: its weights, where it pins them.
    fn pinned(&self) -> Option<Option<Digest>> {
        self.bundle.taxonomy().model_scan.as_ref().map(|spec| spec.sha256)
    }

    /// The model whose findings are to be replaced beside those of the recognisers, where the bundle has one, and what of them.
    #[must_use]
    pub fn replaced_by_model(&self, decision: &Decision) -> Option<ByModel> {
        let entities = &self.bundle.taxonomy().model_entities;
        let entities = entities.iter().filter(|(_, category)| category.as_str() != NO_FINDING);
        Some(ByModel {
            sha256: self.pinned()?,
            entities: entities.map(|(entity, category)| (entity.clone(), category.clone())).collect(),
            required: matches!(decision.scan, Scan::Model(_)),
        })
    }

    /// What is found in an input that would leave.
    #[must_use]
    pub fn found_in(&self, input: &Input) -> Findings {
        let named = input.named();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        self.scanner.scan(&input.texts()).or(self.scanner.scan(&named))
    }

    /// Where in each text something was found that can be replaced.
    #[must_use]
    pub fn spans(&self, texts: &[&str]) -> Vec<Vec<Span>> {
        texts.iter().map(|text| self.scanner.spans(text)).collect()
    }
}

impl Round<'_> {
    /// Whether the task comes back redacted, and this is where it would leave for.
    pub(super) fn is_redacted(&self, index: usize) -> bool {
        let spec = self.judge.bundle.destinations().get(index);
        self.facts.redaction.is_some()
            && spec.is_some_and(|spec| spec.lane == tidegate_schemas::subject::Lane::Cloud)
    }

    /// A cloud destination's verdict, where the task as it is was denied there, or comes back redacted: then nothing else leaves.
    pub(super) fn once_redacted(&self, index: usize, spec: &DestinationSpec, as_it_is: Verdict) -> Verdict {
        let comes_back = self.facts.redaction.is_some();
        let is_denied = matches!(as_it_is.0, Considering::Forbidden | Considering::NotPermitted);
        if !(is_denied || comes_back && as_it_is.0 == Considering::Permitted) {
            return as_it_is;
        }
        let floor = |rule: &str| (Considering::Forbidden, vec![format!("{FLOOR}{rule}")]);
        let Some(released) = &self.released else {
            return if comes_back { floor("redaction") } else { as_it_is };
        };
        if released.is_verified == Some(false) {
            return floor("redaction");
        }
        match self.judged_released(index, spec, released) {
            Ok(policies) if comes_back => (Considering::Permitted, policies),
            Ok(policies) => (Considering::NeedsRedaction, policies),
            // What keeps the task as it is says more than what would keep the rest.
            Err((Considering::Forbidden | Considering::NotPermitted, _)) if !comes_back => as_it_is,
            Err(verdict) => verdict,
        }
    }

    fn judged_released(
        &self,
        index: usize,
        spec: &DestinationSpec,
        released: &Released,
    ) -> Result<Vec<String>, Verdict> {
        let engine = &self.judge.engine;
        let asked = engine.ask_redaction(self.seat, index, &released.whole);
        let route = engine.answer(&released.answers, self.seat, Question::RouteCloud, index);
        for answer in [&asked, &route] {
            if answer.errored {
                return Err((Considering::Errored, answer.policies.clone()));
            }
            if !answer.allowed {
                return Err((self.denial(&answer.policies), answer.policies.clone()));
            }
        }
        if let Some(rule) = self.floor(spec, &released.left) {
            return Err((Considering::Forbidden, vec![format!("{FLOOR}{rule}")]));
        }
        if released.left.settled.off.contains(&spec.name) {
            return Err((Considering::Off, Vec::new()));
        }
        if let Some(kept) = self.kept_back(spec) {
            return Err((kept, Vec::new()));
        }
        let mut policies = [asked.policies, route.policies].concat();
        policies.sort_unstable();
        policies.dedup();
        Ok(policies)
    }
}
