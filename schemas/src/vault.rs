//! What the vault is asked: tokens for values, and values for tokens. Request and reply within the local zone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Identifier, Name, Position, TaskId};
use crate::redact::Token;
use crate::sensitive::Sensitive;
use crate::task::Task;

/// Asks for tokens: an [`Issue`], answered with an [`Issued`].
pub const ISSUE: &str = "vault.issue";
/// Asks for values: a [`Resolve`], answered with a [`Resolved`].
pub const RESOLVE: &str = "vault.resolve";
/// All that the vault is asked.
pub const ALL: &str = "vault.*";
/// The pool whose work is to redact.
pub const REDACT_POOL: &str = "redact";
/// The pool whose work is to restore.
pub const RESTORE_POOL: &str = "restore";

/// Values of one request, count.
pub const VALUES_MAX: usize = 1_024;
/// One value, bytes.
pub const VALUE_BYTES_MAX: usize = 4_096;
/// One request or answer, bytes.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// How long an answer may take, milliseconds; without one nothing leaves.
pub const ANSWER_MS_MAX: u64 = 2_000;

/// Within what a token stands for its value: an agent's session where the task names one, else the task alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scope {
    /// Whose it is.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Identifier>,
    /// The task.
    pub task: TaskId,
}

impl Scope {
    /// A task's.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let (tenant, agent) = (task.tenant.clone(), task.agent.clone());
        Self { tenant, agent, session: task.session.clone(), task: task.id }
    }

    /// Its name. Lengths stand in it, so that no two scopes share one.
    #[must_use]
    pub fn key(&self) -> String {
        let (tenant, agent) = (self.tenant.as_str(), self.agent.as_str());
        match &self.session {
            Some(session) => format!("{tenant}/{agent}/session/{}/{session}", session.as_str().len()),
            None => format!("{tenant}/{agent}/task/{}", self.task),
        }
    }
}

/// A value that is to have a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Secret {
    /// What it is: the finding.
    pub entity: Name,
    /// The value.
    pub value: Sensitive<String>,
}

/// Asks for tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issue {
    /// Within what they stand.
    pub scope: Scope,
    /// Where the task's message stands: what erases that erases the values.
    pub task: Position,
    /// The values.
    pub values: Vec<Secret>,
}

/// Tokens, one a value, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Issued {
    /// The tokens.
    pub tokens: Vec<Token>,
}

/// Asks for values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// Within what they were issued.
    pub scope: Scope,
    /// The tokens.
    pub tokens: Vec<Token>,
}

/// Values, one a token, in order; none where it was not issued there, has expired or was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolved {
    /// The values.
    pub values: Vec<Option<Sensitive<String>>>,
}
