//! `tidegate lane`: switches, everywhere in under a second and on record.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidegate_bus::{Bus, Identity};
use tidegate_policies::Bundle;
use tidegate_schemas::control::{Act, FLAGS_BUCKET, FLAGS_KEY, Flags};
use tidegate_schemas::decision::Switch;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;

use super::{act, bundle, directory, policy};
use crate::cell::Cell;
use crate::cli::{Global, LaneCommand, LaneWhat};
use crate::output;

/// How long the routers may take to apply a switch.
const APPLY: Duration = Duration::from_secs(10);
/// Tenants named in an error.
const TOLD_MAX: usize = 10;

pub(super) async fn run(global: &Global, command: LaneCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let bus = cell.connect(Identity::Operator(act::operator()?)).await?;
    match command {
        LaneCommand::Status => {}
        LaneCommand::Off { what, force, reason } => {
            let switch = switch(what);
            // An incident must not wait for what cannot be read: only what is known to cover nothing is refused.
            if !force {
                known_tenant(&switch, directory::active(&bus).await.ok().flatten().as_ref())?;
                if let Ok(bundles) = released(&bus).await {
                    covers_something(&switch, &bundles)?;
                }
            }
            apply(&bus, &cell, Act::LaneOff { switch }, &reason).await?;
        }
        LaneCommand::On { what, reason } => {
            let switch = switch(what);
            if !flags(&bus).await?.switches.contains(&switch) {
                bail!("that is not off; `tidegate lane status` shows what is");
            }
            apply(&bus, &cell, Act::LaneOn { switch }, &reason).await?;
        }
    }
    show(global, &flags(&bus).await?)
}

fn switch(what: LaneWhat) -> Switch {
    Switch { lane: what.lane, tenant: what.tenant, target: what.target, model: what.model }
}

/// The bundles that decide or may soon, the active one first.
async fn released(bus: &Bus) -> Result<Vec<Bundle>> {
    let mut bundles = vec![policy::active_bundle(bus).await?];
    let others = bundle::in_force(bus).await?.into_iter();
    let others = others.flat_map(|now| [now.canary.map(|canary| canary.hash), now.shadow, now.before]);
    for hash in others.flatten() {
        bundles.push(policy::kept(bus, hash).await?);
    }
    Ok(bundles)
}

/// A tenant that was mistyped has nothing switched off.
fn known_tenant(switch: &Switch, directory: Option<&Directory>) -> Result<()> {
    let Some((tenant, directory)) = switch.tenant.as_ref().zip(directory) else { return Ok(()) };
    if directory.tenants.contains_key(tenant) {
        return Ok(());
    }
    let known: Vec<&str> = directory.tenants.keys().map(Name::as_str).take(TOLD_MAX).collect();
    bail!(
        "the directory knows no tenant `{tenant}`, so nothing was switched off; it knows {}; with --force it is switched off all the same",
        known.join(", ")
    )
}

/// A name that was mistyped switches nothing off, and must not look as if it did.
fn covers_something(switch: &Switch, bundles: &[Bundle]) -> Result<()> {
    let all = || bundles.iter().flat_map(Bundle::destinations).map(|spec| spec.chosen());
    let whose = Switch { tenant: None, ..switch.clone() };
    let covers = |bundle: &Bundle| {
        let anybody = &bundle.manifest().name;
        bundle.destinations().iter().any(|spec| whose.covers(anybody, &spec.chosen()))
    };
    if bundles.iter().any(covers) {
        return Ok(());
    }
    let known: BTreeSet<String> =
        all().map(|place| format!("{} {} {}", place.lane, place.target, place.model)).collect();
    bail!(
        "no destination of a bundle that is released is covered by that, so nothing was switched off; they are: {}; with --force it is switched off all the same",
        known.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// What is off now.
pub(super) async fn flags(bus: &Bus) -> Result<Flags> {
    let entry = bus.kv_get(FLAGS_BUCKET, FLAGS_KEY).await?;
    entry.map_or(Ok(Flags::default()), |entry| {
        serde_json::from_slice(&entry.value).context(
            "reading the switches, without which nothing leaves; `tidegate lane off cloud` and then `lane on cloud` write them anew",
        )
    })
}

async fn apply(bus: &Bus, cell: &Cell, act: Act, reason: &str) -> Result<()> {
    let event = act::publish(cell, act, reason).await?.sequence;
    let deadline = Instant::now() + APPLY;
    while flags(bus).await?.event < event {
        if Instant::now() > deadline {
            bail!("the act is on record (EVENTS:{event}) but no router applied it: does one run?");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// What a switch covers, in words.
pub(super) fn words(switch: &Switch) -> String {
    let parts = [
        switch.lane.map(|lane| format!("{lane} lane")),
        switch.target.as_ref().map(|target| format!("pool or provider {target}")),
        switch.model.as_ref().map(|model| format!("model {model}")),
        switch.tenant.as_ref().map(|tenant| format!("for tenant {tenant}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn show(global: &Global, flags: &Flags) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "event": flags.event, "off": flags.switches }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if flags.switches.is_empty() {
        output::line("nothing is off");
        return Ok(ExitCode::SUCCESS);
    }
    let any = |text: Option<String>| text.unwrap_or_else(|| "any".into());
    let rows: Vec<Vec<String>> = flags
        .switches
        .iter()
        .map(|s| {
            vec![
                any(s.lane.map(|l| l.to_string())),
                any(s.tenant.as_ref().map(ToString::to_string)),
                any(s.target.as_ref().map(ToString::to_string)),
                any(s.model.clone()),
            ]
        })
        .collect();
    output::table(&["OFF: LANE", "TENANT", "POOL OR PROVIDER", "MODEL"], &rows);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::decision::Switch;
    use tidegate_schemas::directory::{Directory, Tenant};
    use tidegate_schemas::ids::Name;
    use tidegate_schemas::subject::Lane;

    #[test]
    fn a_tenant_that_nobody_knows_is_told() {
        let mut directory = Directory::empty();
        let acme = Name::new("acme").unwrap();
        directory.tenants.insert(acme, Tenant::default());
        let of = |tenant: &str| Switch { tenant: Some(Name::new(tenant).unwrap()), ..Switch::default() };
        assert!(super::known_tenant(&of("acme"), Some(&directory)).is_ok(), "negative control");
        assert!(super::known_tenant(&of("acmee"), Some(&directory)).is_err());
        assert!(super::known_tenant(&of("acmee"), None).is_ok(), "an incident waits for no directory");
        assert!(super::known_tenant(&Switch::default(), Some(&directory)).is_ok());
    }

    #[test]
    fn what_a_canary_alone_has_can_be_switched_off() {
        let [default, demo] =
            [super::policy::default_bundle, super::policy::demo_bundle].map(|of| of().unwrap());
        let switch = Switch { target: Some(Name::new("standin").unwrap()), ..Switch::default() };
        let both = [default, demo];
        assert!(super::covers_something(&switch, &both).is_ok());
        assert!(
            super::covers_something(&switch, &both[..1]).is_err(),
            "negative control: the active one alone"
        );
    }

    #[test]
    fn a_switch_that_covers_nothing_is_told() {
        let bundle = [super::policy::demo_bundle().unwrap()];
        let target = |text: &str| Some(Name::new(text).unwrap());
        let rows = [
            (Switch { lane: Some(Lane::Cloud), ..Switch::default() }, true),
            (Switch { target: target("standin"), ..Switch::default() }, true),
            (Switch { tenant: target("acme"), ..Switch::default() }, true),
            (Switch { target: target("standinn"), ..Switch::default() }, false),
            (Switch { lane: Some(Lane::Local), target: target("standin"), ..Switch::default() }, false),
            (Switch { model: Some("nothing".into()), ..Switch::default() }, false),
        ];
        for (switch, covers) in rows {
            assert_eq!(
                super::covers_something(&switch, &bundle).is_ok(),
                covers,
                "{}",
                super::words(&switch)
            );
        }
    }
}
