//! Words of `tidegate audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidegate_schemas::ids::Name;

use super::query::{FilterArgs, QueryArgs};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print records as they are written; with --json each line is a leaf as it is stored, and nothing else.
    #[command(after_help = "Examples:
  tidegate audit tail                 the newest ten, then what comes
  tidegate audit tail -n 100 --once   the newest hundred")]
    Tail {
        /// Begin with this many of the newest.
        #[arg(long, short = 'n', default_value_t = 10)]
        lines: u64,
        /// End after those.
        #[arg(long)]
        once: bool,
    },
    /// What happened to a task, in order, with causes and durations.
    #[command(after_help = "Examples:
  tidegate audit task 0193a1c0-0000-7000-8000-000000000000
  tidegate audit task order-17 --tenant acme --agent helpdesk   by the identifier that its producer gave it")]
    Task {
        /// Task id: a UUID, or the producer's own identifier with --tenant and --agent.
        id: String,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<Name>,
        /// Whose identifier it is.
        #[arg(long, requires = "tenant")]
        agent: Option<Name>,
    },
    /// The tasks of a workflow as a tree.
    #[command(after_help = "Example:\n  tidegate audit workflow ticket-4711")]
    Workflow {
        /// Workflow id.
        id: String,
    },
    /// Find records.
    #[command(after_help = "Examples:
  tidegate audit query --tenant acme --outcome cloud --from 2026-11-01T00:00:00Z
  tidegate audit query --state failed --json
  tidegate audit query --subject customer-1 --outcome cloud          what left of a person
  tidegate audit query --category health --regulation gdpr --outcome cloud
                                                                     what left of a kind of data under a rule")]
    Query(QueryArgs),
    /// What left, a line a request that was sent: by which ticket, to which host, how many bytes of which digest, when, and
    /// how it ended.
    ///
    /// Each line is backed by a record that was durable before the first byte left; with --json it carries that record as it is
    /// stored and its proof, which `tidegate audit verify --proof FILE --leaf FILE --public-key FILE` checks on any machine.
    #[command(after_help = "Examples:
  tidegate audit egress --tenant acme --from 2026-11-01T00:00:00Z
  tidegate audit egress --task 019a… --json")]
    Egress(QueryArgs),
    /// Check the record, or what was exported from one: hashes, the tree, checkpoints, bodies, sequences, causes, one terminal
    /// a task.
    ///
    /// With the master key at hand (the cell's, or --key) each key of a body is opened too.
    ///
    /// Exit status: 0 whole, 1 tampered, 2 whole, but odd (with --strict) or signed by nobody who was named (without --public-key,
    /// of a record or an export that is not the cell's own), 3 unreadable, or not asked so that it can be checked.
    #[command(after_help = "Examples:
  tidegate audit verify                                                   the cell's record
  tidegate audit verify --bundle DIR --public-key FILE --checkpoint FILE  an export, on any machine, without a cell
  tidegate audit verify --proof FILE --leaf FILE --public-key FILE        one record by its proof")]
    Verify(VerifyArgs),
    /// Prove something of the record against its newest checkpoint.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate audit prove inclusion TASKS_acme:17 --out 17.tlog-proof\n  tidegate audit prove completeness"
    )]
    Prove(ProveCommand),
    /// Write the signed records as files that anybody can check, or recorded decisions as test cases.
    #[command(after_help = "Examples:
  tidegate audit export evidence                a line a record: each line's SHA-256 after a zero byte is its leaf hash
  tidegate audit export log --form tiles        a C2SP tile directory, as other programs read it
  tidegate audit export more --since 120000 --bodies
                                                what `audit rebuild` needs besides an earlier export of 120,000 records
  tidegate audit export cases --form cedar-tests --tenant acme --from 2026-11-01T00:00:00Z
                                                what was asked of each bundle, for `cedar run-tests`; needs the master key")]
    Export(ExportArgs),
    /// Copy the record into a directory while its recorder writes; into the same directory again, only what came since.
    ///
    /// The copy holds leaves, sealed bodies, wrapped keys, the key file, holds, erasures and all checkpoints; what retention took
    /// away leaves it too. Whoever restores it needs the record's master key and signing key too: keep them elsewhere.
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
  tidegate audit rebuild --from evidence --record DIR                         what the leaves say; bodies and holds stay away
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
    #[command(after_help = "Example:\n  tidegate audit accept-break --reason 'the disk failed'")]
    AcceptBreak {
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Prune what is past its retention now, instead of within the hour: bodies after 30 days, records after 13 months, as
    /// cell.toml has it. Hashes stay, so every proof goes on verifying. That it goes is on record before.
    #[command(after_help = "Examples:
  tidegate audit prune --plan     what would go, and what keeps the rest; changes nothing
  tidegate audit prune")]
    Prune {
        /// Only say what would go.
        #[arg(long)]
        plan: bool,
    },
    /// Legal holds: what must neither be pruned nor erased.
    #[command(
        subcommand,
        after_help = "Examples:\n  tidegate audit hold add --tenant acme --reason 'case 4711'\n  tidegate audit hold list"
    )]
    Hold(super::HoldCommand),
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
    /// Show what is held of a data subject: tasks, where their content was, what of it can be read.
    ///
    /// Reads the record's file with its master key.
    #[command(after_help = "Examples:
  tidegate audit access --subject customer-4711 --tenant acme
  tidegate audit access --subject customer-4711 --tenant acme --open answer        a file a record
  tidegate audit access --subject customer-4711 --tenant acme --open --json")]
    Access(super::AccessArgs),
    /// Erase a data subject: its keys are destroyed, and the streams' copies of its messages deleted. It cannot be undone.
    ///
    /// What was sealed for several data subjects is lost with any one of them. All proofs stay. While a task of it has not
    /// ended, nothing is erased, and while a legal hold forbids it the command refuses. An act that is on record before the hold
    /// is carried out when the last hold ends: `audit hold list` names what waits. Backups, providers and other systems are not
    /// reached.
    #[command(after_help = "Examples:
  tidegate audit erase --subject customer-4711 --tenant acme --plan
  tidegate audit erase --subject customer-4711 --tenant acme --reason 'asked for, ticket 12'
  tidegate audit erase --subject task:019a… --tenant acme --reason 'a task that named nobody'")]
    Erase(super::EraseArgs),
    /// Go over to another master key: the recorder seals all keys anew, and the old one opens nothing any more.
    ///
    /// What things are called in the record stays, so queries go on. Where the key is a systemd credential, give the new one as
    /// `master.key.next` and start the recorder again, then give it as `master.key`.
    #[command(after_help = "Examples:
  tidegate audit rotate-key --reason 'yearly'                                    to a new key
  (umask 077; openssl rand -hex 32 > new.key); tidegate audit rotate-key --new-key new.key --reason 'yearly'")]
    RotateKey(super::RotateArgs),
}

/// What to verify, and against what.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArgs {
    /// Only the newest records and the counts; of a record, not of an export.
    #[arg(long, conflicts_with_all = ["since", "bundle", "proof"])]
    pub(crate) quick: bool,
    /// Only records from this index on, and all streams; of an export from the beginning of the tile on that it lies in.
    #[arg(long, value_name = "INDEX", conflicts_with = "proof")]
    pub(crate) since: Option<u64>,
    /// One segment's file instead of a record, with the bodies in the file beside it where that is there.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "since", "bundle", "proof", "checkpoint"])]
    pub(crate) segment: Option<PathBuf>,
    /// An exported directory instead of a record.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// A checkpoint that was kept outside, or a copy of the cell's file of them; the record must go on from it. Can be given more
    /// than once.
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

/// What to export, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// Directory to create.
    pub(crate) dir: PathBuf,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) form: ExportForm,
    /// Only records from this index on; a tile directory begins with the tile that it lies in.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub(crate) since: u64,
    /// The sealed bodies and their wrapped keys too, so that a record can be made anew from it.
    #[arg(long)]
    pub(crate) bodies: bool,
    /// A checkpoint that was kept outside; nothing is exported of a record that does not go on from it. Can be given more than
    /// once.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Most decisions that become test cases.
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
}

/// How records are exported.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(crate) enum ExportForm {
    /// One file of lines, each the exact bytes of a leaf.
    #[default]
    Lines,
    /// Entry bundles, as C2SP tlog-tiles has them.
    Tiles,
    /// Decisions as test cases of Cedar's command line, a directory a bundle.
    CedarTests,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ProveCommand {
    /// That a record is in the signed tree: a C2SP tlog-proof.
    #[command(after_help = "Example:\n  tidegate audit prove inclusion TASKS_acme:17 --out 17.tlog-proof")]
    Inclusion {
        /// The record: its index, or its message as STREAM:SEQUENCE.
        // Not `record`, which is the option for a record's directory.
        #[arg(value_name = "RECORD")]
        wanted: String,
        /// File for the proof; absent: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// That the record goes on from an older checkpoint.
    #[command(after_help = "Examples:
  tidegate audit prove consistency kept.checkpoint --out kept.proof
  tidegate audit verify --proof kept.proof --checkpoint kept.checkpoint --public-key FILE   checks it anywhere")]
    Consistency {
        /// The older checkpoint: a signed note, or a copy of the cell's file of them, whose newest is taken.
        checkpoint: PathBuf,
        /// File for the proof; absent: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// That every sequence of every stream is recorded, or lies in a gap that is named and explained.
    ///
    /// Exit status: 0 complete, 1 tampered, 2 a gap is unexplained, 3 unreadable.
    #[command(after_help = "Examples:
  tidegate audit prove completeness
  tidegate audit prove completeness --checkpoint kept.checkpoint    of a record that must go on from it")]
    Completeness {
        /// A checkpoint that was kept outside; the record must go on from it. Can be given more than once.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
    },
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
    #[arg(long, visible_alias = "max-unjudged", default_value_t = 0, value_name = "COUNT")]
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
    /// File of the public key that signs checkpoints; absent: the cell's own, or none with --record: then nobody vouches for who
    /// signed.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) public_key: Option<PathBuf>,
    /// Read that record as its recorder left it when it died, and write nothing; no recorder can begin meanwhile.
    #[arg(long, global = true, requires = "record")]
    pub(crate) crashed: bool,
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}
