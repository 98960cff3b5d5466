//! The command line: what can be said, and nothing of how it is done.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use operate::{
    AuditArgs, AuditCommand, DeadCommand, FilterArgs, LaneCommand, LaneWhat, ModelCommand, PolicyCommand,
    QueryArgs, ReplayCommand, ReviewCommand, ServeArgs, VerdictArgs,
};
pub(crate) use produce::{
    AgentCommand, Kind, ResultsArgs, Sensitivity, SubmitArgs, TaskCommand, TenantCommand, ToolCommand, Who,
};

mod operate;
mod produce;

/// A policy-governed event router for agent workloads.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

const EXAMPLES: &str = "Examples:
  tidegate dev                                              start a whole cell on loopback
  tidegate submit chat 'What is NATS?' --sensitivity public submit a task and wait for its result
  tidegate status                                           one screen about the cell
  tidegate audit task 019a…                                 what happened to a task, and why";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The cell's directory.
    #[arg(long, global = true, env = "TIDEGATE_CELL", default_value = crate::cell::DEFAULT_DIR, value_name = "DIR")]
    pub(crate) cell: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole cell on loopback: server and one process a role.
    Dev(DevArgs),
    /// Stop the cell that `dev` started.
    Stop,
    /// Run the guided demo on a fresh cell.
    Demo(DemoArgs),
    /// Create the cell's streams, consumers and buckets.
    Provision,
    /// Run a router.
    Router(RoleArgs),
    /// Run a local worker.
    Local(RoleArgs),
    /// Run a cloud worker.
    Cloud(RoleArgs),
    /// Run the recorder.
    Recorder(RoleArgs),
    /// Submit a task and wait for its result.
    Submit(SubmitArgs),
    /// Look at a task, or withdraw it.
    #[command(subcommand)]
    Task(TaskCommand),
    /// Follow results as a support tool does.
    Results(ResultsArgs),
    /// Add tenants.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Add agents.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Add support tools and reviewers.
    #[command(subcommand)]
    Tool(ToolCommand),
    /// One screen about the cell.
    Status,
    /// Dead letters.
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Switch lanes, providers and models off and on.
    #[command(subcommand)]
    Lane(LaneCommand),
    /// Bundles of policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Models of the local lane.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Decide held tasks.
    #[command(subcommand)]
    Review(ReviewCommand),
    /// Ask the record.
    Audit(AuditArgs),
    /// Publish records again.
    #[command(subcommand)]
    Replay(ReplayCommand),
    /// Check this machine and cell, and say what to do.
    Doctor,
    /// Print a shell completion script.
    #[command(after_help = "Example:\n  tidegate completions bash > /etc/bash_completion.d/tidegate")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// The name of the role that the process is, for its log; none for a tool.
    pub(crate) fn role(&self) -> Option<&'static str> {
        match self {
            Self::Router(_) => Some("router"),
            Self::Local(_) => Some("local"),
            Self::Cloud(_) => Some("cloud"),
            Self::Recorder(_) => Some("recorder"),
            Self::Model(ModelCommand::Serve(_)) => Some("model"),
            Self::Dev(_) => Some("dev"),
            _ => None,
        }
    }
}

/// A role's process.
#[derive(Debug, Clone, Args)]
pub(crate) struct RoleArgs {
    /// Address of /livez, /readyz and /metrics; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub(crate) ops: std::net::SocketAddr,
    /// Write the address that /livez is served on to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) ops_file: Option<PathBuf>,
    /// Print the effective configuration and where each value comes from, and end.
    #[arg(long)]
    pub(crate) check_config: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  tidegate dev                    a cell in ./.cell, NATS on 127.0.0.1:4222
  tidegate dev --port 0 --fresh   a new cell on a free port")]
pub(crate) struct DevArgs {
    /// Port of a new cell's NATS server; 0 takes a free one. A cell that exists keeps its own.
    #[arg(long, default_value_t = 4222)]
    pub(crate) port: u16,
    /// Remove what is in the cell's directory first.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Routers, count.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) routers: u16,
    /// Bundle of a new cell: a directory; absent: the default one. A cell that exists goes on with its active one.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Most bytes of each stream of a new cell; absent: 8 GiB. A cell that exists keeps its own, in cell.toml.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1 << 20..))]
    pub(crate) stream_bytes_max: Option<u64>,
    /// End when standard input closes; for programs that start a cell.
    #[arg(long)]
    pub(crate) attached: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Leave the cell running.
    #[arg(long)]
    pub(crate) keep: bool,
}
