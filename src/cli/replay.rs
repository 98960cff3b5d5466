//! Words of `tidegate replay`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidegate_schemas::ids::Name;
use tidegate_schemas::replay::RATE_MAX;
use uuid::Uuid;

use super::query::FilterArgs;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReplayCommand {
    /// Write down what would be published; publishes nothing.
    #[command(
        after_help = "Example:\n  tidegate replay plan --kind result --tenant acme --from 2026-11-16T00:00:00Z --out plan.json"
    )]
    Plan {
        #[command(flatten)]
        filter: Box<FilterArgs>,
        /// File for the plan; one that is there already is not written over.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Have the recorder publish a plan's records, and wait. It goes on without this command, and after a crash by itself.
    #[command(after_help = "Examples:
  tidegate replay run --plan plan.json --reason 'a drill'                      to replay.<id>.…, a hundred a second
  tidegate replay run --plan plan.json --tool acme/desk --rate 1000 --reason 'a late support tool'
                                                                             then: tidegate results --tool desk --replayed
  tidegate replay run --plan plan.json --speed 10 --reason 'last night, ten times as fast'
  tidegate replay run --plan plan.json --as-original --reason 'lost by the provider'")]
    Run(RunArgs),
    /// Where replays stand.
    #[command(after_help = "Examples:
  tidegate replay status
  tidegate replay status 0193a1c0-0000-7000-8000-000000000000 --json")]
    Status {
        /// Only this one.
        replay: Option<Uuid>,
    },
    /// Stop a replay where it is, for good.
    #[command(
        after_help = "Example:\n  tidegate replay cancel 0193a1c0-0000-7000-8000-000000000000 --reason 'the wrong month'"
    )]
    Cancel {
        /// The replay's id.
        replay: Uuid,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The plan.
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: PathBuf,
    /// Records a second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    pub(crate) rate: u32,
    /// With the original pauses instead, so many times as fast: 1 is the original pace.
    #[arg(long, value_name = "FACTOR", conflicts_with = "rate")]
    pub(crate) speed: Option<f64>,
    /// To a support tool's own subject instead of the replay's: results of its tenant only.
    #[arg(long, value_name = "TENANT/TOOL", value_parser = tool, conflicts_with = "as_original")]
    pub(crate) tool: Option<(Name, Name)>,
    /// Submit tasks again, as new ones that are judged afresh.
    #[arg(long)]
    pub(crate) as_original: bool,
    /// Return once it has begun.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

fn tool(text: &str) -> Result<(Name, Name), String> {
    let (tenant, tool) = text.split_once('/').ok_or("must be TENANT/TOOL")?;
    let name = |text: &str| Name::new(text).map_err(|error| error.to_string());
    Ok((name(tenant)?, name(tool)?))
}
