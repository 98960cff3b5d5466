//! What operators say about feature flags.

use clap::{Args, Subcommand};
use tidegate_schemas::ids::Name;

use super::release::{By, share_bp};

/// Which flag, whose, and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct FlagArgs {
    /// The flag; `tidegate flag list` shows which there are.
    pub(crate) flag: Name,
    /// Only of this tenant, may be given again; absent: all, also those that were named before.
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Vec<Name>,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum FlagCommand {
    /// Set a flag for all work, or for that of some tenants. In under a second, and on record.
    #[command(after_help = "Examples:
  tidegate flag on stay-local --reason 'incident 4711'
  tidegate flag on stay-local --tenant acme --tenant globex --reason 'their audit'")]
    On(FlagArgs),
    /// Take a flag back, for all or for some tenants.
    #[command(after_help = "Examples:
  tidegate flag off stay-local --reason 'incident 4711 is over'
  tidegate flag off stay-local --tenant acme --reason 'by contract not them'")]
    Off(FlagArgs),
    /// Set a flag for a share of the work. Who is in at a small share is in at a larger one.
    #[command(after_help = "Examples:
  tidegate flag share stay-local --share 20 --reason 'what does the local lane make of it?'
  tidegate flag share stay-local --share 50 --by tenant --reason 'half of the tenants'")]
    Share {
        #[command(flatten)]
        which: FlagArgs,
        /// The share, percent: 0.01 to 100.
        #[arg(long, value_name = "PERCENT", value_parser = share_bp)]
        share: u16,
        /// What the share is of: all tasks of a tenant, a workflow or a session have the flag, or none of them.
        #[arg(long, value_enum, default_value_t = By::Workflow)]
        by: By,
    },
    /// The flags that the released bundles declare, and for whom each is on.
    #[command(after_help = "Examples:\n  tidegate flag list\n  tidegate flag list --json")]
    List,
}
