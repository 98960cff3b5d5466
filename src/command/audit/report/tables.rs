//! The page's tables: rows of words, escaped where they are rendered.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_audit::report::{Indices, Monthly, Reached, Residency};
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::labels::Sensitivity;
use tidegate_schemas::result::State;

use super::words::{bytes, number, time, usd, word};

/// What stands where the record says nothing.
const NOTHING: &str = "–";
/// Columns of closed words and times, which never break inside a word. Names can be long.
const SHORT: [&str; 9] =
    ["Data class", "Lane", "Records", "Times, UTC", "Code", "State", "Why", "Act", "Kind"];
/// States of a task that ended, in the order of the columns.
const STATES: [State; 4] = [State::Completed, State::Failed, State::Canceled, State::Rejected];
/// Outcomes of a decision, in the order of the columns.
const OUTCOMES: [Outcome; 5] =
    [Outcome::Local, Outcome::Cloud, Outcome::Redact, Outcome::Hold, Outcome::Reject];

/// One table. Without rows it is a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Table {
    /// What it shows.
    pub(super) caption: String,
    /// What is said where there are no rows.
    pub(super) none: &'static str,
    /// Columns.
    pub(super) head: Vec<Column>,
    /// Cells, a row as long as the head.
    pub(super) rows: Vec<Vec<String>>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    /// How its cells are set: `n` numbers, `long` names that may break anywhere, else words.
    pub(super) style: &'static str,
}

fn table(caption: &str, none: &'static str, words: &[&'static str], numbers: &[&'static str]) -> Table {
    let style = |name| if SHORT.contains(name) { "" } else { "long" };
    let words = words.iter().map(|name| Column { name, style: style(name) });
    let numbers = numbers.iter().map(|name| Column { name, style: "n" });
    Table { caption: caption.to_owned(), none, head: words.chain(numbers).collect(), rows: Vec::new() }
}

fn class(class: Option<Sensitivity>) -> String {
    class.map_or("not told", Sensitivity::as_str).to_owned()
}

fn code(code: Option<tidegate_schemas::code::Code>) -> String {
    code.map_or(NOTHING, |code| code.as_str()).to_owned()
}

/// Indices as far as they are named.
fn indices(found: &Indices) -> String {
    let named: Vec<String> = found.first.iter().map(u64::to_string).collect();
    let more = if found.count > found.first.len() as u64 { ", …" } else { "" };
    format!("{}{more}", named.join(", "))
}

pub(super) fn reached(residency: &Residency) -> Table {
    let none = "Nothing of this class was dispatched in this month.";
    let mut told = table("", none, &["Region", "Lane", "Records", "Times, UTC"], &["Dispatched", "Attempts"]);
    let row = |one: &Reached| {
        let span = one.indices.map(|span| format!("{}–{}", span.first, span.last));
        let times = one.times.map(|span| format!("{} to {}", time(span.first), time(span.last)));
        let nothing = || NOTHING.to_owned();
        vec![
            one.region.clone(),
            one.lane.to_string(),
            span.unwrap_or_else(nothing),
            times.unwrap_or_else(nothing),
            number(one.dispatched),
            number(one.attempts),
        ]
    };
    told.rows = residency.reached.iter().map(row).collect();
    told
}

pub(super) fn places(monthly: &Monthly) -> Table {
    let mut told = table(
        "Data class by region, provider and model",
        "No work was dispatched in this month.",
        &["Data class", "Region", "Lane", "Provider or pool", "Model"],
        &["Dispatched", "Attempts", "Bytes left", "Completed", "Failed", "Tokens in", "Tokens out", "USD"],
    );
    let row = |place: &tidegate_audit::report::Place| {
        let ran = &place.ran;
        vec![
            place.class.as_str().to_owned(),
            place.region.clone(),
            place.lane.to_string(),
            place.provider.clone(),
            place.model.clone(),
            number(ran.dispatched),
            number(ran.attempts),
            number(ran.bytes),
            number(ran.completed),
            number(ran.failed),
            number(ran.tokens.input),
            number(ran.tokens.output),
            usd(ran.cost_usd_micros),
        ]
    };
    told.rows = monthly.places.iter().map(row).collect();
    told
}

pub(super) fn outcomes(monthly: &Monthly) -> Table {
    let columns = ["Completed", "Failed", "Canceled", "Rejected"];
    let mut told =
        table("Tasks that ended, by data class", "No task ended in this month.", &["Data class"], &columns);
    let cells = monthly
        .outcomes
        .iter()
        .map(|one| (one.class, STATES.iter().position(|s| *s == one.state), one.tasks));
    told.rows = matrix(cells).into_iter().map(|(of, row)| cells_of(class(of), row)).collect();
    told
}

pub(super) fn decisions(monthly: &Monthly) -> Table {
    let columns = ["To the local lane", "To the cloud lane", "Held for a person", "Rejected"];
    let none = "Nothing was decided in this month.";
    let mut told = table("What the judge decided, by data class", none, &["Data class"], &columns);
    let at = |outcome| OUTCOMES.iter().position(|known| *known == outcome);
    let cells = monthly.decisions.iter().map(|one| (Some(one.class), at(one.outcome), one.decisions));
    told.rows = matrix(cells).into_iter().map(|(of, row)| cells_of(class(of), row)).collect();
    told
}

/// Counts by row and column.
fn matrix<K: Ord>(cells: impl Iterator<Item = (K, Option<usize>, u64)>) -> BTreeMap<K, [u64; 4]> {
    let mut rows: BTreeMap<K, [u64; 4]> = BTreeMap::new();
    for (key, column, count) in cells {
        if let Some(cell) = column.and_then(|column| rows.entry(key).or_default().get_mut(column)) {
            *cell += count;
        }
    }
    rows
}

fn cells_of(first: String, counts: [u64; 4]) -> Vec<String> {
    std::iter::once(first).chain(counts.iter().map(|count| number(*count))).collect()
}

pub(super) fn rejections(monthly: &Monthly) -> Table {
    let none = "No task was rejected in this month.";
    let mut told = table("Rejected tasks", none, &["Code", "Policies that determined it"], &["Tasks"]);
    let row = |one: &tidegate_audit::report::Refused| {
        let policies = if one.policies.is_empty() { NOTHING.to_owned() } else { one.policies.join(", ") };
        vec![code(one.code), policies, number(one.tasks)]
    };
    told.rows = monthly.rejections.iter().map(row).collect();
    told
}

pub(super) fn failures(monthly: &Monthly) -> Table {
    let none = "No task failed or was withdrawn in this month.";
    let mut told = table("Failed and withdrawn tasks", none, &["State", "Code"], &["Tasks"]);
    let row =
        |one: &tidegate_audit::report::Failed| vec![word(&one.state), code(one.code), number(one.tasks)];
    told.rows = monthly.failures.iter().map(row).collect();
    told
}

pub(super) fn reviews(monthly: &Monthly) -> Table {
    let mut told = table(
        "Held for a person, and what came of it",
        "No task was held for a person in this month, and nobody decided on one.",
        &["Queue", "Data class"],
        &["Held", "Approved", "Edited", "Rejected", "Expired"],
    );
    let row = |one: &tidegate_audit::report::Queue| {
        let counts = one.verdicts;
        let counts = [counts.held, counts.approved, counts.edited, counts.rejected, counts.expired];
        [one.queue.clone(), class(one.class)].into_iter().chain(counts.map(number)).collect()
    };
    told.rows = monthly.people.queues.iter().map(row).collect();
    told
}

pub(super) fn dead(monthly: &Monthly) -> Table {
    let mut told = table("Dead letters", "No message was given up.", &["Role", "Code"], &["Letters"]);
    let row =
        |one: &tidegate_audit::report::Dead| vec![one.role.clone(), code(one.code), number(one.letters)];
    told.rows = monthly.dead.iter().map(row).collect();
    told
}

pub(super) fn anomalies(monthly: &Monthly) -> Table {
    let mut told =
        table("Anomalies", "No record is flagged as odd.", &["Flag", "Records, the first"], &["Count"]);
    let row = |one: &tidegate_audit::report::Anomaly| {
        vec![word(&one.flag), indices(&one.records), number(one.records.count)]
    };
    told.rows = monthly.anomalies.iter().map(row).collect();
    told
}

pub(super) fn gaps(monthly: &Monthly) -> Table {
    let none = "No sequence of any stream was found missing.";
    let mut told = table("Gaps", none, &["Stream", "Why"], &["Gaps", "Messages"]);
    let row = |one: &tidegate_audit::report::Missing| {
        vec![one.stream.clone(), word(&one.reason), number(one.gaps), number(one.messages)]
    };
    told.rows = monthly.gaps.iter().map(row).collect();
    told
}

pub(super) fn acts(monthly: &Monthly) -> Table {
    let mut told = table("Operators' acts", "No operator acted in this month.", &["Act"], &["Times"]);
    told.rows = monthly.acts.iter().map(|one| vec![word(&one.act), number(one.times)]).collect();
    told
}

pub(super) fn bundles(monthly: &Monthly) -> Table {
    let mut told =
        table("Bundles that judged", "Nothing was decided in this month.", &["Bundle"], &["Decisions"]);
    told.rows =
        monthly.bundles.iter().map(|one| vec![one.bundle.to_string(), number(one.decisions)]).collect();
    told
}

pub(super) fn kinds(monthly: &Monthly) -> Table {
    let mut told = table("", "No record falls in this month.", &["Kind"], &["Records"]);
    told.rows = monthly.kinds.iter().map(|one| vec![word(&one.kind), number(one.records)]).collect();
    told
}

pub(super) fn tenants(monthly: &Monthly) -> Table {
    let mut told = table(
        "By tenant",
        "No tenant has a record in this month.",
        &["Tenant"],
        &["Submitted", "Ended", "Provider calls", "Bytes left", "USD"],
    );
    let row = |one: &tidegate_audit::report::Part| {
        let counts = [one.submitted, one.ended, one.calls].map(number);
        let mut row = vec![one.tenant.clone()];
        row.extend(counts);
        row.extend([bytes(one.bytes), usd(one.cost_usd_micros)]);
        row
    };
    told.rows = monthly.tenants.iter().map(row).collect();
    told
}
