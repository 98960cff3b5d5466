//! Budgets: what a tenant, an agent or a provider may use in a window of time, and the ledger that counts it.
//!
//! Limits stand in the directory. What was used is counted in a [`ledger::Ledger`] of each, in bucket [`BUDGETS_BUCKET`]: what an
//! attempt may use at most is reserved before its first byte leaves, and settled by what it did use.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Name;

pub mod ledger;

/// The bucket of ledgers.
pub const BUDGETS_BUCKET: &str = "budgets";

/// A length of time that limits count in; aligned to UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// From second 0.
    Minute,
    /// From minute 0.
    Hour,
    /// From midnight, UTC.
    Day,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests to providers.
    Requests,
    /// Tokens read and written.
    Tokens,
    /// Millionths of a US dollar.
    UsdMicros,
}

/// The most of each in one window; absent: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// Requests to providers, count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Tokens read and written, count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_micros: Option<u64>,
}

/// Limits by window.
pub type Caps = BTreeMap<Window, Cap>;

/// How much of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amounts {
    /// Requests to providers, count.
    pub requests: u64,
    /// Tokens read and written, count.
    pub tokens: u64,
    /// Millionths of a US dollar.
    pub usd_micros: u64,
}

/// Whose budget it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "scope")]
pub enum Scope {
    /// A tenant's, over all its agents.
    Tenant {
        /// The tenant.
        tenant: Name,
    },
    /// One agent's.
    Agent {
        /// Its tenant.
        tenant: Name,
        /// The agent.
        agent: Name,
    },
    /// The cell's at one provider, over all tenants.
    Provider {
        /// The provider.
        provider: Name,
    },
}

/// A budget: whose, and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Whose.
    pub of: Scope,
    /// Its limits.
    pub caps: Caps,
}

/// A budget that leaves no room, until its window ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Spent {
    /// Whose.
    pub of: Scope,
    /// In which window.
    pub window: Window,
    /// Of what.
    pub unit: Unit,
    /// When the window ends.
    pub until: Timestamp,
    /// Whether what was asked for is more than the whole limit, so that no window has room for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never: bool,
}

// === impl Window ===

impl Window {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Its length, seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// When the window began that this moment lies in.
    #[must_use]
    pub fn start(self, at: Timestamp) -> Timestamp {
        let second = at.as_second();
        Timestamp::from_second(second - second.rem_euclid(self.seconds())).unwrap_or(Timestamp::MIN)
    }

    /// When the window ends that began then.
    #[must_use]
    pub fn end(self, start: Timestamp) -> Timestamp {
        Timestamp::from_second(start.as_second().saturating_add(self.seconds())).unwrap_or(Timestamp::MAX)
    }

    /// The window as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

// === impl Unit ===

impl Unit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::UsdMicros];

    /// The unit as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::UsdMicros => "usd_micros",
        }
    }
}

// === impl Cap ===

impl Cap {
    /// The most of this.
    #[must_use]
    pub fn of(&self, unit: Unit) -> Option<u64> {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
            Unit::UsdMicros => self.usd_micros,
        }
    }

    /// Whether it limits nothing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Amounts ===

impl Amounts {
    /// How much of this.
    #[must_use]
    pub fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
            Unit::UsdMicros => self.usd_micros,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            tokens: self.tokens.saturating_add(other.tokens),
            usd_micros: self.usd_micros.saturating_add(other.usd_micros),
        }
    }
}

// === impl Scope ===

impl Scope {
    /// Key of its ledger in [`BUDGETS_BUCKET`].
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Tenant { tenant } => format!("tenant.{tenant}"),
            Self::Agent { tenant, agent } => format!("agent.{tenant}.{agent}"),
            Self::Provider { provider } => format!("provider.{provider}"),
        }
    }

    /// The kind of scope as a word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Tenant { .. } => "tenant",
            Self::Agent { .. } => "agent",
            Self::Provider { .. } => "provider",
        }
    }

    /// Whether work of this agent at this provider is counted in it.
    #[must_use]
    pub fn covers(&self, tenant: &Name, agent: &Name, provider: &Name) -> bool {
        match self {
            Self::Tenant { tenant: of } => of == tenant,
            Self::Agent { tenant: of, agent: who } => of == tenant && who == agent,
            Self::Provider { provider: of } => of == provider,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant { tenant } => write!(f, "tenant `{tenant}`"),
            Self::Agent { tenant, agent } => write!(f, "agent `{agent}` of tenant `{tenant}`"),
            Self::Provider { provider } => write!(f, "provider `{provider}`"),
        }
    }
}

// === impl Spent ===

impl Spent {
    /// Whether waiting helps against none of these: one limit that is too small counts at all providers, or each is too small.
    #[must_use]
    pub fn last_for_ever(all: &[Self]) -> bool {
        let anywhere = |spent: &Self| spent.never && !matches!(spent.of, Scope::Provider { .. });
        all.iter().any(anywhere) || (!all.is_empty() && all.iter().all(|spent| spent.never))
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, window) = (self.unit.as_str(), self.window.as_str());
        match (self.never, self.unit) {
            (false, _) => write!(f, "{unit} a {window} of {} until {}", self.of, self.until),
            (true, Unit::UsdMicros) => {
                write!(
                    f,
                    "{unit} a {window} of {}, less than it may cost, or its price is not known",
                    self.of
                )
            }
            (true, _) => write!(f, "{unit} a {window} of {}, less than it may use", self.of),
        }
    }
}
