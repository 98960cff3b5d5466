//! What another bundle would cost, how long its destinations take, and what would leave: then, now, and the difference.
//!
//! Estimates, as the judge makes them: a destination's prices by the most tokens that a task may take, and the latency that
//! it states. What was really billed or waited for is in the record of each attempt.

use serde::Serialize;
use tidegate_policies::{Bundle, Tokens};
use tidegate_schemas::decision::{Decision, Outcome};
use tidegate_schemas::subject::Lane;

/// What changes in sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Deltas {
    /// What it costs.
    pub cost: Cost,
    /// How long it takes.
    pub latency: Latency,
    /// What leaves.
    pub egress: Egress,
}

/// What all that runs costs. What is held or rejected costs nothing here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// As it was decided.
    pub before: Spent,
    /// As it is judged now.
    pub after: Spent,
    /// The difference, millionths of a US dollar.
    pub delta_usd_micros: i64,
}

/// A sum of costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Decisions that run.
    pub decisions: u64,
    /// Millionths of a US dollar, at most.
    pub usd_micros: u64,
}

/// How long destinations say that they take, over what runs both then and now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Decisions that run both then and now.
    pub decisions: u64,
    /// Sum as it was decided, milliseconds.
    pub before_ms: u64,
    /// Sum as it is judged now.
    pub after_ms: u64,
    /// The difference of the sums.
    pub delta_ms: i64,
}

/// What leaves for providers. A task that is decided twice counts twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Egress {
    /// As it was decided.
    pub before: Left,
    /// As it is judged now.
    pub after: Left,
    /// What stayed and would leave.
    pub newly: Left,
    /// What left and would stay.
    pub no_longer: Left,
}

/// A sum of what leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Decisions.
    pub decisions: u64,
    /// Bytes of the tasks' texts.
    pub bytes: u64,
}

/// Work that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    lane: Lane,
    usd_micros: u64,
    latency_ms: u64,
}

// === impl Run ===

impl Run {
    /// The run that a decision of this bundle starts. None where nothing runs.
    pub(super) fn of(decision: &Decision, bundle: &Bundle, tokens: Tokens) -> Option<Self> {
        let lane = match decision.outcome {
            Outcome::Local => Lane::Local,
            Outcome::Cloud | Outcome::Redact => Lane::Cloud,
            Outcome::Hold | Outcome::Reject => return None,
        };
        let spec = bundle.destination(&decision.destination.as_ref()?.name)?;
        Some(Self { lane, usd_micros: spec.cost_usd_micros(tokens), latency_ms: spec.latency_ms })
    }

    fn leaves(run: Option<&Self>) -> bool {
        run.is_some_and(|run| run.lane == Lane::Cloud)
    }
}

// === impl Deltas ===

impl Deltas {
    /// Adds one decision, each side on so many bytes.
    pub(super) fn add(&mut self, before: Option<&Run>, after: Option<&Run>, bytes: [u64; 2]) {
        self.cost.add(before, after);
        if let (Some(before), Some(after)) = (before, after) {
            self.latency.add(before.latency_ms, after.latency_ms);
        }
        self.egress.add(Run::leaves(before), Run::leaves(after), bytes);
    }
}

// === impl Cost ===

impl Cost {
    fn add(&mut self, before: Option<&Run>, after: Option<&Run>) {
        for (sum, run) in [(&mut self.before, before), (&mut self.after, after)] {
            if let Some(run) = run {
                sum.decisions += 1;
                sum.usd_micros = sum.usd_micros.saturating_add(run.usd_micros);
            }
        }
        self.delta_usd_micros = difference(self.before.usd_micros, self.after.usd_micros);
    }
}

// === impl Latency ===

impl Latency {
    fn add(&mut self, before_ms: u64, after_ms: u64) {
        self.decisions += 1;
        self.before_ms = self.before_ms.saturating_add(before_ms);
        self.after_ms = self.after_ms.saturating_add(after_ms);
        self.delta_ms = difference(self.before_ms, self.after_ms);
    }
}

// === impl Egress ===

impl Egress {
    fn add(&mut self, before: bool, after: bool, [then, now]: [u64; 2]) {
        let sums = [
            (&mut self.before, before, then),
            (&mut self.after, after, now),
            (&mut self.newly, after && !before, now),
            (&mut self.no_longer, before && !after, then),
        ];
        for (sum, counts, bytes) in sums {
            if counts {
                sum.decisions += 1;
                sum.bytes = sum.bytes.saturating_add(bytes);
            }
        }
    }
}

/// What is more now than before.
fn difference(before: u64, after: u64) -> i64 {
    let signed = |sum| i64::try_from(sum).unwrap_or(i64::MAX);
    signed(after).saturating_sub(signed(before))
}

#[cfg(test)]
mod tests {
    use tidegate_schemas::subject::Lane;

    use super::{Deltas, Left, Run, Spent};

    const LOCAL: Run = Run { lane: Lane::Local, usd_micros: 0, latency_ms: 1_500 };
    const CLOUD: Run = Run { lane: Lane::Cloud, usd_micros: 40, latency_ms: 700 };

    #[test]
    fn costs_latencies_and_egress_are_summed_both_ways() {
        let mut deltas = Deltas::default();
        deltas.add(Some(&LOCAL), Some(&CLOUD), [10; 2]);
        deltas.add(Some(&LOCAL), Some(&CLOUD), [20; 2]);
        deltas.add(Some(&CLOUD), Some(&LOCAL), [5; 2]);
        deltas.add(Some(&CLOUD), Some(&CLOUD), [7; 2]);
        deltas.add(Some(&CLOUD), None, [100; 2]);
        deltas.add(None, None, [1_000; 2]);
        let Deltas { cost, latency, egress } = deltas;
        assert_eq!(cost.before, Spent { decisions: 5, usd_micros: 120 });
        assert_eq!(cost.after, Spent { decisions: 4, usd_micros: 120 });
        assert_eq!(cost.delta_usd_micros, 0);
        assert_eq!((latency.decisions, latency.before_ms, latency.after_ms), (4, 4_400, 3_600));
        assert_eq!(latency.delta_ms, -800, "what runs in one of both only is compared with nothing");
        assert_eq!(egress.before, Left { decisions: 3, bytes: 112 });
        assert_eq!(egress.after, Left { decisions: 3, bytes: 37 });
        assert_eq!(egress.newly, Left { decisions: 2, bytes: 30 });
        assert_eq!(egress.no_longer, Left { decisions: 2, bytes: 105 });
    }

    #[test]
    fn nothing_that_runs_changes_nothing() {
        let mut deltas = Deltas::default();
        deltas.add(None, None, [1_000; 2]);
        assert_eq!(deltas, Deltas::default());
    }
}
