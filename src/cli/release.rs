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
  tidegate bundle shadow 4f1c… --reason 'a week beside'
  tidegate bundle shadow off --reason 'seen enough'")]
    Shadow {
        /// Hash of a bundle that was pushed, or off.
        #[arg(value_name = "HASH|off", value_parser = shadow)]
        bundle: Shadow,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Have a bundle decide for a share of the tasks. Guards hold it against the active one and take it back where it does worse.
    #[command(after_help = "Examples:
  tidegate bundle canary 4f1c… --share 5 --reason 'begin'
  tidegate bundle canary 4f1c… --share 50 --unguarded rejections --reason 'a stricter limit'")]
    Canary {
        /// Hash of a bundle that was pushed.
        hash: Digest,
        /// Its share, percent: 0.01 to 100. Who is in at a small share is in at a larger one.
        #[arg(long, value_name = "PERCENT", value_parser = share_bp)]
        share: u16,
        /// What the share is of: all tasks of a tenant or a workflow are decided by the same bundle.
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
  tidegate bundle promote 4f1c… --reason 'straight away'")]
    Promote {
        /// Hash of a bundle that was pushed; absent: the canary.
        hash: Option<Digest>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Agree that more may leave by a bundle than by the active one; another operator releases it then.
    #[command(after_help = "Example:
  tidegate bundle approve 4f1c… --reason 'the contract is signed'   with TIDEGATE_OPERATOR=olga, where another is to release it")]
    Approve {
        /// Hash of a bundle that was pushed.
        hash: Digest,
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shadow(pub(crate) Option<Digest>);

/// What a share is of.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum By {
    /// The tenants.
    Tenant,
    /// The workflows; a task without one counts alone.
    Workflow,
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
        }
    }
}

fn shadow(text: &str) -> Result<Shadow, String> {
    if text == "off" {
        return Ok(Shadow(None));
    }
    text.parse().map(|hash| Shadow(Some(hash))).map_err(|error| format!("{error}, or off"))
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
    use super::share_bp;

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
