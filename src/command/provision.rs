//! `tidegate provision`: streams, consumers and buckets, and the first version of what the buckets hold.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tidegate_bus::topology::CellShape;
use tidegate_bus::{Bus, KvError, ProvisionError, ProvisionReport, Role, topology};
use tidegate_policies::Bundle;
use tidegate_schemas::control::{
    ACTIVE_KEY, Act, Active, BUNDLES_BUCKET, DIRECTORY_BUCKET, FLAGS_BUCKET, FLAGS_KEY, Flags, RELEASE_BUCKET,
};
use tidegate_schemas::decision::Switch;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;

use super::act;
use crate::cell::Cell;
use crate::cli::Global;
use crate::output;

pub(super) async fn run(global: &Global) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let bus = cell.connect(Role::Provisioner).await?;
    let (bundle, directory) = match active(&bus).await? {
        Some(active) => active,
        None => (super::policy::default_bundle()?, Directory::empty()),
    };
    let report = streams(&bus, &cell, &bundle, &directory).await?;
    if global.json {
        let drifted: Vec<_> =
            report.drifted.iter().map(|(name, drift)| format!("{name}: {drift:?}")).collect();
        output::json(&serde_json::json!({
            "created": report.created, "unchanged": report.unchanged, "drifted": drifted
        }))?;
    } else {
        output::line(format!("created {}, unchanged {}", report.created.len(), report.unchanged));
        for (name, drift) in &report.drifted {
            output::note(format!("{name} is not as asked: {drift:?}"));
        }
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The active bundle and directory; none in a cell that has nothing yet.
pub(super) async fn active(bus: &Bus) -> Result<Option<(Bundle, Directory)>> {
    let names = bus.stream_names().await.context("asking for streams")?;
    let has = |bucket: &str| names.iter().any(|name| name.strip_prefix("KV_") == Some(bucket));
    if ![RELEASE_BUCKET, BUNDLES_BUCKET, DIRECTORY_BUCKET].into_iter().all(has) {
        return Ok(None);
    }
    let bundle = super::policy::active_if_any(bus).await?;
    Ok(bundle.zip(super::directory::active(bus).await?))
}

/// Pools and providers: those of the bundles' destinations, and those that the cell is configured for.
pub(super) fn shape(cell: &Cell, bundles: &[&Bundle]) -> CellShape {
    let of = |lane: Lane| -> BTreeSet<Name> {
        let all = bundles.iter().flat_map(|bundle| bundle.destinations());
        all.filter(|d| d.lane == lane).map(|d| d.target.clone()).collect()
    };
    let mut providers = of(Lane::Cloud);
    providers.extend(cell.config.cloud.providers.keys().cloned());
    CellShape {
        pools: of(Lane::Local).into_iter().chain([tidegate_schemas::scan::pool()]).collect(),
        providers: providers.into_iter().collect(),
        stream_bytes_max: cell.config.streams.bytes_max,
    }
}

/// Creates what is missing for this directory.
pub(super) async fn streams(
    bus: &Bus,
    cell: &Cell,
    bundle: &Bundle,
    directory: &Directory,
) -> Result<ProvisionReport> {
    let topology = topology(&shape(cell, &[bundle]), directory);
    for spec in &topology.streams {
        match bus.raise_stream_bytes(spec).await {
            Err(ProvisionError::Api { source, .. }) if source.is_not_found() => {}
            raised => raised.context("raising the size of a stream")?,
        }
    }
    for spec in &topology.buckets {
        match bus.age_bucket(spec).await {
            Err(ProvisionError::Api { source, .. }) if source.is_not_found() => {}
            aged => aged.context("setting the age of a bucket's values")?,
        }
    }
    tidegate_bus::provision(bus, &topology).await.context("creating streams, consumers and buckets")
}

/// Writes the first version of directory, bundle and switches, where there is none: on record first, like every later one, so
/// that what was decided by it can be judged again. Providers of the bundle that this cell has no configuration for are
/// switched off.
pub(super) async fn first_versions(
    bus: &Bus,
    cell: &Cell,
    bundle: &Bundle,
    directory: &Directory,
) -> Result<()> {
    if bus.kv_get(DIRECTORY_BUCKET, ACTIVE_KEY).await?.is_none() {
        let hash = directory.hash();
        bus.kv_put(DIRECTORY_BUCKET, &hash.to_string(), serde_json::to_vec(directory)?).await?;
        let act = Act::DirectoryActivate { base: hash, directory: Box::new(directory.clone()) };
        let event = recorded(cell, directory, act).await?;
        create(bus, DIRECTORY_BUCKET, ACTIVE_KEY, &Active { event, hash }).await?;
    }
    if bus.kv_get(RELEASE_BUCKET, ACTIVE_KEY).await?.is_none() {
        let hash = bundle.hash();
        bus.kv_put(BUNDLES_BUCKET, &hash.to_string(), bundle.archive().to_owned()).await?;
        let act = Act::BundleActivate { hash, archive: bundle.archive().to_owned(), not_wider: None };
        let event = recorded(cell, directory, act).await?;
        create(bus, RELEASE_BUCKET, ACTIVE_KEY, &Active { event, hash }).await?;
    }
    let switches = unconfigured(cell, bundle).into_iter().map(|target| Switch {
        lane: Some(Lane::Cloud),
        target: Some(target),
        ..Switch::default()
    });
    let flags = Flags { event: 0, switches: switches.collect(), ..Flags::default() };
    create(bus, FLAGS_BUCKET, FLAGS_KEY, &flags).await
}

/// Puts a first version on record, in the name of the directory's first operator; 0 where it has none.
async fn recorded(cell: &Cell, directory: &Directory, act: Act) -> Result<u64> {
    let Some(operator) = directory.operators.first() else { return Ok(0) };
    let published = act::publish_as(cell, operator.clone(), act, "the cell begins").await?;
    Ok(published.sequence)
}

/// Providers of the bundle that this cell does not configure, and that are not off yet.
pub(super) async fn to_switch_off(bus: &Bus, cell: &Cell, bundle: &Bundle) -> Result<Vec<Name>> {
    let off = super::lane::flags(bus).await?.switches;
    let is_off = |target: &Name| {
        let cloud = |switch: &Switch| switch.lane.is_none_or(|lane| lane == Lane::Cloud);
        let whole = |switch: &Switch| switch.tenant.is_none() && switch.model.is_none();
        off.iter().any(|s| cloud(s) && whole(s) && s.target.as_ref().is_none_or(|off| off == target))
    };
    Ok(unconfigured(cell, bundle).into_iter().filter(|target| !is_off(target)).collect())
}

/// Queues of the bundle that no worker takes work from, in words. A provider that is not configured has been switched off.
pub(super) async fn unserved(bus: &Bus, cell: &Cell, bundle: &Bundle) -> Result<Vec<String>> {
    let shape = shape(cell, &[bundle]);
    let off = unconfigured(cell, bundle);
    let pools = shape.pools.iter().map(|pool| (topology::pool_consumer(pool), format!("pool `{pool}`")));
    let providers = shape.providers.iter().filter(|provider| !off.contains(*provider));
    let providers = providers.map(|p| (topology::provider_consumer(p), format!("provider `{p}`")));
    let mut unserved = Vec::new();
    for (spec, name) in pools.chain(providers) {
        let state = bus.consumer_info(&spec.stream, &spec.durable_name).await?;
        // A worker that has enough to do asks for no more.
        if state.waiting + state.ack_pending == 0 {
            unserved.push(name);
        }
    }
    Ok(unserved)
}

/// Providers of the bundle without configuration in this cell.
fn unconfigured(cell: &Cell, bundle: &Bundle) -> BTreeSet<Name> {
    let configured = &cell.config.cloud.providers;
    let cloud = bundle.destinations().iter().filter(|d| d.lane == Lane::Cloud);
    cloud.map(|d| d.target.clone()).filter(|target| !configured.contains_key(target)).collect()
}

async fn create<T: Serialize>(bus: &Bus, bucket: &str, key: &str, value: &T) -> Result<()> {
    match bus.kv_create(bucket, key, serde_json::to_vec(value)?).await {
        Ok(_) | Err(KvError::Conflict { .. }) => Ok(()),
        Err(error) => bail!("writing bucket `{bucket}`: {error}"),
    }
}
