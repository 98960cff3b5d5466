//! What operators say about budgets.

use clap::{Args, Subcommand, ValueEnum};
use tidegate_schemas::budget::Window;
use tidegate_schemas::ids::Name;

/// A window of time, UTC.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum WindowName {
    Minute,
    Hour,
    Day,
}

impl From<WindowName> for Window {
    fn from(name: WindowName) -> Self {
        match name {
            WindowName::Minute => Self::Minute,
            WindowName::Hour => Self::Hour,
            WindowName::Day => Self::Day,
        }
    }
}

/// Whose budget, in which window, and its limits.
#[derive(Debug, Clone, Args)]
pub(crate) struct BudgetArgs {
    /// A tenant's, over all its agents.
    #[arg(long, required_unless_present = "provider", conflicts_with = "provider")]
    pub(crate) tenant: Option<Name>,
    /// One agent's of that tenant.
    #[arg(long, requires = "tenant")]
    pub(crate) agent: Option<Name>,
    /// The cell's at one provider, over all tenants.
    #[arg(long)]
    pub(crate) provider: Option<Name>,
    /// In which window.
    #[arg(long, value_enum)]
    pub(crate) window: WindowName,
    /// Most requests to providers; what is not given is not limited in this window.
    #[arg(long, value_name = "N")]
    pub(crate) requests: Option<u64>,
    /// Most tokens, read and written.
    #[arg(long, value_name = "N")]
    pub(crate) tokens: Option<u64>,
    /// Most that it may cost, millionths of a US dollar.
    #[arg(long, value_name = "N")]
    pub(crate) usd_micros: Option<u64>,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

/// Whose budget is to count anew.
#[derive(Debug, Clone, Args)]
pub(crate) struct ResetArgs {
    /// A tenant's, over all its agents.
    #[arg(long, required_unless_present = "provider", conflicts_with = "provider")]
    pub(crate) tenant: Option<Name>,
    /// One agent's of that tenant.
    #[arg(long, requires = "tenant")]
    pub(crate) agent: Option<Name>,
    /// The cell's at one provider, over all tenants.
    #[arg(long)]
    pub(crate) provider: Option<Name>,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Set the limits of one window, in place of what they were. On record, and in force for what is decided from then on.
    #[command(after_help = "Examples:
  tidegate budget set --tenant acme --window day --usd-micros 50000000 --reason 'by contract'
  tidegate budget set --tenant acme --agent helpdesk --window minute --requests 60 --reason 'a loop last night'
  tidegate budget set --provider openai --window hour --tokens 2000000 --reason 'our rate there'
  tidegate budget set --tenant acme --window day --reason 'no limit a day any more'")]
    Set(BudgetArgs),
    /// Forget what a budget has used, and begin its ledger anew; on record. Also where it cannot be read, and nothing that it counts
    /// leaves.
    #[command(
        after_help = "Example:\n  tidegate budget reset --tenant acme --reason 'its ledger is damaged'"
    )]
    Reset(ResetArgs),
    /// The budgets, what is used of them, and the destinations that are not tried for a while.
    #[command(after_help = "Examples:\n  tidegate budget show\n  tidegate budget show --json")]
    Show,
}
