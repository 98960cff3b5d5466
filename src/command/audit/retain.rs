//! `tidegate audit prune` and `audit hold`: what goes by retention, and what must not.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde_json::json;
use tidegate_audit::{Due, Erasure, ErasureState, Hold, MasterKey, Part, Reader, Retention};
use tidegate_bus::{Bus, Identity};
use tidegate_recorder::erase::{self, EraseAnswer, EraseQuestion};
use tidegate_recorder::retain::{PRUNE, PruneAnswer, PruneQuestion};
use tidegate_recorder::service;
use tidegate_schemas::control::{Act, HoldTarget};
use uuid::Uuid;

use crate::cell::Cell;
use crate::cli::{AuditArgs, Global, HoldAddArgs, HoldCommand};
use crate::command::{act, record};
use crate::output;

/// How long an act may take to be on record.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the recorder may take to prune.
const PRUNED: Duration = Duration::from_secs(600);

pub(super) async fn prune(global: &Global, args: &AuditArgs, plan: bool) -> Result<ExitCode> {
    let due = match (&args.record, plan) {
        (Some(dir), true) => planned(dir.clone(), args.crashed, Retention::default()).await?,
        (Some(_), false) => bail!("only the recorder prunes, on record; leave --record away"),
        (None, _) => {
            let cell = Cell::open(&global.cell)?;
            let asked = async {
                let question = PruneQuestion { plan };
                record::ask_for::<PruneAnswer>(&operator(&cell).await?, PRUNE, &question, PRUNED).await
            };
            match asked.await {
                Ok(answer) => answer.due,
                // Without a recorder the file says the same.
                Err(_) if plan => planned(cell.record(), false, cell.config.record.retention()).await?,
                Err(error) => return Err(error),
            }
        }
    };
    if global.json {
        output::json(&json!({ "plan": plan, "due": due }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if due.is_empty() {
        output::line("nothing is past its retention");
        return Ok(ExitCode::SUCCESS);
    }
    let row = |due: &Due| {
        let done = if plan { "would go" } else { "gone" };
        let what = due.block.as_ref().map_or_else(|| done.to_owned(), |block| format!("stays: {block}"));
        let part = match due.part {
            Part::Bodies => "bodies",
            Part::Records => "records",
        };
        let range = format!("{} to {}", due.first, due.first + due.records.saturating_sub(1));
        vec![part.to_owned(), range, format!("{:.0}", due.newest), what]
    };
    output::table(&["part", "records", "newest", ""], &due.iter().map(row).collect::<Vec<_>>());
    Ok(ExitCode::SUCCESS)
}

/// What is past its retention, by the file.
async fn planned(dir: PathBuf, crashed: bool, retention: Retention) -> Result<Vec<Due>> {
    let read = tokio::task::spawn_blocking(move || -> Result<Vec<Due>> {
        Ok(record::reader(&dir, None, crashed)?.due(&retention, Timestamp::now())?)
    });
    read.await.context("reading the record")?
}

pub(super) async fn hold(global: &Global, args: &AuditArgs, command: &HoldCommand) -> Result<ExitCode> {
    if let HoldCommand::List = command {
        let (holds, waiting) = match &args.record {
            Some(dir) => {
                let reader = record::reader(dir, None, args.crashed)?;
                (reader.legal_holds()?, waiting_in(&reader)?)
            }
            None => {
                let cell = Cell::open(&global.cell)?;
                (of_cell(&cell).await?, waiting(&cell).await?)
            }
        };
        return list(global, &holds, &waiting);
    }
    if args.record.is_some() {
        bail!("a hold is an act in a running cell; leave --record away");
    }
    let cell = Cell::open(&global.cell)?;
    match command {
        HoldCommand::Add(asked) => add(global, &cell, asked).await,
        HoldCommand::Remove { hold, and_erase, reason } => {
            remove(global, &cell, *hold, *and_erase, reason).await
        }
        HoldCommand::List => Ok(ExitCode::SUCCESS),
    }
}

async fn operator(cell: &Cell) -> Result<Bus> {
    cell.connect(Identity::Operator(act::operator()?)).await
}

async fn holds(bus: &Bus) -> Result<Vec<Hold>> {
    record::ask(bus, service::HOLDS, &()).await
}

/// The cell's holds, from the recorder or, where none answers, from the file.
async fn of_cell(cell: &Cell) -> Result<Vec<Hold>> {
    let asked = async { holds(&operator(cell).await?).await };
    match asked.await {
        Ok(holds) => Ok(holds),
        Err(error) => {
            let reader = record::reader(&cell.record(), None, false).map_err(|_| error)?;
            Ok(reader.legal_holds()?)
        }
    }
}

/// Erasures that are on record and not begun, from the recorder or, where none answers, from the file.
async fn waiting(cell: &Cell) -> Result<Vec<Erasure>> {
    let asked = async {
        let subject = erase::subject(&act::operator()?);
        let question = EraseQuestion::Status { event: None };
        record::ask::<EraseAnswer>(&operator(cell).await?, &subject, &question).await
    };
    match asked.await {
        Ok(answer) => {
            Ok(answer.erasures.into_iter().filter(|one| one.state == ErasureState::Waiting).collect())
        }
        Err(error) => waiting_in(&record::reader(&cell.record(), None, false).map_err(|_| error)?),
    }
}

fn waiting_in(reader: &Reader) -> Result<Vec<Erasure>> {
    let mut all = reader.erasures()?;
    all.retain(|one| one.state == ErasureState::Waiting);
    Ok(all)
}

/// Whether a hold may be what an erasure waits for. Whose task it is stands in no hold, so one on a task may be of any tenant.
fn may_wait_for(erasure: &Erasure, hold: &Hold) -> bool {
    match &hold.target {
        HoldTarget::Task { .. } => true,
        HoldTarget::Tenant { tenant } | HoldTarget::Subject { tenant, .. } => *tenant == erasure.tenant,
    }
}

fn named(erasures: &[&Erasure]) -> String {
    erasures.iter().map(|one| format!("EVENTS:{}", one.event)).collect::<Vec<_>>().join(", ")
}

async fn add(global: &Global, cell: &Cell, asked: &HoldAddArgs) -> Result<ExitCode> {
    let target = match (&asked.tenant, asked.task, &asked.subject) {
        (_, Some(task), _) => HoldTarget::Task { task },
        (Some(tenant), None, Some(subject)) => {
            let master = MasterKey::load(&cell.master_key()).context(
                "a person is held under a keyed digest: run this where the record's master key is",
            )?;
            let reader = record::reader(&cell.record(), Some(master), false)?;
            let reference = reader.hold_reference(tenant, subject.as_str())?;
            HoldTarget::Subject { tenant: tenant.clone(), reference }
        }
        (Some(tenant), None, None) => HoldTarget::Tenant { tenant: tenant.clone() },
        (None, None, _) => bail!("say what is held: --tenant, --task, or --tenant with --subject"),
    };
    if asked.until.is_some_and(|until| until <= Timestamp::now()) {
        bail!("--until must be a time to come");
    }
    let same =
        |hold: &Hold| hold.counts(Timestamp::now()) && (&hold.target, hold.until) == (&target, asked.until);
    if let Some(there) = of_cell(cell).await?.into_iter().find(same).filter(|_| !asked.another) {
        bail!(
            "the same is held already: {}, by {} since {:.0}; for another case place one beside it with --another",
            there.id,
            there.operator,
            there.since
        );
    }
    let hold = Uuid::now_v7();
    act::publish(cell, Act::HoldAdd { hold, target, until: asked.until }, &asked.reason).await?;
    until(cell, |holds| holds.iter().any(|known| known.id == hold)).await?;
    if global.json {
        output::json(&json!({ "hold": hold }))?;
    } else {
        output::line(format!(
            "held: neither pruned nor erased until `tidegate audit hold remove {hold} --reason '…'`"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(global: &Global, cell: &Cell, hold: Uuid, and_erase: bool, reason: &str) -> Result<ExitCode> {
    let there = of_cell(cell).await?.into_iter().find(|known| known.id == hold);
    let there = there.context("there is no such hold; see `tidegate audit hold list`")?;
    let waiting = waiting(cell).await?;
    let begins: Vec<&Erasure> = waiting.iter().filter(|one| may_wait_for(one, &there)).collect();
    if !begins.is_empty() && !and_erase {
        bail!(
            "erasures wait on record ({}) and may begin at once without this hold, which nothing takes back: leave it, or give \
             --and-erase too",
            named(&begins)
        );
    }
    act::publish(cell, Act::HoldRemove { hold }, reason).await?;
    until(cell, |holds| holds.iter().all(|known| known.id != hold)).await?;
    if global.json {
        let erasures: Vec<u64> = begins.iter().map(|one| one.event).collect();
        output::json(&json!({ "removed": hold, "erasures": erasures }))?;
    } else if begins.is_empty() {
        output::line("removed: retention applies again");
    } else {
        let erasures = named(&begins);
        output::line(format!(
            "removed: retention applies again, and what waited may be erased now: {erasures}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until the recorder has it: a hold counts from then on.
async fn until(cell: &Cell, mut check: impl FnMut(&[Hold]) -> bool) -> Result<()> {
    let (bus, begun) = (operator(cell).await?, Instant::now());
    loop {
        match holds(&bus).await {
            Ok(holds) if check(&holds) => return Ok(()),
            Err(error) if begun.elapsed() >= PATIENCE => {
                return Err(error.context("the act is published and counts once the recorder has it"));
            }
            Ok(_) if begun.elapsed() >= PATIENCE => {
                bail!("the act is published, but not on record yet; see `tidegate audit hold list`");
            }
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn list(global: &Global, holds: &[Hold], waiting: &[Erasure]) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "holds": holds, "waiting": waiting }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for one in waiting {
        output::line(format!(
            "an erasure waits: EVENTS:{} of tenant {} by {}: {}",
            one.event,
            one.tenant,
            one.operator,
            one.waits.as_deref().unwrap_or("it has not begun")
        ));
    }
    if holds.is_empty() {
        output::line("nothing is held");
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let row = |hold: &Hold| {
        let until = match hold.until {
            Some(until) if hold.counts(now) => format!("{until:.0}"),
            Some(until) => format!("ended {until:.0}"),
            None => "removed".to_owned(),
        };
        vec![
            hold.id.to_string(),
            target(&hold.target),
            until,
            hold.operator.to_string(),
            format!("{:.0}", hold.since),
            hold.record.to_string(),
        ]
    };
    let rows: Vec<_> = holds.iter().map(row).collect();
    output::table(&["hold", "on", "until", "by", "since", "record"], &rows);
    Ok(ExitCode::SUCCESS)
}

fn target(target: &HoldTarget) -> String {
    match target {
        HoldTarget::Tenant { tenant } => format!("tenant {tenant}"),
        HoldTarget::Task { task } => format!("task {task}"),
        HoldTarget::Subject { tenant, reference } => format!("a person of {tenant} ({reference})"),
    }
}
