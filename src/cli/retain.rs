//! What is said of legal holds.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use tidegate_schemas::ids::{Identifier, Name, TaskId};
use uuid::Uuid;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum HoldCommand {
    /// Keep all of a tenant, one task, or what holds data of one person.
    #[command(after_help = "Examples:
  tidegate audit hold add --tenant acme --reason 'case 4711'
  tidegate audit hold add --task 0193a1c0-0000-7000-8000-000000000000 --reason 'case 4711'
  tidegate audit hold add --tenant acme --subject customer-1 --until 2027-12-31T00:00:00Z --reason 'case 4711'")]
    Add(HoldAddArgs),
    /// The holds that there are.
    #[command(after_help = "Example:\n  tidegate audit hold list")]
    List,
    /// End a hold. An erasure that is on record and waits for it is carried out then, which nothing takes back.
    #[command(
        after_help = "Example:\n  tidegate audit hold remove 0193a1c0-0000-7000-8000-000000000000 --reason 'case 4711 is closed'"
    )]
    Remove {
        /// The hold's id.
        hold: Uuid,
        /// Let erasures that wait begin: `hold list` names them.
        #[arg(long)]
        and_erase: bool,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HoldAddArgs {
    /// All of this tenant; with --subject the person's tenant.
    #[arg(long, required_unless_present = "task")]
    pub(crate) tenant: Option<Name>,
    /// This task.
    #[arg(long, conflicts_with_all = ["tenant", "subject"])]
    pub(crate) task: Option<TaskId>,
    /// This person, as tasks name them in `data_subjects`. On record stands a keyed digest of the name.
    #[arg(long, requires = "tenant")]
    pub(crate) subject: Option<Identifier>,
    /// When it ends by itself.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// Place one where the same is held already: for another case, whose hold must not end with the first one's.
    #[arg(long)]
    pub(crate) another: bool,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}
