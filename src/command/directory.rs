//! `tidegate tenant|agent|tool`: the directory's next version, on record first, then in force.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::json;
use tidegate_bus::topology::RECORDER;
use tidegate_bus::{Bus, Identity, Role};
use tidegate_recorder::look::Looked;
use tidegate_schemas::code::Code;
use tidegate_schemas::control::{ACTIVE_KEY, Act, Active, Control, DIRECTORY_BUCKET, REFUSED};
use tidegate_schemas::dead::{DeadLetter, TENANT_UNKNOWN};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::{Agent, Directory, Reviewer, Tenant, Tool};
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::subject::EVENTS;

use super::{accounts, act, policy, provision};
use crate::cell::Cell;
use crate::cli::{AgentCommand, Global, TenantCommand, ToolCommand};
use crate::output;

/// How long the routers may take to take a version over.
const APPLY: Duration = Duration::from_secs(10);
/// Queue of a new reviewer for whom none is named.
const QUEUE_DEFAULT: &str = "default";
/// Times that a change is made again, when somebody else changed the directory meanwhile.
const TRIES_MAX: u32 = 16;

/// The active directory, where there is one.
pub(super) async fn active(bus: &Bus) -> Result<Option<Directory>> {
    let Some(active) = pointer(bus).await? else { return Ok(None) };
    Ok(Some(version(bus, active.hash).await?))
}

async fn pointer(bus: &Bus) -> Result<Option<Active>> {
    let entry = bus.kv_get(DIRECTORY_BUCKET, ACTIVE_KEY).await?;
    let read = |value: &[u8]| serde_json::from_slice(value).context("reading the active directory's pointer");
    entry.map(|entry| read(&entry.value)).transpose()
}

async fn version(bus: &Bus, hash: Digest) -> Result<Directory> {
    let entry = bus.kv_get(DIRECTORY_BUCKET, &hash.to_string()).await?;
    let entry = entry.context("the active directory is gone")?;
    serde_json::from_slice(&entry.value).context("reading the active directory")
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
            if name.as_str() == TENANT_UNKNOWN {
                bail!("`{name}` stands for tenants that nobody knows: give it another name");
            }
            let mut tenant = Tenant {
                owner,
                residency: residency.into_iter().collect(),
                providers: providers.map(|list| list.into_iter().collect()),
                ..Tenant::default()
            };
            tenant.quota.in_flight_max = in_flight_max.unwrap_or(tenant.quota.in_flight_max);
            let is_new = change(&cell, &reason, |directory| {
                let mut tenant = tenant.clone();
                if let Some(there) = directory.tenants.get(&name) {
                    tenant.agents.clone_from(&there.agents);
                    tenant.tools.clone_from(&there.tools);
                    tenant.quota.budgets.clone_from(&there.quota.budgets);
                }
                enter(&mut directory.tenants, &name, &tenant, "tenant")
            })
            .await?;
            let what = if is_new { "added" } else { "is there already" };
            told(
                global,
                &format!("tenant `{name}` {what}; add its first agent with `tidegate agent add {name} …`"),
            )
        }
    }
}

async fn list(global: &Global, cell: &Cell) -> Result<ExitCode> {
    let bus = cell.connect(Identity::Operator(act::operator()?)).await?;
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
    let entry = Agent { team, roles: roles.into_iter().collect(), ..Agent::default() };
    change(&cell, &reason, |directory| {
        let known = directory.tenants.get_mut(&tenant).with_context(|| unknown(&tenant))?;
        let budgets = known.agents.get(&name).map(|there| there.budgets.clone()).unwrap_or_default();
        enter(&mut known.agents, &name, &Agent { budgets, ..entry.clone() }, "agent")
    })
    .await?;
    let identity = Identity::Agent { tenant, agent: name };
    if !global.json {
        output::line(format!("answers come here: {}", cell.listen_line(&identity)));
    }
    credentials(global, &cell.seed(&identity), &cell.publish_line(&identity, "internal"))
}

pub(super) async fn tool(global: &Global, command: ToolCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    match command {
        ToolCommand::Add { tenant, name, content, reason } => {
            let entry = Tool { content, nkey: String::new() };
            change(&cell, &reason, |directory| {
                let known = directory.tenants.get_mut(&tenant).with_context(|| unknown(&tenant))?;
                enter(&mut known.tools, &name, &entry, "tool")
            })
            .await?;
            let durable = tidegate_bus::topology::tool_durable(&tenant, &name);
            let identity = Identity::Tool { tenant, tool: name };
            let line = format!("{} consumer next RESULTS {durable} --ack", cell.nats_line(&identity));
            credentials(global, &cell.seed(&identity), &line)
        }
        ToolCommand::Reviewer { name, queues, reason } => {
            change(&cell, &reason, |directory| {
                give_queues(&mut directory.reviewers, &name, &queues);
                Ok(())
            })
            .await?;
            let seed = cell.seed(&Identity::Reviewer(name.clone()));
            credentials(global, &seed, &format!("tidegate review list --reviewer {name}"))
        }
        ToolCommand::Operator { name, reason } => {
            let enter = |directory: &mut Directory| {
                if name.as_str() == RECORDER {
                    bail!("`{RECORDER}` acts by itself: name the operator otherwise");
                }
                directory.operators.insert(name.clone());
                Ok(())
            };
            change(&cell, &reason, enter).await?;
            let seed = cell.seed(&Identity::Operator(name.clone()));
            credentials(global, &seed, &format!("TIDEGATE_OPERATOR={name} tidegate status"))
        }
    }
}

pub(super) fn unknown(tenant: &Name) -> String {
    format!("no tenant `{tenant}`: add it with `tidegate tenant add {tenant} --owner …`")
}

/// Takes somebody up. Who is there already with the same settings may have been added by a command that was cut short, so
/// that one is no error.
fn enter<T: Clone + PartialEq>(
    all: &mut BTreeMap<Name, T>,
    name: &Name,
    entry: &T,
    what: &str,
) -> Result<()> {
    match all.get(name) {
        Some(there) if there != entry => bail!("{what} `{name}` is there already, with other settings"),
        Some(_) => {}
        None => drop(all.insert(name.clone(), entry.clone())),
    }
    Ok(())
}

/// Takes a reviewer up, or gives more queues to one who is there. Where none is named, a new one has `default`.
fn give_queues(reviewers: &mut BTreeMap<Name, Reviewer>, name: &Name, queues: &[Name]) {
    let is_new = !reviewers.contains_key(name);
    let default = Name::new(QUEUE_DEFAULT).into_iter().filter(|_| is_new && queues.is_empty());
    reviewers.entry(name.clone()).or_default().queues.extend(queues.iter().cloned().chain(default));
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

/// The next version of the directory: on record, in force at the routers, then in the server's accounts. Where the change is
/// there already, what an earlier run left undone is done. Says whether there was something to change.
pub(super) async fn change(
    cell: &Cell,
    reason: &str,
    change: impl Fn(&mut Directory) -> Result<()>,
) -> Result<bool> {
    // Streams are created by nobody else; all that is asked is asked as the operator.
    let (bus, operator) = (cell.connect(Role::Provisioner).await?, act::connect(cell).await?);
    for _ in 0..TRIES_MAX {
        let base =
            pointer(&bus).await?.context("the cell has no directory: start it with `tidegate dev`")?.hash;
        let before = version(&bus, base).await?;
        let mut directory = before.clone();
        change(&mut directory)?;
        let bundle = policy::active_bundle(&bus).await?;
        // A tenant's stream has to be there before a router pulls from it.
        provision::streams(&bus, cell, &bundle, &directory).await?;
        let is_new = directory != before;
        if is_new {
            let act = Act::DirectoryActivate { base, directory: Box::new(directory) };
            let event = act::publish(cell, act, reason).await?.sequence;
            match outdated(&operator, event).await? {
                None => {}
                Some(Refusal { letter: None, .. }) => continue,
                // Of a router from before refusals.
                Some(Refusal { letter: Some(letter), .. }) => {
                    let act = Act::DeadDiscard { letter };
                    act::publish(cell, act, "the change is made again").await?;
                    continue;
                }
            }
        }
        accounts::settle(cell, &bus, !is_new).await?;
        return Ok(is_new);
    }
    bail!("others keep changing the directory: repeat the command")
}

/// Why the routers did not apply an act.
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) sentence: String,
    /// The dead letter, where it is one.
    letter: Option<Position>,
}

/// What a dead letter or a refusal says.
fn read<T: DeserializeOwned>(looked: &Looked) -> Result<T> {
    let says = looked.says.as_ref().context("nothing is said")?;
    serde_json::from_str(says.get()).context("reading what was said")
}

/// Waits until a router has applied an act. Where somebody else had changed the directory before, gives the refusal.
async fn outdated(bus: &Bus, event: u64) -> Result<Option<Refusal>> {
    let deadline = Instant::now() + APPLY;
    loop {
        // Acts are applied in order, each before the next one: once a later act is applied, this one's refusal is there too.
        let reached = pointer(bus).await?.map_or(0, |active| active.event);
        if reached == event {
            return Ok(None);
        }
        match refusal(bus, event).await {
            Ok(Some(refused)) if refused.code == Code::Outdated => return Ok(Some(refused)),
            Ok(Some(refused)) => bail!("the routers refused the act (EVENTS:{event}): {}", refused.sentence),
            Ok(None) if reached > event => return Ok(None),
            Err(error) if reached > event => {
                return Err(error)
                    .context("another act came after it, and whether this one was applied cannot be told");
            }
            _ if Instant::now() > deadline => bail!(
                "the act is on record (EVENTS:{event}) but no router applied it within {} s: does one run? Repeat the \
                 command when one does",
                APPLY.as_secs()
            ),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What the routers said of an act that they did not apply, where they did: a refusal, or the dead letter of what is no act.
pub(super) async fn refusal(bus: &Bus, event: u64) -> Result<Option<Refusal>> {
    let mut from = event + 1;
    while let Some(looked) = act::look(bus, EVENTS, REFUSED, from).await? {
        from = looked.sequence + 1;
        if let Ok(Control { act: Act::Refused { event: of, code }, reason: sentence, .. }) = read(&looked)
            && of == event
        {
            return Ok(Some(Refusal { code, sentence, letter: None }));
        }
    }
    let act = Position::new(EVENTS, event);
    let mut from = event + 1;
    while let Some(looked) = act::look(bus, EVENTS, "dead.router.*", from).await? {
        from = looked.sequence + 1;
        if let Ok(DeadLetter { message, code, sentence, .. }) = read(&looked)
            && message == act
        {
            let letter = Some(Position::new(EVENTS, looked.sequence));
            return Ok(Some(Refusal { code, sentence, letter }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_there_already_is_taken_only_with_the_same_settings() {
        let name = Name::new("crawler").unwrap();
        let (mut all, plain) = (BTreeMap::new(), Agent::default());
        enter(&mut all, &name, &plain, "agent").unwrap();
        assert_eq!(all.get(&name), Some(&plain));
        enter(&mut all, &name, &plain, "agent").unwrap();
        let other = Agent { team: Some(name.clone()), ..plain.clone() };
        let refused = enter(&mut all, &name, &other, "agent").unwrap_err().to_string();
        assert!(refused.contains("with other settings"), "{refused}");
        assert_eq!(all.get(&name), Some(&plain), "and nothing is changed");
    }

    #[test]
    fn a_reviewer_who_is_there_is_given_more_queues_and_keeps_those_that_there_are() {
        let name = |text: &str| Name::new(text).unwrap();
        let (mut all, rita) = (BTreeMap::new(), name("rita"));
        let mut give = |queues: &[&str]| {
            let queues: Vec<Name> = queues.iter().map(|queue| name(queue)).collect();
            give_queues(&mut all, &rita, &queues);
            let has: Vec<String> = all[&rita].queues.iter().map(ToString::to_string).collect();
            all.get_mut(&rita).unwrap().nkey = "key".to_owned();
            has
        };
        assert_eq!(give(&[]), ["default"]);
        assert_eq!(give(&["privacy"]), ["default", "privacy"]);
        assert_eq!(give(&[]), ["default", "privacy"]);
        assert_eq!(all[&rita].nkey, "key");
        let sam = name("sam");
        give_queues(&mut all, &sam, &[name("privacy")]);
        give_queues(&mut all, &sam, &[]);
        assert_eq!(
            all[&sam].queues,
            [name("privacy")].into(),
            "negative control: nothing that was not named"
        );
    }
}
