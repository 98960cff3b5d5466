//! Giving a message up: the dead letter, and the failed result where the task can be told, are durable before the message is
//! acknowledged for good.

use bytes::Bytes;
use jiff::Timestamp;
use tidegate_schemas::code::Code;
use tidegate_schemas::dead::{DeadLetter, TENANT_UNKNOWN};
use tidegate_schemas::decision::Owners;
use tidegate_schemas::header::{CAUSE, CODE, Headers};
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::subject::{Subject, tenant_of_stream};

use crate::api::encode;
use crate::bus::Bus;
use crate::error::PublishError;
use crate::identity::Role;
use crate::message::{Inbound, Outbound};

/// Why a message is given up, and what is published along with its dead letter.
#[derive(Debug, Clone)]
pub struct Dead {
    /// Stable code.
    pub code: Code,
    /// One sentence that quotes nothing of the message.
    pub sentence: String,
    /// The task, where it can be told.
    pub task: Option<TaskId>,
    /// Whom to ask: owners of bundle, policies, destination and model involved.
    pub owners: Owners,
    /// Published after the dead letter and before the message is let go: the failed result.
    pub results: Vec<Outbound>,
    /// Told once the results are durable, where it is they that ended the task; nobody waits for it.
    pub tell: Vec<Telling>,
    /// Position and subject of the message that the letter is about, where that is an earlier one which the message in
    /// hand had taken up again.
    pub about: Option<(Position, String)>,
}

/// A message on core NATS, to whoever listens.
#[derive(Debug, Clone, PartialEq)]
pub struct Telling {
    /// Where to.
    pub subject: String,
    /// Headers.
    pub headers: Headers,
    /// Payload.
    pub payload: Bytes,
}

impl Dead {
    /// A message given up for this reason.
    #[must_use]
    pub fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self {
            code,
            sentence: sentence.into(),
            task: None,
            owners: Owners::default(),
            results: Vec::new(),
            tell: Vec::new(),
            about: None,
        }
    }

    /// The same, with the task and its failed result.
    #[must_use]
    pub fn with_result(mut self, task: TaskId, result: Outbound) -> Self {
        self.task = Some(task);
        self.results.push(result);
        self
    }
}

/// Publishes the dead letter and what goes with it. Running it again publishes nothing twice.
pub(crate) async fn publish(
    bus: &Bus,
    role: Role,
    message: &Inbound,
    dead: Dead,
) -> Result<(), PublishError> {
    let (position, subject) = dead.about.unwrap_or_else(|| (message.position(), message.subject.clone()));
    let parsed = Subject::parse(&subject).ok();
    // Who may publish into a tenant's stream is of that tenant, whatever the rest of the subject says.
    let tenant =
        parsed.as_ref().and_then(Subject::tenant).cloned().or_else(|| tenant_of_stream(&position.stream));
    let tenant = tenant.as_ref().map_or(TENANT_UNKNOWN, Name::as_str).to_owned();
    let Ok(role) = Name::new(role.as_str()) else {
        return Err(PublishError::BadSubject { subject: format!("dead.{role}") });
    };
    let letter = DeadLetter {
        schema_version: 1,
        message: position,
        subject,
        role: role.clone(),
        consumer: message.consumer.clone(),
        code: dead.code,
        sentence: dead.sentence,
        delivered: message.delivered,
        at: Timestamp::now(),
        task: dead.task,
        owners: dead.owners,
    };
    let headers = Headers::new().with(CAUSE, message.position().to_string()).with(CODE, dead.code.as_str());
    let outbound = Outbound::new(format!("dead.{role}.{tenant}"), encode(&letter))
        .with_id(format!("dead/{role}/{}", message.position()))
        .with_headers(headers);
    bus.publish(outbound).await?;
    metrics::counter!(
        tidegate_schemas::metric::DEAD_LETTERS, "role" => role.to_string(), "code" => dead.code.as_str()
    )
    .increment(1);
    let mut tell = dead.tell;
    for result in dead.results {
        match bus.publish(result).await {
            Ok(_) => {}
            // Somebody else ended the task, and told so: it has its one result.
            Err(PublishError::Refused { .. }) => tell.clear(),
            Err(error) => return Err(error),
        }
    }
    for Telling { subject, headers, payload } in tell {
        if let Err(error) = bus.publish_core(&subject, &headers, payload).await {
            tracing::debug!(%error, "An end was not told.");
        }
    }
    Ok(())
}
