//! Where work ran: data class × lane × region × provider × model.

use serde::Serialize;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::result::{State, Usage};
use tidegate_schemas::subject::Lane;

use super::counts::Capped;
use crate::leaf::{Detail, Leaf, PhaseWord};

/// What a region, provider or model is called where the record does not say.
pub(super) const UNKNOWN: &str = "unknown";

/// One place where work of one class ran, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Data class.
    pub class: Sensitivity,
    /// Inside or outside the boundary.
    pub lane: Lane,
    /// The region that the decision names.
    pub region: String,
    /// The pool (local) or provider (cloud).
    pub provider: String,
    /// The model that the decision names.
    pub model: String,
    /// How much.
    #[serde(flatten)]
    pub ran: Ran,
}

/// How much work ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// Works dispatched.
    pub dispatched: u64,
    /// Attempts begun: on the cloud lane, calls that were permitted and about to be made.
    pub attempts: u64,
    /// Attempts that ended without an answer: another followed, or the work went back.
    pub failed_attempts: u64,
    /// Bytes of the attempts begun, on the cloud lane.
    pub bytes: u64,
    /// Tasks that completed there.
    pub completed: u64,
    /// Tasks that ended there in another way.
    pub failed: u64,
    /// Tokens of its results and of what was paid for and not used.
    pub tokens: Tokens,
    /// Cost of the same, millionths of a US dollar, as far as prices are known.
    pub cost_usd_micros: u64,
    /// Answers whose price is not known.
    pub unpriced: u64,
}

/// Tokens, as models counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
}

/// Places while they are counted.
#[derive(Debug, Default)]
pub(super) struct Places {
    rows: Capped<(Sensitivity, Lane, String, String, String), Ran>,
    /// All of the cloud lane, also what found no row.
    left: Ran,
}

// === impl Places ===

impl Places {
    /// Counts at the place of a work.
    fn count(&mut self, work: &Leaf, count: impl Fn(&mut Ran)) {
        let (Some(decision), Some(Detail::Work { lane, target, .. })) = (&work.decision, &work.detail) else {
            return;
        };
        if *lane == Lane::Cloud {
            count(&mut self.left);
        }
        let region = decision.region.as_ref().map_or(UNKNOWN, |region| region.as_str());
        let model = decision.model.as_deref().unwrap_or(UNKNOWN);
        let key = (decision.sensitivity, *lane, region.to_owned(), target.to_string(), model.to_owned());
        if let Some(ran) = self.rows.at(key) {
            count(ran);
        }
    }

    pub(super) fn dispatched(&mut self, work: &Leaf) {
        self.count(work, |ran| ran.dispatched += 1);
    }

    pub(super) fn attempt(&mut self, work: &Leaf, attempt: &Leaf) {
        let Some(Detail::Attempt { phase, content_bytes, usage, cost_usd_micros, .. }) = &attempt.detail
        else {
            return;
        };
        self.count(work, |ran| match phase {
            PhaseWord::Started => {
                ran.attempts += 1;
                ran.bytes = ran.bytes.saturating_add(content_bytes.unwrap_or(0));
            }
            PhaseWord::Retried | PhaseWord::Returned => ran.failed_attempts += 1,
            PhaseWord::Late => ran.paid(&usage.unwrap_or_default(), *cost_usd_micros),
        });
    }

    pub(super) fn result(&mut self, work: &Leaf, result: &Leaf) {
        let Some(Detail::Result { usage, cost_usd_micros, .. }) = &result.detail else { return };
        self.count(work, |ran| {
            match result.state {
                Some(State::Completed) => ran.completed += 1,
                _ => ran.failed += 1,
            }
            ran.paid(usage, *cost_usd_micros);
        });
    }

    pub(super) fn left_out(&self) -> u64 {
        self.rows.left_out()
    }

    /// Each place, and all that left.
    pub(super) fn told(self) -> (Vec<Place>, Ran) {
        let rows = self.rows.into_rows(|((class, lane, region, provider, model), ran)| Place {
            class,
            lane,
            region,
            provider,
            model,
            ran,
        });
        (rows, self.left)
    }
}

// === impl Ran ===

impl Ran {
    fn paid(&mut self, usage: &Usage, cost_usd_micros: Option<u64>) {
        self.tokens.add(usage);
        match cost_usd_micros {
            Some(cost) => self.cost_usd_micros = self.cost_usd_micros.saturating_add(cost),
            None => self.unpriced += 1,
        }
    }
}

impl Tokens {
    fn add(&mut self, usage: &Usage) {
        self.input = self.input.saturating_add(usage.input_tokens);
        self.output = self.output.saturating_add(usage.output_tokens);
    }
}
