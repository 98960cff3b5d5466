//! `tidegate tenant|agent|tool`: the directory's next version, on record first, then in force.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::json;
use tidegate_bus::accounts::{self, Identities};
use tidegate_bus::{Bus, Identity, Role};
use tidegate_schemas::control::{ACTIVE_KEY, Act, Active, DIRECTORY_BUCKET};
use tidegate_schemas::directory::{Agent, Directory, Reviewer, Tenant, Tool};
use tidegate_schemas::header;
use tidegate_schemas::ids::Name;

use super::{act, create, policy, provision, supervise};
use crate::cell::{Cell, replace};
use crate::cli::{AgentCommand, Global, TenantCommand, ToolCommand};
use crate::output;

/// How long the routers may take to take a version over.
const APPLY: Duration = Duration::from_secs(10);

/// The active directory, where there is one.
pub(super) async fn active(bus: &Bus) -> Result<Option<Directory>> {
    let Some(entry) = bus.kv_get(DIRECTORY_BUCKET, ACTIVE_KEY).await? else { return Ok(None) };
    let active: Active =
        serde_json::from_slice(&entry.value).context("reading the active directory's pointer")?;
    let entry = bus
        .kv_get(DIRECTORY_BUCKET, &active.hash.to_string())
        .await?
        .context("the active directory is gone")?;
    Ok(Some(serde_json::from_slice(&entry.value).context("reading the active directory")?))
}

pub(super) async fn tenant(global: &Global, command: TenantCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    match command {
        TenantCommand::List => list(global, &cell).await,
        TenantCommand::Quota { name, in_flight_max, reason } => {
            change(&cell, &reason, |directory| {
                let known = directory.tenants.get_mut(&name).with_context(|| unknown(&name))?;
                known.quota.in_flight_max = in_flight_max;
                Ok(())
            })
            .await?;
            told(global, &format!("tenant `{name}` may have {in_flight_max} open tasks"))
        }
        TenantCommand::Add { name, owner, residency, providers, in_flight_max, reason } => {
            let mut tenant = Tenant {
                owner,
                residency: residency.into_iter().collect(),
                providers: providers.map(|list| list.into_iter().collect()),
                ..Tenant::default()
            };
            tenant.quota.in_flight_max = in_flight_max.unwrap_or(tenant.quota.in_flight_max);
            change(&cell, &reason, |directory| {
                if directory.tenants.contains_key(&name) {
                    bail!("tenant `{name}` is there already");
                }
                directory.tenants.insert(name.clone(), tenant);
                Ok(())
            })
            .await?;
            told(
                global,
                &format!("tenant `{name}` added; add its first agent with `tidegate agent add {name} …`"),
            )
        }
    }
}

async fn list(global: &Global, cell: &Cell) -> Result<ExitCode> {
    let bus = cell.connect(Role::Provisioner).await?;
    let directory = active(&bus).await?.context("the cell has no directory: start it with `tidegate dev`")?;
    if global.json {
        output::json(&directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    let names = |names: Vec<&Name>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let rows: Vec<Vec<String>> = directory
        .tenants
        .iter()
        .map(|(name, t)| {
            vec![
                name.to_string(),
                t.owner.clone(),
                t.quota.in_flight_max.to_string(),
                names(t.agents.keys().collect()),
                names(t.tools.keys().collect()),
            ]
        })
        .collect();
    output::table(&["TENANT", "OWNER", "OPEN MAX", "AGENTS", "TOOLS"], &rows);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn agent(global: &Global, command: AgentCommand) -> Result<ExitCode> {
    let AgentCommand::Add { tenant, name, roles, team, reason } = command;
    let cell = Cell::open(&global.cell)?;
    let entry = Agent { team, roles: roles.into_iter().collect(), nkey: String::new() };
    change(&cell, &reason, |directory| {
        let known = directory.tenants.get_mut(&tenant).with_context(|| unknown(&tenant))?;
        if known.agents.contains_key(&name) {
            bail!("agent `{name}` of tenant `{tenant}` is there already");
        }
        known.agents.insert(name.clone(), entry);
        Ok(())
    })
    .await?;
    let seed = cell.seed(&Identity::Agent { tenant, agent: name.clone() });
    let [listen, publish] = by_nats(&cell.config.url, &seed, name.as_str(), "internal");
    if !global.json {
        output::line(format!("answers come here: {listen}"));
    }
    credentials(global, &seed, &publish)
}

/// Lines for the `nats` tool: one that hears every answer to an agent, and one that submits a task. The token stands in a
/// header, so that a task which cannot be read is answered as well.
pub(super) fn by_nats(url: &str, seed: &Path, agent: &str, sensitivity: &str) -> [String; 2] {
    let nats = format!("nats --server {url} --nkey {}", seed.display());
    let body = json!({ "labels": { "sensitivity": sensitivity },
                       "input": { "messages": [{ "role": "user", "content": "Hello" }] } });
    [
        format!("{nats} sub 'reply.{agent}.>'"),
        format!("{nats} pub task.{agent}.chat -H {}:hello '{body}'", header::REPLY),
    ]
}

pub(super) async fn tool(global: &Global, command: ToolCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    match command {
        ToolCommand::Add { tenant, name, content, reason } => {
            let entry = Tool { content, nkey: String::new() };
            change(&cell, &reason, |directory| {
                let known = directory.tenants.get_mut(&tenant).with_context(|| unknown(&tenant))?;
                if known.tools.contains_key(&name) {
                    bail!("tool `{name}` of tenant `{tenant}` is there already");
                }
                known.tools.insert(name.clone(), entry);
                Ok(())
            })
            .await?;
            let seed = cell.seed(&Identity::Tool { tenant: tenant.clone(), tool: name.clone() });
            let durable = tidegate_bus::topology::tool_durable(&tenant, &name);
            let line = format!(
                "nats --server {} --nkey {} consumer next RESULTS {durable} --ack",
                cell.config.url,
                seed.display()
            );
            credentials(global, &seed, &line)
        }
        ToolCommand::Reviewer { name, queues, reason } => {
            let entry = Reviewer { queues: queues.into_iter().collect(), nkey: String::new() };
            change(&cell, &reason, |directory| {
                if directory.reviewers.contains_key(&name) {
                    bail!("reviewer `{name}` is there already");
                }
                directory.reviewers.insert(name.clone(), entry);
                Ok(())
            })
            .await?;
            let seed = cell.seed(&Identity::Reviewer(name.clone()));
            credentials(global, &seed, &format!("tidegate review list --reviewer {name}"))
        }
    }
}

fn unknown(tenant: &Name) -> String {
    format!("no tenant `{tenant}`: add it with `tidegate tenant add {tenant} --owner …`")
}

fn told(global: &Global, sentence: &str) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "done": sentence }))?
    } else {
        output::line(sentence)
    }
    Ok(ExitCode::SUCCESS)
}

fn credentials(global: &Global, seed: &Path, line: &str) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "nkey_seed_file": seed, "line": line }))?;
    } else {
        output::line(format!("credentials: {} (keep it secret)", seed.display()));
        output::line(line);
    }
    Ok(ExitCode::SUCCESS)
}

/// The next version of the directory: on record, in force at the routers, then in the server's accounts.
async fn change(cell: &Cell, reason: &str, change: impl FnOnce(&mut Directory) -> Result<()>) -> Result<()> {
    let bus = cell.connect(Role::Provisioner).await?;
    let mut directory =
        active(&bus).await?.context("the cell has no directory: start it with `tidegate dev`")?;
    change(&mut directory)?;
    let bundle = policy::active_bundle(&bus).await?;
    // A tenant's stream has to be there before a router pulls from it.
    provision::streams(&bus, cell, &bundle, &directory).await?;
    act::publish(cell, Act::DirectoryActivate { directory: Box::new(directory.clone()) }, reason).await?;
    let hash = directory.hash();
    let deadline = Instant::now() + APPLY;
    while active(&bus).await?.map(|now| now.hash()) != Some(hash) {
        if Instant::now() > deadline {
            bail!("no router took the new directory over within {} s: does one run?", APPLY.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    create::save_directory(cell, &directory)?;
    let mut identities = Identities::open(cell.identities())?;
    identities.ensure_all(&directory)?;
    let rendered = accounts::render(&provision::shape(cell, &bundle), &directory, &identities)?;
    reload(cell, &rendered)
}

/// Gives the running server its new accounts.
fn reload(cell: &Cell, rendered: &str) -> Result<()> {
    let file = cell.nats().join("accounts.conf");
    let before = fs::read_to_string(&file).unwrap_or_default();
    replace(&file, rendered.as_bytes(), 0o600)?;
    if before != rendered {
        supervise::signal(Some(cell.running()?.nats), Signal::SIGHUP);
    }
    Ok(())
}
