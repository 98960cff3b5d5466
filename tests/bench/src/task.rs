//! The task that is measured: a public question of a given size, which leaves for the cloud by the default bundle, so that
//! every part of the road has its work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use ed25519_dalek::SigningKey;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::decision::{Decision, Facts, Outcome};
use tidegate_schemas::digest::Salt;
use tidegate_schemas::directory::{Agent, Directory, Tenant};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::render::{Protocol, Rendered, render};
use tidegate_schemas::task::{Message, Task};
use tidegate_schemas::ticket::{Claims, Signer};
use uuid::Uuid;

/// Who owns the tasks.
pub(crate) const TENANT: &str = "bench";
/// Who submits them.
pub(crate) const AGENT: &str = "bot";
/// Agents beside the one that asks.
const OTHERS: usize = 1_000;
/// Prose in which the recognisers find nothing.
const PROSE: &str =
    "The tide rose over the harbour wall, and the boats left for the open sea while the town was asleep. ";

/// One task with everything that its parts take.
pub(crate) struct Sample {
    pub(crate) judge: Judge,
    pub(crate) directory: Directory,
    pub(crate) payload: String,
    pub(crate) task: Task,
    pub(crate) facts: Facts,
    pub(crate) claims: Claims,
    pub(crate) signer: Signer,
}

/// The payload of a task, of exactly so many bytes.
pub(crate) fn payload(id: Uuid, bytes: usize) -> Result<String> {
    let body = |text: &str| {
        json!({
            "id": id, "labels": { "sensitivity": "public" }, "limits": { "deadline_ms": 3_600_000 },
            "input": { "messages": [{ "role": "user", "content": text }] },
        })
        .to_string()
    };
    let room = bytes.checked_sub(body("").len()).context("a task of so few bytes has no room for a text")?;
    Ok(body(&prose(room)))
}

/// So many bytes of prose.
pub(crate) fn prose(bytes: usize) -> String {
    PROSE.chars().cycle().take(bytes).collect()
}

/// Who there is: one agent.
pub(crate) fn directory() -> Result<Directory> {
    crowd(0)
}

/// The same among so many others.
fn crowd(others: usize) -> Result<Directory> {
    let mut directory = Directory::empty();
    let mut agents: BTreeMap<Name, Agent> = [(Name::new(AGENT)?, Agent::default())].into();
    for at in 0..others {
        agents.insert(Name::new(format!("other-{at}"))?, Agent::default());
    }
    let mut tenant = Tenant { owner: "bench@example.com".to_owned(), agents, ..Tenant::default() };
    tenant.quota.in_flight_max = u64::MAX;
    directory.tenants.insert(Name::new(TENANT)?, tenant);
    Ok(directory)
}

/// The default bundle.
pub(crate) fn bundle() -> Result<Arc<Bundle>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/bundles/default");
    Ok(Arc::new(Bundle::from_dir(&dir)?))
}

/// The default bundle with so many rules of other tenants besides.
pub(crate) fn bundle_with_links(links: usize) -> Result<Arc<Bundle>> {
    bundle_that_keeps((0..links).map(|at| format!("t{at}")))
}

/// The default bundle by which the work of these tenants stays local.
pub(crate) fn bundle_that_keeps(tenants: impl Iterator<Item = String>) -> Result<Arc<Bundle>> {
    let mut archive: Value = serde_json::from_str(bundle()?.archive())?;
    let more = archive.get_mut("links").and_then(Value::as_array_mut).context("a bundle without links")?;
    more.extend(tenants.map(|tenant| {
        json!({ "id": format!("more-{tenant}"), "template": "tenant-local-only",
            "principal": format!("Tenant::\"{tenant}\""), "owner": "o" })
    }));
    Ok(Arc::new(Bundle::from_archive(&archive.to_string())?))
}

// === impl Sample ===

impl Sample {
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let (judge, directory) = (Judge::new(bundle()?)?, crowd(OTHERS)?);
        let payload = payload(Uuid::now_v7(), bytes)?;
        let task = read(&payload, 1)?;
        let facts = Facts {
            decision_id: Uuid::now_v7(),
            now: Timestamp::now(),
            directory: directory.hash(),
            hop: 0,
            lane_max: None,
            tried: Default::default(),
            off: Vec::new(),
            flags: Default::default(),
            flags_revision: 0,
            release_revision: 0,
            inherited: None,
            approval: None,
            model_scan: Default::default(),
            wait_ms: Default::default(),
            tenant_in_flight: 0,
            egress_ready: true,
            session: None,
            spent: Vec::new(),
            broken: Vec::new(),
            redaction: None,
        };
        let decision = judge.decide(&task, &directory, &facts);
        ensure!(decision.outcome == Outcome::Cloud, "the sample does not leave: {}", decision.sentence);
        let claims = claims(&task, &decision, &rendered(&task)?)?;
        let signer = Signer::new("bench", key());
        Ok(Self { judge, directory, payload, task, facts, claims, signer })
    }

    pub(crate) fn read(&self) -> Result<Task> {
        read(&self.payload, 1)
    }

    pub(crate) fn decide(&self) -> Decision {
        self.judge.decide(&self.task, &self.directory, &self.facts)
    }
}

/// The key that tickets are signed with here.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn rendered(task: &Task) -> Result<Rendered> {
    render(Protocol::OpenaiChat, "gpt-4o-mini", &task.input).map_err(|refused| anyhow!(refused.sentence))
}

/// The task of a payload that stands there in its tenant's stream.
pub(crate) fn read(payload: &str, sequence: u64) -> Result<Task> {
    let read = Task::read(&Message {
        tenant: &Name::new(TENANT)?,
        agent: &Name::new(AGENT)?,
        kind: "chat",
        headers: &Headers::new(),
        payload: payload.as_bytes(),
        position: &Position::new(format!("TASKS_{TENANT}"), sequence),
        submitted: Timestamp::now(),
    });
    read.map_err(|rejected| anyhow!(rejected.refused.sentence))
}

fn claims(task: &Task, decision: &Decision, rendered: &Rendered) -> Result<Claims> {
    let destination = decision.destination.as_ref().context("a decision without a destination")?;
    Ok(Claims {
        version: 1,
        id: Uuid::now_v7(),
        audience: "bench".to_owned(),
        tenant: task.tenant.clone(),
        agent: task.agent.clone(),
        task: task.id,
        decision: decision.id,
        bundle: decision.bundle,
        directory: decision.facts.directory,
        content: Salt::new([1; 32]).digest(&rendered.bytes),
        content_bytes: rendered.bytes.len() as u64,
        provider: destination.target.clone(),
        model: destination.model.clone(),
        region: destination.region.clone(),
        base_url: destination.target.clone(),
        attempts_max: 3,
        output_tokens_max: rendered.output_tokens_max,
        cost_usd_micros_max: Some(200_000),
        not_before: decision.facts.now,
        expires: decision.facts.now + SignedDuration::from_secs(120),
        deadline: task.limits.deadline,
    })
}
