//! What agent systems and support tools say.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tidegate_schemas::ids::Name;

/// On whose behalf.
#[derive(Debug, Clone, Args)]
pub(crate) struct Who {
    /// Tenant.
    #[arg(long, env = "TIDEGATE_TENANT", default_value = "acme")]
    pub(crate) tenant: Name,
    /// Agent.
    #[arg(long, env = "TIDEGATE_AGENT", default_value = "helpdesk")]
    pub(crate) agent: Name,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    Chat,
    Extract,
    Classify,
    Embed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Sensitivity {
    Public,
    Internal,
    Confidential,
    Restricted,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Stakes {
    Low,
    Medium,
    High,
}

/// What a whole envelope says itself.
const SAID_BY_BODY: [&str; 17] = [
    "text",
    "prompt",
    "variables",
    "sensitivity",
    "category",
    "regulation",
    "residency",
    "consent",
    "purpose",
    "stakes",
    "schema",
    "classes",
    "max_tokens",
    "temperature",
    "seed",
    "deadline_s",
    "batch",
];

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  tidegate submit chat 'Name three rivers' --sensitivity public
  tidegate submit chat 'Summarise my file' --sensitivity confidential --stream
  tidegate submit embed 'first text' 'second text' --sensitivity internal --json
  tidegate submit extract 'Ada, born 1815' --schema person.json --sensitivity internal
  tidegate submit chat --prompt answer --var 'question=What is a tide?' --sensitivity internal
  tidegate submit chat --prompt summary --var text=@minutes.txt
  tidegate submit chat --body task.json            a whole task envelope from a file, - for standard input")]
pub(crate) struct SubmitArgs {
    /// Kind of work.
    pub(crate) kind: Kind,
    /// The text; for embed each argument is one text.
    pub(crate) text: Vec<String>,
    /// Task envelope from a file instead, - for standard input; input, labels, limits and class are the envelope's then.
    #[arg(long, value_name = "FILE", conflicts_with_all = SAID_BY_BODY)]
    pub(crate) body: Option<PathBuf>,
    /// A prompt of the cell's bundle instead of a text.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["text", "schema", "classes", "temperature", "seed"])]
    pub(crate) prompt: Option<Name>,
    /// A variable of the prompt: NAME=TEXT, or NAME=@FILE; give it once a variable.
    #[arg(long = "var", value_name = "NAME=TEXT", requires = "prompt")]
    pub(crate) variables: Vec<String>,
    #[command(flatten)]
    pub(crate) who: Who,
    /// How far the data may travel.
    #[arg(long, value_enum, default_value_t = Sensitivity::Restricted)]
    pub(crate) sensitivity: Sensitivity,
    /// Kinds of data in it.
    #[arg(long, value_delimiter = ',')]
    pub(crate) category: Vec<Name>,
    /// Rules that it falls under.
    #[arg(long, value_delimiter = ',')]
    pub(crate) regulation: Vec<Name>,
    /// Regions that it may be worked on in.
    #[arg(long, value_delimiter = ',')]
    pub(crate) residency: Vec<Name>,
    /// What the data subjects consented to.
    #[arg(long, value_delimiter = ',')]
    pub(crate) consent: Vec<Name>,
    /// What the work is for.
    #[arg(long)]
    pub(crate) purpose: Option<Name>,
    /// What is at stake.
    #[arg(long, value_enum, default_value_t = Stakes::Low)]
    pub(crate) stakes: Stakes,
    /// Task id: a UUID, or any identifier.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Workflow it belongs to.
    #[arg(long)]
    pub(crate) workflow: Option<String>,
    /// JSON Schema file of an extraction.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
    /// Class of a classification; give it once a class.
    #[arg(long = "class", value_name = "CLASS")]
    pub(crate) classes: Vec<String>,
    /// Most tokens to generate.
    #[arg(long)]
    pub(crate) max_tokens: Option<u32>,
    /// Randomness, 0 to 2.
    #[arg(long)]
    pub(crate) temperature: Option<f64>,
    /// Makes local sampling repeatable.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Deadline, seconds.
    #[arg(long, default_value_t = 300)]
    pub(crate) deadline_s: u64,
    /// Nobody waits for it.
    #[arg(long)]
    pub(crate) batch: bool,
    /// Print tokens while they come; an envelope from a file asks for them by its `stream`.
    #[arg(long)]
    pub(crate) stream: bool,
    /// Return once the task is accepted.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TaskCommand {
    /// Its state, decision and result; exit status 2 while it has none.
    #[command(after_help = "Examples:
  tidegate task get 0193a1c0-0000-7000-8000-000000000000
  tidegate task get ticket-17   what was submitted with `--id ticket-17`")]
    Get {
        /// Task id: a UUID, or the identifier that it was submitted with.
        id: String,
        #[command(flatten)]
        who: Who,
    },
    /// Withdraw it.
    #[command(after_help = "Example:\n  tidegate task cancel ticket-17 --tenant acme --agent helpdesk")]
    Cancel {
        /// Task id: a UUID, or the identifier that it was submitted with.
        id: String,
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  tidegate results --tool desk --follow
  tidegate results --tool desk --state failed --json
  tidegate results --tool desk --replayed      what an operator had replayed to it
  tidegate audit query --kind result --state failed      looks, and takes nothing from the tool")]
pub(crate) struct ResultsArgs {
    /// Tenant.
    #[arg(long, env = "TIDEGATE_TENANT", default_value = "acme")]
    pub(crate) tenant: Name,
    /// The support tool whose durable is read: each result comes once, the next call goes on after it.
    #[arg(long, default_value = "desk")]
    pub(crate) tool: Name,
    /// Wait for new ones.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Results of the past that were replayed to this tool; they stay for a day.
    #[arg(long)]
    pub(crate) replayed: bool,
    /// Show only results in this state. The others are passed over as if they had been shown: they do not come again.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Show only results for this agent; the others are passed over the same way.
    #[arg(long)]
    pub(crate) agent: Option<Name>,
    /// At most this many.
    #[arg(long, default_value_t = 1_000, value_parser = super::at_least_one)]
    pub(crate) limit: usize,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TenantCommand {
    /// Add a tenant: its account and stream.
    #[command(
        after_help = "Example:\n  tidegate tenant add globex --owner ops@globex.example --residency eu --in-flight-max 5000"
    )]
    Add {
        /// Its name.
        name: Name,
        /// Whom to ask.
        #[arg(long)]
        owner: String,
        /// Regions that its data may be worked on in.
        #[arg(long, value_delimiter = ',')]
        residency: Vec<Name>,
        /// Providers that it allows; absent: all.
        #[arg(long, value_delimiter = ',')]
        providers: Option<Vec<Name>>,
        /// Open tasks after which new ones are rejected as overloaded; absent: 100,000.
        #[arg(long, value_name = "N")]
        in_flight_max: Option<u64>,
        /// Why.
        #[arg(long, default_value = "added by the operator")]
        reason: String,
    },
    /// Change a tenant's quota.
    #[command(
        after_help = "Example:\n  tidegate tenant quota globex --in-flight-max 500 --reason 'batch night'"
    )]
    Quota {
        /// Its name.
        name: Name,
        /// Open tasks after which new ones are rejected as overloaded.
        #[arg(long, value_name = "N")]
        in_flight_max: u64,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// List them.
    #[command(after_help = "Example:\n  tidegate tenant list --json")]
    List,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AgentCommand {
    /// Add an agent: prints its seed file and a ready `nats` line.
    #[command(after_help = "Example:\n  tidegate agent add globex crawler --role analyst")]
    Add {
        /// Its tenant.
        tenant: Name,
        /// Its name.
        name: Name,
        /// Its roles.
        #[arg(long = "role", value_delimiter = ',')]
        roles: Vec<Name>,
        /// Its team.
        #[arg(long)]
        team: Option<Name>,
        /// Why.
        #[arg(long, default_value = "added by the operator")]
        reason: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ToolCommand {
    /// Add a support tool: a durable on the tenant's results.
    #[command(after_help = "Examples:
  tidegate tool add globex desk                reads headers only
  tidegate tool add globex archive --content   reads content too")]
    Add {
        /// Its tenant.
        tenant: Name,
        /// Its name.
        name: Name,
        /// It may read content, not only headers.
        #[arg(long)]
        content: bool,
        /// Why.
        #[arg(long, default_value = "added by the operator")]
        reason: String,
    },
    /// Add a reviewer, or give one more queues.
    #[command(after_help = "Example:\n  tidegate tool reviewer bob --queue default,legal")]
    Reviewer {
        /// The reviewer's name.
        name: Name,
        /// Queues that the reviewer decides, beside those that there are. A new one has `default` where none is named.
        #[arg(long = "queue", value_delimiter = ',')]
        queues: Vec<Name>,
        /// Why.
        #[arg(long, default_value = "added by the operator")]
        reason: String,
    },
    /// Add an operator.
    #[command(after_help = "Example:\n  tidegate tool operator olga   who may then agree to a wider bundle")]
    Operator {
        /// The operator's name.
        name: Name,
        /// Why.
        #[arg(long, default_value = "added by the operator")]
        reason: String,
    },
}
