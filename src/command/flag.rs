//! `tidegate flag`: feature flags, everywhere in under a second and on record. A released bundle says which there are; what a flag
//! does is in its policies.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::json;
use tidegate_bus::Bus;
use tidegate_policies::taxonomy::FlagSpec;
use tidegate_schemas::control::{Act, Flags};
use tidegate_schemas::flag::{FLAG_TENANTS_MAX, FlagSetting, Portion};
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::SHARE_BP_MAX;

use super::{act, bundle, directory, lane, policy};
use crate::cell::Cell;
use crate::cli::{FlagArgs, FlagCommand, Global};
use crate::output;

/// A flag, and for whom it is on.
#[derive(Debug, Serialize)]
pub(super) struct FlagLine {
    flag: Name,
    /// As a released bundle declares it, the active one's word first; none: no bundle declares it, and nothing comes of it.
    #[serde(flatten)]
    spec: Option<FlagSpec>,
    /// Which of the released bundles declare it: active, canary, shadow. Others are not told of it.
    declared_by: Vec<&'static str>,
    /// For whom it is on; absent: for nobody.
    on: Option<FlagSetting>,
}

pub(super) async fn run(global: &Global, command: FlagCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let bus = act::connect(&cell).await?;
    match command {
        FlagCommand::List => {}
        FlagCommand::On(which) => set(&cell, &bus, which, Portion::ALL).await?,
        FlagCommand::Off(which) => set(&cell, &bus, which, Portion::NONE).await?,
        FlagCommand::Share { which, share, by } => {
            set(&cell, &bus, which, Portion { share_bp: share, by: by.into() }).await?;
        }
    }
    let flags = lane::flags(&bus).await?;
    show(global, &flags, &lines(&bus, &flags).await?)
}

async fn set(cell: &Cell, bus: &Bus, which: FlagArgs, portion: Portion) -> Result<()> {
    let FlagArgs { flag, tenant, reason } = which;
    let tenants: BTreeSet<Name> = tenant.into_iter().collect();
    if tenants.len() > FLAG_TENANTS_MAX {
        bail!("name at most {FLAG_TENANTS_MAX} tenants at once, or none to mean all");
    }
    let flags = lane::flags(bus).await?;
    let known = lines(bus, &flags).await?;
    if !known.iter().any(|line| line.flag == flag && (line.on.is_some() || line.spec.is_some())) {
        bail!("{}", unknown(&flag, &known));
    }
    if portion.share_bp > 0 && known.iter().any(|line| line.flag == flag && line.spec.is_none()) {
        bail!("no released bundle declares the flag `{flag}` any more, so it can only be switched off");
    }
    // To take a flag back must not wait for what cannot be read, and one of a tenant that is gone may be left over.
    if portion.share_bp > 0
        && let Some(directory) = directory::active(bus).await?
        && let Some(nobody) = tenants.iter().find(|tenant| !directory.tenants.contains_key(*tenant))
    {
        let all: Vec<&str> = directory.tenants.keys().map(Name::as_str).collect();
        bail!("the directory knows no tenant `{nobody}`; it knows {}", all.join(", "));
    }
    let event = act::publish(cell, Act::FlagSet { flag, tenants, portion }, &reason).await?.sequence;
    bundle::until(bus, event, async || Ok(lane::flags(bus).await?.event >= event)).await?;
    Ok(())
}

/// What to do about a flag that no bundle declares.
fn unknown(flag: &Name, known: &[FlagLine]) -> String {
    let declared: Vec<&str> =
        known.iter().filter(|line| line.spec.is_some()).map(|line| line.flag.as_str()).collect();
    let there_are = if declared.is_empty() {
        "they declare none".to_owned()
    } else {
        format!("they declare {}", declared.join(", "))
    };
    format!(
        "no released bundle declares the flag `{flag}`; {there_are}. A bundle declares flags in `[flags]` of its taxonomy.toml; apply one that does, or have it judge beside as a shadow"
    )
}

/// Every flag that a released bundle declares, or that is on.
pub(super) async fn lines(bus: &Bus, flags: &Flags) -> Result<Vec<FlagLine>> {
    let now = bundle::in_force(bus).await?;
    let released = now.into_iter().flat_map(|now| {
        [
            ("active", Some(now.active)),
            ("canary", now.canary.map(|canary| canary.hash)),
            ("shadow", now.shadow),
        ]
    });
    let mut declared: BTreeMap<Name, (FlagSpec, Vec<&'static str>)> = BTreeMap::new();
    for (which, hash) in released.filter_map(|(which, hash)| Some((which, hash?))) {
        // One that cannot be read decides nothing; the act on a flag must not wait for it.
        let Ok(bundle) = policy::kept(bus, hash).await else { continue };
        for (name, spec) in &bundle.taxonomy().flags {
            declared.entry(name.clone()).or_insert_with(|| (spec.clone(), Vec::new())).1.push(which);
        }
    }
    let names: BTreeSet<&Name> = declared.keys().chain(flags.flags.keys()).collect();
    let line = |flag: &Name| {
        let (spec, declared_by) = declared.get(flag).cloned().unzip();
        let on = flags.flags.get(flag).cloned();
        FlagLine { flag: flag.clone(), spec, declared_by: declared_by.unwrap_or_default(), on }
    };
    Ok(names.into_iter().map(line).collect())
}

/// For whom a flag is on, in words.
fn words(setting: &FlagSetting) -> String {
    let part = |portion: &Portion, of: Option<&Name>| match (portion.share_bp, of) {
        (0, Some(tenant)) => format!("not {tenant}"),
        (SHARE_BP_MAX, Some(tenant)) => tenant.to_string(),
        (SHARE_BP_MAX, None) => "all".to_owned(),
        (share, of) => {
            let whose = of.map(|tenant| format!(" of {tenant}")).unwrap_or_default();
            format!("{} of the {}s{whose}", bundle::percent(share), portion.by.as_str())
        }
    };
    let others = (setting.others.share_bp > 0).then(|| part(&setting.others, None));
    let apart = setting.tenants.iter().map(|(tenant, portion)| part(portion, Some(tenant)));
    others.into_iter().chain(apart).collect::<Vec<_>>().join(", ")
}

/// The flags that are on, each with for whom; those that nobody declares are said to be so.
pub(super) fn on(lines: &[FlagLine]) -> String {
    let told = |line: &FlagLine| {
        let unknown = if line.spec.is_none() { "; no released bundle declares it" } else { "" };
        line.on.as_ref().map(|setting| format!("{} ({}{unknown})", line.flag, words(setting)))
    };
    let all: Vec<String> = lines.iter().filter_map(told).collect();
    if all.is_empty() { "none is on".to_owned() } else { all.join("; ") }
}

fn show(global: &Global, flags: &Flags, lines: &[FlagLine]) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "event": flags.event, "flags": lines }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if lines.is_empty() {
        output::line("the released bundles declare no flags");
        return Ok(ExitCode::SUCCESS);
    }
    let row = |line: &FlagLine| {
        let on = line.on.as_ref().map_or_else(|| "-".to_owned(), words);
        let (title, owner) =
            line.spec.as_ref().map_or(("-", "-"), |spec| (spec.title.as_str(), spec.owner.as_str()));
        let by = if line.declared_by.is_empty() { "none".to_owned() } else { line.declared_by.join(", ") };
        vec![line.flag.to_string(), on, by, title.to_owned(), owner.to_owned()]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    output::table(&["FLAG", "ON FOR", "DECLARED BY", "MEANS", "OWNER"], &rows);
    Ok(ExitCode::SUCCESS)
}

/// Flags as somebody names them who asks what they would do.
pub(super) fn named(bundle: &tidegate_policies::Bundle, flags: &[Name]) -> Result<BTreeSet<Name>> {
    let known = &bundle.taxonomy().flags;
    if let Some(flag) = flags.iter().find(|flag| !known.contains_key(*flag)) {
        let all: Vec<&str> = known.keys().map(Name::as_str).collect();
        let there_are = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        return Err(anyhow::anyhow!("the bundle declares no flag `{flag}`; it declares {there_are}"))
            .context("reading --flag");
    }
    Ok(flags.iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tidegate_schemas::release::ShareBy;

    use super::*;

    #[test]
    fn for_whom_a_flag_is_on_is_told_in_words() {
        let name = |text: &str| Name::new(text).unwrap();
        let part = |share_bp, by| Portion { share_bp, by };
        let rows = [
            (Portion::ALL, vec![], "all"),
            (Portion::NONE, vec![("acme", Portion::ALL)], "acme"),
            (Portion::ALL, vec![("acme", Portion::NONE)], "all, not acme"),
            (part(2_000, ShareBy::Workflow), vec![], "20 % of the workflows"),
            (
                part(50, ShareBy::Tenant),
                vec![("acme", part(250, ShareBy::Workflow))],
                "0.50 % of the tenants, 2.50 % of the workflows of acme",
            ),
        ];
        for (others, tenants, text) in rows {
            let tenants = tenants.into_iter().map(|(tenant, portion)| (name(tenant), portion)).collect();
            assert_eq!(words(&FlagSetting { others, tenants }), text);
        }
    }

    #[test]
    fn a_flag_that_the_bundle_does_not_declare_is_told_with_those_it_does() {
        let bundle = policy::default_bundle().unwrap();
        let asked = |text: &str| named(&bundle, &[Name::new(text).unwrap()]);
        assert_eq!(asked("stay-local").unwrap().len(), 1);
        let error = format!("{:#}", asked("stay-locl").unwrap_err());
        assert!(error.contains("`stay-locl`") && error.contains("it declares stay-local"), "{error}");
    }
}
