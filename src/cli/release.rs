//! What operators say about releases.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::release::{Guard, SHARE_BP_MAX, ShareBy};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BundleCommand {
    /// Check and test a bundle, and have the cell keep it; nothing is decided by it yet.
    #[command(after_help = "Example:\n  tidegate bundle push my-bundle --reason 'the rules of June'")]
    Push {
        /// The bundle's directory.
        dir: PathBuf,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Have a bundle judge every task beside, without effect; what it would decide goes on record with the decision.
    #[command(after_help = "Examples:
  tidegate bundle shadow 4f1c09 --reason 'a week beside'
  tidegate bundle shadow off --reason 'seen enough'")]
    Shadow {
        /// Hash of a bundle that was pushed, or its first digits, or off.
        #[arg(value_name = "HASH|off", value_parser = shadow)]
        bundle: Shadow,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Have a bundle decide for a share of the tasks. Guards hold it against the active one and take it back where it does worse.
    #[command(after_help = "Examples:
  tidegate bundle canary 4f1c09 --share 5 --reason 'begin'
  tidegate bundle canary 4f1c09 --share 50 --unguarded rejections --reason 'a stricter limit'")]
    Canary {
        /// Hash of a bundle that was pushed, or its first digits: 6 or more.
        hash: Hash,
        /// Its share, percent: 0.01 to 100. Who is in at a small share is in at a larger one.
        #[arg(long, value_name = "PERCENT", value_parser = share_bp)]
        share: u16,
        /// What the share is of: all tasks of a tenant, a workflow or a session are decided by the same bundle.
        #[arg(long, value_enum, default_value_t = By::Workflow)]
        by: By,
        /// A guard that does not watch it, where it is meant to have more of that; may be given again.
        #[arg(long, value_enum, value_name = "GUARD")]
        unguarded: Vec<Watch>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Make the canary, or another bundle that was pushed, the active one.
    #[command(after_help = "Examples:
  tidegate bundle promote --reason 'nothing odd for a week'
  tidegate bundle promote 4f1c09 --reason 'straight away'")]
    Promote {
        /// Hash of a bundle that was pushed, or its first digits; absent: the canary.
        hash: Option<Hash>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Agree that more may leave by a bundle than by the active one; another operator releases it then.
    #[command(after_help = "Example:
  tidegate bundle approve 4f1c09 --reason 'the contract is signed'   with TIDEGATE_OPERATOR=olga, where another is to release it")]
    Approve {
        /// Hash of a bundle that was pushed, or its first digits: 6 or more.
        hash: Hash,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// End the canary; where there is none, go back to the bundle that was active before.
    #[command(after_help = "Example:\n  tidegate bundle rollback --reason 'too many rejections'")]
    Rollback {
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// What is released, and what each bundle decided lately by the record.
    #[command(after_help = "Example:\n  tidegate bundle status --last 20000 --json")]
    Status {
        /// Records at the record's end that are looked at.
        #[arg(long, default_value_t = 5_000, value_parser = super::at_least_one)]
        last: usize,
    },
}

/// Which bundle is judged beside; none any more.
#[derive(Debug, Clone)]
pub(crate) struct Shadow(pub(crate) Option<Hash>);

/// The hash of a bundle of the cell, or as many of its first digits as tell it from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hash(String);

// === impl Hash ===

impl Hash {
    /// Fewest digits that are looked up.
    const DIGITS_MIN: usize = 6;
    /// Digits of a whole one.
    const DIGITS: usize = 64;

    /// The one of these that it stands for.
    pub(crate) fn among(&self, known: impl IntoIterator<Item = Digest>) -> Result<Digest, String> {
        let mut fits: Vec<Digest> = known.into_iter().filter(|hash| self.begins(hash)).collect();
        fits.sort();
        fits.dedup();
        match fits.as_slice() {
            [one] => Ok(*one),
            [] => Err(format!("the cell keeps no such bundle: {}; see `tidegate bundle status`", self.0)),
            [..] => {
                let all: Vec<String> = fits.iter().map(ToString::to_string).collect();
                Err(format!("{} may be {}: give more of its digits", self.0, all.join(" or ")))
            }
        }
    }

    /// Whether a hash has these first digits.
    pub(crate) fn begins(&self, hash: &Digest) -> bool {
        hash.to_string().starts_with(&self.0)
    }

    /// Where it is whole, what it is, whether the cell keeps such a bundle or not.
    pub(crate) fn whole(&self) -> Option<Digest> {
        self.0.parse().ok()
    }
}

impl From<Digest> for Hash {
    fn from(hash: Digest) -> Self {
        Self(hash.to_string())
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if (Self::DIGITS_MIN..=Self::DIGITS).contains(&text.len()) && text.bytes().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("must be {} to {} hexadecimal digits", Self::DIGITS_MIN, Self::DIGITS))
    }
}

/// What a share is of.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum By {
    /// The tenants.
    Tenant,
    /// The workflows; a task without one counts alone.
    Workflow,
    /// The sessions; a task without one counts alone.
    Session,
}

/// What a guard watches.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Watch {
    /// Policies that could not be evaluated.
    Errors,
    /// Rejected tasks.
    Rejections,
    /// Tasks that went to the cloud.
    CloudShare,
    /// Failed tasks.
    Failures,
    /// What a task costs.
    Cost,
    /// How long a task takes.
    Latency,
    /// Verdicts against the bundle.
    Overturns,
}

impl From<Watch> for Guard {
    fn from(watch: Watch) -> Self {
        match watch {
            Watch::Errors => Self::Errors,
            Watch::Rejections => Self::Rejections,
            Watch::CloudShare => Self::CloudShare,
            Watch::Failures => Self::Failures,
            Watch::Cost => Self::Cost,
            Watch::Latency => Self::Latency,
            Watch::Overturns => Self::Overturns,
        }
    }
}

impl From<By> for ShareBy {
    fn from(by: By) -> Self {
        match by {
            By::Tenant => Self::Tenant,
            By::Workflow => Self::Workflow,
            By::Session => Self::Session,
        }
    }
}

fn shadow(text: &str) -> Result<Shadow, String> {
    if text == "off" {
        return Ok(Shadow(None));
    }
    text.parse().map(|hash| Shadow(Some(hash))).map_err(|error: String| format!("{error}, or off"))
}

/// Percent with at most two decimals, in basis points.
pub(super) fn share_bp(text: &str) -> Result<u16, String> {
    let rule = || "must be a percentage from 0.01 to 100 with at most two decimals".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !digits(whole) || !digits(part) {
        return Err(rule());
    }
    let share: u16 = format!("{whole}{part:0<2}").parse().map_err(|_| rule())?;
    if (1..=SHARE_BP_MAX).contains(&share) { Ok(share) } else { Err(rule()) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{Digest, Hash, share_bp};

    #[test]
    fn first_digits_stand_for_one_bundle_or_are_refused() {
        let digest = |begin: &str| format!("{begin:0<64}").parse::<Digest>().unwrap();
        let known = [digest("4f1c00a"), digest("4f1c00b"), digest("99aabb")];
        let found = |text: &str| text.parse::<Hash>().map(|hash| hash.among(known));
        assert_eq!(found("99aabb"), Ok(Ok(known[2])));
        assert_eq!(found("4f1c00a"), Ok(Ok(known[0])));
        assert_eq!(found(&known[1].to_string()), Ok(Ok(known[1])));
        let ambiguous = found("4f1c00").unwrap().unwrap_err();
        assert!(ambiguous.contains(&known[0].to_string()) && ambiguous.contains("more of its digits"));
        assert!(found("123456").unwrap().unwrap_err().contains("no such bundle: 123456"));
        for wrong in ["4f1c0", "", "4F1C00", "4f1c…", &"0".repeat(65), "xyzxyz"] {
            assert!(wrong.parse::<Hash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_in_basis_points() {
        let rows =
            [("5", 500), ("0.01", 1), ("2.5", 250), ("100", 10_000), ("100.00", 10_000), ("050", 5_000)];
        for (text, share) in rows {
            assert_eq!(share_bp(text), Ok(share), "{text}");
        }
        for text in ["0", "0.001", "100.01", "-1", "", ".5", "5%", "1e1", "٥", "9999"] {
            assert!(share_bp(text).is_err(), "{text}");
        }
    }
}
