//! Gates: how much may change before a program that asks is told no.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use tidegate_schemas::decision::Outcome;

use super::change::Flip;

/// A whole, in hundredths of a percent.
const WHOLE: u32 = 10_000;

/// Flips of some kind, and how many of them there may be: `local->cloud>0`, `deny->allow>0.5%`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    from: Words,
    to: Words,
    /// The most that passes.
    pub most: Most,
}

/// How many are not too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Most {
    /// So many.
    Count(u64),
    /// So many of all, in hundredths of a percent.
    Share(u32),
}

/// What a gate says of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    One(Outcome),
    /// It runs, on either lane.
    Allow,
    Any,
}

/// Why a text is no gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadGate {
    /// Its form.
    #[error("a gate is FROM->TO>MOST, like `local->cloud>0`, `deny->allow>0` or `any->cloud>1%`")]
    Form,
    /// An outcome.
    #[error("an outcome is local, cloud, hold, reject (or deny), allow (local or cloud) or any")]
    Outcome,
    /// Both sides are the same single outcome.
    #[error("what stays as it is does not flip: name two outcomes")]
    Same,
    /// A number.
    #[error("the most is a count, or a share up to 100% with at most two decimals, like 0.5%")]
    Most,
}

// === impl Gate ===

impl Gate {
    /// Whether it is about a flip.
    #[must_use]
    pub fn is_about(&self, flip: Flip) -> bool {
        self.from.has(flip.from) && self.to.has(flip.to)
    }
}

impl FromStr for Gate {
    type Err = BadGate;

    fn from_str(text: &str) -> Result<Self, BadGate> {
        let (from, rest) = text.split_once("->").ok_or(BadGate::Form)?;
        let (to, most) = rest.split_once('>').ok_or(BadGate::Form)?;
        let (from, to): (Words, Words) = (from.trim().parse()?, to.trim().parse()?);
        if from == to && matches!(from, Words::One(_)) {
            return Err(BadGate::Same);
        }
        Ok(Self { from, to, most: most.trim().parse()? })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}>{}", self.from.as_str(), self.to.as_str(), self.most)
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
    fn has(self, outcome: Outcome) -> bool {
        match self {
            Self::One(one) => one == outcome,
            Self::Allow => matches!(outcome, Outcome::Local | Outcome::Cloud),
            Self::Any => true,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::One(one) => one.as_str(),
            Self::Allow => "allow",
            Self::Any => "any",
        }
    }
}

impl FromStr for Words {
    type Err = BadGate;

    fn from_str(text: &str) -> Result<Self, BadGate> {
        Ok(match text {
            "local" => Self::One(Outcome::Local),
            "cloud" => Self::One(Outcome::Cloud),
            "hold" => Self::One(Outcome::Hold),
            "reject" | "deny" => Self::One(Outcome::Reject),
            "allow" => Self::Allow,
            "any" => Self::Any,
            _ => return Err(BadGate::Outcome),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::decision::Outcome;

    use super::{BadGate, Flip, Gate, Most};

    #[test]
    fn a_gate_is_read_as_it_is_written() {
        for (text, told) in [
            ("local->cloud>0", "local->cloud>0"),
            ("deny->allow>12", "reject->allow>12"),
            (" any -> cloud > 0.5% ", "any->cloud>0.50%"),
            ("any->any>100%", "any->any>100%"),
        ] {
            assert_eq!(text.parse::<Gate>().unwrap().to_string(), told);
        }
        for (text, why) in [
            ("local->cloud", BadGate::Form),
            ("local>0", BadGate::Form),
            ("edge->cloud>0", BadGate::Outcome),
            ("cloud->cloud>0", BadGate::Same),
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
        assert!(about("local->cloud>0", Outcome::Local, Outcome::Cloud));
        assert!(!about("local->cloud>0", Outcome::Cloud, Outcome::Local));
        assert!(about("deny->allow>0", Outcome::Reject, Outcome::Local));
        assert!(about("deny->allow>0", Outcome::Reject, Outcome::Cloud));
        assert!(!about("deny->allow>0", Outcome::Reject, Outcome::Hold));
        assert!(about("any->hold>0", Outcome::Cloud, Outcome::Hold));
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
