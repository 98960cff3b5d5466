//! What changes in one decision: a flip, another place, or nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use tidegate_policies::DestinationSpec;
use tidegate_schemas::decision::{Decision, Destination, Outcome};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;

use super::example::Kind;

/// What happens to a task; of what is held also whither it would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It runs inside.
    Local,
    /// It leaves.
    Cloud,
    /// A person is asked whether it may run inside.
    HoldLocal,
    /// A person is asked whether it may leave.
    HoldCloud,
    /// Neither.
    Reject,
}

/// Every flip, the most dangerous first: what leaves, then what is let in or may leave if a person agrees, then what asks
/// nobody any more.
const BY_DANGER: [(Fate, Fate); 20] = [
    (Fate::Local, Fate::Cloud),
    (Fate::Reject, Fate::Cloud),
    (Fate::Reject, Fate::Local),
    (Fate::HoldLocal, Fate::Cloud),
    (Fate::HoldCloud, Fate::Cloud),
    (Fate::Local, Fate::HoldCloud),
    (Fate::HoldLocal, Fate::HoldCloud),
    (Fate::Reject, Fate::HoldCloud),
    (Fate::HoldLocal, Fate::Local),
    (Fate::HoldCloud, Fate::Local),
    (Fate::Reject, Fate::HoldLocal),
    (Fate::Local, Fate::HoldLocal),
    (Fate::HoldCloud, Fate::HoldLocal),
    (Fate::Cloud, Fate::Local),
    (Fate::Cloud, Fate::HoldCloud),
    (Fate::Cloud, Fate::HoldLocal),
    (Fate::Cloud, Fate::Reject),
    (Fate::Local, Fate::Reject),
    (Fate::HoldCloud, Fate::Reject),
    (Fate::HoldLocal, Fate::Reject),
];
/// How many of them permit more than was permitted.
const WIDER: usize = 11;

/// What happened to a task, and what would happen instead. Its order is the danger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip {
    /// As it was recorded.
    pub from: Fate,
    /// As it is judged now.
    pub to: Fate,
}

/// What becomes of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another outcome.
    Flipped(Flip),
    /// The same outcome at another destination, or the same one as something else: another model, address or promise.
    Moved(Fate),
    /// The same outcome at the same place.
    None,
}

/// Where work runs: what its decision names, and what the bundle says of the place. Whom to ask about it is no part of it,
/// nor what it costs, how long it takes and what it can do.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Place<'a> {
    name: &'a Name,
    lane: Lane,
    target: &'a Name,
    model: &'a str,
    region: &'a Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Terms<'a>,
}

/// What a bundle says of a place, as [`DestinationSpec::terms`] gives it. None where the bundle has no such place.
pub(super) type Terms<'a> = Option<&'a DestinationSpec>;

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

// === impl Fate ===

impl Fate {
    /// What happens by this decision.
    #[must_use]
    pub fn of(decision: &Decision) -> Self {
        let leaves = decision.destination.as_ref().is_some_and(|place| place.lane == Lane::Cloud);
        match decision.outcome {
            Outcome::Local => Self::Local,
            // What is left of it leaves.
            Outcome::Cloud | Outcome::Redact => Self::Cloud,
            Outcome::Hold if leaves => Self::HoldCloud,
            Outcome::Hold => Self::HoldLocal,
            Outcome::Reject => Self::Reject,
        }
    }

    /// In lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::HoldLocal => "hold_local",
            Self::HoldCloud => "hold_cloud",
            Self::Reject => "reject",
        }
    }
}

// === impl Change ===

impl Change {
    /// What becomes of it, each decision with the terms of its place.
    pub(super) fn of(before: (&Decision, Terms<'_>), after: (&Decision, Terms<'_>)) -> Self {
        let (from, to) = (Fate::of(before.0), Fate::of(after.0));
        if from != to {
            return Self::Flipped(Flip { from, to });
        }
        let (here, there) = (Place::of(before.0, before.1), Place::of(after.0, after.1));
        if here == there { Self::None } else { Self::Moved(from) }
    }
}

// === impl Place ===

impl<'a> Place<'a> {
    pub(super) fn of(decision: &'a Decision, terms: Terms<'a>) -> Option<Self> {
        let Destination { name, lane, target, model, region, .. } = decision.destination.as_ref()?;
        Some(Self { name, lane: *lane, target, model, region, terms })
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::{Value, json};
    use tidegate_schemas::decision::Decision;

    use super::{BY_DANGER, Change, Fate, Flip};

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
        let all = [Fate::Local, Fate::Cloud, Fate::HoldLocal, Fate::HoldCloud, Fate::Reject];
        let mut flips: Vec<Flip> = all
            .into_iter()
            .flat_map(|from| all.into_iter().map(move |to| Flip { from, to }))
            .filter(|flip| flip.from != flip.to)
            .collect();
        flips.sort();
        let order: Vec<(Fate, Fate)> = flips.iter().map(|flip| (flip.from, flip.to)).collect();
        assert_eq!(order, BY_DANGER);
        // What leaves, or may: how far each fate lets a task go, asked or not.
        let reach = |fate: Fate| match fate {
            Fate::Reject => 0,
            Fate::HoldLocal => 1,
            Fate::Local => 2,
            Fate::HoldCloud => 3,
            Fate::Cloud => 4,
        };
        for flip in flips {
            // To run inside unasked is more than to be asked about leaving: nobody looks at it.
            let unasked = (flip.from, flip.to) == (Fate::HoldCloud, Fate::Local);
            assert_eq!(flip.is_wider(), unasked || reach(flip.to) > reach(flip.from), "{flip}");
        }
    }

    #[test]
    fn what_is_held_for_the_cloud_is_told_from_what_is_held_here() {
        let here = decision("hold", Some("local-chat"), &[]);
        let there = decision("hold", Some("openai"), &[]);
        let wider = Flip { from: Fate::HoldLocal, to: Fate::HoldCloud };
        assert_eq!(Change::of((&here, None), (&there, None)), Change::Flipped(wider));
        assert!(wider.is_wider());
        let narrower = Flip { from: Fate::HoldCloud, to: Fate::HoldLocal };
        assert_eq!(Change::of((&there, None), (&here, None)), Change::Flipped(narrower));
        assert!(!narrower.is_wider(), "negative control");
    }

    #[test]
    fn a_change_is_told_from_another_place_and_from_other_owners() {
        let of = |before: &Decision, after: &Decision| Change::of((before, None), (after, None));
        let here = decision("cloud", Some("openai"), &["a"]);
        let there = decision("cloud", Some("anthropic"), &["a"]);
        let flip = Flip { from: Fate::Local, to: Fate::Cloud };
        assert_eq!(of(&decision("local", Some("local-chat"), &[]), &here), Change::Flipped(flip));
        assert_eq!(of(&here, &there), Change::Moved(Fate::Cloud));
        assert_eq!(of(&here, &decision("cloud", Some("openai"), &["b"])), Change::None);
        let mut owned = here.clone();
        owned.destination.as_mut().unwrap().owner = "another".to_owned();
        assert_eq!(of(&here, &owned), Change::None, "whom to ask is no place");
        owned.destination.as_mut().unwrap().model = "another".to_owned();
        assert_eq!(of(&here, &owned), Change::Moved(Fate::Cloud), "negative control");
    }

    #[test]
    fn a_flip_is_a_key_in_json() {
        let flip = Flip { from: Fate::Reject, to: Fate::Local };
        let told: Value = serde_json::to_value(std::collections::BTreeMap::from([(flip, 1)])).unwrap();
        assert_eq!(told, json!({ "reject->local": 1 }));
    }
}
