//! `tidegate audit erase`: an operator's act. It is on record first, under the name that the record has for the data subject; the
//! recorder carries it out.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidegate_audit::{Erasure, ErasureState, Hold};
use tidegate_bus::{Bus, CancellationToken, Identity};
use tidegate_recorder::erase::{EraseAnswer, EraseQuestion, Found, subject};
use tidegate_schemas::control::{Act, EraseOutcome};

use crate::cell::Cell;
use crate::cli::{EraseArgs, Global};
use crate::command::{act, record, roles};
use crate::output;

/// Between two looks at an erasure.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a recorder that died meanwhile is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(global: &Global, args: EraseArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let bus = cell.connect(Identity::Operator(act::operator()?)).await?;
    let (tenant, id) = (args.who.tenant, args.who.subject);
    let question = EraseQuestion::Find { tenant: tenant.clone(), subject: id };
    let Some(found) = ask(&bus, &question).await?.found else { return nothing(global) };
    if args.plan {
        return plan(global, &found);
    }
    if found.open > 0 {
        bail!(
            "{} of its tasks have not ended: wait for them, or have them withdrawn; what comes of them would hold the data again",
            found.open
        );
    }
    if !found.holds.is_empty() {
        // On record, the act would be carried out as soon as the last hold is gone.
        bail!("{}; nothing was asked for, and nothing is erased", forbidden(&found.holds));
    }
    let reason = args.reason.context("give a reason with --reason")?;
    let erase = Act::Erase { tenant, subjects: found.subjects };
    let event = act::publish(&cell, erase, &reason).await?.sequence;
    let ended = wait(&bus, event).await?;
    let before = match &ended {
        Some(Erasure { state: ErasureState::Ended(EraseOutcome::NothingHeld), subjects, .. }) => {
            let all = ask(&bus, &EraseQuestion::Status { event: None }).await?.erasures;
            let done = |one: &Erasure| one.state == ErasureState::Ended(EraseOutcome::Erased);
            all.iter().find(|one| done(one) && one.subjects == *subjects).map(|one| one.event)
        }
        _ => None,
    };
    show(global, event, ended.as_ref(), before)
}

async fn ask(bus: &Bus, question: &EraseQuestion) -> Result<EraseAnswer> {
    record::ask(bus, &subject(&act::operator()?), question).await
}

fn nothing(global: &Global) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "state": "nothing_held" }))?;
    } else {
        output::line(
            "nothing is held of this data subject: it never came, or was erased before; the record cannot tell which",
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(global: &Global, found: &Found) -> Result<ExitCode> {
    let Found { subjects, records, tasks, open, holds } = found;
    if global.json {
        output::json(&json!({ "records": records, "tasks": tasks, "open": open, "subjects": subjects,
            "holds": holds }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format!(
        "{records} records of {tasks} tasks could not be read any more, and the streams' copies of them would be deleted; nothing was"
    ));
    if *open > 0 {
        output::line(format!("{open} of the tasks have not ended: before, nothing is erased"));
    }
    if !holds.is_empty() {
        output::line(forbidden(holds));
    }
    output::line("what other systems, backups and providers hold is not reached from here");
    Ok(ExitCode::SUCCESS)
}

/// What keeps it, in words.
fn forbidden(holds: &[Hold]) -> String {
    let ids: Vec<String> = holds.iter().map(|hold| hold.id.to_string()).collect();
    let (hold, forbid) = if ids.len() == 1 { ("hold", "forbids") } else { ("holds", "forbid") };
    format!("legal {hold} {} {forbid} it; see `tidegate audit hold list`", ids.join(", "))
}

/// Waits until it has ended, or whoever waits gives up: the recorder goes on then.
async fn wait(bus: &Bus, event: u64) -> Result<Option<Erasure>> {
    let cancel = CancellationToken::new();
    roles::stop_on_signal(cancel.clone())?;
    let (mut heard, mut told) = (Instant::now(), None);
    loop {
        match ask(bus, &EraseQuestion::Status { event: Some(event) }).await {
            Ok(answer) => {
                let now = answer.erasures.into_iter().next();
                heard = if now.is_some() { Instant::now() } else { heard };
                if now.as_ref().is_some_and(|now| now.state.has_ended()) {
                    return Ok(now);
                }
                if let Some(why) = now.and_then(|now| now.waits).filter(|why| told.as_ref() != Some(why)) {
                    output::note(format!("it waits: {why}"));
                    told = Some(why);
                }
                if heard.elapsed() > PATIENCE {
                    return Ok(None);
                }
            }
            // A recorder that died is started again and goes on.
            Err(_) if heard.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// `before`: the act that had erased it already.
fn show(global: &Global, event: u64, ended: Option<&Erasure>, before: Option<u64>) -> Result<ExitCode> {
    let Some(Erasure { records, messages, subjects, state: ErasureState::Ended(outcome), .. }) = ended else {
        if global.json {
            output::json(&json!({ "event": event, "state": "running" }))?;
        } else {
            output::line(format!(
                "the act is on record (EVENTS:{event}); the recorder carries it out as soon as it can"
            ));
        }
        return Ok(ExitCode::FAILURE);
    };
    if global.json {
        output::json(&json!({ "event": event, "state": outcome, "records": records, "messages": messages,
            "subjects": subjects, "erased_by": before }))?;
    } else {
        match outcome {
            EraseOutcome::NothingHeld if before.is_some() => output::line(format!(
                "already erased by EVENTS:{}; nothing was left",
                before.unwrap_or_default()
            )),
            EraseOutcome::Erased => output::line(format!(
                "erased: {records} records cannot be read any more, {messages} messages were deleted in the streams; on record at \
                 EVENTS:{event}"
            )),
            EraseOutcome::NothingHeld => return nothing(global),
            EraseOutcome::Refused => output::line("refused: the act is malformed"),
        }
    }
    Ok(if *outcome == EraseOutcome::Refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
