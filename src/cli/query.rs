//! Words that say which records are meant.

use clap::Args;
use tidegate_schemas::ids::{Name, TaskId};

use super::Hash;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct FilterArgs {
    /// Tenant.
    #[arg(long)]
    pub(crate) tenant: Option<Name>,
    /// Agent.
    #[arg(long)]
    pub(crate) agent: Option<Name>,
    /// Task.
    #[arg(long)]
    pub(crate) task: Option<TaskId>,
    /// Kind of record: task, work, result, attempt, review, verdict, control, dead, …
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Kind of work of a task: chat, extract, classify, embed.
    #[arg(long)]
    pub(crate) task_kind: Option<String>,
    /// State of a result.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Outcome of a decision: local, cloud, hold, reject.
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    /// Code of a result, attempt, step or dead letter.
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// Destination of a decision, step or result.
    #[arg(long)]
    pub(crate) destination: Option<String>,
    /// Policy that determined a decision.
    #[arg(long)]
    pub(crate) policy: Option<String>,
    /// Bundle that judged: its SHA-256, or as many of its first digits as tell it from the others on record.
    #[arg(long, value_name = "SHA256")]
    pub(crate) judged_by: Option<Hash>,
    /// Sensitivity: public, internal, confidential, restricted; as decided, of a task as declared.
    #[arg(long, visible_alias = "label")]
    pub(crate) sensitivity: Option<String>,
    /// What is at stake: low, medium, high; as decided, of a task as declared.
    #[arg(long)]
    pub(crate) stakes: Option<String>,
    /// Kind of data in it, as the bundle that judged names it: personal, health, card, …; `unknown` where it does not know
    /// the name. Of what was decided: work, reviews, rejections; what was decided before leaves had these names has none.
    #[arg(long)]
    pub(crate) category: Option<Name>,
    /// Regulation that it falls under, likewise: gdpr, hipaa, pci, …
    #[arg(long)]
    pub(crate) regulation: Option<Name>,
    /// Region that it may be worked on in, likewise: eu, ch, us, …
    #[arg(long, value_name = "REGION")]
    pub(crate) residency: Option<Name>,
    /// What the data subjects consented to, likewise: cloud_processing, marketing, …
    #[arg(long)]
    pub(crate) consent: Option<Name>,
    /// What the work is for, likewise: support, research, …
    #[arg(long)]
    pub(crate) purpose: Option<Name>,
    /// Workflow. Needs the master key where there is no recorder.
    #[arg(long)]
    pub(crate) workflow: Option<String>,
    /// Person whose data it holds, by name. Needs the master key where there is no recorder.
    #[arg(long, conflicts_with = "subject_ref")]
    pub(crate) subject: Option<String>,
    /// Person whose data it holds, by what records call that person.
    #[arg(long, value_name = "HEX")]
    pub(crate) subject_ref: Option<String>,
    /// W3C trace id; looks at every record.
    #[arg(long, value_name = "HEX")]
    pub(crate) trace: Option<String>,
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
