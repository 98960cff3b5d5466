//! `tidegate budget`: what tenants, agents and providers may use, on record; and what they have used. The limits stand in the
//! directory, what is used in the cell's ledgers.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use tidegate_bus::Bus;
use tidegate_schemas::breaker::{BREAKERS_BUCKET, Breaker, Broken};
use tidegate_schemas::budget::ledger::Ledger;
use tidegate_schemas::budget::{BUDGETS_BUCKET, Budget, Cap, Caps, Scope, Spent, Unit, Window};
use tidegate_schemas::directory::Directory;

use super::{act, directory};
use crate::cell::Cell;
use crate::cli::{BudgetArgs, BudgetCommand, Global};
use crate::output;

/// One limit, and what counts against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct BudgetLine {
    #[serde(flatten)]
    of: Scope,
    window: Window,
    unit: Unit,
    /// Used, and reserved for what is under way.
    counts: u64,
    max: u64,
    /// When the window ends.
    ends: Timestamp,
}

/// What keeps work from providers now.
#[derive(Debug, Default, Serialize)]
pub(super) struct Kept {
    pub(super) spent: Vec<Spent>,
    pub(super) broken: Vec<Broken>,
}

#[derive(Debug, Serialize)]
struct Screen {
    budgets: Vec<BudgetLine>,
    broken: Vec<Broken>,
}

pub(super) async fn run(global: &Global, command: BudgetCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    if let BudgetCommand::Set(args) = command {
        set(&cell, &args).await?;
    }
    let bus = act::connect(&cell).await?;
    let now = Timestamp::now();
    let budgets = budgets(&bus).await?;
    let ledgers = ledgers(&bus).await?;
    let screen = Screen { budgets: lines(&budgets, &ledgers, now), broken: broken(&bus, now).await? };
    if global.json {
        output::json(&screen)?;
    } else {
        show(&screen);
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(cell: &Cell, args: &BudgetArgs) -> Result<()> {
    let cap = Cap { requests: args.requests, tokens: args.tokens, usd_micros: args.usd_micros };
    directory::change(cell, &args.reason, |directory| {
        let caps = caps(directory, args)?;
        if cap.is_open() {
            caps.remove(&args.window.into());
        } else {
            caps.insert(args.window.into(), cap);
        }
        directory.provider_budgets.retain(|_, caps| !caps.is_empty());
        Ok(())
    })
    .await?;
    Ok(())
}

/// The limits that are to be changed.
fn caps<'a>(directory: &'a mut Directory, args: &BudgetArgs) -> Result<&'a mut Caps> {
    let Some(tenant) = &args.tenant else {
        let Some(provider) = &args.provider else { bail!("name a tenant or a provider") };
        return Ok(directory.provider_budgets.entry(provider.clone()).or_default());
    };
    let known = directory.tenants.get_mut(tenant).with_context(|| directory::unknown(tenant))?;
    match &args.agent {
        None => Ok(&mut known.quota.budgets),
        Some(agent) => {
            let unknown =
                || format!("tenant `{tenant}` has no agent `{agent}`; `tidegate tenant list` shows them");
            Ok(&mut known.agents.get_mut(agent).with_context(unknown)?.budgets)
        }
    }
}

/// What keeps work from providers now.
pub(super) async fn kept(bus: &Bus) -> Result<Kept> {
    let (now, ledgers) = (Timestamp::now(), ledgers(bus).await?);
    let budgets = budgets(bus).await?;
    let spent = budgets.iter().filter_map(|budget| ledgers.get(&budget.of.key())?.spent(&budget.caps, now));
    Ok(Kept { spent: spent.collect(), broken: broken(bus, now).await? })
}

async fn budgets(bus: &Bus) -> Result<Vec<Budget>> {
    Ok(directory::active(bus).await?.map(|directory| directory.budgets()).unwrap_or_default())
}

async fn ledgers(bus: &Bus) -> Result<BTreeMap<String, Ledger>> {
    let entries = bus.kv_entries(BUDGETS_BUCKET, ">").await?;
    let read = |value: &[u8]| serde_json::from_slice(value).context("reading a budget's ledger");
    entries.into_iter().map(|entry| Ok((entry.key, read(&entry.value)?))).collect()
}

async fn broken(bus: &Bus, now: Timestamp) -> Result<Vec<Broken>> {
    let entries = bus.kv_entries(BREAKERS_BUCKET, ">").await?;
    let breakers = entries.iter().filter_map(|entry| serde_json::from_slice::<Breaker>(&entry.value).ok());
    Ok(breakers.filter_map(|breaker| breaker.broken(now)).collect())
}

fn lines(budgets: &[Budget], ledgers: &BTreeMap<String, Ledger>, now: Timestamp) -> Vec<BudgetLine> {
    let mut lines = Vec::new();
    for Budget { of, caps } in budgets {
        let ledger = ledgers.get(&of.key());
        for (window, cap) in caps {
            let counts = ledger.map(|ledger| ledger.counts(*window, now)).unwrap_or_default();
            let ends = window.end(window.start(now));
            let limited = Unit::ALL.into_iter().filter_map(|unit| Some((unit, cap.of(unit)?)));
            lines.extend(limited.map(|(unit, max)| BudgetLine {
                of: of.clone(),
                window: *window,
                unit,
                counts: counts.of(unit),
                max,
                ends,
            }));
        }
    }
    lines
}

fn show(screen: &Screen) {
    if screen.budgets.is_empty() {
        output::line("nothing is limited; set a limit with `tidegate budget set`");
    } else {
        let rows = screen.budgets.iter().map(|line| {
            let what = format!("{} a {}", line.unit.as_str(), line.window.as_str());
            vec![
                line.of.to_string(),
                what,
                line.counts.to_string(),
                line.max.to_string(),
                line.ends.to_string(),
            ]
        });
        output::table(&["BUDGET", "OF", "COUNTS", "MAX", "UNTIL"], &rows.collect::<Vec<_>>());
    }
    for broken in &screen.broken {
        output::line(place(broken));
    }
}

/// A place that is not tried, in words.
pub(super) fn place(Broken { place, until }: &Broken) -> String {
    format!("{} at {} keeps failing and is not tried until {until}", place.model, place.provider)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;
    use tidegate_schemas::budget::Amounts;

    use super::*;

    #[test]
    fn what_counts_stands_beside_each_limit() {
        let now: Timestamp = "2026-11-23T12:00:30Z".parse().unwrap();
        let of: Scope = serde_json::from_value(json!({ "scope": "tenant", "tenant": "acme" })).unwrap();
        let caps: Caps = serde_json::from_value(
            json!({ "minute": { "requests": 2 }, "day": { "tokens": 9, "usd_micros": 7 } }),
        )
        .unwrap();
        let mut ledger = Ledger::new(of.clone());
        let most = Amounts { requests: 1, tokens: 4, usd_micros: 5 };
        ledger.reserve(&caps, "t/1", 1, most, now);
        let budgets = [Budget { of: of.clone(), caps }];
        let told = |ledgers: &BTreeMap<String, Ledger>| -> Vec<(u64, u64)> {
            lines(&budgets, ledgers, now).iter().map(|line| (line.counts, line.max)).collect()
        };
        assert_eq!(told(&[(of.key(), ledger)].into()), [(1, 2), (4, 9), (5, 7)]);
        assert_eq!(told(&BTreeMap::new()), [(0, 2), (0, 9), (0, 7)], "nothing was used yet");
    }
}
