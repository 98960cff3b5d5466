//! Who connects: each identity has its own nkey, account, allow-list and private inbox.

use std::fmt;
use std::str::FromStr;

use tidegate_schemas::ids::{BadId, Name};

/// A role of the cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Creates streams, consumers and buckets; nothing else may.
    Provisioner,
    /// Judges tasks and publishes work.
    Router,
    /// Keeps the record.
    Recorder,
    /// Runs models inside the boundary.
    Local,
    /// Calls providers.
    Cloud,
    /// Keeps redacted values.
    Vault,
    /// Serves the HTTP doors.
    Gateway,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 7] = [
        Self::Provisioner,
        Self::Router,
        Self::Recorder,
        Self::Local,
        Self::Cloud,
        Self::Vault,
        Self::Gateway,
    ];

    /// The role as one token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioner => "provisioner",
            Self::Router => "router",
            Self::Recorder => "recorder",
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Vault => "vault",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(BadId {
            what: "a role",
            rule: "provisioner, router, recorder, local, cloud, vault or gateway",
        })
    }
}

/// Who connects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A role of the cell.
    Role(Role),
    /// An agent of a tenant: publishes its tasks, reads its results.
    Agent {
        /// Its tenant.
        tenant: Name,
        /// Its name.
        agent: Name,
    },
    /// A support tool of a tenant: reads the tenant's results by a durable of its own.
    Tool {
        /// Its tenant.
        tenant: Name,
        /// Its name.
        tool: Name,
    },
    /// A person or script that operates the cell.
    Operator(Name),
    /// A person who decides held tasks.
    Reviewer(Name),
}

impl Identity {
    /// Prefix of its private inbox. No other identity of its account may subscribe below it.
    #[must_use]
    pub fn inbox_prefix(&self) -> String {
        match self {
            Self::Role(role) => format!("_INBOX.{role}"),
            Self::Agent { agent, .. } => format!("_INBOX.agent.{agent}"),
            Self::Tool { tool, .. } => format!("_INBOX.tool.{tool}"),
            Self::Operator(name) => format!("_INBOX.operator.{name}"),
            Self::Reviewer(name) => format!("_INBOX.reviewer.{name}"),
        }
    }

    /// Name of its seed file in a directory of identities, for example `agent.acme.helpdesk.nk`.
    #[must_use]
    pub fn seed_file_name(&self) -> String {
        format!("{self}.nk")
    }

    /// The role, where it is one.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Role(role) => Some(*role),
            _ => None,
        }
    }
}

impl From<Role> for Identity {
    fn from(role: Role) -> Self {
        Self::Role(role)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => write!(f, "role.{role}"),
            Self::Agent { tenant, agent } => write!(f, "agent.{tenant}.{agent}"),
            Self::Tool { tenant, tool } => write!(f, "tool.{tenant}.{tool}"),
            Self::Operator(name) => write!(f, "operator.{name}"),
            Self::Reviewer(name) => write!(f, "reviewer.{name}"),
        }
    }
}
