//! `tidegate bundle status`: what is released, and what each bundle decided lately, by the record.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tidegate_audit::leaf::{ActWord, Detail};
use tidegate_audit::{Cursor, Filter, Leaf, RecordKind};
use tidegate_bus::Bus;
use tidegate_policies::Bundle;
use tidegate_recorder::guard::{ArmLine, GuardLine, GuardState, Guarded};
use tidegate_schemas::control::BUNDLES_BUCKET;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::release::{Approved, Canary, Candidates, Guard, ShareBy, TakenBack};

use super::super::record::Record;
use super::{approvals, in_force, percent};
use crate::cell::Cell;
use crate::cli::Global;
use crate::output;

/// Records of one page.
const PAGE: usize = 1_000;

/// The screen.
#[derive(Debug, Serialize)]
struct Released {
    event: u64,
    active: Digest,
    /// Sequence of the act by which it became so; 0: the cell began with it.
    active_since: u64,
    before: Option<Digest>,
    shadow: Option<Digest>,
    canary: Option<Canary>,
    /// Where its guards stand.
    guarded: Option<Guarded>,
    /// The last canary, where a guard took it back.
    taken_back: Option<TakenBack>,
    /// Agreements that count: by which bundles more may leave than by the active one.
    agreed: Vec<Approved>,
    /// All bundles that the cell keeps.
    kept: Vec<Kept>,
    /// Records that were looked at; absent where the record cannot be asked.
    records: Option<usize>,
    /// What each bundle decided among them.
    decided: BTreeMap<Digest, Decided>,
    /// What each shadow would have decided among them.
    shadows: BTreeMap<Digest, Beside>,
}

/// A bundle that can be released, or is.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Kept {
    hash: Digest,
    /// Its name and version; absent where it does not load.
    name: Option<String>,
    version: Option<String>,
    /// Sequence of the act that had the cell keep it, where that is on record.
    since: Option<u64>,
    /// What it is now: `active`, `before`, `canary`, `shadow`.
    is: Vec<&'static str>,
}

/// Decisions of one bundle.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Decided {
    decisions: u64,
    outcomes: BTreeMap<&'static str, u64>,
}

/// Decisions that one shadow stood beside.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Beside {
    decisions: u64,
    /// Those that it would have decided otherwise.
    differ: u64,
    /// Outcomes of these, as decided and as the shadow would have.
    outcomes: BTreeMap<String, u64>,
}

pub(super) async fn run(global: &Global, cell: &Cell, bus: &Bus, last: usize) -> Result<ExitCode> {
    let now = in_force(bus).await?.context("the cell has no bundle: start it with `tidegate dev`")?;
    let Candidates { event, active, active_since, before, shadow, canary, taken_back } = now;
    let mut agreed = approvals(bus).await?.all;
    agreed.retain(|one| one.stands(&now));
    let mut released = Released {
        event,
        active,
        active_since,
        before,
        shadow,
        canary,
        guarded: None,
        taken_back,
        agreed,
        kept: kept(bus, &now).await?,
        records: None,
        decided: BTreeMap::new(),
        shadows: BTreeMap::new(),
    };
    if let Err(error) = released.look(cell, last).await {
        output::note(format!("the record cannot be asked: {}", output::sentence(&error)));
    }
    if global.json {
        output::json(&released)?;
    } else {
        released.show();
    }
    Ok(ExitCode::SUCCESS)
}

/// The bundles that the cell keeps, and what each of them is.
async fn kept(bus: &Bus, now: &Candidates) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for entry in bus.kv_entries(BUNDLES_BUCKET, ">").await? {
        let Ok(hash) = entry.key.parse() else { continue };
        let loaded = std::str::from_utf8(&entry.value).ok().and_then(|text| Bundle::from_kept(text).ok());
        let manifest = loaded.as_ref().map(Bundle::manifest);
        kept.push(Kept {
            hash,
            name: manifest.map(|manifest| manifest.name.to_string()),
            version: manifest.map(|manifest| manifest.version.clone()),
            since: None,
            is: is(hash, now),
        });
    }
    Ok(kept)
}

fn is(hash: Digest, now: &Candidates) -> Vec<&'static str> {
    let canary = now.canary.map(|canary| canary.hash);
    let all =
        [("active", Some(now.active)), ("before", now.before), ("canary", canary), ("shadow", now.shadow)];
    all.into_iter().filter(|(_, one)| *one == Some(hash)).map(|(word, _)| word).collect()
}

/// An act in words; 0 stands for what a cell begins with.
fn since(event: u64) -> String {
    if event == 0 { "the cell began".to_owned() } else { format!("EVENTS:{event}") }
}

/// What a share is of, as a word.
pub(super) fn by(by: ShareBy) -> &'static str {
    by.as_str()
}

/// A canary, or what became of the last one.
pub(in super::super) fn canary(canary: Option<&Canary>, taken_back: Option<&TakenBack>) -> String {
    match (canary, taken_back) {
        (Some(canary), _) => format!(
            "{} for {} of the {}s (since EVENTS:{})",
            canary.hash,
            percent(canary.share_bp),
            by(canary.by),
            canary.since
        ),
        (None, Some(TakenBack { hash, guard, event })) => {
            format!("none: guard `{}` took {hash} back (EVENTS:{event})", guard.as_str())
        }
        (None, None) => "none".to_owned(),
    }
}

/// Each guard, and how near to an alarm it ever was.
fn guards(guarded: &Guarded) {
    let row = |line: &GuardLine| {
        let state = match (line.state, &line.alone) {
            (GuardState::Watching, Some(tenant)) => format!("worse for {tenant} ALONE"),
            (GuardState::Watching, None) => "watching".to_owned(),
            (GuardState::Alarm, _) => "ALARM".to_owned(),
            (GuardState::Off, _) => "off".to_owned(),
        };
        let arm = |arm: &ArmLine| match line.guard {
            Guard::Cost | Guard::Latency => {
                let unit = if line.guard == Guard::Cost { "micro-USD" } else { "ms" };
                format!("{} {unit} each of {}", arm.sum.checked_div(arm.tasks).unwrap_or(0), arm.tasks)
            }
            _ => format!("{} of {}", arm.sum, arm.tasks),
        };
        let evidence = format!("{:.0} %", line.evidence * 100.0);
        vec![line.guard.as_str().to_owned(), state, arm(&line.canary), arm(&line.active), evidence]
    };
    let rows: Vec<_> = guarded.guards.iter().map(row).collect();
    output::line("");
    output::table(&["GUARD", "STATE", "CANARY", "ACTIVE", "OF AN ALARM"], &rows);
    if guarded.forgotten > 0 {
        output::line(format!(
            "{} tasks are not looked at: their tenants have more open ones than the guards follow",
            guarded.forgotten
        ));
    }
}

// === impl Released ===

impl Released {
    async fn look(&mut self, cell: &Cell, last: usize) -> Result<()> {
        let record = Record::open(cell).await?;
        // The recorder may not have seen yet that it is another one.
        let is_of = |guarded: &Guarded| self.canary.is_some_and(|canary| canary.hash == guarded.canary);
        self.guarded = record.guarded().await?.filter(is_of);
        for found in record.all(Filter { kind: Some(RecordKind::Control), ..Filter::default() }).await? {
            self.came(&found.leaf);
        }
        self.kept.sort_by_key(|kept| (kept.since, kept.hash));
        let begin = record.status().await?.records.saturating_sub(last as u64);
        // A page begins behind its cursor.
        let after = begin.checked_sub(1).map(Cursor::at);
        let mut page = Filter { after, limit: Some(PAGE), ..Filter::default() };
        let mut looked = 0;
        while looked < last {
            let (found, _) = record.page(page.clone()).await?;
            found.records.iter().for_each(|record| self.add(&record.leaf));
            looked += found.records.len();
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        self.records = Some(looked);
        Ok(())
    }

    /// Notes by which act the cell has kept a bundle: the first.
    fn came(&mut self, leaf: &Leaf) {
        let Some(Detail::Control {
            act: ActWord::BundlePush | ActWord::BundleActivate,
            hash: Some(hash),
            ..
        }) = &leaf.detail
        else {
            return;
        };
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.hash == *hash) {
            kept.since.get_or_insert(leaf.source.sequence);
        }
    }

    fn add(&mut self, leaf: &Leaf) {
        let Some(decision) = &leaf.decision else { return };
        // What a reviewer rejected carries the decision that had held it.
        let decided = match leaf.kind {
            RecordKind::Work | RecordKind::Review => true,
            RecordKind::Result => decision.outcome == Outcome::Reject,
            _ => false,
        };
        if !decided {
            return;
        }
        let outcome = decision.outcome.as_str();
        let own = self.decided.entry(decision.bundle).or_default();
        own.decisions += 1;
        *own.outcomes.entry(outcome).or_default() += 1;
        let Some(shadow) = &decision.shadow else { return };
        let beside = self.shadows.entry(shadow.bundle).or_default();
        beside.decisions += 1;
        if shadow.differs(decision.outcome, decision.destination.as_ref()) {
            beside.differ += 1;
            *beside.outcomes.entry(format!("{outcome} -> {}", shadow.outcome.as_str())).or_default() += 1;
        }
    }

    fn show(&self) {
        let hash = |hash: Option<Digest>| hash.map_or_else(|| "none".to_owned(), |hash| hash.to_string());
        output::line(format!("active   {} (since {})", self.active, since(self.active_since)));
        output::line(format!("before   {}", hash(self.before)));
        output::line(format!("canary   {}", canary(self.canary.as_ref(), self.taken_back.as_ref())));
        output::line(format!("shadow   {}", hash(self.shadow)));
        for one in &self.agreed {
            output::line(format!(
                "agreed   {}: more may leave, says {} (EVENTS:{})",
                one.hash, one.by, one.event
            ));
        }
        if let Some(guarded) = &self.guarded {
            guards(guarded);
        }
        output::line("");
        let rows = self.kept.iter().map(|kept| {
            let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let since = kept.since.map_or_else(|| "-".to_owned(), |event| format!("EVENTS:{event}"));
            vec![kept.hash.to_string(), word(&kept.name), word(&kept.version), since, kept.is.join(", ")]
        });
        output::table(&["KEPT", "NAME", "VERSION", "SINCE", "IS"], &rows.collect::<Vec<_>>());
        let Some(records) = self.records else { return };
        output::line(format!("\nof the last {records} records:"));
        let words = |outcomes: Vec<(String, u64)>| {
            outcomes.into_iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
        };
        let rows = self.decided.iter().map(|(bundle, own)| {
            let outcomes = own.outcomes.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect();
            vec![bundle.to_string(), own.decisions.to_string(), words(outcomes)]
        });
        output::table(&["DECIDED BY", "DECISIONS", "OUTCOMES"], &rows.collect::<Vec<_>>());
        if self.shadows.is_empty() {
            return;
        }
        let rows = self.shadows.iter().map(|(bundle, beside)| {
            let outcomes = beside.outcomes.iter().map(|(word, count)| (word.clone(), *count)).collect();
            vec![bundle.to_string(), beside.decisions.to_string(), beside.differ.to_string(), words(outcomes)]
        });
        output::table(&["SHADOW", "DECISIONS", "DIFFER", "HOW"], &rows.collect::<Vec<_>>());
    }
}
