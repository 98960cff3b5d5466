//! Feature flags: what an operator lets policies know about a task, for all or for a share of them. A bundle declares which flags
//! there are; a flag does nothing by itself.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::release::{SHARE_BP_MAX, ShareBy};

/// Most flags that a bundle declares, and that are on at the same time, count. Those that are on stand in each decision.
pub const FLAGS_MAX: usize = 32;
/// Most tenants that one flag treats apart, and that one act names, count.
pub const FLAG_TENANTS_MAX: usize = 256;

/// Flags by name; one that is on for nobody does not stand here.
pub type FlagSettings = BTreeMap<Name, FlagSetting>;

/// For which part of the tasks a flag is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Portion {
    /// The share, basis points: 0 to 10,000.
    pub share_bp: u16,
    /// What it is of. All tasks that it has in common have the flag, or none of them.
    pub by: ShareBy,
}

/// For whom a flag is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagSetting {
    /// Whoever is not named below.
    pub others: Portion,
    /// Tenants apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<Name, Portion>,
}

// === impl Portion ===

impl Portion {
    /// Nobody.
    pub const NONE: Self = Self { share_bp: 0, by: ShareBy::Workflow };
    /// Everybody.
    pub const ALL: Self = Self { share_bp: SHARE_BP_MAX, by: ShareBy::Workflow };
}

// === impl FlagSetting ===

impl FlagSetting {
    /// The part of a tenant's tasks for which it is on.
    #[must_use]
    pub fn of(&self, tenant: &Name) -> Portion {
        self.tenants.get(tenant).copied().unwrap_or(self.others)
    }

    /// What an act leaves of it: the last word about each tenant counts. An act that names none is about all, also about those
    /// that were named before. None where it is on for nobody then.
    #[must_use]
    pub fn changed(now: Option<&Self>, tenants: &BTreeSet<Name>, portion: Portion) -> Option<Self> {
        let mut next = match now {
            Some(now) if !tenants.is_empty() => now.clone(),
            _ if tenants.is_empty() => Self { others: portion, tenants: BTreeMap::new() },
            _ => Self { others: Portion::NONE, tenants: BTreeMap::new() },
        };
        next.tenants.extend(tenants.iter().map(|tenant| (tenant.clone(), portion)));
        let others = next.others;
        next.tenants.retain(|_, own| *own != others && (own.share_bp, others.share_bp) != (0, 0));
        (next.others.share_bp > 0 || !next.tenants.is_empty()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_last_word_about_a_tenant_counts() {
        let name = |text: &str| Name::new(text).unwrap();
        let names = |all: &[&str]| all.iter().map(|text| name(text)).collect::<BTreeSet<_>>();
        let portion = |share_bp| Portion { share_bp, by: ShareBy::Workflow };
        // Acts one after the other, and what acme, globex and others have then; none: the flag is on for nobody.
        type Act<'a> = (&'a [&'a str], u16);
        let rows: [(&[Act<'_>], Option<[u16; 3]>); 9] = [
            (&[(&[], 10_000)], Some([10_000, 10_000, 10_000])),
            (&[(&["acme"], 10_000)], Some([10_000, 0, 0])),
            (&[(&["acme"], 10_000), (&["acme"], 0)], None),
            (&[(&["acme"], 10_000), (&[], 0)], None),
            (&[(&[], 10_000), (&["acme"], 0)], Some([0, 10_000, 10_000])),
            (&[(&[], 2_000), (&["acme", "globex"], 500)], Some([500, 500, 2_000])),
            (&[(&["acme"], 500), (&[], 2_000)], Some([2_000, 2_000, 2_000])),
            (&[(&["acme"], 500), (&["globex"], 700)], Some([500, 700, 0])),
            (&[(&["acme"], 0)], None),
        ];
        for (acts, expected) in rows {
            let mut now = None;
            for (tenants, share) in acts {
                now = FlagSetting::changed(now.as_ref(), &names(tenants), portion(*share));
            }
            let shares = now
                .as_ref()
                .map(|now| ["acme", "globex", "zoo"].map(|tenant| now.of(&name(tenant)).share_bp));
            assert_eq!(shares, expected, "{acts:?}");
        }
        let same = FlagSetting::changed(
            FlagSetting::changed(None, &BTreeSet::new(), Portion::ALL).as_ref(),
            &names(&["acme"]),
            Portion::ALL,
        );
        assert!(same.unwrap().tenants.is_empty(), "who has what all have is not named");
    }
}
