//! `tidegate bundle status`: what is released, and what each bundle decided lately, by the record.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tidegate_audit::{Cursor, Filter, Leaf, RecordKind};
use tidegate_bus::Bus;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::release::{Canary, Candidates, ShareBy};

use super::super::record::Record;
use super::{in_force, percent};
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
    before: Option<Digest>,
    shadow: Option<Digest>,
    canary: Option<Canary>,
    /// Records that were looked at; absent where the record cannot be asked.
    records: Option<usize>,
    /// What each bundle decided among them.
    decided: BTreeMap<Digest, Decided>,
    /// What each shadow would have decided among them.
    shadows: BTreeMap<Digest, Beside>,
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
    let Candidates { event, active, before, shadow, canary } = now;
    let mut released = Released {
        event,
        active,
        before,
        shadow,
        canary,
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

/// What a share is of, as a word.
pub(super) fn by(by: ShareBy) -> &'static str {
    by.as_str()
}

// === impl Released ===

impl Released {
    async fn look(&mut self, cell: &Cell, last: usize) -> Result<()> {
        let record = Record::open(cell).await?;
        let begin = record.status().await?.records.saturating_sub(last as u64);
        // A page begins behind its cursor.
        let after = begin.checked_sub(1).map(Cursor::at);
        let mut page = Filter { after, limit: Some(PAGE), ..Filter::default() };
        let mut looked = 0;
        while looked < last {
            let found = record.page(page.clone()).await?;
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
        let none = || "none".to_owned();
        let hash = |hash: Option<Digest>| hash.map_or_else(none, |hash| hash.to_string());
        let canary = self.canary.map_or_else(none, |canary| {
            format!("{} for {} of the {}s", canary.hash, percent(canary.share_bp), by(canary.by))
        });
        output::line(format!("active   {} (since EVENTS:{})", self.active, self.event));
        output::line(format!(
            "before   {}\ncanary   {canary}\nshadow   {}",
            hash(self.before),
            hash(self.shadow)
        ));
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
