//! `tidegate policy apply`: a bundle checked, tried, and made active in one step; and what else brings a bundle into a cell.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::json;
use tidegate_bus::{Bus, Role};
use tidegate_policies::cases;
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::control::Act;
use tidegate_schemas::decision::Switch;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;

use super::super::prove::{self, Held};
use super::super::{accounts, act, directory, provision};
use super::bundle_in;
use crate::cell::Cell;
use crate::cli::Global;
use crate::output;

/// Between two looks whether a worker takes the work of a queue.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

pub(super) async fn run(global: &Global, dir: &Path, reason: &str) -> Result<ExitCode> {
    let bundle = tested(dir)?;
    let cell = Cell::open(&global.cell)?;
    let bus = act::connect(&cell).await?;
    served(&cell, &bus, &bundle).await?;
    let not_wider = super::super::bundle::not_wider(&bus, &bundle).await?;
    let started = Instant::now();
    let hash = bundle.hash();
    let act = Act::BundleActivate { hash, archive: bundle.archive().to_owned(), not_wider };
    let event = act::publish(&cell, act, reason).await?.sequence;
    super::super::bundle::applied(&bus, event).await?;
    let ms = started.elapsed().as_millis();
    // Workers may pull from the queues of a new bundle.
    if let Err(error) = accounts::settle(&cell, &bus, false).await {
        output::note(format!("{error:#}"));
    }
    let unserved = unserved(&cell, &bus, &bundle).await?;
    let unreviewed = unreviewed(&bus, &bundle).await?;
    if global.json {
        output::json(&json!({ "bundle": hash, "event": event, "ms": ms, "unserved": unserved,
                               "unreviewed": unreviewed }))?;
    } else {
        output::line(format!("bundle {hash} is active after {ms} ms"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A bundle in a directory whose cases all pass, and none of whose properties is refuted. What could not be proven is told.
pub(in super::super) fn tested(dir: &Path) -> Result<Arc<Bundle>> {
    let bundle = Arc::new(bundle_in(dir)?);
    let ran = cases::run(&Judge::new(bundle.clone())?);
    let failed = ran.iter().filter(|case| !case.differences.is_empty()).count();
    if failed > 0 {
        bail!("{failed} of {} cases fail; see `tidegate policy test {}`", ran.len(), dir.display());
    }
    if ran.is_empty() {
        output::note("the bundle has no cases: nothing was tried by it");
    }
    match prove::held(dir, &bundle)? {
        Held::Proven => {}
        Held::Refuted(ids) => bail!(
            "what the bundle promises does not hold: {}; see `tidegate policy prove {}`",
            ids.join(", "),
            dir.display()
        ),
        Held::Unproven(why) => output::note(format!("the bundle's properties are not proven: {why}")),
    }
    Ok(bundle)
}

/// Makes the queues that a bundle needs, before something is decided by it.
pub(in super::super) async fn served(cell: &Cell, bus: &Bus, bundle: &Bundle) -> Result<()> {
    let directory = directory::active(bus).await?.context("the cell has no directory")?;
    // Queues are created by nobody else.
    let provisioner = cell.connect(Role::Provisioner).await?;
    provision::streams(&provisioner, cell, bundle, &directory).await?;
    // Work for a provider that nobody here can call would only wait for its deadline.
    for target in provision::to_switch_off(bus, cell, bundle).await? {
        output::note(format!("provider `{target}` is not configured in this cell: switched off"));
        let switch = Switch { lane: Some(Lane::Cloud), target: Some(target), ..Switch::default() };
        act::publish(cell, Act::LaneOff { switch }, "the cell has no such provider configured").await?;
    }
    Ok(())
}

/// Queues of reviews that too few reviewers of the directory have; it is told of each.
pub(in super::super) async fn unreviewed(bus: &Bus, bundle: &Bundle) -> Result<Vec<Unreviewed>> {
    let directory = directory::active(bus).await?.context("the cell has no directory")?;
    let queues = without_reviewers(bundle, &directory);
    for short in &queues {
        output::note(format!(
            "{short}: what is held in it ends rejected; `tidegate tool reviewer NAME --queue {}` gives it one",
            short.queue
        ));
    }
    Ok(queues)
}

/// A queue in which nothing can be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in super::super) struct Unreviewed {
    pub(in super::super) queue: Name,
    /// Reviewers who have it, count.
    has: usize,
    /// How many must approve.
    needs: u8,
}

impl fmt::Display for Unreviewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.has {
            0 => write!(f, "nobody reviews queue `{}`", self.queue),
            has => write!(
                f,
                "queue `{}` has {has} of the {} reviewers that must approve",
                self.queue, self.needs
            ),
        }
    }
}

pub(in super::super) fn without_reviewers(bundle: &Bundle, directory: &Directory) -> Vec<Unreviewed> {
    let having = |queue: &Name| directory.reviewers.values().filter(|one| one.queues.contains(queue)).count();
    let needed = bundle.reviewers_needed().into_iter();
    let all = needed.map(|(queue, needs)| Unreviewed { has: having(&queue), queue, needs });
    all.filter(|queue| queue.has < usize::from(queue.needs)).collect()
}

/// Queues of a bundle that no worker takes work from; it is told of each.
pub(in super::super) async fn unserved(cell: &Cell, bus: &Bus, bundle: &Bundle) -> Result<Vec<String>> {
    let mut unserved = provision::unserved(bus, cell, bundle).await?;
    if !unserved.is_empty() {
        // A worker may be between two requests.
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let still = provision::unserved(bus, cell, bundle).await?;
        unserved.retain(|queue| still.contains(queue));
    }
    for queue in &unserved {
        output::note(format!("no worker takes work of {queue}: it would wait for its deadline; start one"));
    }
    Ok(unserved)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::directory::Reviewer;

    use super::*;

    #[test]
    fn a_queue_that_nobody_reviews_is_named() {
        let bundle = super::super::default_bundle().unwrap();
        let with = |queues: &[&str]| {
            let queues = queues.iter().map(|queue| Name::new(*queue).unwrap()).collect();
            let mut directory = Directory::empty();
            directory
                .reviewers
                .insert(Name::new("rita").unwrap(), Reviewer { queues, ..Reviewer::default() });
            without_reviewers(&bundle, &directory)
        };
        let privacy = Unreviewed { queue: Name::new("privacy").unwrap(), has: 0, needs: 1 };
        assert_eq!(privacy.to_string(), "nobody reviews queue `privacy`");
        assert_eq!(with(&["default"]), [privacy]);
        assert_eq!(with(&["default", "privacy"]), [], "negative control");
        assert_eq!(with(&[]).len(), 2);
    }

    #[test]
    fn a_queue_with_fewer_reviewers_than_must_approve_is_named() {
        let shipped = super::super::default_bundle().unwrap();
        let mut archive: serde_json::Value = serde_json::from_str(shipped.archive()).unwrap();
        archive["policies"]["review-confidential-egress"]["annotations"]["quorum"] = json!("2");
        let bundle = Bundle::from_archive(&archive.to_string()).unwrap();
        let with = |names: &[&str]| {
            let mut directory = Directory::empty();
            let queues = ["default", "privacy"].map(|queue| Name::new(queue).unwrap());
            let reviewer = Reviewer { queues: queues.into(), ..Reviewer::default() };
            let named = names.iter().map(|name| (Name::new(*name).unwrap(), reviewer.clone()));
            directory.reviewers.extend(named);
            without_reviewers(&bundle, &directory)
        };
        let short = with(&["rita"]);
        let said = "queue `privacy` has 1 of the 2 reviewers that must approve";
        assert_eq!(short.iter().map(ToString::to_string).collect::<Vec<_>>(), [said]);
        assert_eq!(with(&["rita", "sam"]), [], "negative control");
    }
}
