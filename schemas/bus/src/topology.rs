//! The cell's streams, consumers and buckets: the table of the design, once.

use std::collections::BTreeMap;

use tidegate_schemas::breaker::BREAKERS_BUCKET;
use tidegate_schemas::budget::BUDGETS_BUCKET;
use tidegate_schemas::control::STATE_DAYS;
use tidegate_schemas::directory::{Directory, Tenant};
use tidegate_schemas::ids::Name;
use tidegate_schemas::replay::tool_filter;
use tidegate_schemas::subject::{
    EVENTS, REPLAY, RESULTS, STEPS, WORK_CLOUD, WORK_LOCAL, tasks_stream, tenant_of_stream,
};
use tidegate_schemas::vault::{REDACT_POOL, RESTORE_POOL};

use crate::spec::{BucketSpec, ConsumerSpec, StreamSpec};

/// Consumer of the router on each stream that it reads.
pub const ROUTER: &str = "router";
/// Consumer of the router on operators' acts.
pub const ROUTER_CONTROL: &str = "router-control";
/// Consumer of the vault on what the recorder erases.
pub const VAULT: &str = "vault";
/// Consumer of the recorder on every stream that is recorded.
pub const RECORDER: &str = "recorder";
/// Buckets of immutable versions and an `active` pointer; read-only for roles.
pub const VERSIONED_BUCKETS: [&str; 6] = ["directory", "bundles", "prompts", "models", "flags", "release"];
/// Buckets of shared state, written by the router; budgets and breakers by cloud workers.
pub const STATE_BUCKETS: [&str; 4] = ["sessions", "budgets", "breakers", "reviews"];

/// How long replayed records stay, nanoseconds: one day.
const REPLAY_AGE_NS: u64 = DAY_NS;
/// One day, nanoseconds.
const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// How long ledgers and breakers stay after they were last written, days: longer than their longest window or time. So those of
/// agents and places that are gone do not pile up.
const COUNT_DAYS: u64 = 2;
/// The recorder reads far ahead, in groups, count.
const RECORDER_ACK_PENDING: u64 = 50_000;
/// Work that one pool or provider may hold unacknowledged, count.
const WORK_ACK_PENDING: u64 = 2_000;
/// Size of a versioned or state bucket, bytes.
const BUCKET_BYTES: u64 = 256 * 1024 * 1024;

/// What a cell consists of, besides its directory.
#[derive(Debug, Clone)]
pub struct CellShape {
    /// Pools of local workers.
    pub pools: Vec<Name>,
    /// Providers of cloud workers.
    pub providers: Vec<Name>,
    /// Size of each stream that is not a tenant's, bytes.
    pub stream_bytes_max: u64,
}

/// Streams, consumers and buckets that a cell must have.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// Streams.
    pub streams: Vec<StreamSpec>,
    /// Consumers.
    pub consumers: Vec<ConsumerSpec>,
    /// Buckets.
    pub buckets: Vec<BucketSpec>,
}

/// The topology of a cell with this shape and directory.
#[must_use]
pub fn topology(shape: &CellShape, directory: &Directory) -> Topology {
    let bytes = shape.stream_bytes_max;
    let mut streams = recorded_streams(bytes);
    streams.push(StreamSpec::new(REPLAY, &["replay.>"], bytes).with_max_age_ns(REPLAY_AGE_NS));
    let mut consumers = vec![
        ConsumerSpec::new(STEPS, ROUTER, &["step.>"]),
        ConsumerSpec::new(EVENTS, ROUTER, &["verdict.>"]),
        control_consumer(),
        vault_consumer(),
        recorder(STEPS),
        recorder(WORK_LOCAL),
        recorder(WORK_CLOUD),
        recorder(RESULTS),
        recorder(EVENTS),
    ];
    consumers.extend(shape.pools.iter().chain(&own_pools()).map(pool_consumer));
    consumers.extend(shape.providers.iter().map(provider_consumer));
    let versioned = VERSIONED_BUCKETS.map(|name| bucket(name, 0));
    let state = STATE_BUCKETS.map(|name| bucket(name, state_days(name) * DAY_NS));
    let buckets = versioned.into_iter().chain(state).collect();
    let mut topology = Topology { streams, consumers, buckets };
    add_tenants(&mut topology, &directory.tenants);
    topology
}

fn bucket(name: &str, max_age_ns: u64) -> BucketSpec {
    BucketSpec { name: name.to_owned(), max_bytes: BUCKET_BYTES, max_age_ns }
}

/// How long a value of shared state stays after it was last written, days.
fn state_days(bucket: &str) -> u64 {
    match bucket {
        BUDGETS_BUCKET | BREAKERS_BUCKET => COUNT_DAYS,
        _ => STATE_DAYS,
    }
}

/// The cell's own streams that are recorded, each of this size in bytes.
fn recorded_streams(bytes: u64) -> Vec<StreamSpec> {
    vec![
        StreamSpec::new(STEPS, &["step.>"], bytes),
        StreamSpec::new(WORK_LOCAL, &["work.local.>"], bytes),
        StreamSpec::new(WORK_CLOUD, &["work.cloud.>"], bytes),
        StreamSpec::new(RESULTS, &["result.>"], bytes).one_per_subject(),
        StreamSpec::new(
            EVENTS,
            &["attempt.>", "review.>", "verdict.>", "dead.>", "control.>", "checkpoint"],
            bytes,
        ),
    ]
}

/// What a recorded stream of this name must be, but for its size; `None` for a name that no cell has.
#[must_use]
pub fn recorded_stream(name: &str) -> Option<StreamSpec> {
    let tenant = tenant_of_stream(name).map(|tenant| tasks_spec(&tenant, 0));
    tenant.or_else(|| recorded_streams(0).into_iter().find(|spec| spec.name == name))
}

fn tasks_spec(tenant: &Name, bytes: u64) -> StreamSpec {
    let (tasks, cancels) = (format!("task.{tenant}.>"), format!("cancel.{tenant}.>"));
    StreamSpec::new(tasks_stream(tenant), &[&tasks, &cancels], bytes)
}

fn add_tenants(topology: &mut Topology, tenants: &BTreeMap<Name, Tenant>) {
    for (name, tenant) in tenants {
        topology.streams.push(tasks_spec(name, tenant.quota.stream_bytes_max));
        topology.consumers.push(tasks_consumer(name));
        topology.consumers.push(recorder(&tasks_stream(name)));
        for (tool, settings) in &tenant.tools {
            topology.consumers.push(tool_consumer(name, tool, settings.content));
            topology.consumers.push(replay_consumer(name, tool, settings.content));
        }
    }
}

/// The routers' consumer of operators' acts, one at a time: their order counts.
#[must_use]
pub fn control_consumer() -> ConsumerSpec {
    ConsumerSpec::new(EVENTS, ROUTER_CONTROL, &["control.>"]).with_max_ack_pending(1)
}

/// The router's consumer of a tenant's tasks and their withdrawals.
#[must_use]
pub fn tasks_consumer(tenant: &Name) -> ConsumerSpec {
    let (tasks, cancels) = (format!("task.{tenant}.>"), format!("cancel.{tenant}.>"));
    ConsumerSpec::new(tasks_stream(tenant), ROUTER, &[&tasks, &cancels])
}

/// Pools of the cell's own work: redacting and restoring, whatever a bundle's destinations are.
#[must_use]
#[expect(clippy::expect_used, reason = "constants that are names")]
pub fn own_pools() -> [Name; 2] {
    [REDACT_POOL, RESTORE_POOL].map(|pool| Name::new(pool).expect("a name"))
}

/// The vault's consumer of what the recorder is about to erase, one at a time.
#[must_use]
pub fn vault_consumer() -> ConsumerSpec {
    ConsumerSpec::new(EVENTS, VAULT, &["control.erase.recorder"]).with_max_ack_pending(16)
}

/// The consumer of a pool of local workers.
#[must_use]
pub fn pool_consumer(pool: &Name) -> ConsumerSpec {
    ConsumerSpec::new(WORK_LOCAL, pool.as_str(), &[&format!("work.local.{pool}.>")])
        .with_max_ack_pending(WORK_ACK_PENDING)
}

/// The consumer of a provider's cloud workers.
#[must_use]
pub fn provider_consumer(provider: &Name) -> ConsumerSpec {
    ConsumerSpec::new(WORK_CLOUD, provider.as_str(), &[&format!("work.cloud.{provider}.>")])
        .with_max_ack_pending(WORK_ACK_PENDING)
}

/// Durable name of a support tool's consumer. Names may hold `-` and `_`, so neither can divide tenant from tool.
#[must_use]
pub fn tool_durable(tenant: &Name, tool: &Name) -> String {
    format!("tool={tenant}={tool}")
}

/// A support tool's consumer of its tenant's results, with or without content.
#[must_use]
pub fn tool_consumer(tenant: &Name, tool: &Name, content: bool) -> ConsumerSpec {
    let spec = ConsumerSpec::new(RESULTS, tool_durable(tenant, tool), &[&format!("result.{tenant}.>")]);
    if content { spec } else { spec.headers_only() }
}

/// A support tool's consumer of what is replayed to it, with or without content.
#[must_use]
pub fn replay_consumer(tenant: &Name, tool: &Name, content: bool) -> ConsumerSpec {
    let spec = ConsumerSpec::new(REPLAY, tool_durable(tenant, tool), &[&tool_filter(tenant, tool)]);
    if content { spec } else { spec.headers_only() }
}

/// The recorder's consumer of a stream: everything.
#[must_use]
pub fn recorder(stream: &str) -> ConsumerSpec {
    ConsumerSpec::new(stream, RECORDER, &[">"]).with_max_ack_pending(RECORDER_ACK_PENDING)
}
