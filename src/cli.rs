//! The command line: what can be said, and nothing of how it is done.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use audit::{
    AuditArgs, AuditCommand, ExportArgs, ExportForm, ProveCommand, RejudgeArgs, VerifyArgs,
};
pub(crate) use backtest::BacktestArgs;
pub(crate) use budget::{BudgetArgs, BudgetCommand, ResetArgs};
pub(crate) use erase::{AccessArgs, EraseArgs, RotateArgs, WhoArgs};
pub(crate) use flag::{FlagArgs, FlagCommand};
pub(crate) use operate::{
    DeadCommand, LaneCommand, LaneWhat, ModelCommand, PolicyCommand, ReviewCommand, ServeArgs, VerdictArgs,
};
pub(crate) use produce::{
    AgentCommand, Kind, ResultsArgs, Sensitivity, Stakes, SubmitArgs, TaskCommand, TenantCommand,
    ToolCommand, Who,
};
pub(crate) use query::{FilterArgs, QueryArgs};
pub(crate) use release::{BundleCommand, Hash};
pub(crate) use replay::{ReplayCommand, RunArgs};
pub(crate) use report::ReportArgs;
pub(crate) use retain::{HoldAddArgs, HoldCommand};
pub(crate) use ticket::TicketCommand;

mod audit;
mod backtest;
mod budget;
mod erase;
mod flag;
mod operate;
mod produce;
mod query;
mod release;
mod replay;
mod report;
mod retain;
mod ticket;

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
  tidegate dev                                                start a whole cell on loopback
  tidegate submit chat 'What is NATS?' --sensitivity public   submit a task and wait for its result
  tidegate status                                             one screen about the cell
  tidegate audit task 019a…                                   what happened to a task, and why";

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
    #[command(
        after_help = "Examples:\n  tidegate stop             waits until every role has drained\n  tidegate stop --no-wait"
    )]
    Stop(StopArgs),
    /// Run the guided demo on a fresh cell.
    #[command(after_help = "Example:\n  tidegate demo --keep   the demo, whose cell then goes on running")]
    Demo(DemoArgs),
    /// Create the cell's streams, consumers and buckets.
    #[command(
        after_help = "Example:\n  tidegate provision   after `[streams] bytes_max` in cell.toml was raised"
    )]
    Provision,
    /// Run a router.
    #[command(after_help = "Example:\n  tidegate router --check-config")]
    Router(RoleArgs),
    /// Run a local worker.
    #[command(after_help = "Example:\n  tidegate local --ops 127.0.0.1:9101")]
    Local(RoleArgs),
    /// Run a cloud worker.
    #[command(after_help = "Example:\n  tidegate cloud --check-config")]
    Cloud(RoleArgs),
    /// Run the vault; a second one stands by.
    #[command(after_help = "Example:\n  tidegate vault --check-config")]
    Vault(RoleArgs),
    /// Run the recorder.
    #[command(after_help = "Example:\n  tidegate recorder --ops 127.0.0.1:9104")]
    Recorder(RoleArgs),
    /// Submit a task and wait for its result.
    Submit(Box<SubmitArgs>),
    /// Look at a task, or withdraw it.
    #[command(subcommand, after_help = "Example:\n  tidegate task get 0193a1c0-0000-7000-8000-000000000000")]
    Task(TaskCommand),
    /// Follow results as a support tool does.
    Results(ResultsArgs),
    /// Add tenants.
    #[command(subcommand, after_help = "Example:\n  tidegate tenant add globex --owner ops@globex.example")]
    Tenant(TenantCommand),
    /// Add agents.
    #[command(subcommand, after_help = "Example:\n  tidegate agent add globex crawler --role analyst")]
    Agent(AgentCommand),
    /// Add support tools, reviewers and operators.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate tool add globex desk --content\n  tidegate tool reviewer bob --queue default"
    )]
    Tool(ToolCommand),
    /// One screen about the cell.
    #[command(after_help = "Example:\n  tidegate status --json")]
    Status,
    /// Dead letters.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate dead list\n  tidegate dead requeue 17 --reason 'the provider is back'"
    )]
    Dead(DeadCommand),
    /// Switch lanes, providers and models off and on.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate lane off cloud --reason 'incident 4711'\n  tidegate lane status"
    )]
    Lane(LaneCommand),
    /// Budgets: what tenants, agents and providers may use in a window of time.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate budget show\n  tidegate budget set --tenant acme --window day --requests 10000 --reason 'by contract'"
    )]
    Budget(BudgetCommand),
    /// Feature flags: what policies may know beside a task.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate flag list\n  tidegate flag share stay-local --share 20 --reason 'what does the local lane make of it?'\n  tidegate flag off stay-local --reason 'seen enough'"
    )]
    Flag(FlagCommand),
    /// Bundles of policies.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate policy new my-bundle\n  tidegate policy explain task.json --bundle my-bundle\n  tidegate policy apply my-bundle --reason 'a stricter limit'"
    )]
    Policy(PolicyCommand),
    /// Releases: bundles beside the active one.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate bundle push my-bundle --reason 'the rules of June'\n  tidegate bundle status\n  tidegate bundle rollback --reason 'too many rejections'"
    )]
    Bundle(BundleCommand),
    /// Models of the local lane.
    #[command(subcommand, after_help = "Example:\n  tidegate model verify")]
    Model(ModelCommand),
    /// Decide held tasks.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate review list\n  tidegate review approve 23 --reason 'looked at it'"
    )]
    Review(ReviewCommand),
    /// Ask the record.
    #[command(
        after_help = "Examples:\n  tidegate audit tail\n  tidegate audit query --state failed --json\n  tidegate audit verify"
    )]
    Audit(Box<AuditArgs>),
    /// Keys that tickets are signed with.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate ticket keys\n  tidegate ticket rotate --reason 'yearly'"
    )]
    Ticket(TicketCommand),
    /// Publish records again.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate replay plan --kind result --out plan.json\n  tidegate replay run --plan plan.json --reason 'a late support tool'"
    )]
    Replay(ReplayCommand),
    /// Check this machine and cell, and say what to do.
    #[command(after_help = "Example:\n  tidegate doctor")]
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
            Self::Vault(_) => Some("vault"),
            Self::Model(ModelCommand::Serve(_)) => Some("model"),
            Self::Dev(_) => Some("dev"),
            _ => None,
        }
    }
}

/// A count that is not none.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be 1 or more".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
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
    /// Port of the NATS server; 0 takes a free one, where a cell that exists has its own only if that is taken. Absent: its own,
    /// 4222 for a new cell.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Remove the cell that is in the directory first, its record and keys included; other files there stay, and a directory
    /// that holds no cell is refused.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Mark a new cell as a demo's own, which the next demo may remove.
    #[arg(long, hide = true)]
    pub(crate) demo: bool,
    /// Routers, count.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) routers: u16,
    /// Bundle of a new cell: a directory; absent: the default one. A cell that exists goes on with its active one.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Most bytes of each stream of a new cell; absent: 8 GiB. A cell that exists keeps its own, in cell.toml.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1 << 20..))]
    pub(crate) stream_bytes_max: Option<u64>,
    /// TLS between all parts of a new cell: a directory with `ca.pem`, `server.pem` and `server.key`. A cell that exists keeps its
    /// own, in cell.toml.
    #[arg(long, value_name = "DIR")]
    pub(crate) tls: Option<PathBuf>,
    /// End when standard input closes; for programs that start a cell.
    #[arg(long)]
    pub(crate) attached: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StopArgs {
    /// Only tell it to stop.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Leave the cell running.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    /// Every command at any depth: what is typed for it, and what its help ends with.
    fn commands(command: &clap::Command, typed: &str) -> Vec<(String, String)> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut found = vec![(typed.to_owned(), help)];
        for below in command.get_subcommands() {
            found.extend(commands(below, &format!("{typed} {}", below.get_name())));
        }
        found
    }

    /// The words of an example as a shell would give them. After two spaces stands what it is good for.
    fn words(example: &str) -> Vec<&str> {
        let typed = example.split_once("  ").map_or(example, |(typed, _)| typed);
        let typed = typed.split_once(" > ").map_or(typed, |(typed, _)| typed);
        let mut words = Vec::new();
        for (at, part) in typed.split('\'').enumerate() {
            if at % 2 == 1 {
                words.push(part);
            } else {
                words.extend(part.split_whitespace());
            }
        }
        words
    }

    #[test]
    fn every_command_shows_an_example() {
        for (typed, help) in commands(&Cli::command(), "tidegate") {
            assert!(help.contains("Example") && help.contains(&format!("\n  {typed}")), "{typed}: {help}");
        }
    }

    #[test]
    fn every_example_is_understood() {
        for (_, help) in commands(&Cli::command(), "tidegate") {
            let lines = help.lines().filter(|line| line.starts_with("  tidegate ")).map(str::trim_start);
            // An id that is cut short stands for a whole one.
            for words in lines.map(words).filter(|words| !words.iter().any(|word| word.ends_with('…'))) {
                let refused = Cli::try_parse_from(&words).err().map(|error| error.to_string());
                assert_eq!(refused, None, "{words:?}");
            }
        }
    }

    #[test]
    fn what_asks_for_nothing_is_refused() {
        let rows: [&[&str]; 4] = [
            &["replay", "run", "--plan", "p", "--reason", "r", "--rate"],
            &["audit", "query", "--limit"],
            &["dead", "list", "--limit"],
            &["results", "--limit"],
        ];
        for row in rows {
            let said = |count| Cli::try_parse_from([&["tidegate"][..], row, &[count]].concat());
            assert!(said("1").is_ok(), "negative control: {row:?}");
            assert_eq!(said("0").unwrap_err().kind(), clap::error::ErrorKind::ValueValidation, "{row:?}");
        }
    }

    #[test]
    fn what_one_command_calls_otherwise_is_understood_by_both() {
        let rows: [&[&str]; 4] = [
            &["audit", "rejudge", "--unjudged-max", "3"],
            &["audit", "rejudge", "--max-unjudged", "3"],
            &["policy", "backtest", "--bundle", "b", "--since", "7d", "--until", "1d", "--max-unjudged", "3"],
            &["policy", "backtest", "--bundle", "b", "--from", "7d", "--to", "1d", "--unjudged-max", "3"],
        ];
        for row in rows {
            let refused = Cli::try_parse_from([&["tidegate"][..], row].concat()).err();
            assert_eq!(refused.map(|error| error.to_string()), None, "{row:?}");
        }
    }

    /// Arguments by which a secret could be handed over: named like one, and taking a value that is no place.
    fn secret_arguments(command: &clap::Command, typed: &str) -> Vec<String> {
        const SECRETS: [&str; 8] =
            ["key", "secret", "token", "password", "seed", "credential", "passphrase", "nkey"];
        let is_secret = |arg: &&clap::Arg| {
            let name = arg.get_id().as_str().replace('_', "-");
            let named = SECRETS.iter().any(|word| name.split('-').any(|part| part == *word));
            let env = arg.get_env().map(|env| env.to_string_lossy().to_lowercase()).unwrap_or_default();
            let places = arg.get_value_names().unwrap_or_default();
            let is_place = places.iter().any(|name| matches!(name.as_str(), "FILE" | "DIR"));
            let takes_value = arg.get_action().takes_values();
            takes_value && !is_place && (named || SECRETS.iter().any(|word| env.contains(word)))
        };
        let own = command.get_arguments().filter(is_secret);
        let mut found: Vec<String> = own.map(|arg| format!("{typed} {}", arg.get_id())).collect();
        for below in command.get_subcommands() {
            found.extend(secret_arguments(below, &format!("{typed} {}", below.get_name())));
        }
        found
    }

    #[test]
    fn no_command_takes_a_secret_as_an_argument() {
        // The seed of sampling is none.
        assert_eq!(secret_arguments(&Cli::command(), "tidegate"), ["tidegate submit seed"]);
        // Negative control: one that does is found, and one that takes its place or only says whether is not.
        let command = |arg: clap::Arg| clap::Command::new("x").subcommand(clap::Command::new("y").arg(arg));
        let key = || clap::Arg::new("api-key").long("api-key");
        assert_eq!(secret_arguments(&command(key()), "x"), ["x y api-key"]);
        let from_env = clap::Arg::new("provider").long("provider").env("PROVIDER_TOKEN");
        assert_eq!(secret_arguments(&command(from_env), "x"), ["x y provider"]);
        let flag = clap::Arg::new("with-keys").long("with-keys").action(clap::ArgAction::SetTrue);
        for harmless in [key().value_name("FILE"), flag] {
            assert_eq!(secret_arguments(&command(harmless), "x"), Vec::<String>::new());
        }
    }

    #[test]
    fn completions_know_every_command() {
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut Cli::command(), "tidegate", &mut script);
        let script = String::from_utf8(script).unwrap();
        for (typed, _) in commands(&Cli::command(), "tidegate") {
            let Some((above, name)) = typed.rsplit_once(' ') else { continue };
            let known = format!("{},{name})", above.replace(' ', "__subcmd__"));
            assert!(script.contains(&known), "{typed}");
        }
    }
}
