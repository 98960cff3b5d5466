//! What the EU AI Act and NIST SP 800-53 ask of records, and where this one answers. An aid for whoever must answer to them,
//! no legal advice; what the record does not answer is said as plainly as what it does.

use jiff::SignedDuration;
use serde::Serialize;
use tidegate_audit::report::Monthly;

/// Regulation (EU) 2024/1689.
const AI_ACT: &str = "EU AI Act";
/// Security and Privacy Controls, revision 5: Audit and Accountability.
const NIST: &str = "NIST SP 800-53 Rev. 5";
/// Articles 19(1) and 26(6) ask for six months; the longest half-year has 184 days.
const SIX_MONTHS_DAYS: i64 = 184;

/// One thing that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Clause {
    /// Law or standard.
    pub(super) source: &'static str,
    /// Where it stands there.
    pub(super) clause: &'static str,
    /// What it asks, in short.
    pub(super) asks: &'static str,
    /// How far the record answers.
    pub(super) answered: Answered,
    /// Where, or why not.
    pub(super) how: String,
}

/// How far the record answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answered {
    /// It does.
    Yes,
    /// It does in part.
    Partly,
    /// It does not; something else must.
    No,
}

use Answered::{No, Partly, Yes};

/// How long the cell keeps what is recorded, days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) records_days: u32,
    pub(super) bodies_days: u32,
}

/// Every clause, with what this record says to it; `kept` as the cell has it, where there is a cell.
pub(super) fn clauses(monthly: &Monthly, kept: Option<Kept>) -> Vec<Clause> {
    let held = format!("{} {}", held(monthly), retention(kept));
    let ai_act = ai_act(&held).into_iter().map(|row| clause(AI_ACT, row));
    let nist = nist().into_iter().chain(nist_9_to_16(&held)).map(|row| clause(NIST, row));
    ai_act.chain(nist).collect()
}

type Row = (&'static str, &'static str, Answered, String);

fn clause(source: &'static str, (clause, asks, answered, how): Row) -> Clause {
    Clause { source, clause, asks, answered, how }
}

/// How long this record reaches back.
fn held(monthly: &Monthly) -> String {
    let Some(times) = monthly.record.times else { return "This record is empty.".to_owned() };
    let days = monthly.made.duration_since(times.first).as_secs() / SignedDuration::from_hours(24).as_secs();
    let six = if days >= SIX_MONTHS_DAYS { "more than six months" } else { "not yet six months" };
    format!("This record reaches back to {}, {days} days: {six}.", super::words::day(times.first))
}

/// How long records stay.
fn retention(kept: Option<Kept>) -> String {
    let Some(Kept { records_days, bodies_days }) = kept else {
        return "How long records stay is in the cell's `cell.toml`, which is not at hand here; 396 days where it says nothing."
            .to_owned();
    };
    let short =
        if i64::from(records_days) < SIX_MONTHS_DAYS { ", which is less than six months" } else { "" };
    format!(
        "Records stay {records_days} days as this cell's `cell.toml` has it{short}, their sealed messages {bodies_days}."
    )
}

fn ai_act(held: &str) -> Vec<Row> {
    let row = |clause, asks, answered, how: &str| (clause, asks, answered, how.to_owned());
    vec![
        row(
            "Art. 12(1)",
            "The system automatically records events over its lifetime.",
            Yes,
            "Every message of every stream is recorded as it is stored, without anybody's doing: section Records by kind.",
        ),
        row(
            "Art. 12(2)(a)",
            "Events that help to identify a risk or a substantial modification.",
            Partly,
            "Sections Rejections and failures, Attention, and Rules in force (bundles, directories, operators' acts). Whether \
             one of them is a risk in the sense of Art. 79(1) is not judged here.",
        ),
        row(
            "Art. 12(2)(b)",
            "Events that facilitate post-market monitoring (Art. 72).",
            Partly,
            "Outcomes, reviews, cost and failures by model and place; the quality of answers is not recorded.",
        ),
        row(
            "Art. 12(2)(c)",
            "Events for monitoring operation as Art. 26(5) asks.",
            Yes,
            "Each task with its decision, place, attempts and result: `tidegate audit query`, `tidegate audit task`.",
        ),
        row(
            "Art. 12(3)",
            "Remote biometric identification: period of use, reference database, matched input, who verified.",
            Partly,
            "Times and the reviewers' names are recorded, input is sealed with the message. The reference database is no field \
             of the record.",
        ),
        row(
            "Art. 19(1)",
            "Providers keep the logs under their control for at least six months.",
            Partly,
            &format!("{held} Keeping the files is up to whoever runs the cell."),
        ),
        row(
            "Art. 19(2)",
            "Financial institutions keep the logs as part of their documentation.",
            No,
            "Not the record's: this page and `--json` can be filed there.",
        ),
        row(
            "Art. 26(1)",
            "Deployers use the system by its instructions.",
            No,
            "Not recorded; the policies that stand for them are, by bundle hash.",
        ),
        row(
            "Art. 26(2)",
            "Oversight by competent, trained and supported people.",
            Partly,
            "Section Reviews: what was held, decided and overturned, each verdict under its reviewer's own identity. \
             Competence and training are not recorded.",
        ),
        row(
            "Art. 26(4)",
            "Input data is relevant and representative.",
            No,
            "Not judged; input is sealed in the record.",
        ),
        row(
            "Art. 26(5)",
            "Monitor operation; inform provider and authority of risks and serious incidents.",
            Partly,
            "Monitoring: this report each month, `tidegate status`, section Attention. Who was informed is not recorded.",
        ),
        row(
            "Art. 26(6)",
            "Deployers keep the logs for at least six months.",
            Partly,
            &format!("{held} Keeping the files is up to whoever runs the cell."),
        ),
        row(
            "Art. 26(7)-(11)",
            "Inform workers and persons concerned, register, assess data protection, authorise biometrics.",
            No,
            "Not recorded.",
        ),
        row(
            "Art. 26(12)",
            "Cooperate with authorities.",
            Partly,
            "Records can be queried, handed over and verified by others; what was handed over is not recorded.",
        ),
    ]
}

fn nist() -> Vec<Row> {
    let row = |clause, asks, answered, how: &str| (clause, asks, answered, how.to_owned());
    vec![
        row(
            "AU-1",
            "Policy and procedures for audit, reviewed and updated.",
            No,
            "Outside the record: they are the organisation's. Section Rules in force names the bundles that judged, by hash.",
        ),
        row(
            "AU-2",
            "Event logging: which events are logged, and why these.",
            Yes,
            "Every message is an event, none is chosen: tasks, decisions, attempts, results, reviews, verdicts, dead letters, \
             operators' acts, gaps. Section Records by kind. Log-ins to hosts and the server's own log are not among them.",
        ),
        row(
            "AU-3",
            "Content: what, when, where, source, outcome, who.",
            Yes,
            "Each record has kind, time, stream and sequence, cause, state or outcome, tenant and agent, reviewer or operator.",
        ),
        row(
            "AU-4",
            "Storage capacity for the log, so that it does not run full.",
            Partly,
            "Streams have limits in bytes, and no task is admitted while one is over 80 % full; `tidegate status` and \
             `tidegate doctor` show what is used. The disk under the record is up to whoever runs the cell.",
        ),
        row(
            "AU-5",
            "Response when logging fails: alert, and what stops.",
            Yes,
            "What cannot be recorded is not acknowledged and stays in its stream; the recorder says that it is not ready, and \
             nothing new goes to the cloud lane until it is. Local work goes on, and is recorded afterwards.",
        ),
        row(
            "AU-6",
            "Review, analysis and reporting at a set frequency.",
            Partly,
            "This report, `tidegate audit query --anomalies`. That somebody read them, and how often, is not recorded.",
        ),
        row(
            "AU-7",
            "Reduction and reports on demand, without changing what was recorded.",
            Yes,
            "This report, `tidegate audit query` and `tidegate audit task`; each reads only. Order and bytes of records stay as \
             they are.",
        ),
        row(
            "AU-8",
            "Time stamps from internal clocks, in UTC, of a set granularity.",
            Partly,
            "The time at which the server stored the message, UTC, to the nanosecond. That its clock is synchronised is not \
             recorded; order comes from sequences and causes, not from times.",
        ),
    ]
}

fn nist_9_to_16(held: &str) -> Vec<Row> {
    let row = |clause, asks, answered, how: &str| (clause, asks, answered, how.to_owned());
    vec![
        row(
            "AU-9",
            "Protection of audit information against access, change and deletion.",
            Partly,
            "Messages are sealed, leaves are hashed, `tidegate audit verify` finds what was changed. Who can write the file \
             can write all of it anew unless its head is kept elsewhere: keep the head named in this report.",
        ),
        row(
            "AU-10",
            "Non-repudiation: who did what cannot be denied.",
            Partly,
            "Agents, reviewers and operators act under identities of their own, held by the server; what may leave is signed \
             by the router (Ed25519). Agents' messages carry no signature of their own.",
        ),
        row(
            "AU-11",
            "Retention for as long as policy asks.",
            Partly,
            &format!(
                "{held} They stay longer under `tidegate audit hold`; keeping the files is up to whoever runs the cell."
            ),
        ),
        row(
            "AU-12",
            "Generation by every component that can be audited.",
            Yes,
            "Every role speaks by recorded messages only, causes before effects; missing sequences are counted in section \
             Attention.",
        ),
        row(
            "AU-13",
            "Monitoring of outside places for information that was disclosed.",
            No,
            "Outside the record: it tells what left and where to, section What left, and not what became of it there.",
        ),
        row(
            "AU-14",
            "Session audit: a person's whole session, seen and recorded.",
            No,
            "Outside the record: it has messages, not sessions; each task's messages are sealed in it.",
        ),
        row(
            "AU-16",
            "Audit across organisations: identities and records that go along.",
            Partly,
            "Traces and workflow ids go along with a task, and `tidegate audit export` hands records over so that others can \
             verify them. What a provider logs is its own.",
        ),
    ]
}
