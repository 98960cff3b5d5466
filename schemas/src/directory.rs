//! The directory: tenants, teams, agents, roles and quotas. Versions are immutable and named by hash; the hash is a fact of
//! every decision. What it does not know is refused.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::{Budget, Caps, Scope};
use crate::digest::Digest;
use crate::ids::Name;

/// Under this name the recorder acts, and what it says there is taken for its own: no operator can have it.
pub const RECORDER: &str = "recorder";
/// Names under which roles act.
const ROLES: [&str; 2] = [RECORDER, "router"];

/// Who there is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Version of this form; 1.
    pub schema_version: u32,
    /// Tenants by name.
    pub tenants: BTreeMap<Name, Tenant>,
    /// Reviewers by name, with the queues they decide.
    #[serde(default)]
    pub reviewers: BTreeMap<Name, Reviewer>,
    /// Operators by name.
    #[serde(default)]
    pub operators: BTreeSet<Name>,
    /// What may be used of each provider, over all tenants.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provider_budgets: BTreeMap<Name, Caps>,
}

/// Who owns tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Whom to ask.
    pub owner: String,
    /// Regions its data may be worked on in; empty means anywhere.
    #[serde(default)]
    pub residency: BTreeSet<Name>,
    /// Providers it allows; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<BTreeSet<Name>>,
    /// Its agents by name.
    #[serde(default)]
    pub agents: BTreeMap<Name, Agent>,
    /// Its support tools by name.
    #[serde(default)]
    pub tools: BTreeMap<Name, Tool>,
    /// What it may use.
    #[serde(default)]
    pub quota: Quota,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    /// Its roles.
    #[serde(default)]
    pub roles: BTreeSet<Name>,
    /// Its public nkey.
    #[serde(default)]
    pub nkey: String,
    /// What it may use of providers.
    #[serde(default, skip_serializing_if = "Caps::is_empty")]
    pub budgets: Caps,
}

/// Who reads results.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Whether it may read content, or headers only.
    #[serde(default)]
    pub content: bool,
    /// Its public nkey.
    #[serde(default)]
    pub nkey: String,
}

/// Who decides held tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reviewer {
    /// Queues that the reviewer decides.
    pub queues: BTreeSet<Name>,
    /// Public nkey.
    #[serde(default)]
    pub nkey: String,
}

/// What a tenant may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Tasks that wait or run at once, count.
    pub in_flight_max: u64,
    /// Size of its tasks stream, bytes.
    pub stream_bytes_max: u64,
    /// What its agents together may use of providers.
    #[serde(default, skip_serializing_if = "Caps::is_empty")]
    pub budgets: Caps,
}

impl Default for Quota {
    fn default() -> Self {
        Self { in_flight_max: 100_000, stream_bytes_max: 4 * 1024 * 1024 * 1024, budgets: Caps::new() }
    }
}

impl Directory {
    /// An empty directory.
    #[must_use]
    pub fn empty() -> Self {
        Self { schema_version: 1, ..Self::default() }
    }

    /// Its hash: SHA-256 of its JSON, whose maps are sorted.
    #[must_use]
    pub fn hash(&self) -> Digest {
        // Maps are ordered and all values are plain, so writing cannot fail and gives the same bytes each time.
        Digest::plain(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Operators who can act: a name that is a role's own gives nobody anything.
    pub fn acting(&self) -> impl Iterator<Item = &Name> {
        self.operators.iter().filter(|name| !ROLES.contains(&name.as_str()))
    }

    /// An operator who has the name under which the recorder or the routers act.
    #[must_use]
    pub fn named_as_a_role(&self) -> Option<&Name> {
        self.operators.iter().find(|name| ROLES.contains(&name.as_str()))
    }

    /// Every budget that there is.
    #[must_use]
    pub fn budgets(&self) -> Vec<Budget> {
        let tenants = self.tenants.iter().flat_map(|(tenant, settings)| {
            let agents = settings.agents.iter().map(|(agent, settings)| Budget {
                of: Scope::Agent { tenant: tenant.clone(), agent: agent.clone() },
                caps: settings.budgets.clone(),
            });
            let of = Scope::Tenant { tenant: tenant.clone() };
            std::iter::once(Budget { of, caps: settings.quota.budgets.clone() }).chain(agents)
        });
        let providers = self.provider_budgets.iter().map(|(provider, caps)| Budget {
            of: Scope::Provider { provider: provider.clone() },
            caps: caps.clone(),
        });
        tenants.chain(providers).filter(|budget| !budget.caps.is_empty()).collect()
    }

    /// The budgets that work of this agent counts in at this provider.
    #[must_use]
    pub fn budgets_at(&self, tenant: &Name, agent: &Name, provider: &Name) -> Vec<Budget> {
        let known = self.agent(tenant, agent);
        let all = [
            (Scope::Tenant { tenant: tenant.clone() }, known.map(|(settings, _)| &settings.quota.budgets)),
            (
                Scope::Agent { tenant: tenant.clone(), agent: agent.clone() },
                known.map(|(_, settings)| &settings.budgets),
            ),
            (Scope::Provider { provider: provider.clone() }, self.provider_budgets.get(provider)),
        ];
        let given =
            all.into_iter().filter_map(|(of, caps)| Some((of, caps.filter(|caps| !caps.is_empty())?)));
        given.map(|(of, caps)| Budget { of, caps: caps.clone() }).collect()
    }

    /// The agent and its tenant.
    #[must_use]
    pub fn agent(&self, tenant: &Name, agent: &Name) -> Option<(&Tenant, &Agent)> {
        let tenant = self.tenants.get(tenant)?;
        tenant.agents.get(agent).map(|agent| (tenant, agent))
    }
}
