//! Whoever talks to a cell: an agent of a tenant, an operator.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tidegate_bus::{Bus, BusConfig, CoreMessage, Identity, Outbound, Published};
use tidegate_schemas::control::{Control, REFUSED};
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::Name;
use tidegate_schemas::result::TaskResult;
use uuid::Uuid;

use crate::cell::TestCell;
use crate::wait::until;

/// How long something that is due may take.
const SOON: Duration = Duration::from_secs(30);

/// How long a result may take.
const RESULT: Duration = Duration::from_secs(60);
/// How long it may take until a task runs.
const RUNS: Duration = Duration::from_secs(30);

/// An agent of a tenant, connected as it would be: in its own account, under its own key.
pub struct Agent {
    bus: Bus,
    name: Name,
}

impl Agent {
    /// Connects.
    ///
    /// # Errors
    /// When the cell does not know it.
    pub async fn connect(cell: &TestCell, tenant: &str, agent: &str) -> Result<Self> {
        let (tenant, name) = (Name::new(tenant)?, Name::new(agent)?);
        let identity = Identity::Agent { tenant, agent: name.clone() };
        Ok(Self { bus: connect(cell, identity).await?, name })
    }

    /// The bus as this agent.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Publishes any bytes as a task.
    ///
    /// # Errors
    /// When the stream refuses them.
    pub async fn publish(
        &self,
        kind: &str,
        id: Option<&str>,
        headers: Headers,
        payload: Vec<u8>,
    ) -> Result<Published> {
        let mut message = Outbound::new(format!("task.{}.{kind}", self.name), payload).with_headers(headers);
        message.msg_id = id.map(str::to_owned);
        self.bus.publish(message).await.context("publishing a task")
    }

    /// Submits a task and waits for its result.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn ask(&self, kind: &str, body: Value) -> Result<TaskResult> {
        let mut body = body;
        let token = Uuid::new_v4().simple().to_string();
        let id =
            body.get("id").and_then(Value::as_str).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
        let fields = body.as_object_mut().context("a task is an object")?;
        fields.insert("id".into(), json!(id));
        fields.insert("reply".into(), json!(token));
        let mut replies = self.bus.subscribe_core(&format!("reply.{}.{token}", self.name)).await?;
        self.publish(kind, None, Headers::new(), serde_json::to_vec(&body)?).await?;
        let reply = tokio::time::timeout(RESULT, replies.next()).await;
        let reply: CoreMessage = reply.context("no result in time")?.context("the connection closed")?;
        serde_json::from_slice(&reply.payload).context("reading the result")
    }

    /// Submits a task that has an id, withdraws it once it runs, and waits for its result.
    ///
    /// # Errors
    /// When it does not run, or end, in time.
    pub async fn ask_and_withdraw(&self, cell: &TestCell, kind: &str, body: Value) -> Result<TaskResult> {
        let id = body.get("id").and_then(Value::as_str).context("a task with an id")?.to_owned();
        let withdraw = async {
            until("the task to run", RUNS, || async {
                let text = cell.tidegate(&["audit", "task", &id]).await?;
                Ok(text.contains("attempt").then_some(()))
            })
            .await?;
            cell.tidegate(&["task", "cancel", &id]).await
        };
        let (result, withdrawn) = tokio::join!(self.ask(kind, body), withdraw);
        withdrawn?;
        result
    }

    /// Publishes raw bytes with a reply token in the header, and waits for the result.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn ask_raw(&self, kind: &str, headers: Headers, payload: Vec<u8>) -> Result<TaskResult> {
        let token = Uuid::new_v4().simple().to_string();
        let mut replies = self.bus.subscribe_core(&format!("reply.{}.{token}", self.name)).await?;
        let headers = headers.with(tidegate_schemas::header::REPLY, token);
        self.publish(kind, None, headers, payload).await?;
        let reply = tokio::time::timeout(RESULT, replies.next()).await;
        let reply: CoreMessage = reply.context("no result in time")?.context("the connection closed")?;
        serde_json::from_slice(&reply.payload).context("reading the result")
    }
}

/// The cell's own eyes: the provisioner, who may read every stream.
pub struct Operator {
    bus: Bus,
}

impl Operator {
    /// Connects.
    ///
    /// # Errors
    /// When the cell has no such identity.
    pub async fn connect(cell: &TestCell) -> Result<Self> {
        let bus = connect(cell, tidegate_bus::Role::Provisioner.into()).await?;
        Ok(Self { bus })
    }

    /// The bus as this operator.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// What the routers say of an act that they refuse, once they have.
    ///
    /// # Errors
    /// When they say nothing in time.
    pub async fn refusal_of(&self, event: u64) -> Result<Control> {
        let about = format!("EVENTS:{event}");
        let answer = until("the refusal", SOON, || async {
            let answer = self.bus.first_from("EVENTS", REFUSED, event).await?;
            Ok(answer.filter(|answer| answer.header("tidegate-cause") == Some(&about)))
        })
        .await?;
        serde_json::from_slice(&answer.payload).context("reading the refusal")
    }

    /// All messages of a stream, by sequence.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub async fn messages(&self, stream: &str) -> Result<BTreeMap<u64, tidegate_bus::Stored>> {
        let state = self.bus.stream_info(stream).await?;
        let mut messages = BTreeMap::new();
        for sequence in state.first..=state.last {
            if let Some(stored) = self.bus.get(stream, sequence).await? {
                messages.insert(sequence, stored);
            }
        }
        Ok(messages)
    }
}

/// Connects as an identity of the cell.
///
/// # Errors
/// When its seed or the server is not there.
pub async fn connect(cell: &TestCell, identity: Identity) -> Result<Bus> {
    let seed = cell.path().join("identities").join(identity.seed_file_name());
    let mut config = BusConfig::new(cell.url()?, identity, Some(seed));
    config.ca_file = cell.ca_file()?;
    Bus::connect(config).await.context("connecting")
}
