//! Whether a replay may be done: the plan is the record's, it fits its target, and the active bundle permits it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_audit::plan::PlanError;
use tidegate_audit::{Plan, PlanHead, ReadError, Reader, RecordKind};
use tidegate_bus::Bus;
use tidegate_policies::{Bundle, Judge, ReplayRequest};
use tidegate_schemas::control::{ACTIVE_KEY, Active, BUNDLES_BUCKET, RELEASE_BUCKET};
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::replay::ReplayTo;

use crate::review;
use crate::service::{Refusal, read};
use crate::shared::Shared;

/// Whose records a plan holds.
struct Whose {
    tenants: BTreeSet<Name>,
    cell: bool,
    /// Whether all are of the one kind that the target takes.
    fits: bool,
}

/// Refuses what may not be done, with one sentence.
pub(super) async fn check(
    bus: &Bus,
    shared: &Shared,
    operator: &Name,
    plan: &PlanHead,
    target: &ReplayTo,
) -> Result<(), Refusal> {
    let directory = review::directory(bus).await?;
    let whose = whose(shared, plan, target).await?;
    fits(&directory, &whose, target)?;
    let bundle = active_bundle(bus).await?;
    let (operator, target, records) = (operator.clone(), target.clone(), plan.records);
    // Preparing a bundle takes some tens of milliseconds.
    let judged = tokio::task::spawn_blocking(move || {
        let judge = Judge::new(Arc::new(bundle)).ok()?;
        let Whose { tenants, cell, .. } = &whose;
        let asked = ReplayRequest { operator: &operator, target: &target, tenants, cell: *cell, records };
        Some(judge.may_replay(&directory, &asked))
    });
    let permission = judged.await.ok().flatten().ok_or_else(unjudged)?;
    if permission.allowed {
        return Ok(());
    }
    let why = match permission.policies.as_slice() {
        [] => "no policy of the active bundle permits it to this operator".to_owned(),
        policies => format!("forbidden by {}", policies.join(", ")),
    };
    Err(Refusal(403, format!("the replay is not permitted: {why}")))
}

/// Makes the plan again and looks at its records.
async fn whose(shared: &Shared, plan: &PlanHead, target: &ReplayTo) -> Result<Whose, Refusal> {
    let (head, target) = (plan.clone(), target.clone());
    let found = read(shared, move |reader| match Plan::again(reader, &head, jiff::Timestamp::UNIX_EPOCH) {
        Ok(plan) => look(reader, &plan, &target).map(Ok),
        Err(PlanError::Read(error)) => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    });
    found.await?.map_err(|why| Refusal(409, why))
}

fn look(reader: &Reader, plan: &Plan, target: &ReplayTo) -> Result<Whose, ReadError> {
    let mut whose = Whose { tenants: BTreeSet::new(), cell: false, fits: true };
    for index in &plan.indices {
        let Some(record) = reader.get(*index)? else { continue };
        whose.fits &= match target {
            ReplayTo::Subject => true,
            ReplayTo::Tool { tenant, .. } => {
                record.leaf.kind == RecordKind::Result && record.leaf.tenant.as_ref() == Some(tenant)
            }
            ReplayTo::Original => record.leaf.kind == RecordKind::Task,
        };
        match record.leaf.tenant {
            Some(tenant) => drop(whose.tenants.insert(tenant)),
            None => whose.cell = true,
        }
    }
    Ok(whose)
}

fn fits(directory: &Directory, whose: &Whose, target: &ReplayTo) -> Result<(), Refusal> {
    let refused = |sentence: &str| Err(Refusal(409, sentence.to_owned()));
    match target {
        ReplayTo::Tool { tenant, tool } => {
            if !directory.tenants.get(tenant).is_some_and(|tenant| tenant.tools.contains_key(tool)) {
                return refused("the directory knows no such support tool");
            }
            if !whose.fits {
                return refused(
                    "a support tool takes results of its own tenant only; plan with --kind result --tenant",
                );
            }
        }
        ReplayTo::Original if !whose.fits => {
            return refused("only tasks can be submitted again; plan with --kind task");
        }
        ReplayTo::Original | ReplayTo::Subject => {}
    }
    if whose.tenants.is_empty() && !whose.cell {
        return refused("the plan holds no record");
    }
    Ok(())
}

async fn active_bundle(bus: &Bus) -> Result<Bundle, Refusal> {
    let value = async |bucket: &str, key: &str| -> Result<Vec<u8>, Refusal> {
        let entry = bus.kv_get(bucket, key).await.map_err(|_| unjudged())?;
        entry.map(|entry| entry.value.to_vec()).ok_or_else(unjudged)
    };
    let active: Active =
        serde_json::from_slice(&value(RELEASE_BUCKET, ACTIVE_KEY).await?).map_err(|_| unjudged())?;
    let archive = value(BUNDLES_BUCKET, &active.hash.to_string()).await?;
    let bundle = String::from_utf8(archive).ok().and_then(|archive| Bundle::from_kept(&archive).ok());
    bundle.filter(|bundle| bundle.hash() == active.hash).ok_or_else(unjudged)
}

/// What cannot be judged is not permitted.
fn unjudged() -> Refusal {
    Refusal(503, "the active bundle cannot be asked now, so nothing is permitted; ask again later".to_owned())
}
