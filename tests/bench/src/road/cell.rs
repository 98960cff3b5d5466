//! A provisioned cell on a server of its own, whose backlog can be drained again and again.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_nats::{Client, ConnectOptions, jetstream};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tempfile::TempDir;
use tidegate_bus::accounts::{Identities, render};
use tidegate_bus::server::{NatsServer, ServerOptions};
use tidegate_bus::topology::ROUTER;
use tidegate_bus::{
    Bus, BusConfig, CellShape, ConsumerSpec, Identity, Outbound, Role, Topology, provision, topology,
};
use tidegate_policies::Bundle;
use tidegate_schemas::control::{
    ACTIVE_KEY, Active, BUNDLES_BUCKET, DIRECTORY_BUCKET, FLAGS_BUCKET, FLAGS_KEY, Flags, RELEASE_BUCKET,
};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::{Lane, WORK_CLOUD, WORK_LOCAL};
use uuid::Uuid;

use super::Sync;
use crate::machine::Meter;
use crate::task::{self, AGENT, TENANT};

/// Publishes that wait at once while a backlog is made, count.
const WINDOW: usize = 2_048;
/// Size of each stream, bytes.
const STREAM_BYTES_MAX: u64 = 8 << 30;
/// Subject of local work that is drained across accounts.
const LOCAL_WORK: &str = "work.local.default.batch.bench";

pub(super) struct Cell {
    dir: TempDir,
    server: NatsServer,
    identities: Identities,
    topology: Topology,
    admin: Bus,
    bare_admin: jetstream::Context,
}

impl Cell {
    pub(super) async fn start(server: &Path, directory: &Path, sync: Sync) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(directory)?;
        let (bundle, who) = (task::bundle()?, task::directory()?);
        let shape = shape(&bundle);
        let mut identities = Identities::open(dir.path().join("keys"))?;
        identities.ensure_all(&who)?;
        let mut options = ServerOptions::new(server, dir.path().join("nats"));
        options.sync_interval = sync.interval().to_owned();
        let server = NatsServer::start(options, &render(&shape, &who, &identities)?).await?;
        let mut topology = topology(&shape, &who);
        // The router's own durables on work exist for these measurements only.
        topology.consumers.push(ConsumerSpec::new(WORK_LOCAL, ROUTER, &["work.local.>"]));
        topology.consumers.push(ConsumerSpec::new(WORK_CLOUD, ROUTER, &["work.cloud.>"]));
        let url = server.url().to_owned();
        let provisioner = Identity::Role(Role::Provisioner);
        let seed = identities.seed_file(&provisioner);
        let admin = Bus::connect(BusConfig::new(&url, provisioner.clone(), Some(seed.clone()))).await?;
        let bare_admin = jetstream::new(bare(&url, &provisioner, &seed).await?);
        provision(&admin, &topology).await?;
        let (hash, release) = (who.hash(), bundle.hash());
        let active = |hash| serde_json::to_vec(&Active { event: 0, hash });
        admin.kv_put(DIRECTORY_BUCKET, &hash.to_string(), serde_json::to_vec(&who)?).await?;
        admin.kv_put(DIRECTORY_BUCKET, ACTIVE_KEY, active(hash)?).await?;
        admin.kv_put(BUNDLES_BUCKET, &release.to_string(), bundle.archive().to_owned()).await?;
        admin.kv_put(RELEASE_BUCKET, ACTIVE_KEY, active(release)?).await?;
        admin.kv_put(FLAGS_BUCKET, FLAGS_KEY, serde_json::to_vec(&Flags::default())?).await?;
        Ok(Self { dir, server, identities, topology, admin, bare_admin })
    }

    /// A role's connection by the bus.
    pub(super) async fn bus(&self, identity: impl Into<Identity>) -> Result<Bus> {
        let identity = identity.into();
        let seed = self.identities.seed_file(&identity);
        Ok(Bus::connect(BusConfig::new(self.server.url(), identity, Some(seed))).await?)
    }

    /// A role's connection by the bare client.
    pub(super) async fn bare(&self, identity: impl Into<Identity>) -> Result<Client> {
        let identity = identity.into();
        bare(self.server.url(), &identity, &self.identities.seed_file(&identity)).await
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Version of the server.
    pub(super) fn version(&self) -> String {
        self.admin.server_version()
    }

    /// Counts processor time of this process and of the server from now on.
    pub(super) fn meter(&self) -> Meter {
        Meter::start(self.server.pid().unwrap_or_default())
    }

    /// Messages that a stream holds.
    pub(super) async fn messages(&self, stream: &str) -> Result<u64> {
        Ok(self.admin.stream_info(stream).await?.messages)
    }

    /// What a message of a stream weighs, headers included, bytes.
    pub(super) async fn bytes_each(&self, stream: &str) -> Result<u64> {
        let state = self.admin.stream_info(stream).await?;
        Ok(state.bytes / state.messages.max(1))
    }

    /// Makes the backlog: tasks of an agent, each of so many bytes.
    pub(super) async fn fill(&self, bytes: usize, messages: u64) -> Result<()> {
        let task = |_| {
            let id = Uuid::now_v7();
            let payload = task::payload(id, bytes)?;
            Ok(Outbound::new(format!("task.{AGENT}.chat"), payload).with_id(id.to_string()))
        };
        publish(&self.bus(agent()?).await?, (0..messages).map(task)).await
    }

    /// Makes a backlog of local work.
    pub(super) async fn fill_work(&self, bytes: usize, messages: u64) -> Result<()> {
        let work =
            |number| Ok(Outbound::new(LOCAL_WORK, vec![b'x'; bytes]).with_id(format!("work {number}")));
        publish(&self.bus(Role::Router).await?, (0..messages).map(work)).await
    }

    /// Empties the stream of cloud work, its memory of ids included.
    pub(super) async fn empty_work(&self) -> Result<()> {
        self.bare_admin.delete_stream(WORK_CLOUD).await.context("deleting the stream of cloud work")?;
        provision(&self.admin, &self.topology).await?;
        Ok(())
    }

    /// All tasks wait again, and no work is there.
    pub(super) async fn rewind(&self) -> Result<()> {
        self.forget(&tasks_stream(), ROUTER).await?;
        self.empty_work().await
    }

    /// All local work waits again.
    pub(super) async fn rewind_work(&self) -> Result<()> {
        self.forget(WORK_LOCAL, ROUTER).await?;
        self.forget(WORK_LOCAL, "default").await?;
        provision(&self.admin, &self.topology).await?;
        Ok(())
    }

    async fn forget(&self, stream: &str, consumer: &str) -> Result<()> {
        let gone = self.bare_admin.delete_consumer_from_stream(consumer, stream).await;
        gone.with_context(|| format!("deleting consumer `{consumer}` of `{stream}`"))?;
        Ok(())
    }
}

async fn bare(url: &str, identity: &Identity, seed: &Path) -> Result<Client> {
    let seed = std::fs::read_to_string(seed).context("reading a seed")?;
    let options = ConnectOptions::new()
        .nkey(seed.trim().to_owned())
        .custom_inbox_prefix(identity.inbox_prefix())
        .name(format!("bench {identity}"));
    options.connect(url).await.context("connecting the bare client")
}

async fn publish(bus: &Bus, messages: impl Iterator<Item = Result<Outbound>>) -> Result<()> {
    let mut under_way = FuturesUnordered::new();
    for message in messages {
        if under_way.len() >= WINDOW
            && let Some(published) = under_way.next().await
        {
            let _: tidegate_bus::Published = published?;
        }
        under_way.push(bus.publish(message?));
    }
    while let Some(published) = under_way.next().await {
        published?;
    }
    Ok(())
}

/// Who submits tasks.
pub(super) fn agent() -> Result<Identity> {
    Ok(Identity::Agent { tenant: Name::new(TENANT)?, agent: Name::new(AGENT)? })
}

/// The stream of the tasks.
pub(super) fn tasks_stream() -> String {
    format!("TASKS_{TENANT}")
}

/// Pools and providers of the bundle's destinations.
fn shape(bundle: &Arc<Bundle>) -> CellShape {
    let of = |lane: Lane| {
        let mut targets: Vec<Name> = bundle
            .destinations()
            .iter()
            .filter(|spec| spec.lane == lane)
            .map(|spec| spec.target.clone())
            .collect();
        targets.sort();
        targets.dedup();
        targets
    };
    CellShape { pools: of(Lane::Local), providers: of(Lane::Cloud), stream_bytes_max: STREAM_BYTES_MAX }
}
