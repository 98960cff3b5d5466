//! Arguments of what concerns a data subject, and the key over all of them.

use std::path::PathBuf;

use clap::Args;
use tidegate_schemas::ids::{Identifier, Name};

/// Whose data.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhoArgs {
    /// The data subject, as tasks name it in `data_subjects`; `task:<id>` for a task that names none.
    #[arg(long, value_parser = subject)]
    pub(crate) subject: Identifier,
    /// The tenant whose data subject it is.
    #[arg(long)]
    pub(crate) tenant: Name,
}

/// What to erase.
#[derive(Debug, Clone, Args)]
pub(crate) struct EraseArgs {
    #[command(flatten)]
    pub(crate) who: WhoArgs,
    /// Why. It stays on record: name nobody in it.
    #[arg(long, required_unless_present = "plan")]
    pub(crate) reason: Option<String>,
    /// Only say what would be erased, and what forbids it.
    #[arg(long)]
    pub(crate) plan: bool,
}

/// What to show.
#[derive(Debug, Clone, Args)]
pub(crate) struct AccessArgs {
    #[command(flatten)]
    pub(crate) who: WhoArgs,
    /// Also open what is sealed: a file a record in this new directory; with --json and no directory, in the answer.
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub(crate) open: Option<Option<PathBuf>>,
}

/// Which key to go over to.
#[derive(Debug, Clone, Args)]
pub(crate) struct RotateArgs {
    /// File of the new master key: 64 hexadecimal digits, mode 600. Without it a new key is made.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key: Option<PathBuf>,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

fn subject(text: &str) -> Result<Identifier, String> {
    Identifier::new(text).map_err(|error| error.to_string())
}
