//! Who there is in a generated world: tenants with and without residency, providers and contracts; agents with and without
//! roles; and the names of those who are nobody.

use std::collections::BTreeMap;

use crate::dice::Dice;
use crate::scene::{Tenant, World};
use crate::words::Set;

/// Tenants that there always are.
pub(crate) const TENANTS: [&str; 8] =
    ["alps", "bank", "bank-eu", "clinic", "demo", "press", "small", "union"];
/// Agents, each with the role that it always has.
pub(crate) const AGENTS: [(&str, &[&str]); 8] = [
    ("assistant", &[]),
    ("counsel", &["confidential-cloud"]),
    ("freelancer", &["contractor"]),
    ("homebody", &["local-only"]),
    ("liaison", &["redacted-cloud"]),
    ("scraper", &[]),
    ("suspect", &["suspended"]),
    ("toolsmith", &["tools"]),
];
/// Names that look like theirs.
pub(crate) const ALIKE_TENANTS: [&str; 6] = ["b-ank", "bank-", "bank_", "bank_eu", "clinic2", "pre-ss"];
pub(crate) const ALIKE_AGENTS: [&str; 6] =
    ["a-ssistant", "assistant-", "assistant_", "home-body", "scraper2", "tool-smith"];

const ROLES: [&str; 11] = [
    "auditor",
    "confidential-cloud",
    "contractor",
    "local-only",
    "local_only",
    "redacted-cloud",
    "redacted_cloud",
    "suspended",
    "suspended-",
    "tool",
    "tools",
];
const REGIONS: [&str; 12] =
    ["adequate", "atlantis", "ch", "de", "eu", "eu", "eu-", "europe", "nowhere", "us", "us-east", "world"];
const PROVIDERS: [&str; 7] =
    ["acme", "anthropic", "anthropic", "community", "openai", "openai-", "openai-eu"];

/// A world.
pub(crate) fn world(dice: &mut Dice) -> World {
    TENANTS.into_iter().map(|name| (name, tenant(dice, name))).collect()
}

fn tenant(dice: &mut Dice, name: &str) -> Tenant {
    let residency = match name {
        "alps" | "union" => dice.some(&REGIONS, 3),
        "bank-eu" if dice.once_in(2) => dice.some(&REGIONS, 2),
        _ => Set::new(),
    };
    let providers = match name {
        "small" if dice.once_in(4) => Some(Set::new()),
        "small" => Some(dice.some(&PROVIDERS, 3)),
        "bank-eu" if dice.once_in(2) => Some(dice.some(&PROVIDERS, 3)),
        _ => None,
    };
    let in_flight_max = if name == "small" { 2 } else { 100 };
    Tenant { residency, providers, in_flight_max, agents: agents(dice, name) }
}

fn agents(dice: &mut Dice, tenant: &str) -> BTreeMap<&'static str, Set> {
    let mut agents = BTreeMap::new();
    for (name, own) in AGENTS {
        let always = name == "assistant" || tenant == "demo" || (tenant, name) == ("press", "scraper");
        if !always && dice.once_in(4) {
            continue;
        }
        let mut roles: Set = own.iter().copied().collect();
        if dice.once_in(4) {
            roles.insert(dice.pick(&ROLES));
        }
        agents.insert(name, roles);
    }
    agents
}
