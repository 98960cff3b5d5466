//! A model's scan: what one that was made adds to what the recognisers found, and whether one that finds nothing could open what
//! is closed without.

use tidegate_schemas::decision::{Decision, Destination, Facts, Outcome, Scan};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::scan::{self, ModelScan, SCAN_BYTES_MAX, SCAN_MS_MAX, SCAN_TEXTS_MAX};
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Task;

use super::draft::Draft;
use super::{Judge, sentence};
use crate::engine::{self, Principal};
use crate::taxonomy::scan::{COUNT_MAX, Findings};
use crate::taxonomy::{ModelSpec, NO_FINDING, UNKNOWN};

impl Judge {
    /// What looked at a task's texts, and all that was found. A scan by another model than the bundle's raises labels and permits
    /// nothing.
    pub(super) fn scanned(&self, by: &ModelScan, recognised: Findings) -> (Scan, Findings) {
        let taxonomy = self.bundle.taxonomy();
        match (&taxonomy.model_scan, by) {
            (Some(spec), ModelScan::Done { model, findings }) => {
                let mut found = Findings::default();
                for (entity, count) in findings.iter().filter(|(_, count)| **count > 0) {
                    let category = taxonomy.model_entities.get(entity).map_or(UNKNOWN, Name::as_str);
                    if category != NO_FINDING {
                        found.counts.insert(entity.clone(), (*count).min(COUNT_MAX));
                        found.categories.extend(Name::new(category).ok());
                    }
                }
                let counts = spec.sha256.is_none_or(|pinned| pinned == *model);
                let scan = if counts { Scan::Model(*model) } else { self.scanner.fact() };
                (scan, recognised.or(found))
            }
            _ => (self.scanner.fact(), recognised),
        }
    }

    /// Decides; where a scan may still be asked for, and one that finds nothing would let the task leave that now may not, the
    /// decision is that the scan comes first.
    pub(super) fn settle_or_scan(
        &self,
        task: &Task,
        directory: &Directory,
        draft: Draft<'_>,
        found: u64,
    ) -> Decision {
        let facts = draft.facts;
        let spec = self.bundle.taxonomy().model_scan.as_ref().filter(|_| facts.model_scan == ModelScan::Open);
        let Some(spec) = spec.filter(|_| fits(task)) else {
            return self.settle(task, directory, draft, found);
        };
        let clean = Scan::Model(spec.sha256.unwrap_or_else(|| Digest::plain(b"")));
        let after =
            Draft { scan: clean, labels: draft.labels.clone(), findings: draft.findings.clone(), ..draft };
        let (labels, scan) = (draft.labels.clone(), draft.scan.clone());
        let decision = self.settle(task, directory, draft, found);
        if leaves(&decision) || !leaves(&self.settle(task, directory, after, found)) {
            return decision;
        }
        match self.scan_place(task, directory, facts, spec, (&labels, &scan, found)) {
            Some(place) => Decision {
                outcome: Outcome::Local,
                sentence: sentence::SCANNED_FIRST.to_owned(),
                destination: Some(place),
                determining: Vec::new(),
                policy_owners: Vec::new(),
                obligations: Vec::new(),
                code: None,
                ..decision
            },
            None => decision,
        }
    }

    /// Where it would be scanned: beside the first local destination that policies permit to this task, whatever else that can do.
    fn scan_place(
        &self,
        task: &Task,
        directory: &Directory,
        facts: &Facts,
        spec: &ModelSpec,
        (labels, scan, found): (&tidegate_schemas::labels::Labels, &Scan, u64),
    ) -> Option<Destination> {
        let pool = scan::pool();
        if facts.wait_ms.get(&pool).is_some_and(|wait| *wait > SCAN_MS_MAX) {
            return None;
        }
        let (tenant, agent) = directory.agent(&task.tenant, &task.agent)?;
        let circumstances = self.circumstances(task, labels, tenant, facts, (scan, found));
        let seat = self.seat(task, Principal::new(&task.tenant, &task.agent, agent)).ok()?;
        let answers = self.engine.answers(&seat, &circumstances).ok()?;
        let permitted = |(index, place): &(usize, &crate::destination::DestinationSpec)| {
            place.lane == Lane::Local
                && !circumstances.settled.off.contains(&place.name)
                && self.engine.answer(&answers, &seat, engine::route(place), *index).allowed
        };
        let (_, beside) = self.bundle.destinations().iter().enumerate().find(permitted)?;
        let place = Destination {
            name: pool.clone(),
            target: pool,
            model: spec.name.clone(),
            model_sha256: spec.sha256,
            adapter_sha256: None,
            ..beside.chosen()
        };
        (!facts.off.iter().any(|switch| switch.covers(&task.tenant, &place))).then_some(place)
    }
}

fn fits(task: &Task) -> bool {
    let texts = task.input.texts();
    (1..=SCAN_TEXTS_MAX).contains(&texts.len()) && task.input.bytes() <= SCAN_BYTES_MAX
}

/// Whether the task leaves by it, perhaps after a person agrees or once what was found is replaced.
fn leaves(decision: &Decision) -> bool {
    let cloud = decision.destination.as_ref().is_some_and(|place| place.lane == Lane::Cloud);
    matches!(decision.outcome, Outcome::Cloud | Outcome::Hold | Outcome::Redact) && cloud
}
