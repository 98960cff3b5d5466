//! What changes in one decision: a flip, another place, or nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use tidegate_schemas::decision::{Decision, Destination, Outcome};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;

use super::example::Kind;

/// Every flip, the most dangerous first: what leaves, then what is let in, then what asks nobody any more.
const BY_DANGER: [(Outcome, Outcome); 12] = [
    (Outcome::Local, Outcome::Cloud),
    (Outcome::Reject, Outcome::Cloud),
    (Outcome::Reject, Outcome::Local),
    (Outcome::Hold, Outcome::Cloud),
    (Outcome::Hold, Outcome::Local),
    (Outcome::Reject, Outcome::Hold),
    (Outcome::Local, Outcome::Hold),
    (Outcome::Cloud, Outcome::Local),
    (Outcome::Cloud, Outcome::Hold),
    (Outcome::Cloud, Outcome::Reject),
    (Outcome::Local, Outcome::Reject),
    (Outcome::Hold, Outcome::Reject),
];
/// How many of them permit more than was permitted.
const WIDER: usize = 6;

/// What happened to a task, and what would happen instead. Its order is the danger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip {
    /// As it was recorded.
    pub from: Outcome,
    /// As it is judged now.
    pub to: Outcome,
}

/// What becomes of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another outcome.
    Flipped(Flip),
    /// The same outcome at another destination, or another model there.
    Moved(Outcome),
    /// The same outcome at the same place.
    None,
}

/// Where work runs, without whom to ask about it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Place<'a> {
    name: &'a Name,
    lane: Lane,
    target: &'a Name,
    model: &'a str,
    region: &'a Name,
}

/// Flips as a list, in their order.
pub(super) fn flips<S: Serializer>(flips: &BTreeMap<Flip, Kind>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        flip: Flip,
        wider: bool,
        #[serde(flatten)]
        kind: &'a Kind,
    }
    let rows = flips.iter().map(|(flip, kind)| Row { flip: *flip, wider: flip.is_wider(), kind });
    serializer.collect_seq(rows)
}

// === impl Flip ===

impl Flip {
    /// Whether more is permitted than was.
    #[must_use]
    pub fn is_wider(self) -> bool {
        self.rank() < WIDER
    }

    fn rank(self) -> usize {
        BY_DANGER.iter().position(|pair| *pair == (self.from, self.to)).unwrap_or(BY_DANGER.len())
    }
}

impl Ord for Flip {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |flip: &Self| (flip.rank(), flip.from, flip.to);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Flip {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.from.as_str(), self.to.as_str())
    }
}

impl Serialize for Flip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Change ===

impl Change {
    /// What becomes of it.
    #[must_use]
    pub fn of(before: &Decision, after: &Decision) -> Self {
        if before.outcome != after.outcome {
            return Self::Flipped(Flip { from: before.outcome, to: after.outcome });
        }
        if Place::of(before) == Place::of(after) { Self::None } else { Self::Moved(before.outcome) }
    }
}

// === impl Place ===

impl<'a> Place<'a> {
    pub(super) fn of(decision: &'a Decision) -> Option<Self> {
        let Destination { name, lane, target, model, region, .. } = decision.destination.as_ref()?;
        Some(Self { name, lane: *lane, target, model, region })
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::{Value, json};
    use tidegate_schemas::decision::{Decision, Outcome};

    use super::{BY_DANGER, Change, Flip};

    /// A decision of this outcome at a place of this name, determined by these policies.
    pub(in crate::rejudge::backtest) fn decision(
        outcome: &str,
        place: Option<&str>,
        policies: &[&str],
    ) -> Decision {
        let id = "01935000-0000-7000-8000-000000000001";
        let at = |name: &str| {
            let lane = if name.starts_with("local") { "local" } else { "cloud" };
            json!({ "name": name, "lane": lane, "target": "t", "model": "m", "region": "eu", "owner": "o" })
        };
        let mut value = json!({
            "schema_version": 1, "id": id, "outcome": outcome, "considered": [], "determining": policies,
            "labels": {"sensitivity": "internal"},
            "facts": {
                "decision_id": id, "now": "2026-11-23T08:30:00Z", "directory": "00".repeat(32), "egress_ready": true
            },
            "scan": "recognisers", "sentence": "s", "bundle": "11".repeat(32), "owner": "ops"
        });
        if let Some(name) = place {
            value["destination"] = at(name);
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_flip_has_its_place_and_the_dangerous_ones_come_first() {
        let all = [Outcome::Local, Outcome::Cloud, Outcome::Hold, Outcome::Reject];
        let mut flips: Vec<Flip> = all
            .into_iter()
            .flat_map(|from| all.into_iter().map(move |to| Flip { from, to }))
            .filter(|flip| flip.from != flip.to)
            .collect();
        flips.sort();
        let order: Vec<(Outcome, Outcome)> = flips.iter().map(|flip| (flip.from, flip.to)).collect();
        assert_eq!(order, BY_DANGER);
        let wider: Vec<String> =
            flips.iter().filter(|flip| flip.is_wider()).map(ToString::to_string).collect();
        let first = ["local->cloud", "reject->cloud", "reject->local", "hold->cloud", "hold->local"];
        assert_eq!(wider, [&first[..], &["reject->hold"]].concat());
    }

    #[test]
    fn a_change_is_told_from_another_place_and_from_other_owners() {
        let here = decision("cloud", Some("openai"), &["a"]);
        let there = decision("cloud", Some("anthropic"), &["a"]);
        let flip = Flip { from: Outcome::Local, to: Outcome::Cloud };
        assert_eq!(Change::of(&decision("local", Some("local-chat"), &[]), &here), Change::Flipped(flip));
        assert_eq!(Change::of(&here, &there), Change::Moved(Outcome::Cloud));
        assert_eq!(Change::of(&here, &decision("cloud", Some("openai"), &["b"])), Change::None);
        let mut owned = here.clone();
        owned.destination.as_mut().unwrap().owner = "another".to_owned();
        assert_eq!(Change::of(&here, &owned), Change::None, "whom to ask is no place");
        owned.destination.as_mut().unwrap().model = "another".to_owned();
        assert_eq!(Change::of(&here, &owned), Change::Moved(Outcome::Cloud), "negative control");
    }

    #[test]
    fn a_flip_is_a_key_in_json() {
        let flip = Flip { from: Outcome::Reject, to: Outcome::Local };
        let told: Value = serde_json::to_value(std::collections::BTreeMap::from([(flip, 1)])).unwrap();
        assert_eq!(told, json!({ "reject->local": 1 }));
    }
}
