//! Gates: how much may change before a program that asks is told no.

use std::fmt;
use std::str::FromStr;

use super::change::{Fate, Flip};
use serde::{Serialize, Serializer};

/// A whole, in hundredths of a percent.
const WHOLE: u32 = 10_000;

/// Changes of some kind, and how many of them there may be: `local->cloud>0`, `deny->allow>0.5%`, `cloud->cloud>0`, `prompts>0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Which changes.
    pub about: About,
    /// The most that passes.
    pub most: Most,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// What happens to tasks: what was one, and is the other; of the same two, what goes elsewhere.
    Fates {
        /// As recorded.
        from: Words,
        /// As judged.
        to: Words,
    },
    /// The same, here or elsewhere, with other obligations or another code.
    Terms,
    /// The same, here or elsewhere, determined by other policies.
    Policies,
    /// Another sensitivity, whatever comes of it.
    Labels,
    /// Another version of the prompt, whatever comes of it.
    Prompts,
}

/// How many are not too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Most {
    /// So many.
    Count(u64),
    /// So many of all, in hundredths of a percent.
    Share(u32),
}

/// What a gate says of a fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// This one.
    One(Fate),
    /// It runs, on either lane.
    Allow,
    /// It is held, for either lane.
    Hold,
    /// Whatever it is.
    Any,
}

/// Why a text is no gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadGate {
    /// Its form.
    #[error(
        "a gate is FROM->TO>MOST, like `local->cloud>0`, `deny->allow>0` or `any->cloud>1%`, or terms>MOST, policies>MOST, \
         labels>MOST or prompts>MOST"
    )]
    Form,
    /// An outcome.
    #[error(
        "an outcome is local, cloud, hold (hold_local or hold_cloud), reject (or deny), allow (local or cloud) or any"
    )]
    Outcome,
    /// A number.
    #[error("the most is a count, or a share up to 100% with at most two decimals, like 0.5%")]
    Most,
}

// === impl Gate ===

impl Gate {
    /// Whether it is about a flip, or, where that is from one fate to the same, about what goes elsewhere.
    #[must_use]
    pub fn is_about(&self, flip: Flip) -> bool {
        matches!(self.about, About::Fates { from, to } if from.has(flip.from) && to.has(flip.to))
    }
}

impl FromStr for Gate {
    type Err = BadGate;

    fn from_str(text: &str) -> Result<Self, BadGate> {
        let Some((from, rest)) = text.split_once("->") else {
            let (what, most) = text.split_once('>').ok_or(BadGate::Form)?;
            let about = match what.trim() {
                "terms" => About::Terms,
                "policies" => About::Policies,
                "labels" => About::Labels,
                "prompts" => About::Prompts,
                _ => return Err(BadGate::Form),
            };
            return Ok(Self { about, most: most.trim().parse()? });
        };
        let (to, most) = rest.split_once('>').ok_or(BadGate::Form)?;
        let about = About::Fates { from: from.trim().parse()?, to: to.trim().parse()? };
        Ok(Self { about, most: most.trim().parse()? })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.about {
            About::Fates { from, to } => write!(f, "{}->{}", from.as_str(), to.as_str())?,
            About::Terms => f.write_str("terms")?,
            About::Policies => f.write_str("policies")?,
            About::Labels => f.write_str("labels")?,
            About::Prompts => f.write_str("prompts")?,
        }
        write!(f, ">{}", self.most)
    }
}

impl Serialize for Gate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Most ===

impl Most {
    /// Whether `count` of `all` is more.
    #[must_use]
    pub fn is_exceeded(self, count: u64, all: u64) -> bool {
        match self {
            Self::Count(most) => count > most,
            Self::Share(most) => u128::from(count) * u128::from(WHOLE) > u128::from(all) * u128::from(most),
        }
    }
}

impl FromStr for Most {
    type Err = BadGate;

    fn from_str(text: &str) -> Result<Self, BadGate> {
        let Some(share) = text.strip_suffix('%') else {
            return digits(text).map(Self::Count);
        };
        let (whole, part) = share.split_once('.').unwrap_or((share, "0"));
        if part.len() > 2 {
            return Err(BadGate::Most);
        }
        let hundredths = digits(part)? * if part.len() == 1 { 10 } else { 1 };
        let share = digits(whole)?.checked_mul(100).and_then(|whole| whole.checked_add(hundredths));
        let share = share.and_then(|share| u32::try_from(share).ok()).filter(|share| *share <= WHOLE);
        share.map(Self::Share).ok_or(BadGate::Most)
    }
}

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(most) => write!(f, "{most}"),
            Self::Share(most) if most % 100 == 0 => write!(f, "{}%", most / 100),
            Self::Share(most) => write!(f, "{}.{:02}%", most / 100, most % 100),
        }
    }
}

/// A number of digits alone: no sign.
fn digits(text: &str) -> Result<u64, BadGate> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadGate::Most);
    }
    text.parse().map_err(|_| BadGate::Most)
}

// === impl Words ===

impl Words {
    fn has(self, fate: Fate) -> bool {
        match self {
            Self::One(one) => one == fate,
            Self::Allow => matches!(fate, Fate::Local | Fate::Cloud),
            Self::Hold => matches!(fate, Fate::HoldLocal | Fate::HoldCloud),
            Self::Any => true,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::One(one) => one.as_str(),
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Any => "any",
        }
    }
}

impl FromStr for Words {
    type Err = BadGate;

    fn from_str(text: &str) -> Result<Self, BadGate> {
        Ok(match text {
            "local" => Self::One(Fate::Local),
            "cloud" => Self::One(Fate::Cloud),
            "hold_local" => Self::One(Fate::HoldLocal),
            "hold_cloud" => Self::One(Fate::HoldCloud),
            "hold" => Self::Hold,
            "reject" | "deny" => Self::One(Fate::Reject),
            "allow" => Self::Allow,
            "any" => Self::Any,
            _ => return Err(BadGate::Outcome),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{BadGate, Fate, Flip, Gate, Most};

    #[test]
    fn a_gate_is_read_as_it_is_written() {
        for (text, told) in [
            ("local->cloud>0", "local->cloud>0"),
            ("deny->allow>12", "reject->allow>12"),
            (" any -> cloud > 0.5% ", "any->cloud>0.50%"),
            ("any->any>100%", "any->any>100%"),
            ("cloud->cloud>0", "cloud->cloud>0"),
            ("hold_local->hold_cloud>0", "hold_local->hold_cloud>0"),
            (" terms > 3", "terms>3"),
            ("labels>0", "labels>0"),
            ("prompts>0", "prompts>0"),
            ("policies>1%", "policies>1%"),
        ] {
            assert_eq!(text.parse::<Gate>().unwrap().to_string(), told);
        }
        for (text, why) in [
            ("local->cloud", BadGate::Form),
            ("local>0", BadGate::Form),
            ("edge->cloud>0", BadGate::Outcome),
            ("words>0", BadGate::Form),
            ("hold_edge->cloud>0", BadGate::Outcome),
            ("local->cloud>-1", BadGate::Most),
            ("local->cloud>101%", BadGate::Most),
            ("local->cloud>0.125%", BadGate::Most),
            ("local->cloud>%", BadGate::Most),
            ("local->cloud>99999999999999999999", BadGate::Most),
        ] {
            assert_eq!(text.parse::<Gate>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_gate_is_about_its_flips_alone() {
        let about = |gate: &str, from, to| gate.parse::<Gate>().unwrap().is_about(Flip { from, to });
        assert!(about("local->cloud>0", Fate::Local, Fate::Cloud));
        assert!(!about("local->cloud>0", Fate::Cloud, Fate::Local));
        assert!(!about("local->cloud>0", Fate::Local, Fate::Local));
        assert!(about("deny->allow>0", Fate::Reject, Fate::Local));
        assert!(about("deny->allow>0", Fate::Reject, Fate::Cloud));
        assert!(!about("deny->allow>0", Fate::Reject, Fate::HoldCloud));
        assert!(about("any->hold>0", Fate::Cloud, Fate::HoldLocal));
        assert!(about("any->hold>0", Fate::Cloud, Fate::HoldCloud));
        assert!(!about("any->hold_local>0", Fate::Cloud, Fate::HoldCloud));
        assert!(about("cloud->cloud>0", Fate::Cloud, Fate::Cloud), "elsewhere");
        assert!(about("any->any>0", Fate::Cloud, Fate::Cloud), "that too");
        assert!(!about("terms>0", Fate::Cloud, Fate::Cloud));
    }

    #[test]
    fn the_most_still_passes() {
        let exceeded = |most: &str, count, all| most.parse::<Most>().unwrap().is_exceeded(count, all);
        assert!(!exceeded("0", 0, 10) && exceeded("0", 1, 10));
        assert!(!exceeded("3", 3, 3) && exceeded("3", 4, 4));
        assert!(!exceeded("0.5%", 5, 1_000) && exceeded("0.5%", 6, 1_000));
        assert!(!exceeded("0%", 0, 0) && exceeded("0%", 1, u64::MAX), "none is none, of however many");
        assert!(!exceeded("100%", u64::MAX, u64::MAX));
    }
}
