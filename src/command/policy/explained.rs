//! `tidegate policy explain`: what a bundle decides about a task that somebody has at hand, and why.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;
use tidegate_bus::Identity;
use tidegate_policies::{Bundle, Judge, explain, flag, release};
use tidegate_schemas::control::Flags;
use tidegate_schemas::decision::Facts;
use tidegate_schemas::directory::{Agent, Directory, Tenant};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::limits::TASK_BYTES_MAX;
use tidegate_schemas::task::{Message, Task};
use uuid::Uuid;

use super::super::act;
use super::{InForce, default_bundle, diff, in_force};
use crate::cell::Cell;
use crate::cli::{Global, Who};
use crate::output;

/// What is to be explained.
pub(super) struct Asked<'a> {
    pub(super) file: &'a Path,
    pub(super) named: Option<&'a str>,
    pub(super) flags: &'a [Name],
    pub(super) kind: &'a Name,
}

pub(super) async fn run(global: &Global, asked: &Asked<'_>, who: &Who) -> Result<ExitCode> {
    let Asked { file, named, flags: given, kind } = *asked;
    let payload = envelope(file)?;
    let now = Timestamp::now();
    let task = Task::read(&Message {
        tenant: &who.tenant,
        agent: &who.agent,
        kind: kind.as_str(),
        headers: &Headers::new(),
        payload: &payload,
        position: &Position::new("TASKS_explain", 1),
        submitted: now,
    })
    .map_err(|rejected| anyhow::anyhow!("the task would be rejected: {}", rejected.refused))?;
    let (bundle, flags, revision, which) = match (named, in_force(global).await) {
        (Some(word), _) if word != diff::ACTIVE => {
            let named = diff::bundle(global, word).await?;
            (named, Flags::default(), 0, "the named bundle, whatever is switched off or flagged in a cell")
        }
        (named, Ok(now)) => decided_by(now, named.is_some(), &task),
        (Some(_), Err(error)) => return Err(error.context(diff::NO_CELL)),
        (None, Err(_)) => {
            (default_bundle()?, Flags::default(), 0, "the default bundle: no cell answers here")
        }
    };
    output::note(format!("by {which} ({} {})", bundle.manifest().name, bundle.hash()));
    let bundle = Arc::new(bundle);
    let judge = Judge::new(bundle.clone())?;
    let directory = known(global, who).await;
    let on = if given.is_empty() {
        flag::on(&flags.flags, &task)
    } else {
        super::super::flag::named(&bundle, given)?
    };
    let facts = Facts {
        decision_id: Uuid::now_v7(),
        now,
        directory: directory.hash(),
        hop: 0,
        lane_max: None,
        tried: [].into(),
        off: flags.switches,
        flags: on,
        flags_revision: flags.event,
        release_revision: revision,
        inherited: None,
        approval: None,
        model_scan: Default::default(),
        wait_ms: [].into(),
        tenant_in_flight: 0,
        egress_ready: true,
        session: None,
        spent: Vec::new(),
        broken: Vec::new(),
        redaction: None,
    };
    let decision = judge.decide(&task, &directory, &facts);
    let near = explain::near_misses(&judge, &task, &directory, &facts);
    if global.json {
        let mut told = serde_json::to_value(&decision).context("writing the decision")?;
        if let Some(told) = told.as_object_mut() {
            told.insert("near_misses".to_owned(), json!(near));
        }
        output::json(&told)?;
    } else {
        output::line(explain::text(&decision, Some(&bundle)) + explain::near_text(&near).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

/// Which of a cell's bundles decides about a task, unless the active one is wanted, and with what.
fn decided_by(now: InForce, active: bool, task: &Task) -> (Bundle, Flags, u64, &'static str) {
    let InForce { bundle, canary, flags, revision } = now;
    let drawn = canary.filter(|(canary, _)| !active && release::is_drawn(canary, task));
    let (bundle, which) = match drawn {
        Some((_, bundle)) => (
            bundle,
            "the cell's canary, which decides about this task, and what is switched off and flagged there",
        ),
        None => (bundle, "the cell's active bundle, and what is switched off and flagged there"),
    };
    (bundle, flags, revision, which)
}

/// The cell's directory where there is a cell; else one that knows just this agent.
async fn known(global: &Global, who: &Who) -> Directory {
    let of_cell = async {
        let bus = Cell::open(&global.cell)?.connect(Identity::Operator(act::operator()?)).await?;
        super::super::directory::active(&bus).await
    };
    if let Ok(Some(directory)) = of_cell.await {
        return directory;
    }
    let mut directory = Directory::empty();
    let tenant = Tenant { agents: [(who.agent.clone(), Agent::default())].into(), ..Tenant::default() };
    directory.tenants.insert(who.tenant.clone(), tenant);
    directory
}

fn envelope(file: &Path) -> Result<Vec<u8>> {
    let limit = TASK_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes).context("reading standard input")?;
    } else {
        let opened = fs::File::open(file).with_context(|| format!("reading `{}`", file.display()))?;
        opened
            .take(limit)
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading `{}`", file.display()))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::release::{Canary, Guards, ShareBy};

    use super::*;

    #[test]
    fn a_task_that_the_canary_decides_is_explained_by_it() {
        let bundles = || (default_bundle().unwrap(), super::super::demo_bundle().unwrap());
        let (active, other) = bundles();
        let now = |share_bp| {
            let (bundle, canary) = bundles();
            let (hash, by) = (canary.hash(), ShareBy::Tenant);
            let released = Canary { hash, share_bp, by, since: 0, unguarded: Guards::default() };
            InForce { bundle, canary: Some((released, canary)), flags: Flags::default(), revision: 0 }
        };
        let (tenant, agent) = (Name::new("acme").unwrap(), Name::new("helpdesk").unwrap());
        let payload = br#"{ "labels": { "sensitivity": "public" }, "input": { "messages": [{ "role": "user", "content": "What is a tide?" }] } }"#;
        let message = Message {
            tenant: &tenant,
            agent: &agent,
            kind: "chat",
            headers: &Headers::new(),
            payload,
            position: &Position::new("TASKS_explain", 1),
            submitted: Timestamp::now(),
        };
        let task = Task::read(&message).ok().unwrap();
        let by = |share, active| decided_by(now(share), active, &task).0.hash();
        assert_eq!(by(10_000, false), other.hash());
        assert_eq!(by(0, false), active.hash(), "negative control: it is another's");
        assert_eq!(by(10_000, true), active.hash(), "the active one was asked for");
    }
}
