//! The page: one HTML file that needs nothing else, for a screen, a phone and paper. Everything that it shows passes through the
//! template's escaping, and a content security policy permits no script and no request.

use std::path::Path;

use anyhow::{Context as _, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use serde::Serialize;
use tidegate_audit::report::{Monthly, Ran, Verdict};

use super::Told;
use super::law::{Answered, Clause};
use super::tables::{self, Table};
use super::words::{self, bytes, count, month, number, statement, time, usd, wait, whose};

/// Escaping goes by the name's end.
const NAME: &str = "page.html";
const TEMPLATE: &str = include_str!("page.html");

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    title: String,
    whose: String,
    month: String,
    cell: Option<&'a str>,
    from: String,
    to: String,
    made: String,
    /// What must be read first, and whether it is bad.
    warnings: Vec<(bool, String)>,
    /// The figures of the month: name and value.
    figures: Vec<(&'static str, String)>,
    statements: Vec<Statement>,
    /// What residency rests on.
    grounds: Vec<String>,
    left: Vec<(&'static str, String)>,
    people: Vec<(&'static str, String)>,
    tables: Tables,
    /// By law or standard.
    clauses: Vec<(&'static str, Vec<Said>)>,
    head: Option<String>,
    records: String,
    verify: &'a str,
    /// The checkpoint that the records were held against.
    signed: Option<Signed>,
    /// What the bundle is checked with.
    proof: Option<Proof>,
    /// The command that prints the leaves behind it.
    query: String,
}

#[derive(Serialize)]
struct Statement {
    class: &'static str,
    /// `told`, `holds`, `broken`, `unproven` or `not_shown`.
    verdict: Verdict,
    sentence: String,
    reached: Table,
}

/// A checkpoint in words.
#[derive(Serialize)]
struct Signed {
    origin: String,
    size: String,
    root: String,
}

/// How the bundle that backs the report is checked.
#[derive(Serialize)]
struct Proof {
    directory: String,
    verify: String,
    /// By class that something was claimed of: a command that prints what breaks the claim.
    claims: Vec<(&'static str, String)>,
}

/// One clause; its answer in parts, each with whether it is code.
#[derive(Serialize)]
struct Said {
    clause: &'static str,
    asks: &'static str,
    answered: Answered,
    how: Vec<(bool, String)>,
}

#[derive(Serialize)]
struct Tables {
    places: Table,
    tenants: Option<Table>,
    decided: [Table; 2],
    refused: [Table; 2],
    reviews: Table,
    attention: [Table; 3],
    rules: [Table; 2],
    kinds: Table,
}

/// The page of a report.
pub(super) fn render(told: &Told<'_>) -> Result<String> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.context("the template's syntax")?);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template(NAME, TEMPLATE).context("reading the report's template")?;
    let template = environment.get_template(NAME).context("finding the report's template")?;
    let page = template.render(Value::from(Serde(page(told)))).context("rendering the report")?;
    Ok(page + "\n")
}

fn page<'a>(told: &Told<'a>) -> Page<'a> {
    let monthly = told.monthly;
    let blind = !monthly.record.vouches_for(&monthly.covered)
        || monthly.unattributed.count
            + monthly.unseen
            + monthly.record.damaged.count
            + monthly.record.pruned_unread
            > 0;
    let statements = monthly.residency.iter().map(|one| Statement {
        class: one.class.as_str(),
        verdict: one.verdict,
        sentence: statement(one, blind),
        reached: tables::reached(one),
    });
    Page {
        title: monthly.tenant.as_ref().map_or_else(|| "All tenants".to_owned(), ToString::to_string),
        whose: whose(monthly),
        month: month(monthly),
        cell: told.cell,
        from: time(monthly.from),
        to: time(monthly.to),
        made: time(monthly.made),
        warnings: warnings(monthly),
        figures: figures(monthly),
        statements: statements.collect(),
        grounds: grounds(monthly),
        left: left(monthly),
        people: people(monthly),
        tables: Tables {
            places: tables::places(monthly),
            tenants: monthly.tenant.is_none().then(|| tables::tenants(monthly)),
            decided: [tables::outcomes(monthly), tables::decisions(monthly)],
            refused: [tables::rejections(monthly), tables::failures(monthly)],
            reviews: tables::reviews(monthly),
            attention: [tables::dead(monthly), tables::anomalies(monthly), tables::gaps(monthly)],
            rules: [tables::bundles(monthly), tables::acts(monthly)],
            kinds: tables::kinds(monthly),
        },
        clauses: by_source(told.clauses),
        head: monthly.record.head.map(|head| head.to_string()),
        records: number(monthly.record.records),
        verify: told.verify,
        signed: monthly.record.signed.as_ref().map(|signed| Signed {
            origin: signed.origin.clone(),
            size: number(signed.size),
            root: signed.root.to_string(),
        }),
        proof: told.proof.map(|dir| proof(monthly, dir)),
        query: query(monthly),
    }
}

fn by_source(clauses: &[Clause]) -> Vec<(&'static str, Vec<Said>)> {
    let mut told: Vec<(&'static str, Vec<Said>)> = Vec::new();
    for clause in clauses {
        let how =
            clause.how.split('`').enumerate().map(|(at, part)| (at % 2 == 1, part.to_owned())).collect();
        let said = Said { clause: clause.clause, asks: clause.asks, answered: clause.answered, how };
        match told.last_mut().filter(|(source, _)| *source == clause.source) {
            Some((_, list)) => list.push(said),
            None => told.push((clause.source, vec![said])),
        }
    }
    told
}

/// The bundle holds each leaf as a line: a claim is checked with nothing of ours.
fn proof(monthly: &Monthly, dir: &Path) -> Proof {
    let claimed = monthly.residency.iter().filter_map(|one| Some((one.class.as_str(), one.within.as_ref()?)));
    let claims = claimed.map(|(class, within)| {
        let tenant = monthly.tenant.as_ref().map(|tenant| format!(" and .tenant == \"{tenant}\"")).unwrap_or_default();
        let regions: Vec<String> = within.iter().map(|region| format!("\"{region}\"")).collect();
        let command = format!(
            "jq -c 'select(.kind == \"work\" and .decision.sensitivity == \"{class}\"{tenant} and (.time | startswith(\"{}\")) and \
             (.decision.region | IN({}) | not))' records.jsonl",
            monthly.month,
            regions.join(", ")
        );
        (class, command)
    });
    Proof {
        directory: dir.display().to_string(),
        verify: "tidegate audit verify --bundle DIR --public-key FILE --checkpoint FILE".to_owned(),
        claims: claims.collect(),
    }
}

fn query(monthly: &Monthly) -> String {
    let tenant = monthly.tenant.as_ref().map(|tenant| format!(" --tenant {tenant}")).unwrap_or_default();
    format!("tidegate audit query{tenant} --from {} --to {} --json", monthly.from, monthly.to)
}

fn warnings(monthly: &Monthly) -> Vec<(bool, String)> {
    let mut said = Vec::new();
    let damaged = &monthly.record.damaged;
    if damaged.count > 0 {
        let many = if damaged.count == 1 {
            "1 record is".to_owned()
        } else {
            format!("{} records are", number(damaged.count))
        };
        let first = damaged.first.first().copied().unwrap_or_default();
        let what = "missing, or not what was recorded; the first is record";
        said.push((
            true,
            format!("Do not rely on this report: {many} {what} {first}. Verify the record in full."),
        ));
    }
    if monthly.record.pruned_unread > 0 {
        let many = number(monthly.record.pruned_unread);
        said.push((
            true,
            format!("{many} records that may be of this month were pruned by retention: of them nothing is said here."),
        ));
    }
    if let Some(refuted) = words::refuted(monthly) {
        said.push((true, format!("Do not rely on this report: {refuted} Verify the record in full.")));
    }
    let any = |verdict| monthly.residency.iter().any(|one| one.verdict == verdict);
    if any(Verdict::Broken) {
        said.push((true, "A residency claim does not hold.".to_owned()));
    }
    if any(Verdict::Unproven) {
        said.push((true, "A residency claim cannot be proven.".to_owned()));
    }
    if any(Verdict::NotShown) {
        let how = "name the key that signs it with --public-key, or wait until the record is signed";
        said.push((
            true,
            format!("A residency claim is not shown: no signed checkpoint was held against the records of this month; {how}."),
        ));
    }
    if monthly.covered.records == 0 {
        said.push((false, format!("No record of {} falls in this month.", whose(monthly))));
    }
    if !monthly.ended {
        let so_far = "The month had not ended when this report was made: these are its figures so far.";
        said.push((false, so_far.to_owned()));
    } else if monthly.record.times.is_some_and(|times| times.last < monthly.to) {
        let quiet = "The record's newest message is older than the month's end. Either nothing came after it, or the recorder is behind.";
        said.push((false, quiet.to_owned()));
    }
    if monthly.left_out > 0 {
        said.push((
            false,
            format!("{} found no row in a full table of this report.", count(monthly.left_out, "figure")),
        ));
    }
    said
}

fn figures(monthly: &Monthly) -> Vec<(&'static str, String)> {
    let tasks = |state| monthly.outcomes.iter().filter(|one| one.state == state).map(|one| one.tasks).sum();
    let odd: u64 = monthly.anomalies.iter().map(|one| one.records.count).sum();
    let dead: u64 = monthly.dead.iter().map(|one| one.letters).sum();
    use tidegate_schemas::result::State::{Completed, Rejected};
    vec![
        ("tasks submitted", number(monthly.tasks.submitted)),
        ("completed", number(tasks(Completed))),
        ("rejected", number(tasks(Rejected))),
        ("held for a person", number(monthly.people.held)),
        ("calls to providers", number(monthly.left.attempts)),
        ("left the boundary", bytes(monthly.left.bytes)),
        ("USD spent", spent(&monthly.left)),
        ("dead letters, anomalies", format!("{}, {}", number(dead), number(odd))),
    ]
}

/// What was spent, as far as prices are known.
fn spent(ran: &Ran) -> String {
    match (ran.cost_usd_micros, ran.unpriced) {
        (0, 1..) => "not known".to_owned(),
        (cost, 0) => usd(cost),
        (cost, _) => format!("{} or more", usd(cost)),
    }
}

/// What residency rests on, and what it does not reach.
fn grounds(monthly: &Monthly) -> Vec<String> {
    let mut said = Vec::new();
    let records = &monthly.record;
    said.push(match (monthly.covered.indices, monthly.covered.times) {
        (Some(indices), Some(times)) => format!(
            "All {} of the record were read and their leaves hashed again. Those of this report are {}, between index {} and {}, of {} to {} UTC.",
            count(records.records, "record"),
            number(monthly.covered.records),
            indices.first,
            indices.last,
            time(times.first),
            time(times.last)
        ),
        _ => format!(
            "All {} of the record were read and their leaves hashed again; none falls in this month.",
            count(records.records, "record")
        ),
    });
    said.push(words::signed(monthly));
    said.push(
        "Counted are works from their dispatch on, and attempts by their own record, each at the region that the decision behind it \
         names; a call to a provider needs a signed ticket for that region. Where a provider computes within its region is not in the record."
            .to_owned(),
    );
    let unattributed = &monthly.unattributed;
    said.push(if unattributed.count > 0 {
        let named: Vec<String> = unattributed.first.iter().map(u64::to_string).collect();
        format!(
            "{} cannot be tied to a decision that permits it, so no claim is proven: {}{}.",
            count(unattributed.count, "work or attempt"),
            named.join(", "),
            if unattributed.count > named.len() as u64 { ", …" } else { "" }
        )
    } else {
        "Every attempt follows from a dispatched work of the same task and place; on the cloud lane with its ticket, and with the digest of the bytes that were judged.".to_owned()
    });
    said.push(if monthly.unseen > 0 {
        format!(
            "{} of the streams that carry works and attempts were never seen, so no claim is proven.",
            count(monthly.unseen, "message")
        )
    } else {
        "No message of the streams that carry works and attempts was found missing since the month began."
            .to_owned()
    });
    said
}

fn left(monthly: &Monthly) -> Vec<(&'static str, String)> {
    let left = &monthly.left;
    let exact = if left.bytes < 1_024 { String::new() } else { format!(" ({} bytes)", number(left.bytes)) };
    let unpriced = match left.unpriced {
        0 => String::new(),
        some => format!(", and {} without a price", count(some, "answer")),
    };
    vec![
        (
            "Calls to providers",
            format!("{}, {} without an answer", number(left.attempts), number(left.failed_attempts)),
        ),
        ("Bytes that left", format!("{}{exact}", bytes(left.bytes))),
        ("Answers", format!("{} completed, {} failed", number(left.completed), number(left.failed))),
        ("Tokens", format!("{} in, {} out", number(left.tokens.input), number(left.tokens.output))),
        ("Cost", format!("{} USD{unpriced}", usd(left.cost_usd_micros))),
    ]
}

fn people(monthly: &Monthly) -> Vec<(&'static str, String)> {
    let people = &monthly.people;
    let waits = people.waits.map_or_else(
        || "–".to_owned(),
        |waits| format!("{} on average, {} at most", wait(waits.mean_ms), wait(waits.longest_ms)),
    );
    vec![
        ("Held by the judge", number(people.held)),
        ("Verdicts", format!("{} by {}", number(people.verdicts), count(people.reviewers, "reviewer"))),
        ("Upheld", format!("{} approved as they were", number(people.upheld))),
        ("Overturned", format!("{} edited or rejected", number(people.overturned))),
        ("Nobody decided in time", number(people.expired)),
        ("Wait for a verdict", waits),
    ]
}
