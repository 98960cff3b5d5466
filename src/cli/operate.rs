//! What operators, reviewers and auditors say.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::replay::RATE_MAX;
use tidegate_schemas::subject::Lane;
use uuid::Uuid;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters.
    List {
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<Name>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = super::at_least_one)]
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
        /// Also where no destination of the active bundle is covered now.
        #[arg(long)]
        force: bool,
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
    /// Begin a bundle: copy the one that the cell was begun with; without a cell the default one.
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
        /// The bundle's directory; absent: the running cell's active one, with what is switched off there, else the default one.
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
    /// Check the record, or what was exported from one: hashes, the tree, checkpoints, bodies, sequences, causes, one terminal
    /// a task.
    ///
    /// Exit status: 0 whole, 1 tampered, 2 whole but odd (with --strict), 3 unreadable.
    #[command(after_help = "Examples:
  tidegate audit verify                                                   the cell's record
  tidegate audit verify --bundle DIR --public-key FILE --checkpoint FILE  an export, on any machine, without a cell
  tidegate audit verify --proof FILE --leaf FILE --public-key FILE        one record by its proof")]
    Verify(VerifyArgs),
    /// Prove something of the record against its newest checkpoint.
    #[command(subcommand)]
    Prove(ProveCommand),
    /// Write the signed records as files that anybody can check.
    #[command(after_help = "Examples:
  tidegate audit export evidence                a line a record: each line's SHA-256 after a zero byte is its leaf hash
  tidegate audit export log --form tiles        a C2SP tile directory, as other programs read it
  tidegate audit export more --since 120000 --bodies
                                                what `audit rebuild` needs besides an earlier export of 120,000 records")]
    Export(ExportArgs),
    /// Copy the record into a directory while its recorder writes; into the same directory again, only what came since.
    ///
    /// The copy holds leaves, sealed bodies, wrapped keys, the key file and all checkpoints. Whoever restores it needs the
    /// record's master key and signing key too: keep them elsewhere.
    #[command(after_help = "Examples:
  tidegate audit backup /mnt/backup/cell                          run it again and again: each adds what is new
  tidegate audit restore /mnt/backup/cell --check                 reads it all, and compares it with what was signed")]
    Backup {
        /// The backup's directory.
        dir: PathBuf,
        /// Copy the master key and the signing key too: whoever has such a backup reads every body and can sign.
        #[arg(long)]
        with_keys: bool,
    },
    /// Make the record of a backup anew, where none is; the recorder goes on with it.
    ///
    /// The backup is verified on the way: what was changed is refused, and nothing is left. What was recorded since is read
    /// again from the streams, as far as they hold it; the rest is recorded as gaps. Where more was signed than the backup
    /// holds, `tidegate audit accept-break` must follow.
    #[command(after_help = "Examples:
  tidegate audit restore /mnt/backup/cell                         into the cell's own place
  tidegate audit restore /mnt/backup/cell --record DIR --public-key FILE     anywhere, without a cell")]
    Restore {
        /// The backup's directory.
        dir: PathBuf,
        /// Only verify the backup.
        #[arg(long)]
        check: bool,
    },
    /// Make a record anew from exports: the same root, leaves, indices, tasks and positions.
    #[command(after_help = "Examples:
  tidegate audit rebuild --from evidence --record DIR                         what the leaves say; bodies stay away
  tidegate audit rebuild --from first --from more --key-file keys.bin --record DIR    exports with --bodies, in their order")]
    Rebuild {
        /// An export's or a backup's directory; can be given more than once, in the order of their records.
        #[arg(long, value_name = "DIR", required = true)]
        from: Vec<PathBuf>,
        /// The record's key file, `keys.bin`, of which exported keys are rows: without it no body opens.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Go on with a record that does not continue what was signed (an older copy, a lost disk), under a new origin.
    ///
    /// That it breaks here is published before, and is on record. There are never two signed histories under one origin.
    AcceptBreak {
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Judge recorded decisions again, with no effect on anything: the same inputs must give the same decisions.
    ///
    /// Needs the record's master key: what was judged is sealed. Exit status: 0 as allowed, 2 more decisions differ or cannot
    /// be judged than allowed, 3 unreadable.
    #[command(after_help = "Examples:
  tidegate audit rejudge                                      each under the bundle that it names: nothing may differ
  tidegate audit rejudge --from 2026-11-01T00:00:00Z --bundle my-bundle --differ-max 1000000
                                                              what another bundle would have decided")]
    Rejudge(RejudgeArgs),
    /// One month of a tenant as a page for people, or as JSON: what ran where, what left, who decided, what went wrong.
    Report(super::ReportArgs),
}

/// What to verify, and against what.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    /// Only the newest records and the counts.
    #[arg(long, conflicts_with_all = ["since", "bundle", "proof"])]
    pub(crate) quick: bool,
    /// Only records from this index on, and all streams.
    #[arg(long, value_name = "INDEX", conflicts_with_all = ["bundle", "proof"])]
    pub(crate) since: Option<u64>,
    /// An exported directory instead of a record.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// A checkpoint that was kept outside; the record must go on from it. Can be given more than once.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
    /// A proof instead of a record: of inclusion with --leaf, of consistency with --checkpoint.
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    pub(crate) proof: Option<PathBuf>,
    /// The record that a proof of inclusion is about: its line, as exported.
    #[arg(long, value_name = "FILE", requires = "proof")]
    pub(crate) leaf: Option<PathBuf>,
    /// Fail with 2 where records are flagged as odd.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// What to export.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// Directory to create.
    pub(crate) dir: PathBuf,
    /// How records are written.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) form: ExportForm,
    /// Only records from this index on; a tile directory begins with the tile that it lies in.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub(crate) since: u64,
    /// The sealed bodies and their wrapped keys too, so that a record can be made anew from it.
    #[arg(long)]
    pub(crate) bodies: bool,
}

/// How records are exported.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(crate) enum ExportForm {
    /// One file of lines, each the exact bytes of a leaf.
    #[default]
    Lines,
    /// Entry bundles, as C2SP tlog-tiles has them.
    Tiles,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ProveCommand {
    /// That a record is in the signed tree: a C2SP tlog-proof.
    #[command(after_help = "Example:\n  tidegate audit prove inclusion TASKS_acme:17 --out 17.tlog-proof")]
    Inclusion {
        /// The record: its index, or its message as STREAM:SEQUENCE.
        record: String,
        /// File for the proof; absent: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// That the record goes on from an older checkpoint.
    Consistency {
        /// The older checkpoint, a signed note.
        checkpoint: PathBuf,
        /// File for the proof; absent: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// That every sequence of every stream is recorded, or lies in a gap that is named and explained.
    ///
    /// Exit status: 0 complete, 1 tampered, 2 a gap is unexplained, 3 unreadable.
    Completeness,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RejudgeArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Judge by the bundle in this directory instead of the one that each decision names.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Most decisions that may differ.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub(crate) differ_max: u64,
    /// Most decisions that may be impossible to judge: erased, of an unknown bundle.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub(crate) unjudged_max: u64,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AuditArgs {
    /// A record's directory instead of the cell's.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// File of that record's master key; without it what is sealed stays sealed.
    #[arg(long, global = true, value_name = "FILE", requires = "record")]
    pub(crate) key: Option<PathBuf>,
    /// File of the public key that signs checkpoints; absent: the cell's own.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) public_key: Option<PathBuf>,
    /// Read that record as its recorder left it when it died, and write nothing; no recorder can begin meanwhile.
    #[arg(long, global = true, requires = "record")]
    pub(crate) crashed: bool,
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
    #[arg(long, default_value_t = 100, value_parser = super::at_least_one)]
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
pub(crate) enum ReplayCommand {
    /// Write down what would be published; publishes nothing.
    #[command(
        after_help = "Example:\n  tidegate replay plan --kind result --tenant acme --from 2026-11-16T00:00:00Z --out plan.json"
    )]
    Plan {
        #[command(flatten)]
        filter: FilterArgs,
        /// File for the plan; one that is there already is not written over.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Have the recorder publish a plan's records, and wait. It goes on without this command, and after a crash by itself.
    #[command(after_help = "Examples:
  tidegate replay run --plan plan.json --reason 'a drill'                      to replay.<id>.…, a hundred a second
  tidegate replay run --plan plan.json --tool acme/desk --rate 1000 --reason 'a late support tool'
                                                                             then: tidegate results --tool desk --replayed
  tidegate replay run --plan plan.json --speed 10 --reason 'last night, ten times as fast'
  tidegate replay run --plan plan.json --as-original --reason 'lost by the provider'")]
    Run(RunArgs),
    /// Where replays stand.
    Status {
        /// Only this one.
        replay: Option<Uuid>,
    },
    /// Stop a replay where it is, for good.
    Cancel {
        /// The replay's id.
        replay: Uuid,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// The plan.
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: PathBuf,
    /// Records a second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    pub(crate) rate: u32,
    /// With the original pauses instead, so many times as fast: 1 is the original pace.
    #[arg(long, value_name = "FACTOR", conflicts_with = "rate")]
    pub(crate) speed: Option<f64>,
    /// To a support tool's own subject instead of the replay's: results of its tenant only.
    #[arg(long, value_name = "TENANT/TOOL", value_parser = tool, conflicts_with = "as_original")]
    pub(crate) tool: Option<(Name, Name)>,
    /// Submit tasks again, as new ones that are judged afresh.
    #[arg(long)]
    pub(crate) as_original: bool,
    /// Return once it has begun.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

fn tool(text: &str) -> Result<(Name, Name), String> {
    let (tenant, tool) = text.split_once('/').ok_or("must be TENANT/TOOL")?;
    let name = |text: &str| Name::new(text).map_err(|error| error.to_string());
    Ok((name(tenant)?, name(tool)?))
}
