//! What operators and reviewers say.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters.
    #[command(after_help = "Example:\n  tidegate dead list --tenant acme --limit 10")]
    List {
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<Name>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = super::at_least_one)]
        limit: usize,
    },
    /// One dead letter.
    #[command(after_help = "Example:\n  tidegate dead show 17")]
    Show {
        /// Its sequence in EVENTS.
        sequence: u64,
    },
    /// Take its message up again.
    #[command(after_help = "Example:\n  tidegate dead requeue 17 --reason 'the provider is back'")]
    Requeue {
        /// Its sequence in EVENTS.
        sequence: u64,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Leave its message for good.
    #[command(after_help = "Example:\n  tidegate dead discard 17 --reason 'a test message'")]
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
        /// Also where no destination of a released bundle is covered now, and for a tenant that the directory does not know.
        #[arg(long)]
        force: bool,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Switch on again what was switched off.
    #[command(after_help = "Examples:
  tidegate lane on cloud --reason 'incident 4711 is over'
  tidegate lane on --target openai --reason 'the provider is back'")]
    On {
        #[command(flatten)]
        what: LaneWhat,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// What is off.
    #[command(after_help = "Example:\n  tidegate lane status")]
    Status,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Begin a bundle: copy the one that the cell was begun with; without a cell the default one.
    #[command(
        after_help = "Example:\n  tidegate policy new my-bundle   then: tidegate policy check my-bundle"
    )]
    New {
        /// Directory to create.
        dir: PathBuf,
    },
    /// Check a bundle, run its cases, have its properties proved where a prover is, and make it the active one; `policy test`, `prove`
    /// and `backtest` say more before. A bundle that promises what does not hold is refused.
    /// Where more might leave than by the active one, another operator agrees first: `bundle push`, `bundle approve`.
    #[command(after_help = "Example:\n  tidegate policy apply my-bundle --reason 'a stricter limit'")]
    Apply {
        /// The bundle's directory.
        dir: PathBuf,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Parse and validate a bundle, and run its cases.
    #[command(
        after_help = "Examples:\n  tidegate policy check my-bundle\n  tidegate policy check my-bundle --json   \
                            faults with file and line, for programs\n\n\
                            Exit status: 0 well, 1 a case fails, 3 the bundle cannot be used"
    )]
    Check {
        /// The bundle's directory; absent: the default one.
        dir: Option<PathBuf>,
    },
    /// Run a bundle's cases, and say which policy no case needs. Ends with 2 where a case fails, a policy determines none, or
    /// dropping a forbid breaks neither a case nor, where the prover is there, a property, and with 1 where an answer is not as expected, or nobody could be asked for one. What it takes from the bundle that it extends is asked of that one.
    #[command(after_help = "Examples:
  tidegate policy test my-bundle              with the answers that cases of prompts expect, asked of the local model that it pins
  tidegate policy test my-bundle --no-model   without them
  tidegate policy test my-bundle --model our.gguf   asks another model
  tidegate policy test my-bundle --cedar-tests tests.json   with cases as `cedar run-tests` reads them")]
    Test {
        /// The bundle's directory; absent: the default one.
        dir: Option<PathBuf>,
        /// File of more cases in the form of Cedar's own command line; may be repeated.
        #[arg(long, value_name = "FILE")]
        cedar_tests: Vec<PathBuf>,
        /// Ask this local model what cases of prompts expect an answer to: a name of `tidegate model list`, or a GGUF file. Absent: the
        /// one among them whose weights a local destination of the bundle pins.
        #[arg(long, value_name = "NAME|FILE")]
        model: Option<String>,
        /// Ask no model: the answers that cases of prompts expect are not run, and that is told.
        #[arg(long, conflicts_with = "model")]
        no_model: bool,
        /// Merge this LoRA adapter into the model: its directory, or its weights.
        #[arg(long, value_name = "PATH", requires = "model")]
        adapter: Option<PathBuf>,
    },
    /// Lay out a bundle's Cedar files; what the bundle says, and its hash, stay the same.
    #[command(after_help = "Examples:
  tidegate policy fmt my-bundle
  tidegate policy fmt my-bundle --check   write nothing; ends with 2 where a file would change")]
    Fmt {
        /// The bundle's directory; absent: the default one.
        dir: Option<PathBuf>,
        /// Only say which files would change.
        #[arg(long)]
        check: bool,
    },
    /// Say how one bundle differs from another.
    #[command(after_help = "Examples:
  tidegate policy diff my-bundle              from the running cell's active bundle
  tidegate policy diff old-bundle my-bundle   a bundle is a directory, `active`, or a hash that the cell knows, or its first digits")]
    Diff {
        /// From which bundle to which; one alone is compared with the running cell's active one.
        #[arg(required = true, num_args = 1..=2, value_name = "BUNDLE")]
        bundles: Vec<String>,
        /// Also what the cases say that differ, not only their names. With --json they always stand in full.
        #[arg(long)]
        cases: bool,
    },
    /// Prove a bundle's properties for every possible request, or show one for which they do not hold.
    #[command(after_help = "Examples:
  tidegate policy prove my-bundle                                       every property of the bundle
  tidegate policy prove my-bundle --against active                      and whether cloud access gets wider than it is in the running cell

Exit status: 0 all proven and nothing wider; 1 refuted; 2 cloud access got wider; 3 not proven, or not asked.
Needs cvc5 (CVC5, else PATH, else .tools/bin/cvc5) and tidegate-prove beside this program.")]
    Prove {
        /// The bundle's directory; absent: the default one.
        dir: Option<PathBuf>,
        /// A second bundle, a directory, `active`, or a hash that the cell knows: has access to the cloud become wider than there?
        #[arg(long, value_name = "BUNDLE")]
        against: Option<String>,
        /// Only this property, or `never-fails:<policy>` or `applies:<policy>`; may be given again.
        #[arg(long, value_name = "ID")]
        only: Vec<String>,
        /// Seconds that the solver may take for one answer; absent: 20.
        #[arg(long, value_name = "SECONDS")]
        limit: Option<u64>,
    },
    /// Judge recorded decisions again by another bundle: what would flip, leave, cost, and what stays. Nothing is acted on.
    Backtest(Box<super::BacktestArgs>),
    /// Say what a bundle decides about a task, why, and what kept it from where it may not run.
    #[command(after_help = "Examples:
  tidegate policy explain task.json   by the running cell's active bundle
  tidegate policy explain task.json --bundle my-bundle --kind extract
  tidegate policy explain task.json --flag stay-local   what would be decided with this feature flag")]
    Explain {
        /// Task envelope, - for standard input.
        task: PathBuf,
        /// A directory, a hash that the cell knows, or `active`: the running cell's, with what is switched off there; absent: the
        /// one that decides about the task where a cell answers, the canary's or the active one, else the default one.
        #[arg(long)]
        bundle: Option<String>,
        /// A feature flag that is on for it, may be given again; absent: those that are on in the running cell, where its own bundle
        /// decides.
        #[arg(long, value_name = "FLAG")]
        flag: Vec<Name>,
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
    #[command(after_help = "Example:\n  tidegate model list --json")]
    List,
    /// Check the files on this machine against the manifest.
    #[command(after_help = "Example:\n  tidegate model verify")]
    Verify,
    /// Make the weights of the token classifier, as a local worker does at its first start.
    #[command(after_help = "Example:\n  tidegate model convert --json")]
    Convert,
    /// Serve a local model by the OpenAI protocol on loopback: a stand-in for a provider.
    #[command(
        after_help = "Example:\n  tidegate model serve --listen 127.0.0.1:8080   on http://127.0.0.1:8080/v1"
    )]
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
    #[command(after_help = "Example:\n  tidegate review list --reviewer bob")]
    List {
        /// As this reviewer.
        #[arg(long, env = "TIDEGATE_REVIEWER", default_value = "alice")]
        reviewer: Name,
    },
    /// One held task, with what would run; hidden characters are shown.
    #[command(after_help = "Example:\n  tidegate review show 23")]
    Show {
        /// Its sequence in EVENTS.
        sequence: u64,
        /// As this reviewer.
        #[arg(long, env = "TIDEGATE_REVIEWER", default_value = "alice")]
        reviewer: Name,
    },
    /// Let it run.
    #[command(after_help = "Example:\n  tidegate review approve 23 --reason 'looked at it'")]
    Approve(VerdictArgs),
    /// Let it run with another input; it is judged again.
    #[command(
        after_help = "Example:\n  tidegate review edit 23 --input input.json --reason 'a name taken out'"
    )]
    Edit {
        #[command(flatten)]
        verdict: VerdictArgs,
        /// File with the new input, JSON.
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
    },
    /// Do not let it run.
    #[command(after_help = "Example:\n  tidegate review reject 23 --reason 'not for a provider'")]
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
