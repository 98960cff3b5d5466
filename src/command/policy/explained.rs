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
use tidegate_schemas::decision::{Decision, Facts};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::{Agent, Directory, Tenant};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::limits::TASK_BYTES_MAX;
use tidegate_schemas::scan::{self, ModelScan};
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
        off: flags.switches,
        flags: on,
        flags_revision: flags.event,
        release_revision: revision,
        ..first(&task, &directory, now)
    };
    let decision = judge.decide(&task, &directory, &facts);
    let near = explain::near_misses(&judge, &task, &directory, &facts);
    let after = after_clean_scan(&judge, (&task, &directory, &facts), &decision);
    if global.json {
        let mut told = serde_json::to_value(&decision).context("writing the decision")?;
        if let Some(told) = told.as_object_mut() {
            told.insert("near_misses".to_owned(), json!(near));
            if let Some(after) = &after {
                told.insert("should_the_scan_find_nothing".to_owned(), json!(after));
            }
        }
        output::json(&told)?;
    } else {
        let mut text = explain::text(&decision, Some(&bundle)) + &explain::near_text(&near);
        if let Some(after) = &after {
            text += &format!("should it find nothing: {}", explain::text(after, Some(&bundle)));
        }
        output::line(text.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

/// What a router knows of a task that it sees for the first time, in a cell that is well and idle.
fn first(task: &Task, directory: &Directory, now: Timestamp) -> Facts {
    Facts {
        decision_id: Uuid::now_v7(),
        now,
        directory: directory.hash(),
        hop: 0,
        lane_max: None,
        tried: [].into(),
        off: Vec::new(),
        flags: [].into(),
        flags_revision: 0,
        release_revision: 0,
        inherited: None,
        approval: None,
        model_scan: if task.session.is_some() { ModelScan::Closed } else { ModelScan::Open },
        wait_ms: [].into(),
        tenant_in_flight: 0,
        egress_ready: true,
        session: None,
        spent: Vec::new(),
        broken: Vec::new(),
        redaction: None,
    }
}

/// Where the decision is that a model looks first: the next one, should it find nothing. What it finds is not known here.
fn after_clean_scan(
    judge: &Judge,
    (task, directory, facts): (&Task, &Directory, &Facts),
    decision: &Decision,
) -> Option<Decision> {
    let place = decision.destination.as_ref().filter(|place| scan::is_scan(place.lane, &place.target))?;
    let model = place.model_sha256.unwrap_or_else(|| Digest::plain(b""));
    let scanned = Facts { model_scan: ModelScan::Done { model, findings: [].into() }, ..facts.clone() };
    Some(judge.decide(task, directory, &scanned))
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

    use tidegate_schemas::decision::Outcome;
    use tidegate_schemas::release::{Canary, Guards, ShareBy};

    use super::*;

    fn task(labels: &str, more: &str) -> Task {
        let (tenant, agent) = (Name::new("acme").unwrap(), Name::new("helpdesk").unwrap());
        let payload = format!(
            r#"{{ "labels": {{ "sensitivity": "{labels}" }}, {more} "input": {{ "messages": [{{ "role": "user", "content": "What is a tide?" }}] }} }}"#
        );
        let message = Message {
            tenant: &tenant,
            agent: &agent,
            kind: "chat",
            headers: &Headers::new(),
            payload: payload.as_bytes(),
            position: &Position::new("TASKS_explain", 1),
            submitted: Timestamp::now(),
        };
        Task::read(&message).ok().unwrap()
    }

    #[test]
    fn a_task_that_would_be_scanned_first_is_said_to_be_and_what_then() {
        let judge = Judge::new(Arc::new(default_bundle().unwrap())).unwrap();
        let mut directory = Directory::empty();
        let agents = [(Name::new("helpdesk").unwrap(), Agent::default())].into();
        directory.tenants.insert(Name::new("acme").unwrap(), Tenant { agents, ..Tenant::default() });
        let explained = |task: &Task| {
            let facts = first(task, &directory, Timestamp::now());
            let decision = judge.decide(task, &directory, &facts);
            let after = after_clean_scan(&judge, (task, &directory, &facts), &decision);
            (decision, after)
        };
        let (decision, after) = explained(&task("internal", ""));
        assert_eq!(decision.destination.unwrap().name, scan::pool());
        assert_eq!(after.map(|after| after.outcome), Some(Outcome::Cloud));
        // Negative controls: of a session nothing is scanned, and what needs no scan is sent to none.
        for (labels, more, outcome) in [
            ("internal", r#""session": "s-1","#, Outcome::Local),
            ("public", "", Outcome::Cloud),
            ("restricted", "", Outcome::Local),
        ] {
            let (decision, after) = explained(&task(labels, more));
            assert_eq!((decision.outcome, after.is_some()), (outcome, false), "{labels} {more}");
            assert_ne!(decision.destination.unwrap().name, scan::pool());
        }
    }

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
        let task = task("public", "");
        let by = |share, active| decided_by(now(share), active, &task).0.hash();
        assert_eq!(by(10_000, false), other.hash());
        assert_eq!(by(0, false), active.hash(), "negative control: it is another's");
        assert_eq!(by(10_000, true), active.hash(), "the active one was asked for");
    }
}
