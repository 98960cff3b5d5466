//! `tidegate policy`: bundles written, checked, tested, explained and made active.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidegate_bus::Bus;
use tidegate_policies::cases::Ran;
use tidegate_policies::{Bundle, BundleError, check};
use tidegate_schemas::control::{ACTIVE_KEY, Active, BUNDLES_BUCKET, Flags, RELEASE_BUCKET};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::release::Canary;

mod answers;
mod apply;
mod diff;
mod explained;
mod layout;
mod trial;

use crate::cell::Cell;
use crate::cli::{Global, PolicyCommand};
use crate::output;

pub(super) use apply::{Unreviewed, served, tested, unreviewed, unserved, without_reviewers};

/// The bundle cannot be used.
const REFUSED: u8 = 3;
/// The bundles that ship, where the project's own directory is at hand.
const BUNDLES: &str = "policies/bundles";

pub(super) async fn run(global: &Global, command: PolicyCommand) -> Result<ExitCode> {
    match command {
        PolicyCommand::New { dir } => new(global, &dir).await,
        PolicyCommand::Check { dir } => checked(global, dir.as_deref()),
        PolicyCommand::Test { dir, cedar_tests, model, no_model, adapter } => {
            let wanted = match model.as_deref() {
                Some(word) => answers::Wanted::Named(word, adapter),
                None if no_model => answers::Wanted::Nobody,
                None => answers::Wanted::Pinned,
            };
            trial::run(global, dir.as_deref(), &cedar_tests, wanted)
        }
        PolicyCommand::Fmt { dir, check } => layout::run(global, dir.as_deref(), check),
        PolicyCommand::Diff { bundles, cases } => diff::run(global, &bundles, cases).await,
        PolicyCommand::Prove { dir, against, only, limit } => {
            let against = match &against {
                Some(word) => Some(diff::bundle(global, word).await),
                None => None,
            };
            super::prove::run(global, named(dir.as_deref()), against.transpose(), &only, limit)
        }
        PolicyCommand::Backtest(asked) => super::backtest::run(global, *asked).await,
        PolicyCommand::Explain { task, bundle, flag, kind, who } => {
            explained::run(
                global,
                &explained::Asked { file: &task, named: bundle.as_deref(), flags: &flag, kind: &kind },
                &who,
            )
            .await
        }
        PolicyCommand::Apply { dir, reason } => apply::run(global, &dir, &reason).await,
    }
}

/// A bundle in a directory, loaded.
pub(super) fn bundle_in(dir: &Path) -> Result<Bundle> {
    Bundle::from_dir(dir).with_context(|| format!("loading the bundle in `{}`", dir.display()))
}

/// Directory of a bundle that ships: here, or above the program.
fn shipped(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().ok();
    let relative = Path::new(BUNDLES).join(name);
    let above = exe.iter().flat_map(|exe| exe.ancestors().skip(1)).map(|dir| dir.join(&relative));
    std::iter::once(relative.clone()).chain(above).find(|dir| dir.is_dir()).with_context(|| {
        format!("`{}` is not here: run in the project's directory, or name a bundle", relative.display())
    })
}

pub(super) fn default_dir() -> Result<PathBuf> {
    shipped("default")
}

/// The bundle that ships for cells whose only provider is a stand-in.
pub(super) fn demo_bundle() -> Result<Bundle> {
    bundle_in(&shipped("demo")?)
}

/// The bundle that ships.
pub(super) fn default_bundle() -> Result<Bundle> {
    bundle_in(&default_dir()?)
}

/// The cell's active bundle.
pub(super) async fn active_bundle(bus: &Bus) -> Result<Bundle> {
    active_if_any(bus).await?.context("the cell has no bundle: start it with `tidegate dev`")
}

/// The cell's active bundle; none in a cell that is new.
pub(super) async fn active_if_any(bus: &Bus) -> Result<Option<Bundle>> {
    let Some(Active { hash, .. }) = active_hash(bus).await? else { return Ok(None) };
    kept(bus, hash).await.map(Some)
}

/// A bundle that the cell keeps.
pub(super) async fn kept(bus: &Bus, hash: Digest) -> Result<Bundle> {
    let entry = bus.kv_get(BUNDLES_BUCKET, &hash.to_string()).await?;
    let entry = entry.with_context(|| format!("the cell has no bundle {hash}"))?;
    let archive = std::str::from_utf8(&entry.value).context("the bundle is not text")?;
    Ok(Bundle::from_kept(archive)?)
}

pub(super) async fn active_hash(bus: &Bus) -> Result<Option<Active>> {
    let entry = bus.kv_get(RELEASE_BUCKET, ACTIVE_KEY).await?;
    entry
        .map(|entry| serde_json::from_slice(&entry.value).context("reading the active bundle's pointer"))
        .transpose()
}

/// What a running cell decides by, and what is switched off there.
struct InForce {
    bundle: Bundle,
    /// What decides for a share, and its bundle.
    canary: Option<(Canary, Bundle)>,
    flags: Flags,
    /// Sequence in EVENTS of the act that left what is released.
    revision: u64,
}

async fn in_force(global: &Global) -> Result<InForce> {
    let bus = super::act::connect(&Cell::open(&global.cell)?).await?;
    let now = super::bundle::in_force(&bus).await?;
    let revision = now.map_or(0, |now| now.event);
    let canary = match now.and_then(|now| now.canary) {
        Some(canary) => Some((canary, kept(&bus, canary.hash).await?)),
        None => None,
    };
    let (bundle, flags) = (active_bundle(&bus).await?, super::lane::flags(&bus).await?);
    Ok(InForce { bundle, canary, flags, revision })
}

async fn new(global: &Global, dir: &Path) -> Result<ExitCode> {
    if dir.exists() {
        bail!("`{}` is there already", dir.display());
    }
    // An archive holds no comments; what ships under the active bundle's name is what it was begun from.
    let active = in_force(global).await.ok().map(|now| now.bundle);
    let name = active.as_ref().map_or("default", |bundle| bundle.manifest().name.as_str()).to_owned();
    let (name, from) = match shipped(&name) {
        Ok(from) => (name, from),
        Err(_) => ("default".to_owned(), default_dir()?),
    };
    whole(&from, dir)?;
    let changed = active.filter(|active| bundle_in(dir).is_ok_and(|copy| copy.hash() != active.hash()));
    if let Some(active) = changed {
        let own = active.manifest().name.as_str();
        output::note(format!(
            "the cell's active bundle `{own}` is another: go on from the directory it was applied from"
        ));
    }
    if global.json {
        output::json(&json!({ "bundle": dir, "copy_of": name }))?;
    } else {
        output::line(format!(
            "`{0}` is a copy of the {name} bundle; then: tidegate policy test {0}",
            dir.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies a bundle that ships, with the parts that it takes from the default one.
fn whole(from: &Path, to: &Path) -> Result<()> {
    let base = default_dir()?;
    copy(&base, to)?;
    if from.file_name() == base.file_name() {
        return Ok(());
    }
    for entry in fs::read_dir(from).with_context(|| format!("reading `{}`", from.display()))? {
        let entry = entry.context("reading a directory")?;
        let part = to.join(entry.file_name());
        if part.is_dir() {
            fs::remove_dir_all(&part).with_context(|| format!("removing `{}`", part.display()))?;
        }
        if entry.file_type().context("reading a directory")?.is_dir() {
            copy(&entry.path(), &part)?;
        } else {
            fs::copy(entry.path(), &part).with_context(|| format!("writing `{}`", part.display()))?;
        }
    }
    let manifest = to.join("bundle.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("reading `{}`", manifest.display()))?;
    // It stands alone now, so what it says of the other one is no longer so.
    let of_the_other = |line: &&str| line.starts_with("extends") || line.starts_with('#');
    let own: String =
        text.lines().filter(|line| !of_the_other(line)).map(|line| format!("{line}\n")).collect();
    fs::write(&manifest, own).with_context(|| format!("writing `{}`", manifest.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating `{}`", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading `{}`", from.display()))? {
        let entry = entry.context("reading a directory")?;
        let target = to.join(entry.file_name());
        if entry.file_type().context("reading a directory")?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("writing `{}`", target.display()))?;
        }
    }
    Ok(())
}

fn named(dir: Option<&Path>) -> Result<PathBuf> {
    dir.map_or_else(default_dir, |dir| Ok(dir.to_path_buf()))
}

fn checked(global: &Global, dir: Option<&Path>) -> Result<ExitCode> {
    let dir = named(dir)?;
    let report = match check::dir(&dir) {
        Ok((_, report)) => report,
        Err(error) => return refused(global, &dir, &error),
    };
    let (cases, failed) = (report.cases.len(), failures(&report.cases));
    if global.json {
        output::json(
            &json!({ "hash": report.hash, "policies": report.policies, "templates": report.templates,
                              "links": report.links, "prompts": report.prompts, "destinations": report.destinations, "cases": cases,
                              "failed": named_failures(&failed) }),
        )?;
    } else {
        tell_failures(&failed);
        let well = if report.passed() { "well".to_owned() } else { format!("{} cases FAILED", failed.len()) };
        output::line(format!(
            "{well}: {} policies ({} of them links of {} templates), {} prompts, {} destinations, {cases} cases\nbundle {}",
            report.policies + report.links,
            report.links,
            report.templates,
            report.prompts,
            report.destinations,
            report.hash
        ));
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bundle that cannot be used: where and why, and an exit status that says so.
fn refused(global: &Global, dir: &Path, error: &BundleError) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "verdict": "refused", "bundle": dir, "faults": error.told() }))?;
    } else {
        output::note(format!("tidegate: loading the bundle in `{}`: {error}", dir.display()));
    }
    Ok(ExitCode::from(REFUSED))
}

fn failures(ran: &[Ran]) -> Vec<&Ran> {
    ran.iter().filter(|case| !case.differences.is_empty()).collect()
}

fn named_failures(failed: &[&Ran]) -> Vec<serde_json::Value> {
    failed.iter().map(|case| json!({ "case": case.name, "why": case.differences })).collect()
}

fn tell_failures(failed: &[&Ran]) {
    for case in failed {
        output::line(format!("FAILED {}: {}", case.name, case.differences.join("; ")));
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use tidegate_policies::{Judge, trial};

    #[test]
    fn a_copy_of_a_bundle_that_ships_decides_as_it_does() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["default", "demo"] {
            let (from, to) = (super::shipped(name).unwrap(), dir.path().join(name));
            super::whole(&from, &to).unwrap();
            // Alone in its place: it takes nothing from a sibling.
            let alone = tempfile::tempdir().unwrap();
            std::fs::rename(&to, alone.path().join("mine")).unwrap();
            let copy = super::bundle_in(&alone.path().join("mine")).unwrap();
            assert_eq!(copy.hash(), super::bundle_in(&from).unwrap().hash(), "{name}");
        }
    }

    /// The first two commands of who writes policies: `policy new` and `policy test`.
    #[test]
    fn a_new_bundle_stands_alone_and_its_own_cases_cover_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["default", "demo"] {
            let to = dir.path().join(name).join("mine");
            super::whole(&super::shipped(name).unwrap(), &to).unwrap();
            let tried = || {
                let judge = Judge::new(Arc::new(super::bundle_in(&to).unwrap())).unwrap();
                trial::run(&judge, &[], &mut |_, _| {})
            };
            let trial = tried();
            assert_eq!((&trial.silent, &trial.survivors), (&vec![], &vec![]), "{name}");
            assert!(trial.passed() && trial.taken == 0, "{name}: {:?}", trial.failed());
            // Negative control: without its cases about other places it would not be covered.
            if name == "demo" {
                for file in ["elsewhere.json", "elsewhere-entities.json"] {
                    std::fs::remove_file(to.join("cases").join(file)).unwrap();
                }
                let trial = tried();
                assert!(
                    !trial.passed() && trial.silent.contains(&"gdpr-region".to_owned()),
                    "{:?}",
                    trial.silent
                );
            }
        }
    }
}
