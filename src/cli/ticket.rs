//! What is said of ticket keys.

use clap::Subcommand;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TicketCommand {
    /// The keys that tickets are checked with, and which of them signs.
    #[command(after_help = "Example:\n  tidegate ticket keys --json")]
    Keys,
    /// Have tickets signed with a new key. It is on record first.
    ///
    /// The key before counts until the last ticket that it signed has run out, about two minutes, and never again.
    #[command(after_help = "Examples:
  tidegate ticket rotate --reason 'yearly'
  tidegate ticket rotate --at-once --reason 'the host was lost'     what the key before signed leaves no more")]
    Rotate {
        /// Why.
        #[arg(long)]
        reason: String,
        /// The key before was lost: it counts no longer from now on.
        #[arg(long)]
        at_once: bool,
    },
}
