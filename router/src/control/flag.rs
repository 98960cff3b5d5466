//! Acts on topic `flag`, applied. Flags stand in one value with the switches: it remembers the act behind it and never moves back.

use std::collections::BTreeSet;

use tidegate_bus::Bus;
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::control::{FLAGS_BUCKET, FLAGS_KEY, Flags};
use tidegate_schemas::flag::{FLAG_TENANTS_MAX, FLAGS_MAX, FlagSetting, FlagSettings, Portion};
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::{Candidates, SHARE_BP_MAX};

use super::{ControlError, moved, standing};
use crate::knowledge::{self, KnowledgeError};

/// Says for whom a flag is on: one that may be set, or of which the released bundles are to be asked.
pub(super) async fn apply(
    bus: &Bus,
    event: u64,
    (flag, may_be_set): (&Name, bool),
    tenants: &BTreeSet<Name>,
    portion: Portion,
) -> Result<(), ControlError> {
    within_limits(tenants, portion)?;
    // A bundle that was released a moment ago may not be ready here.
    let is_known = may_be_set || is_declared(bus, flag).await?;
    moved(bus, FLAGS_BUCKET, FLAGS_KEY, |now| {
        let now = standing(now);
        if now.event >= event {
            return Ok(None);
        }
        if !is_known {
            let sentence = "no bundle that is released declares this flag; `tidegate flag list` shows those that are, and one that declares it can be applied or shadowed first";
            return Err(Refused::new(Code::InvalidField, sentence).into());
        }
        let flags = changed(&now.flags, flag, tenants, portion)?;
        Ok(Some(Flags { event, flags, ..now }))
    })
    .await
}

fn within_limits(tenants: &BTreeSet<Name>, portion: Portion) -> Result<(), Refused> {
    if portion.share_bp > SHARE_BP_MAX {
        return Err(Refused::new(Code::InvalidField, "a share is 0 to 10,000 basis points"));
    }
    if tenants.len() > FLAG_TENANTS_MAX {
        let sentence = format!("an act names at most {FLAG_TENANTS_MAX} tenants; name none to mean all");
        return Err(Refused::new(Code::InvalidField, sentence));
    }
    Ok(())
}

/// The flags as an act leaves them.
fn changed(
    now: &FlagSettings,
    flag: &Name,
    tenants: &BTreeSet<Name>,
    portion: Portion,
) -> Result<FlagSettings, Refused> {
    let mut next = now.clone();
    match FlagSetting::changed(now.get(flag), tenants, portion) {
        Some(setting) if setting.tenants.len() > FLAG_TENANTS_MAX => {
            let sentence = format!(
                "a flag treats at most {FLAG_TENANTS_MAX} tenants apart; say it for all, or take some back first"
            );
            return Err(Refused::new(Code::InvalidField, sentence));
        }
        Some(setting) => drop(next.insert(flag.clone(), setting)),
        None => drop(next.remove(flag)),
    }
    if next.len() > FLAGS_MAX {
        let sentence = format!("at most {FLAGS_MAX} flags are on at once; switch one off first");
        return Err(Refused::new(Code::InvalidField, sentence));
    }
    Ok(next)
}

/// Whether a bundle that is released declares the flag: the active one, the canary or the shadow.
async fn is_declared(bus: &Bus, flag: &Name) -> Result<bool, ControlError> {
    let Some(now) = knowledge::in_force(bus).await? else { return Ok(false) };
    let Candidates { active, canary, shadow, .. } = now;
    let all = [Some(active), canary.map(|canary| canary.hash), shadow].into_iter().flatten();
    for hash in all {
        match knowledge::bundle(bus, hash).await {
            Ok(bundle) if bundle.taxonomy().flags.contains_key(flag) => return Ok(true),
            Err(error @ KnowledgeError::Bucket { .. }) => return Err(error.into()),
            // One that does not load decides nothing.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tidegate_schemas::release::ShareBy;

    use super::*;

    fn name(text: impl Into<String>) -> Name {
        Name::new(text.into()).unwrap()
    }

    #[test]
    fn flags_have_limits_and_none_is_lost_beyond_them() {
        let tenants = |count: usize| (0..count).map(|n| name(format!("t{n}"))).collect::<BTreeSet<_>>();
        let portion = |share_bp| Portion { share_bp, by: ShareBy::Workflow };
        for (count, share, fine) in [
            (0, 10_000, true),
            (FLAG_TENANTS_MAX, 1, true),
            (FLAG_TENANTS_MAX + 1, 1, false),
            (0, 10_001, false),
        ] {
            assert_eq!(within_limits(&tenants(count), portion(share)).is_ok(), fine, "{count} {share}");
        }
        let mut all = FlagSettings::new();
        for n in 0..FLAGS_MAX {
            all = changed(&all, &name(format!("f{n}")), &BTreeSet::new(), Portion::ALL).unwrap();
        }
        assert!(changed(&all, &name("one-more"), &BTreeSet::new(), Portion::ALL).is_err());
        assert!(
            changed(&all, &name("f1"), &tenants(3), portion(5)).is_ok(),
            "negative control: one that is on"
        );
        let fewer = changed(&all, &name("f1"), &BTreeSet::new(), Portion::NONE).unwrap();
        assert_eq!((fewer.len(), fewer.contains_key(&name("f1"))), (FLAGS_MAX - 1, false));
        let apart = changed(&fewer, &name("f2"), &tenants(FLAG_TENANTS_MAX), portion(5)).unwrap();
        let more = BTreeSet::from([name("another")]);
        assert!(changed(&apart, &name("f2"), &more, portion(5)).is_err());
        assert!(changed(&apart, &name("f2"), &more, Portion::ALL).is_ok(), "negative control: as all others");
    }
}
