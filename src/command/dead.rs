//! `tidegate dead`: messages that were given up, and what an operator does about them. The letters stand in the record; the
//! acts are control events, which are the record of who did what and why.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tidegate_audit::leaf::{ActWord, Detail};
use tidegate_audit::{Filter, RecordKind};
use tidegate_bus::Bus;
use tidegate_schemas::control::Act;
use tidegate_schemas::dead::{DeadLetter, TENANT_UNKNOWN};
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::result::State;
use tidegate_schemas::subject::{EVENTS, RESULTS, Subject};

use super::act;
use super::record::Record;
use crate::cell::Cell;
use crate::cli::{DeadCommand, Global};
use crate::output;

/// A dead letter as the record's index tells it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Letter {
    /// Its sequence in EVENTS.
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) role: Name,
    pub(super) tenant: Option<Name>,
    pub(super) code: String,
    /// The message that was given up.
    pub(super) message: Position,
    pub(super) delivered: u64,
    pub(super) task: Option<TaskId>,
    /// What an operator did about it, where one did.
    pub(super) handled: Option<Handled>,
}

/// An operator's act about a letter.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Handled {
    pub(super) act: &'static str,
    pub(super) operator: Name,
    pub(super) event: Position,
}

/// What is shown of one letter.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    letter: Letter,
    content: Option<DeadLetter>,
    task_state: Option<State>,
}

pub(super) async fn run(global: &Global, command: DeadCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let record = Record::open(&cell).await?;
    match command {
        DeadCommand::List { tenant, limit } => list(global, &all(&record, tenant.as_ref()).await?, limit),
        DeadCommand::Show { sequence } => show(global, &cell, &record, sequence).await,
        DeadCommand::Requeue { sequence, reason } => {
            let letter = find(&record, sequence).await?;
            let bus = act::connect(&cell).await?;
            permit_requeue(&record, &bus, &letter).await?;
            if !content(&cell, &record, sequence).await?.as_ref().is_none_or(is_taken_up) {
                bail!(
                    "{} is of no kind that is taken up again; leave it for good: tidegate dead discard {sequence}",
                    letter.message
                );
            }
            let act = Act::DeadRequeue { letter: Position::new(EVENTS, sequence) };
            let event = act::publish(&cell, act, &reason).await?.position();
            let follow = letter
                .task
                .map(|task| format!("; follow it: tidegate audit task {task}"))
                .unwrap_or_default();
            told(global, &event, &format!("{} is taken up again{follow}", letter.message))
        }
        DeadCommand::Discard { sequence, reason } => {
            let letter = find(&record, sequence).await?;
            if let Some(handled) = &letter.handled {
                bail!("it was {} already by {} ({})", handled.act, handled.operator, handled.event);
            }
            let act = Act::DeadDiscard { letter: Position::new(EVENTS, sequence) };
            let event = act::publish(&cell, act, &reason).await?.position();
            told(global, &event, &format!("{} is left for good", letter.message))
        }
    }
}

fn told(global: &Global, event: &Position, sentence: &str) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "event": event, "done": sentence }))?;
    } else {
        output::line(format!("{sentence} (on record: {event})"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Letters that nobody has done anything about.
pub(super) async fn open(record: &Record, tenant: Option<&Name>) -> Result<Vec<Letter>> {
    Ok(all(record, tenant).await?.into_iter().filter(|letter| letter.handled.is_none()).collect())
}

/// All letters, oldest first, each with what was done about it.
async fn all(record: &Record, tenant: Option<&Name>) -> Result<Vec<Letter>> {
    let (mut handled, mut refused) = (Vec::new(), BTreeSet::new());
    for found in record.all(Filter { kind: Some(RecordKind::Control), ..Filter::default() }).await? {
        let event = found.leaf.position();
        if let Some(Detail::Control { operator, act: ActWord::Refused, .. }) = &found.leaf.detail {
            // Routers say so under their own name, which no operator has.
            if operator.as_str() == "router" {
                refused.extend(found.leaf.cause);
            }
            continue;
        }
        let Some(Detail::Control { operator, act, letter: Some(letter), .. }) = found.leaf.detail else {
            continue;
        };
        let act = match act {
            ActWord::DeadRequeue => "requeued",
            ActWord::DeadDiscard => "discarded",
            _ => continue,
        };
        handled.push((letter.to_string(), Handled { act, operator, event }));
    }
    // What was refused was not done: the letter is open as before.
    let done = handled.into_iter().filter(|(_, handled)| !refused.contains(&handled.event));
    let mut handled: BTreeMap<String, Handled> = done.collect();
    let filter = Filter { kind: Some(RecordKind::Dead), tenant: tenant.cloned(), ..Filter::default() };
    let mut letters = Vec::new();
    for found in record.all(filter).await? {
        let leaf = found.leaf;
        let place = leaf.position().to_string();
        let Some(Detail::Dead { role, message, delivered }) = leaf.detail else { continue };
        letters.push(Letter {
            sequence: leaf.source.sequence,
            at: leaf.time,
            role,
            tenant: leaf.tenant.filter(|tenant| tenant.as_str() != TENANT_UNKNOWN),
            code: leaf.code.map(|code| code.to_string()).unwrap_or_default(),
            message,
            delivered,
            task: leaf.task,
            handled: handled.remove(&place),
        });
    }
    letters.sort_by_key(|letter| letter.sequence);
    Ok(letters)
}

async fn find(record: &Record, sequence: u64) -> Result<Letter> {
    let letters = all(record, None).await?;
    letters.into_iter().find(|letter| letter.sequence == sequence).with_context(|| {
        format!("the record holds no dead letter EVENTS:{sequence}; see `tidegate dead list`")
    })
}

/// A task has one result: what has ended is not taken up again.
async fn permit_requeue(record: &Record, bus: &Bus, letter: &Letter) -> Result<()> {
    if let Some(handled) = &letter.handled {
        bail!(
            "it was {} already by {} ({}); a message that fails again gets a letter of its own",
            handled.act,
            handled.operator,
            handled.event
        );
    }
    let Some(task) = letter.task else { return Ok(()) };
    let recorded = ended(record, task, letter.tenant.as_ref()).await?;
    let tenant = letter.tenant.as_ref().map_or("*", Name::as_str);
    let here = bus.subject_exists(RESULTS, &format!("result.{tenant}.*.{task}")).await?;
    match recorded {
        Some(state) => bail!(
            "task {task} has its result ({}), and a task has one: let the agent submit it again under a new id",
            state.as_str()
        ),
        None if here => bail!(
            "task {task} has its result, and a task has one: let the agent submit it again under a new id"
        ),
        None => Ok(()),
    }
}

async fn ended(record: &Record, task: TaskId, tenant: Option<&Name>) -> Result<Option<State>> {
    let timelines = record.task(tenant.cloned(), task).await?;
    Ok(timelines.into_iter().map(|timeline| timeline.state).find(|state| state.is_terminal()))
}

fn list(global: &Global, letters: &[Letter], limit: usize) -> Result<ExitCode> {
    let newest = letters.get(letters.len().saturating_sub(limit)..).unwrap_or_default();
    if global.json {
        output::json(&newest)?;
        return Ok(ExitCode::SUCCESS);
    }
    if newest.is_empty() {
        output::line("no dead letters");
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = newest
        .iter()
        .map(|letter| {
            vec![
                letter.sequence.to_string(),
                format!("{:.0}", letter.at),
                letter.role.to_string(),
                letter.tenant.as_ref().map(ToString::to_string).unwrap_or_else(|| "-".into()),
                letter.code.clone(),
                letter.message.to_string(),
                letter.delivered.to_string(),
                letter.handled.as_ref().map_or("open", |handled| handled.act).to_owned(),
            ]
        })
        .collect();
    output::table(&["EVENTS", "AT", "ROLE", "TENANT", "CODE", "MESSAGE", "TIMES", "STATE"], &rows);
    output::note("one of them: tidegate dead show <EVENTS>; then requeue or discard it, with --reason");
    Ok(ExitCode::SUCCESS)
}

async fn show(global: &Global, cell: &Cell, record: &Record, sequence: u64) -> Result<ExitCode> {
    let letter = find(record, sequence).await?;
    let content = content(cell, record, sequence).await?;
    let task_state = match letter.task {
        Some(task) => record.task(letter.tenant.clone(), task).await?.first().map(|timeline| timeline.state),
        None => None,
    };
    if global.json {
        output::json(&Shown { letter, content, task_state })?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format!("dead letter EVENTS:{sequence} of {} at {:.3}", letter.role, letter.at));
    let code = &letter.code;
    match &content {
        Some(letter) => {
            output::line(format!("  why        {} ({code})", letter.sentence));
            output::line(format!(
                "  message    {} on {}, by consumer {}",
                letter.message, letter.subject, letter.consumer
            ));
        }
        None => output::line(format!("  why        {code}; the letter itself is not in its stream any more")),
    }
    output::line(format!("  delivered  {} times", letter.delivered));
    if let Some(task) = letter.task {
        let state = task_state.map_or("unknown", State::as_str);
        output::line(format!("  task       {task} ({state}); its story: tidegate audit task {task}"));
    }
    if let Some(owners) = content.as_ref().map(|letter| &letter.owners).filter(|owners| !owners.is_empty()) {
        output::line(format!("  ask        {owners}"));
    }
    match &letter.handled {
        Some(handled) => {
            output::line(format!("  done       {} by {} ({})", handled.act, handled.operator, handled.event))
        }
        None => {
            let discard = format!("tidegate dead discard {sequence} --reason …   to leave it for good");
            if content.as_ref().is_none_or(is_taken_up) {
                output::line(format!(
                    "  then       tidegate dead requeue {sequence} --reason …   once its cause is cured"
                ));
                output::line(format!("             {discard}"));
            } else {
                output::line(format!("  then       {discard}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether its message can be handled again at all.
fn is_taken_up(letter: &DeadLetter) -> bool {
    Subject::parse(&letter.subject).is_ok_and(|subject| subject.is_taken_up())
}

/// The letter itself: from its stream, or from the record where it was trimmed and the key is at hand.
async fn content(cell: &Cell, record: &Record, sequence: u64) -> Result<Option<DeadLetter>> {
    let bus = act::connect(cell).await?;
    // Where no recorder answers, its file may.
    let looked = act::look(&bus, EVENTS, "dead.>", sequence).await.ok().flatten();
    let looked = looked.filter(|looked| looked.sequence == sequence);
    let payload = match looked.and_then(|looked| looked.says) {
        Some(says) => Some(says.get().to_owned().into()),
        None => record.payload(&Position::new(EVENTS, sequence)).await?,
    };
    payload.map(|payload| serde_json::from_slice(&payload).context("reading the dead letter")).transpose()
}
