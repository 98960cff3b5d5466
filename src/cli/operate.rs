//! What operators, reviewers and auditors say.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::subject::Lane;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters.
    List {
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<Name>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// One dead letter.
    Show {
        /// Its sequence in EVENTS.
        sequence: u64,
    },
    /// Take its message up again.
    Requeue {
        /// Its sequence in EVENTS.
        sequence: u64,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Leave its message for good.
    Discard {
        /// Its sequence in EVENTS.
        sequence: u64,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// What to switch; at least one must be given.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct LaneWhat {
    /// Lane: local or cloud.
    #[arg(value_parser = lane)]
    pub(crate) lane: Option<Lane>,
    /// Tenant.
    #[arg(long)]
    pub(crate) tenant: Option<Name>,
    /// Pool or provider.
    #[arg(long)]
    pub(crate) target: Option<Name>,
    /// Model.
    #[arg(long)]
    pub(crate) model: Option<String>,
}

fn lane(text: &str) -> Result<Lane, String> {
    match text {
        "local" => Ok(Lane::Local),
        "cloud" => Ok(Lane::Cloud),
        _ => Err("must be local or cloud".into()),
    }
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LaneCommand {
    /// Switch off, in under a second, also for work already queued.
    #[command(after_help = "Examples:
  tidegate lane off cloud --reason 'incident 4711'
  tidegate lane off --target openai --reason 'provider incident'
  tidegate lane off cloud --tenant acme --reason 'contract'")]
    Off {
        #[command(flatten)]
        what: LaneWhat,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Switch on again what was switched off.
    On {
        #[command(flatten)]
        what: LaneWhat,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// What is off.
    Status,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Begin a bundle: copy the default one.
    New {
        /// Directory to create.
        dir: PathBuf,
    },
    /// Check, test and activate a bundle in the cell.
    Apply {
        /// The bundle's directory.
        dir: PathBuf,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Parse and validate a bundle, and run its cases.
    Check {
        /// The bundle's directory; absent: the default one.
        dir: Option<PathBuf>,
    },
    /// Run a bundle's cases.
    Test {
        /// The bundle's directory; absent: the default one.
        dir: Option<PathBuf>,
    },
    /// Say what a bundle decides about a task, and why.
    Explain {
        /// Task envelope, - for standard input.
        task: PathBuf,
        /// The bundle's directory; absent: the default one.
        #[arg(long)]
        bundle: Option<PathBuf>,
        /// Kind of the task.
        #[arg(long, default_value = "chat")]
        kind: Name,
        #[command(flatten)]
        who: super::Who,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ModelCommand {
    /// Models of the manifest and on this machine.
    List,
    /// Check the files on this machine against the manifest.
    Verify,
    /// Serve a local model by the OpenAI protocol on loopback: a stand-in for a provider.
    Serve(ServeArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: std::net::SocketAddr,
    /// Write the address that is served to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) address_file: Option<PathBuf>,
    /// Model file; absent: the default model.
    #[arg(long)]
    pub(crate) gguf: Option<PathBuf>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReviewCommand {
    /// Held tasks.
    List {
        /// As this reviewer.
        #[arg(long, env = "TIDEGATE_REVIEWER", default_value = "alice")]
        reviewer: Name,
    },
    /// One held task, with what would run; hidden characters are shown.
    Show {
        /// Its sequence in EVENTS.
        sequence: u64,
        /// As this reviewer.
        #[arg(long, env = "TIDEGATE_REVIEWER", default_value = "alice")]
        reviewer: Name,
    },
    /// Let it run.
    Approve(VerdictArgs),
    /// Let it run with another input; it is judged again.
    Edit {
        #[command(flatten)]
        verdict: VerdictArgs,
        /// File with the new input, JSON.
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
    },
    /// Do not let it run.
    Reject(VerdictArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct VerdictArgs {
    /// The review's sequence in EVENTS.
    pub(crate) sequence: u64,
    /// As this reviewer.
    #[arg(long, env = "TIDEGATE_REVIEWER", default_value = "alice")]
    pub(crate) reviewer: Name,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value a process")]
pub(crate) enum AuditCommand {
    /// Print records as they are written.
    Tail {
        /// Begin with this many of the newest.
        #[arg(long, short = 'n', default_value_t = 10)]
        lines: u64,
        /// End after those.
        #[arg(long)]
        once: bool,
    },
    /// What happened to a task, in order, with causes and durations.
    Task {
        /// Task id.
        id: TaskId,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<Name>,
    },
    /// The tasks of a workflow as a tree.
    Workflow {
        /// Workflow id.
        id: String,
    },
    /// Find records.
    #[command(after_help = "Examples:
  tidegate audit query --tenant acme --outcome cloud --from 2026-11-01T00:00:00Z
  tidegate audit query --state failed --json")]
    Query(QueryArgs),
    /// Check the record: hashes, bodies, sequences, causes, one terminal a task.
    ///
    /// Exit status: 0 whole, 1 tampered, 3 unreadable.
    Verify {
        /// Only the newest records and the counts.
        #[arg(long, conflicts_with = "since")]
        quick: bool,
        /// Only records from this index on, and all streams.
        #[arg(long, value_name = "INDEX")]
        since: Option<u64>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AuditArgs {
    /// A record's directory instead of the cell's.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// File of that record's master key; without it what is sealed stays sealed.
    #[arg(long, global = true, value_name = "FILE", requires = "record")]
    pub(crate) key: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

/// Which records, page by page.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Where the page before ended; it says so.
    #[arg(long)]
    pub(crate) after: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
}

/// Which records.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Tenant.
    #[arg(long)]
    pub(crate) tenant: Option<Name>,
    /// Agent.
    #[arg(long)]
    pub(crate) agent: Option<Name>,
    /// Kind of record: task, work, result, attempt, review, verdict, control, dead, …
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// State of a result.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Outcome of a decision: local, cloud, hold, reject.
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// Destination of a decision.
    #[arg(long)]
    pub(crate) destination: Option<String>,
    /// Policy that determined a decision.
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// Workflow.
    #[arg(long)]
    pub(crate) workflow: Option<String>,
    /// From this time, RFC 3339.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Before this time, RFC 3339.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Only records that are odd: a missing cause, a second terminal result, a gap.
    #[arg(long)]
    pub(crate) anomalies: bool,
}

#[derive(Debug, Clone, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value a process")]
pub(crate) enum ReplayCommand {
    /// Write down what would be published; publishes nothing.
    #[command(after_help = "Example:\n  tidegate replay plan --kind result --tenant acme --out plan.json")]
    Plan {
        #[command(flatten)]
        filter: FilterArgs,
        /// File for the plan; one that is there already is not written over.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Publish a plan's records into the stream REPLAY.
    Run {
        /// The plan.
        #[arg(long, value_name = "FILE")]
        plan: PathBuf,
        /// Records a second.
        #[arg(long, default_value_t = 100)]
        rate: u32,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}
