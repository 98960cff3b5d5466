//! `tidegate policy backtest`: recorded decisions judged again by another bundle, and what would come of it.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tidegate_audit::Filter;
use tidegate_recorder::rejudge::backtest::{
    self, Backtest, Capped, Example, Gate, Kind, Labels, Left, Most, Tally,
};
use tidegate_schemas::labels::KnownLabels;

use super::audit::rejudge::{self, BEYOND, brief};
use super::audit::words::word;
use super::policy;
use crate::cli::{BacktestArgs, Global};
use crate::output;

/// Rows of a table for people; programs get all that were kept.
const LISTED: usize = 20;

/// A gate that does not let this pass.
#[derive(Serialize)]
struct Breach<'a> {
    gate: &'a Gate,
    decisions: u64,
}

pub(super) async fn run(global: &Global, asked: BacktestArgs) -> Result<ExitCode> {
    let bundle = Arc::new(policy::bundle_in(&asked.bundle)?);
    let opened = rejudge::open(global, asked.record.as_deref(), asked.key.as_deref(), asked.crashed).await;
    let (record, bus) = match opened {
        Ok(opened) => opened,
        Err(error) => return rejudge::unreadable(global, &error),
    };
    let now = Timestamp::now();
    let filter = Filter {
        tenant: asked.tenant,
        agent: asked.agent,
        from: Some(asked.since.seen_from(now)),
        to: asked.until.map(|until| until.seen_from(now)),
        ..Filter::default()
    };
    let labels = asked.labels.map(Labels::from).unwrap_or_default();
    let judged = rejudge::judging(global, &record, bus, move |reader, fetch, progress| {
        backtest::run(reader, &filter, bundle, labels, fetch, progress)
    });
    let found = match judged.await {
        Ok(found) => found,
        Err(error) => return rejudge::unreadable(global, &error),
    };
    let breaches = asked.fail_on.iter().filter(|gate| found.breaches(gate));
    let judged = Judged {
        breaches: breaches.map(|gate| Breach { gate, decisions: found.counted(gate) }).collect(),
        blind: asked.max_unjudged.is_exceeded(found.unjudged(), found.decisions),
        unknown: asked.labels.is_none() && found.is_blind(),
        empty: found.decisions == 0 && !asked.allow_empty,
        pruned: found.pruned_until.is_some() && !asked.allow_pruned,
    };
    let within = judged.is_within();
    if global.json {
        let verdict = if within { "within" } else { "beyond" };
        output::json(&json!({
            "verdict": verdict, "breached": judged.breaches, "too_many_unjudged": judged.blind,
            "findings_unknown": judged.unknown, "nothing_judged": judged.empty, "records_pruned": judged.pruned,
            "max_unjudged": asked.max_unjudged.to_string(), "backtest": found,
        }))?;
    } else {
        show(&found);
        judged.show(&found, &asked.max_unjudged);
    }
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::from(BEYOND) })
}

/// What does not let it pass.
struct Judged<'a> {
    breaches: Vec<Breach<'a>>,
    /// Too many decisions cannot be judged.
    blind: bool,
    /// The bundle looks for other data, and nobody said what of it.
    unknown: bool,
    /// Nothing was there to judge.
    empty: bool,
    /// Whole records of that time are gone.
    pruned: bool,
}

impl Judged<'_> {
    fn is_within(&self) -> bool {
        self.breaches.is_empty() && !self.blind && !self.unknown && !self.empty && !self.pruned
    }

    fn show(&self, found: &Backtest, most: &Most) {
        for Breach { gate, decisions } in &self.breaches {
            output::line(format!("BREACHED {gate}: {decisions} decisions"));
        }
        if self.blind {
            output::line(format!(
                "UNJUDGED: {} of {} decisions cannot be judged, more than --max-unjudged {most}",
                found.unjudged(),
                found.decisions
            ));
        }
        if self.empty {
            output::line(
                "NOTHING: there is no decision of that time, tenant and agent, so nothing was tried; --allow-empty lets it pass",
            );
        }
        if let Some(until) = found.pruned_until {
            let (word, then) =
                if self.pruned { ("PRUNED", ", or let it pass with --allow-pruned") } else { ("note", "") };
            output::line(format!(
                "{word}: whole records up to {until:.0} were pruned, and how many decisions they held is not known; ask from later on with --since{then}"
            ));
        }
        if found.is_blind() {
            let (word, then) = match self.unknown {
                true => ("UNKNOWN", ", and --labels recorded says that it does not matter"),
                false => ("note", ""),
            };
            output::line(format!(
                "{word}: the texts of {} decisions were looked at by other recognisers or key words than this bundle has; what it finds \
                 in them shows with --labels rescan{then}",
                found.other_recognisers
            ));
        }
    }
}

fn show(found: &Backtest) {
    let labels = word(&found.labels);
    output::line(format!(
        "{} decisions judged again by bundle {}, labels {labels}: {} unchanged, {} flip, {} move, {} cannot be judged",
        found.decisions,
        found.bundle,
        found.unchanged.decisions,
        found.flipped(),
        found.moved(),
        found.unjudged()
    ));
    unjudged(found);
    changes(found);
    by_whom(found);
    deltas(found);
    unchanged(found);
}

fn unjudged(found: &Backtest) {
    for (why, count) in &found.unjudged {
        output::line(format!("  cannot be judged: {count} {}", word(why).replace('_', " ")));
    }
    for (what, versions) in [("bundle", &found.unknown_bundles), ("directory", &found.unknown_directories)] {
        for (hash, count) in versions.named.iter().take(LISTED) {
            output::line(format!("  unknown {what} {hash}: {count} decisions"));
        }
        more(versions);
    }
}

/// Flips, the most dangerous first, then what runs elsewhere, each with its smallest task.
fn changes(found: &Backtest) {
    let flip = |kind: &Kind, what: String, wider: bool| {
        vec![what, kind.decisions.to_string(), if wider { "wider" } else { "" }.to_owned()]
    };
    let flips = found.flips.iter().map(|(kind, kept)| flip(kept, kind.to_string(), kind.is_wider()));
    let moved = found.moved.iter();
    let moved = moved.map(|(fate, kept)| flip(kept, format!("{}, elsewhere", fate.as_str()), false));
    let rows: Vec<_> = flips.chain(moved).collect();
    if !rows.is_empty() {
        output::table(&["recorded->judged", "decisions", ""], &rows);
    }
    for (what, kind) in &found.flips {
        output::line(format!("smallest {what}: {}", told(&kind.example)));
    }
    for (fate, kind) in &found.moved {
        output::line(format!("smallest {}, elsewhere: {}", fate.as_str(), told(&kind.example)));
    }
}

/// Rows of tenants and data classes in which something changes.
fn by_whom(found: &Backtest) {
    let tenants = found.tenants.named.iter().map(|(name, tally)| (format!("tenant {name}"), tally));
    let others = [("all other tenants".to_owned(), &found.tenants.others)];
    let classes = found.classes.iter().map(|(class, tally)| (format!("class {}", class.as_str()), tally));
    let changed = |(_, tally): &(String, &Tally)| tally.moved > 0 || !tally.flips.is_empty();
    let rows: Vec<_> = tenants.take(LISTED).chain(others).chain(classes).filter(changed).map(row).collect();
    if !rows.is_empty() {
        output::table(&["of", "decisions", "unchanged", "move", "unjudged", "flips"], &rows);
    }
    if found.tenants.named.len() > LISTED {
        output::line(format!("  and more tenants, {} in all; with --json", found.tenants.named.len()));
    }
}

fn row((name, tally): (String, &Tally)) -> Vec<String> {
    let Tally { decisions, unjudged, unchanged, moved, flips } = tally;
    let flips: Vec<String> = flips.iter().map(|(flip, count)| format!("{flip} {count}")).collect();
    let counts = [decisions, unchanged, moved, unjudged].map(ToString::to_string);
    [vec![name], counts.to_vec(), vec![flips.join(", ")]].concat()
}

fn deltas(found: &Backtest) {
    let backtest::Deltas { cost, latency, egress } = &found.deltas;
    output::line(format!(
        "cost, at most: {} -> {} micro-USD ({:+}), of {} -> {} decisions that run",
        cost.before.usd_micros,
        cost.after.usd_micros,
        cost.delta_usd_micros,
        cost.before.decisions,
        cost.after.decisions
    ));
    if latency.decisions > 0 {
        let mean = |ms: u64| ms / latency.decisions;
        output::line(format!(
            "latency, as destinations state it: {} -> {} ms on average, of {} decisions that run in both",
            mean(latency.before_ms),
            mean(latency.after_ms),
            latency.decisions
        ));
    }
    let left = |left: &Left| format!("{} decisions ({} bytes)", left.decisions, left.bytes);
    output::line(format!(
        "egress: {} newly leave, {} no longer; {} -> {}",
        left(&egress.newly),
        left(&egress.no_longer),
        left(&egress.before),
        left(&egress.after)
    ));
}

fn unchanged(found: &Backtest) {
    let unchanged = &found.unchanged;
    output::line(format!(
        "unchanged: {} equal, {} by other policies, {} with other obligations or codes, {} by another version of their prompt; {} of all have another sensitivity",
        unchanged.equal,
        unchanged.other_policies,
        unchanged.other_terms,
        unchanged.other_prompt,
        found.relabelled
    ));
    for (id, policy) in unchanged.policies.named.iter().take(LISTED) {
        let backtest::Exchanged { gone, come } = policy;
        output::line(format!("  policy {id}: no longer determines {gone}, now determines {come}"));
    }
    more(&unchanged.policies);
    output::line(format!("digest of the unchanged {}, of all {}", unchanged.digest, found.digest));
}

/// Says that there are more names than were listed.
fn more<K: Ord, T: Default + PartialEq>(rows: &Capped<K, T>) {
    if rows.named.len() > LISTED || rows.others != T::default() {
        output::line("  and others; with --json");
    }
}

/// A task in one line: where it stands, what it is labelled as, and what determined it. Nothing of its text.
fn told(example: &Example) -> String {
    let Example { index, position, task, tenant, agent, kind, input_bytes, labels, before, after } = example;
    let KnownLabels { categories, regulations, residency, consent, purpose } = &labels.known;
    let lists =
        [("of", categories), ("under", regulations), ("in", residency), ("consent", consent)].into_iter();
    let lists = lists.filter(|(_, names)| !names.is_empty()).map(|(what, names)| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        format!(", {what} {}", names.join(" "))
    });
    let purpose = purpose.iter().map(|purpose| format!(", for {purpose}"));
    format!(
        "record {index} ({position}), task {task} of {tenant}/{agent}: {}, {input_bytes} bytes, {} (declared {}), stakes {}, \
         {} findings{}\n  {} -> {}",
        kind.as_str(),
        labels.sensitivity.as_str(),
        labels.declared.as_str(),
        labels.stakes.as_str(),
        labels.findings,
        lists.chain(purpose).collect::<String>(),
        brief(before),
        brief(after)
    )
}
