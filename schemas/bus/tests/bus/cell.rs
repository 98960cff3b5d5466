//! A provisioned cell in a temporary directory: two tenants, two pools, one provider.

use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_bus::accounts::{Identities, identities_of, render};
use tidegate_bus::server::{NatsServer, ServerOptions, find};
use tidegate_bus::{
    Bus, BusConfig, CellShape, ConsumerSpec, Health, Identity, Inbound, Outbound, PullOptions, Role,
    provision, topology,
};
use tidegate_schemas::directory::{Agent, Directory, Reviewer, Tenant, Tool};
use tidegate_schemas::ids::Name;

/// How long a test waits for an event before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Cell {
    pub(crate) dir: TempDir,
    pub(crate) server: NatsServer,
    pub(crate) identities: Identities,
    pub(crate) directory: Directory,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn agent(tenant: &str, agent: &str) -> Identity {
    Identity::Agent { tenant: name(tenant), agent: name(agent) }
}

pub(crate) fn tool(tenant: &str, tool: &str) -> Identity {
    Identity::Tool { tenant: name(tenant), tool: name(tool) }
}

pub(crate) fn shape() -> CellShape {
    CellShape {
        pools: vec![name("default"), name("embed")],
        providers: vec![name("openai")],
        stream_bytes_max: 256 * 1024 * 1024,
    }
}

pub(crate) fn tenant(agents: &[&str]) -> Tenant {
    let agents = agents.iter().map(|agent| (name(agent), Agent::default())).collect();
    let mut tenant = Tenant { owner: "ops@example.com".to_owned(), agents, ..Tenant::default() };
    tenant.quota.stream_bytes_max = 64 * 1024 * 1024;
    tenant
}

pub(crate) fn directory() -> Directory {
    let mut directory = Directory::empty();
    let mut acme = tenant(&["helpdesk", "billing"]);
    acme.tools.insert(name("desk"), Tool { content: false, nkey: String::new() });
    directory.tenants.insert(name("acme"), acme);
    directory.tenants.insert(name("beta"), tenant(&["helpdesk"]));
    directory.operators.insert(name("olga"));
    let queues = [name("stakes")].into_iter().collect();
    directory.reviewers.insert(name("ann"), Reviewer { queues, nkey: String::new() });
    directory
}

impl Cell {
    pub(crate) async fn start() -> Self {
        Self::start_with("always").await
    }

    /// A cell whose server syncs as said: tests of speed-bound things use the default of the server.
    pub(crate) async fn start_with(sync_interval: &str) -> Self {
        Self::start_by(find().unwrap(), sync_interval).await
    }

    /// The same, by another program than the one that is found.
    pub(crate) async fn start_by(program: std::path::PathBuf, sync_interval: &str) -> Self {
        static TRACING: OnceLock<()> = OnceLock::new();
        TRACING.get_or_init(|| ());
        let dir = tempfile::tempdir().unwrap();
        let directory = directory();
        let mut identities = Identities::open(dir.path().join("keys")).unwrap();
        identities.ensure_all(&directory).unwrap();
        let accounts = render(&shape(), &directory, &identities).unwrap();
        let mut options = ServerOptions::new(program, dir.path().join("nats"));
        options.sync_interval = sync_interval.to_owned();
        let server = NatsServer::start(options, &accounts).await.unwrap();
        let cell = Self { dir, server, identities, directory };
        let report = provision(&cell.role(Role::Provisioner).await, &cell.topology()).await.unwrap();
        assert!(report.is_clean() && report.unchanged == 0, "{report:?}");
        cell
    }

    pub(crate) fn topology(&self) -> tidegate_bus::Topology {
        topology(&shape(), &self.directory)
    }

    /// Adds to the directory, makes keys and reloads the server.
    pub(crate) async fn change(&mut self, change: impl FnOnce(&mut Directory)) {
        change(&mut self.directory);
        self.identities.ensure_all(&self.directory).unwrap();
        let accounts = render(&shape(), &self.directory, &self.identities).unwrap();
        self.server.reload(&accounts).await.unwrap();
        provision(&self.role(Role::Provisioner).await, &self.topology()).await.unwrap();
    }

    pub(crate) async fn bus(&self, identity: Identity) -> Bus {
        Bus::connect(self.config(identity)).await.unwrap()
    }

    pub(crate) fn config(&self, identity: Identity) -> BusConfig {
        let seed = self.identities.seed_file(&identity);
        BusConfig::new(self.server.url(), identity, Some(seed))
    }

    pub(crate) async fn role(&self, role: Role) -> Bus {
        self.bus(Identity::Role(role)).await
    }

    /// A client of the identity without our crate in between.
    pub(crate) async fn raw(&self, identity: Identity) -> async_nats::Client {
        let seed = std::fs::read_to_string(self.identities.seed_file(&identity)).unwrap();
        async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
            .custom_inbox_prefix(identity.inbox_prefix())
            .connect(self.server.url())
            .await
            .unwrap()
    }

    pub(crate) fn everybody(&self) -> Vec<Identity> {
        identities_of(&self.directory)
    }
}

/// A consumer of the topology.
pub(crate) fn consumer(cell: &Cell, stream: &str, durable: &str) -> ConsumerSpec {
    let found =
        cell.topology().consumers.into_iter().find(|c| c.stream == stream && c.durable_name == durable);
    found.unwrap()
}

pub(crate) fn options(cell: &Cell, stream: &str, durable: &str) -> PullOptions {
    PullOptions::new(consumer(cell, stream, durable))
}

pub(crate) fn work(index: usize) -> Outbound {
    Outbound::new("work.local.default.batch.acme", format!("work {index}")).with_id(format!("w{index}"))
}

pub(crate) async fn count(bus: &Bus, stream: &str) -> u64 {
    bus.stream_info(stream).await.unwrap().messages
}

/// Waits until `check` holds; each look is an API request, so nothing spins.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let looked = tokio::time::timeout(PATIENCE, async { while !check().await {} }).await;
    assert!(looked.is_ok(), "never happened: {what}");
}

/// A handler made of a function.
pub(crate) struct With<F>(pub(crate) F);

impl<F, R> tidegate_bus::Handler for With<F>
where
    F: Fn(Inbound) -> R + Send + Sync + 'static,
    R: Future<Output = tidegate_bus::Verdict> + Send,
{
    async fn handle(&self, message: &Inbound) -> tidegate_bus::Verdict {
        (self.0)(message.clone()).await
    }
}

pub(crate) fn health(role: Role) -> Health {
    Health::new(role)
}
