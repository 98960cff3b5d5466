//! `tidegate lane`: switches, everywhere in under a second and on record.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidegate_bus::{Bus, Identity};
use tidegate_schemas::control::{Act, FLAGS_BUCKET, FLAGS_KEY, Flags};
use tidegate_schemas::decision::Switch;

use super::act;
use crate::cell::Cell;
use crate::cli::{Global, LaneCommand, LaneWhat};
use crate::output;

/// How long the routers may take to apply a switch.
const APPLY: Duration = Duration::from_secs(10);

pub(super) async fn run(global: &Global, command: LaneCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let bus = cell.connect(Identity::Operator(act::operator()?)).await?;
    match command {
        LaneCommand::Status => {}
        LaneCommand::Off { what, reason } => {
            let switch = switch(what);
            apply(&bus, &cell, Act::LaneOff { switch }, &reason).await?;
        }
        LaneCommand::On { what, reason } => {
            let switch = switch(what);
            if !flags(&bus).await?.switches.contains(&switch) {
                bail!("that is not off; `tidegate lane status` shows what is");
            }
            apply(&bus, &cell, Act::LaneOn { switch }, &reason).await?;
        }
    }
    show(global, &flags(&bus).await?)
}

fn switch(what: LaneWhat) -> Switch {
    Switch { lane: what.lane, tenant: what.tenant, target: what.target, model: what.model }
}

/// What is off now.
pub(super) async fn flags(bus: &Bus) -> Result<Flags> {
    let entry = bus.kv_get(FLAGS_BUCKET, FLAGS_KEY).await?;
    entry.map_or(Ok(Flags::default()), |entry| {
        serde_json::from_slice(&entry.value).context("reading the switches")
    })
}

async fn apply(bus: &Bus, cell: &Cell, act: Act, reason: &str) -> Result<()> {
    let event = act::publish(cell, act, reason).await?.sequence;
    let deadline = Instant::now() + APPLY;
    while flags(bus).await?.event < event {
        if Instant::now() > deadline {
            bail!("the act is on record (EVENTS:{event}) but no router applied it: does one run?");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// What a switch covers, in words.
pub(super) fn words(switch: &Switch) -> String {
    let parts = [
        switch.lane.map(|lane| format!("{lane} lane")),
        switch.target.as_ref().map(|target| format!("pool or provider {target}")),
        switch.model.as_ref().map(|model| format!("model {model}")),
        switch.tenant.as_ref().map(|tenant| format!("for tenant {tenant}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn show(global: &Global, flags: &Flags) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "event": flags.event, "off": flags.switches }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if flags.switches.is_empty() {
        output::line("nothing is off");
        return Ok(ExitCode::SUCCESS);
    }
    let any = |text: Option<String>| text.unwrap_or_else(|| "any".into());
    let rows: Vec<Vec<String>> = flags
        .switches
        .iter()
        .map(|s| {
            vec![
                any(s.lane.map(|l| l.to_string())),
                any(s.tenant.as_ref().map(ToString::to_string)),
                any(s.target.as_ref().map(ToString::to_string)),
                any(s.model.clone()),
            ]
        })
        .collect();
    output::table(&["OFF: LANE", "TENANT", "POOL OR PROVIDER", "MODEL"], &rows);
    Ok(ExitCode::SUCCESS)
}
