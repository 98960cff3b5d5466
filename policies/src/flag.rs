//! Feature flags: which of them are on for a task, and which a bundle knows.

use std::collections::BTreeSet;

use tidegate_schemas::flag::{FlagSettings, Portion};
use tidegate_schemas::ids::Name;
use tidegate_schemas::task::Task;

use crate::release::{Draw, drawn};

/// The flags that are on for a task. A function of settings and task alone: at every router, at every step of the task. Who has a
/// flag at a small share has it at every larger one; flags are drawn apart, so that not the same ones are first each time.
#[must_use]
pub fn on(settings: &FlagSettings, task: &Task) -> BTreeSet<Name> {
    let is_on = |flag: &Name, portion: Portion| {
        let lot = format!("flag {flag}");
        drawn(&Draw { lot: &lot, by: portion.by, share_bp: portion.share_bp }, task)
    };
    let all = settings.iter();
    all.filter(|(flag, setting)| is_on(flag, setting.of(&task.tenant)))
        .map(|(flag, _)| flag.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use tidegate_schemas::flag::FlagSetting;
    use tidegate_schemas::release::ShareBy;

    use super::*;
    use crate::cases::Case;
    use serde_json::json;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn task(tenant: &str, workflow: u32) -> Task {
        let case = json!({ "name": "n", "agent": "a", "tenant": tenant, "labels": { "sensitivity": "public" },
                           "expect": { "outcome": "local" } });
        let case: Case = serde_json::from_value(case).unwrap();
        let (mut task, _) = case.request(&tidegate_schemas::directory::Directory::empty()).unwrap();
        task.workflow = Some(serde_json::from_value(json!(format!("flow-{workflow}"))).unwrap());
        task
    }

    fn at(share_bp: u16, by: ShareBy) -> FlagSetting {
        FlagSetting { others: Portion { share_bp, by }, tenants: BTreeMap::new() }
    }

    fn those(flag: &str, setting: &FlagSetting) -> BTreeSet<u32> {
        let settings: FlagSettings = [(name(flag), setting.clone())].into();
        (0..2_000).filter(|n| !on(&settings, &task("acme", *n)).is_empty()).collect()
    }

    #[test]
    fn who_has_a_flag_at_a_share_has_it_at_every_larger_one_and_flags_are_drawn_apart() {
        let few = those("one", &at(500, ShareBy::Workflow));
        let many = those("one", &at(5_000, ShareBy::Workflow));
        assert!((60..=140).contains(&few.len()) && (900..=1_100).contains(&many.len()), "{}", few.len());
        assert!(few.is_subset(&many));
        assert_eq!(few, those("one", &at(500, ShareBy::Workflow)), "each time");
        let other = those("two", &at(500, ShareBy::Workflow));
        assert!(few.intersection(&other).count() * 4 < few.len(), "negative control: another flag");
        assert_eq!(those("one", &at(10_000, ShareBy::Workflow)).len(), 2_000);
        assert!(those("one", &at(0, ShareBy::Workflow)).is_empty());
        // All of a tenant, or none of it.
        assert!([0, 2_000].contains(&those("one", &at(5_000, ShareBy::Tenant)).len()));
    }

    #[test]
    fn a_tenant_that_is_named_has_its_own_share() {
        let tenants = [(name("acme"), Portion::ALL), (name("globex"), Portion::NONE)].into();
        let settings: FlagSettings = [
            (name("f"), FlagSetting { tenants, ..at(10_000, ShareBy::Workflow) }),
            (name("g"), at(0, ShareBy::Tenant)),
        ]
        .into();
        for (tenant, flags) in [("acme", 1), ("globex", 0), ("zoo", 1)] {
            assert_eq!(on(&settings, &task(tenant, 1)).len(), flags, "{tenant}");
        }
    }
}
