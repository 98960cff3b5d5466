//! Words of `tidegate policy backtest`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use tidegate_recorder::rejudge::backtest::{Gate, Labels, Most};
use tidegate_schemas::ids::Name;

/// Longest time that can be looked back, hours: a century.
const AGO_HOURS_MAX: i64 = 24 * 366 * 100;

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  tidegate policy backtest --bundle my-bundle                           the last 30 days: what would change, by how much
  tidegate policy backtest --bundle my-bundle --since 7d --tenant acme
  tidegate policy backtest --bundle my-bundle --fail-on 'local->cloud>0' --fail-on 'deny->allow>0' --max-unjudged 1%
                                                                        as a gate
  tidegate policy backtest --bundle my-bundle --labels rescan --json    with what the bundle's recognisers find
  tidegate policy backtest --bundle my-bundle --record DIR --key FILE   of a record without its cell

Needs the record's master key: what was judged is sealed. A gate is FROM->TO>MOST: outcomes local, cloud, hold (hold_local: it would
go to a local destination, hold_cloud: to a provider), reject (or deny), allow (local or cloud), any; from an outcome to the same one
means elsewhere: cloud->cloud>0. terms>MOST is about other obligations and codes, policies>MOST about other policies behind the same
outcome, labels>MOST about another sensitivity, prompts>MOST about another version of the prompt. The most is a count, or a share of
what was judged, like 0.5%.

Where the bundle looks for other data than those that judged, what it would find is not known from the record: without --labels that
fails too. --labels rescan finds out, --labels recorded says that it does not matter.

Exit status: 0 as allowed, 2 a gate is breached, more cannot be judged than allowed, there is nothing to judge, records of that time
were pruned or the bundle looks for other data, 3 the record is unreadable.")]
pub(crate) struct BacktestArgs {
    /// The bundle to judge by: its directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// From when on: a time, RFC 3339, or how long ago: 30d, 12h, 45m. Bodies are kept 30 days unless cell.toml says otherwise.
    #[arg(long, visible_alias = "from", default_value = "30d", value_name = "TIME")]
    pub(crate) since: Moment,
    /// Before when, likewise; absent: to the end.
    #[arg(long, visible_alias = "to", value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// Only of this tenant.
    #[arg(long)]
    pub(crate) tenant: Option<Name>,
    /// Only of agents of this name.
    #[arg(long)]
    pub(crate) agent: Option<Name>,
    /// Where labels and findings come from; absent: as they were recorded, unless the bundle looks for other data.
    #[arg(long, value_enum)]
    pub(crate) labels: Option<LabelsFrom>,
    /// Fail with 2 where more change, like 'local->cloud>0'. Can be given more than once.
    #[arg(long, value_name = "GATE")]
    pub(crate) fail_on: Vec<Gate>,
    /// Most decisions that may be impossible to judge (erased, pruned, of an unknown bundle): a count, or a share like 1%.
    #[arg(long, visible_alias = "unjudged-max", value_name = "MOST", default_value = "0")]
    pub(crate) max_unjudged: Most,
    /// Also where whole records of that time were pruned, of which nobody knows how many decisions they held.
    #[arg(long)]
    pub(crate) allow_pruned: bool,
    /// Also where there is no decision of that time, tenant and agent: nothing was tried then.
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// A record's directory instead of the cell's.
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// File of that record's master key.
    #[arg(long, value_name = "FILE", requires = "record")]
    pub(crate) key: Option<PathBuf>,
    /// Read that record as its recorder left it when it died, and write nothing; no recorder can begin meanwhile.
    #[arg(long, requires = "record")]
    pub(crate) crashed: bool,
}

/// Where labels and findings come from.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum LabelsFrom {
    /// What was found when each task was decided, whatever this bundle's recognisers are.
    Recorded,
    /// Each task's texts are looked at anew by this bundle's recognisers; nothing of them is shown.
    Rescan,
}

/// A time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(SignedDuration),
}

// === impl LabelsFrom ===

impl From<LabelsFrom> for Labels {
    fn from(from: LabelsFrom) -> Self {
        match from {
            LabelsFrom::Recorded => Self::Recorded,
            LabelsFrom::Rescan => Self::Rescan,
        }
    }
}

// === impl Moment ===

impl Moment {
    /// The time that it is, seen from `now`.
    pub(crate) fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.checked_sub(duration).unwrap_or(Timestamp::MIN),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be an RFC 3339 time, or how long ago: 30d, 12h, 45m".to_owned();
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        let unit = text.chars().next_back().ok_or_else(wrong)?;
        let minutes = match unit {
            'm' => 1,
            'h' => 60,
            'd' => 24 * 60,
            'w' => 7 * 24 * 60,
            _ => return Err(wrong()),
        };
        let count = text.get(..text.len() - 1).filter(|count| count.bytes().all(|b| b.is_ascii_digit()));
        let count = count.and_then(|count| count.parse::<i64>().ok()).ok_or_else(wrong)?;
        let minutes = count.checked_mul(minutes).filter(|minutes| *minutes <= AGO_HOURS_MAX * 60);
        let minutes = minutes.ok_or("must not be more than a hundred years ago")?;
        Ok(Self::Ago(SignedDuration::from_mins(minutes)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use jiff::Timestamp;

    use super::Moment;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-11-30T06:00:00Z".parse().unwrap();
        for (text, time) in [
            ("30d", "2026-10-31T06:00:00Z"),
            ("12h", "2026-11-29T18:00:00Z"),
            ("45m", "2026-11-30T05:15:00Z"),
            ("2w", "2026-11-16T06:00:00Z"),
            ("0m", "2026-11-30T06:00:00Z"),
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        ] {
            let seen = text.parse::<Moment>().unwrap().seen_from(now);
            assert_eq!(seen, time.parse::<Timestamp>().unwrap(), "{text}");
        }
        for text in
            ["", "d", "30", "-3d", "3.5d", "30 days", "yesterday", "9223372036854775807d", "40000d", "3é"]
        {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
