//! `tidegate bundle`: releases. Each step is an operator's act, on record before it counts; the routers take it over in under a
//! second, and refuse what cannot be used.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidegate_bus::Bus;
use tidegate_policies::{Bundle, release};
use tidegate_schemas::control::{Act, BUNDLES_BUCKET, RELEASE_BUCKET};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::release::{APPROVALS_KEY, Approvals, CANDIDATES_KEY, Candidates, Guard};

use super::{accounts, act, directory, policy, prove};
use crate::cell::Cell;
use crate::cli::{BundleCommand, Global, Hash};
use crate::output;

pub(super) mod status;

/// How long the routers may take to take an act over.
const APPLY: Duration = Duration::from_secs(10);
/// Between two looks whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn run(global: &Global, command: BundleCommand) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let bus = act::connect(&cell).await?;
    let step = Step { global, cell: &cell, bus: &bus };
    match command {
        BundleCommand::Push { dir, reason } => step.push(&dir, &reason).await,
        BundleCommand::Shadow { bundle, reason } => {
            let hash = step.named(bundle.0.as_ref()).await?;
            let told = hash.map_or("nothing is judged beside any more".to_owned(), |hash| {
                format!("bundle {hash} is judged beside")
            });
            step.act(Act::BundleShadow { hash }, &reason, hash, &told).await
        }
        BundleCommand::Canary { hash, share, by, unguarded, reason } => {
            let hash = named(&bus, &hash).await?;
            let not_wider = step.serve(hash).await?;
            let unguarded = unguarded.into_iter().map(Guard::from).collect();
            let act = Act::BundleCanary { hash, share_bp: share, by: by.into(), unguarded, not_wider };
            let told =
                format!("bundle {hash} decides for {} of the {}s", percent(share), status::by(by.into()));
            step.act(act, &reason, Some(hash), &told).await
        }
        BundleCommand::Promote { hash, reason } => {
            let canary = in_force(&bus).await?.and_then(|now| now.canary).map(|canary| canary.hash);
            let hash = step
                .named(hash.as_ref())
                .await?
                .or(canary)
                .context("there is no canary: name the bundle that is to be the active one")?;
            let not_wider = step.serve(hash).await?;
            let act = Act::BundlePromote { hash, not_wider };
            step.act(act, &reason, Some(hash), &format!("bundle {hash} is active")).await
        }
        BundleCommand::Approve { hash, reason } => step.approve(named(&bus, &hash).await?, &reason).await,
        BundleCommand::Rollback { reason } => step.rollback(&reason).await,
        BundleCommand::Status { last } => status::run(global, &cell, &bus, last).await,
    }
}

/// What the cell decides by; none in a cell that is new.
pub(super) async fn in_force(bus: &Bus) -> Result<Option<Candidates>> {
    let active = policy::active_hash(bus).await?;
    let left = bus.kv_get(RELEASE_BUCKET, CANDIDATES_KEY).await?;
    let left = left.map(|entry| serde_json::from_slice(&entry.value).context("reading what is released"));
    Ok(Candidates::in_force(active, left.transpose()?))
}

/// The bundle of the cell that somebody names by its hash, or by the first digits of it.
pub(super) async fn named(bus: &Bus, hash: &Hash) -> Result<Digest> {
    if let Some(whole) = hash.whole() {
        return Ok(whole);
    }
    let kept = bus.kv_entries(BUNDLES_BUCKET, ">").await?;
    hash.among(kept.iter().filter_map(|entry| entry.key.parse().ok())).map_err(anyhow::Error::msg)
}

/// The bundle of the canary, where there is one.
pub(super) async fn canary(bus: &Bus) -> Result<Option<Bundle>> {
    match in_force(bus).await?.and_then(|now| now.canary) {
        Some(canary) => policy::kept(bus, canary.hash).await.map(Some),
        None => Ok(None),
    }
}

/// Who agreed that more may leave.
async fn approvals(bus: &Bus) -> Result<Approvals> {
    let entry = bus.kv_get(RELEASE_BUCKET, APPROVALS_KEY).await?;
    let read = entry.map(|entry| serde_json::from_slice(&entry.value).context("reading who agreed"));
    Ok(read.transpose()?.unwrap_or_default())
}

/// The active bundle, where more might leave by this one and the prover shows that it does not. None also where nothing has to be
/// shown, or a proof would be no answer: routers ask for another operator's agreement then, or do not.
pub(super) async fn not_wider(bus: &Bus, bundle: &Arc<Bundle>) -> Result<Option<Digest>> {
    let Some(active) = policy::active_if_any(bus).await? else { return Ok(None) };
    let why = release::may_be_wider(&active, bundle);
    if why.is_empty() || why.iter().any(|wider| !wider.is_provable) {
        return Ok(None);
    }
    output::note("its policies are others: asking the prover whether more may leave by them");
    let (bundle, hash) = (Arc::clone(bundle), active.hash());
    let shown = tokio::task::spawn_blocking(move || prove::is_not_wider(&bundle, &active));
    let shown = shown.await.context("asking the prover")?.unwrap_or_else(|error| {
        output::note(format!("the prover cannot be asked: {error:#}"));
        false
    });
    if !shown {
        output::note("that no more may leave is not proven");
    }
    Ok(shown.then_some(hash))
}

/// Waits until the routers have applied an act on what is released; milliseconds that it took. One that they refuse is an error
/// with the reason.
pub(super) async fn applied(bus: &Bus, event: u64) -> Result<u128> {
    // The pointer to the active bundle, which all else goes by, is written last.
    let done = async || {
        let (now, active) = (in_force(bus).await?, policy::active_hash(bus).await?);
        Ok(now.zip(active).is_some_and(|(now, active)| now.event >= event && active.hash == now.active))
    };
    until(bus, event, done).await
}

/// The same of any act, by what is done when it is.
pub(super) async fn until(bus: &Bus, event: u64, done: impl AsyncFn() -> Result<bool>) -> Result<u128> {
    let started = Instant::now();
    loop {
        let is_done = done().await?;
        // A refused act is answered before a later one is applied.
        let refused = directory::refusal(bus, event).await;
        if let Ok(Some(refused)) = refused {
            bail!("the routers refused the act (EVENTS:{event}): {}", refused.sentence);
        }
        if is_done {
            if refused.is_err() {
                output::note("no recorder answers: had the routers refused the act, it could not be told");
            }
            return Ok(started.elapsed().as_millis());
        }
        if started.elapsed() > APPLY {
            bail!("the act is on record (EVENTS:{event}) but no router applied it: does one run?");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A share in words.
pub(super) fn percent(share_bp: u16) -> String {
    let (whole, part) = (share_bp / 100, share_bp % 100);
    if part == 0 { format!("{whole} %") } else { format!("{whole}.{part:02} %") }
}

/// A step of a release in a cell.
struct Step<'a> {
    global: &'a Global,
    cell: &'a Cell,
    bus: &'a Bus,
}

// === impl Step ===

impl Step<'_> {
    async fn push(&self, dir: &Path, reason: &str) -> Result<ExitCode> {
        let bundle = policy::tested(dir)?;
        let hash = bundle.hash();
        let started = Instant::now();
        let act = Act::BundlePush { hash, archive: bundle.archive().to_owned() };
        let event = act::publish(self.cell, act, reason).await?.sequence;
        let key = hash.to_string();
        until(self.bus, event, async || Ok(self.bus.kv_get(BUNDLES_BUCKET, &key).await?.is_some())).await?;
        policy::unreviewed(self.bus, &bundle).await?;
        self.told(event, Some(hash), started, &format!("bundle {hash} is kept; nothing is decided by it yet"))
    }

    async fn named(&self, hash: Option<&Hash>) -> Result<Option<Digest>> {
        match hash {
            Some(hash) => named(self.bus, hash).await.map(Some),
            None => Ok(None),
        }
    }

    async fn rollback(&self, reason: &str) -> Result<ExitCode> {
        let now =
            in_force(self.bus).await?.context("the cell has no bundle: start it with `tidegate dev`")?;
        let (from, told) = match (now.canary, now.before) {
            (Some(canary), _) => {
                (canary.hash, format!("the canary ended; bundle {} decides for all", now.active))
            }
            (None, Some(before)) => (now.active, format!("bundle {before} is active again")),
            (None, None) => bail!("there is no canary, and no bundle before the active one is remembered"),
        };
        self.act(Act::BundleRollback { from, guard: None, since: None }, reason, Some(from), &told).await
    }

    async fn approve(&self, hash: Digest, reason: &str) -> Result<ExitCode> {
        let active =
            policy::active_hash(self.bus).await?.context("the cell has no bundle to hold it against")?;
        if hash == active.hash {
            bail!(
                "bundle {hash} is the active one, so there is nothing to agree to; name the one that is to follow it"
            );
        }
        let started = Instant::now();
        let act = Act::BundleApprove { hash, against: active.hash };
        let event = act::publish(self.cell, act, reason).await?.sequence;
        until(self.bus, event, async || Ok(approvals(self.bus).await?.event >= event)).await?;
        let told = format!("another operator may release bundle {hash} now, though more might leave by it");
        self.told(event, Some(hash), started, &told)
    }

    /// Makes the queues that a bundle needs, before something is decided by it. The active bundle, where the prover shows that by
    /// this one no more may leave.
    async fn serve(&self, hash: Digest) -> Result<Option<Digest>> {
        let bundle = policy::kept(self.bus, hash).await?;
        policy::served(self.cell, self.bus, &bundle).await?;
        policy::unreviewed(self.bus, &bundle).await?;
        not_wider(self.bus, &Arc::new(bundle)).await
    }

    async fn act(&self, act: Act, reason: &str, bundle: Option<Digest>, told: &str) -> Result<ExitCode> {
        let started = Instant::now();
        let event = act::publish(self.cell, act, reason).await?.sequence;
        applied(self.bus, event).await?;
        let said = self.told(event, bundle, started, told);
        // Workers may pull from the queues of all that decide.
        if let Err(error) = accounts::settle(self.cell, self.bus, false).await {
            output::note(format!("{error:#}"));
        }
        if let Some(bundle) = canary(self.bus).await? {
            policy::unserved(self.cell, self.bus, &bundle).await?;
        }
        said
    }

    fn told(&self, event: u64, bundle: Option<Digest>, started: Instant, told: &str) -> Result<ExitCode> {
        let ms = started.elapsed().as_millis();
        if self.global.json {
            output::json(&json!({ "bundle": bundle, "event": event, "ms": ms, "done": told }))?;
        } else {
            output::line(format!("{told} (EVENTS:{event}, after {ms} ms)"));
        }
        Ok(ExitCode::SUCCESS)
    }
}
