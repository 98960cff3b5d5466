//! `tidegate budget`: what tenants, agents and providers may use, on record; and what they have used. The limits stand in the
//! directory, what is used in the cell's ledgers.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use tidegate_bus::Bus;
use tidegate_schemas::breaker::{BREAKERS_BUCKET, Breaker, Broken};
use tidegate_schemas::budget::ledger::Ledger;
use tidegate_schemas::budget::{BUDGETS_BUCKET, Budget, Cap, Caps, Scope, Spent, Unit, Window};
use tidegate_schemas::control::Act;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::json;
use tidegate_schemas::limits::MESSAGE_BYTES_MAX;

use super::{act, directory};
use crate::cell::Cell;
use crate::cli::{BudgetArgs, BudgetCommand, Global, ResetArgs};
use crate::output;

/// How long the routers may take to apply an act.
const APPLY: Duration = Duration::from_secs(10);

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
    /// Budgets whose ledgers cannot be read: nothing that they count leaves.
    pub(super) unread: Vec<Scope>,
}

#[derive(Debug, Serialize)]
struct Screen {
    budgets: Vec<BudgetLine>,
    broken: Vec<Broken>,
    /// Budgets whose ledgers cannot be read.
    unread: Vec<Scope>,
}

/// Ledgers by key, and whose cannot be read.
#[derive(Debug, Default)]
struct Ledgers {
    read: BTreeMap<String, Ledger>,
    unread: Vec<Scope>,
}

pub(super) async fn run(global: &Global, command: BudgetCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let bus = act::connect(&cell).await?;
    match command {
        BudgetCommand::Set(args) => set(&cell, &args).await?,
        BudgetCommand::Reset(args) => reset(&cell, &bus, &args).await?,
        BudgetCommand::Show => {}
    }
    let now = Timestamp::now();
    let budgets = budgets(&bus).await?;
    let Ledgers { read, unread } = ledgers(&bus, &budgets).await?;
    let screen = Screen { budgets: lines(&budgets, &read, now), broken: broken(&bus, now).await?, unread };
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

/// Has a ledger begun anew, and waits until it is.
async fn reset(cell: &Cell, bus: &Bus, args: &ResetArgs) -> Result<()> {
    let of = match (&args.tenant, &args.agent, &args.provider) {
        (Some(tenant), None, _) => Scope::Tenant { tenant: tenant.clone() },
        (Some(tenant), Some(agent), _) => Scope::Agent { tenant: tenant.clone(), agent: agent.clone() },
        (None, _, Some(provider)) => Scope::Provider { provider: provider.clone() },
        (None, _, None) => bail!("name a tenant or a provider"),
    };
    let budgets = budgets(bus).await?;
    if !budgets.iter().any(|budget| budget.of == of) {
        bail!("{of} has no budget; `tidegate budget show` lists those that there are");
    }
    let event = act::publish(cell, Act::BudgetReset { of: of.clone() }, &args.reason).await?.sequence;
    let deadline = Instant::now() + APPLY;
    loop {
        let entry = bus.kv_get(BUDGETS_BUCKET, &of.key()).await?;
        if entry.and_then(|entry| ledger(&entry.value)).is_some_and(|ledger| ledger.reset >= Some(event)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the act is on record (EVENTS:{event}) but no router applied it: does one run?");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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
    let (now, budgets) = (Timestamp::now(), budgets(bus).await?);
    let Ledgers { read, unread } = ledgers(bus, &budgets).await?;
    let spent = budgets.iter().filter_map(|budget| read.get(&budget.of.key())?.spent(&budget.caps, now));
    Ok(Kept { spent: spent.collect(), broken: broken(bus, now).await?, unread })
}

async fn budgets(bus: &Bus) -> Result<Vec<Budget>> {
    Ok(directory::active(bus).await?.map(|directory| directory.budgets()).unwrap_or_default())
}

/// The ledgers of these budgets. One that cannot be read hides no other.
async fn ledgers(bus: &Bus, budgets: &[Budget]) -> Result<Ledgers> {
    let keys: Vec<String> = budgets.iter().map(|budget| budget.of.key()).collect();
    let entries = bus.kv_values(BUDGETS_BUCKET, &keys).await?;
    Ok(told(entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_ref())), budgets))
}

fn told<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8])>, budgets: &[Budget]) -> Ledgers {
    let mut ledgers = Ledgers::default();
    for (key, value) in entries {
        match ledger(value) {
            Some(ledger) => drop(ledgers.read.insert(key.to_owned(), ledger)),
            None => {
                let of = budgets.iter().map(|budget| &budget.of).find(|of| of.key() == key);
                ledgers.unread.extend(of.cloned());
            }
        }
    }
    ledgers
}

fn ledger(value: &[u8]) -> Option<Ledger> {
    json::read(value, MESSAGE_BYTES_MAX).ok()
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
    for of in &screen.unread {
        output::line(damaged(of));
    }
}

/// A budget whose ledger cannot be read, in words.
pub(super) fn damaged(of: &Scope) -> String {
    format!(
        "the ledger of {of} cannot be read, so nothing that it counts leaves; see: tidegate budget reset --help"
    )
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

    #[test]
    fn budget_whose_ledger_is_damaged_hides_no_other_and_is_named() {
        let of = |tenant: &str| Scope::Tenant { tenant: tidegate_schemas::ids::Name::new(tenant).unwrap() };
        let budgets = ["acme", "globex"].map(|tenant| Budget { of: of(tenant), caps: Caps::new() });
        let well = serde_json::to_vec(&Ledger::new(of("globex"))).unwrap();
        let entries = [("tenant.acme", b"{".as_slice()), ("tenant.globex", well.as_slice())];
        let Ledgers { read, unread } = super::told(entries.into_iter(), &budgets);
        assert_eq!((read.len(), read.contains_key("tenant.globex")), (1, true));
        assert_eq!(unread, [of("acme")]);
        assert!(damaged(&unread[0]).contains("`acme`"));
        let later = String::from_utf8_lossy(&well).replace("\"schema_version\":1", "\"schema_version\":2");
        let entries = [("tenant.globex", later.as_bytes())];
        assert_eq!(super::told(entries.into_iter(), &budgets).unread, [of("globex")], "of a later release");
    }
}
