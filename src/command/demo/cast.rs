//! Who plays: an agent, a reviewer and an operator of the demo's cell, each connected as it would be.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tidegate_audit::RecordKind;
use tidegate_audit::read::Timeline;
use tidegate_bus::{Bus, CoreStream, Identity, Outbound};
use tidegate_policies::Bundle;
use tidegate_schemas::decision::{Considering, Decision};
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::result::TaskResult;
use uuid::Uuid;

use super::stage::Stage;
use crate::command::audit::timeline;
use crate::command::policy;
use crate::command::record::Record;
use crate::output;

/// How long a result may take.
pub(super) const RESULT: Duration = Duration::from_secs(60);
/// How long the record may take to hold what happened.
const RECORDED: Duration = Duration::from_secs(20);
/// Between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest piece of an answer that is shown, characters.
const SHOWN_MAX: usize = 160;

/// The demo's agent, reviewer and operator.
pub(super) struct Cast {
    pub(super) agent: Bus,
    pub(super) agent_name: Name,
    pub(super) reviewer: Bus,
    pub(super) reviewer_name: Name,
    pub(super) record: Record,
    bundle: Bundle,
}

/// A task whose result is waited for.
pub(super) struct Asked {
    pub(super) task: TaskId,
    replies: CoreStream,
}

impl Cast {
    pub(super) async fn call(stage: &Stage) -> Result<Self> {
        let cell = &stage.cell;
        let (agent_name, reviewer_name) = (Name::new("helpdesk")?, Name::new("alice")?);
        let identity = Identity::Agent { tenant: Name::new("acme")?, agent: agent_name.clone() };
        let bus = cell.connect(tidegate_bus::Role::Provisioner).await?;
        Ok(Self {
            agent: cell.connect(identity).await?,
            agent_name,
            reviewer: cell.connect(Identity::Reviewer(reviewer_name.clone())).await?,
            reviewer_name,
            record: Record::open(cell).await?,
            bundle: policy::active_bundle(&bus).await?,
        })
    }

    /// Submits a task as the agent.
    pub(super) async fn ask(&self, kind: &str, mut body: Value) -> Result<Asked> {
        let (task, token) = (TaskId(Uuid::now_v7()), Uuid::new_v4().simple().to_string());
        let fields = body.as_object_mut().context("a task is an object")?;
        fields.insert("id".into(), json!(task));
        fields.insert("reply".into(), json!(token));
        let replies = self.agent.subscribe_core(&format!("reply.{}.{token}", self.agent_name)).await?;
        let message = Outbound::new(format!("task.{}.{kind}", self.agent_name), serde_json::to_vec(&body)?)
            .with_id(task.to_string());
        self.agent.publish(message).await.context("submitting the task")?;
        Ok(Asked { task, replies })
    }

    /// The task's timeline once the record holds a record of this kind.
    pub(super) async fn recorded(&self, task: TaskId, kind: RecordKind) -> Result<Timeline> {
        let deadline = Instant::now() + RECORDED;
        loop {
            let timeline = self.record.task(None, task).await?.into_iter().next();
            if let Some(timeline) = timeline.filter(|t| t.records.iter().any(|r| r.leaf.kind == kind)) {
                return Ok(timeline);
            }
            if Instant::now() > deadline {
                bail!("task {task} is not in the record after {} s", RECORDED.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells a task's last decision and its reasons.
    pub(super) async fn tell(&self, task: TaskId, kind: RecordKind) -> Result<Decision> {
        let timeline = self.recorded(task, kind).await?;
        let mut last = None;
        for found in &timeline.records {
            last = timeline::decision(&self.record, found).await?.or(last);
        }
        let decision = last.context("the record holds no decision of the task")?;
        say("decided", &format!("{}: {}", decision.outcome.as_str(), decision.sentence));
        for policy in &decision.determining {
            let title =
                self.bundle.annotation(policy, "title").map(|title| format!(": {title}")).unwrap_or_default();
            say("policy", &format!("{policy}{title}"));
        }
        if !decision.findings.is_empty() {
            let found: Vec<String> =
                decision.findings.iter().map(|(name, count)| format!("{name} ×{count}")).collect();
            say("found", &found.join(", "));
        }
        let refused = |verdict| matches!(verdict, Considering::Forbidden | Considering::NotPermitted);
        for other in decision.considered.iter().filter(|other| refused(other.verdict)) {
            let why = if other.policies.is_empty() {
                "no policy permits it".into()
            } else {
                other.policies.join(", ")
            };
            say("not at", &format!("{}: {why}", other.destination));
        }
        if let Some(place) = &decision.destination {
            let stand_in = if place.target.as_str() == "standin" {
                "; a local model that stands in for a provider"
            } else {
                ""
            };
            say(
                "at",
                &format!(
                    "{} ({} lane, region {}, model {}{stand_in})",
                    place.name, place.lane, place.region, place.model
                ),
            );
        }
        Ok(decision)
    }
}

impl Asked {
    /// Waits for the result.
    pub(super) async fn result(&mut self) -> Result<TaskResult> {
        let reply = tokio::time::timeout(RESULT, self.replies.next()).await;
        let reply = reply
            .with_context(|| format!("no result of task {} within {} s", self.task, RESULT.as_secs()))?;
        let reply = reply.context("the connection closed")?;
        serde_json::from_slice(&reply.payload).context("reading the result")
    }
}

/// One line of a scene.
pub(super) fn say(what: &str, text: &str) {
    output::note(format!("   {what:<10} {}", output::visible(text)));
}

/// The beginning of an answer, on one line.
pub(super) fn short(text: &str) -> String {
    let line = text.replace('\n', " ");
    match line.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}
