//! `tidegate dev`: a whole cell on loopback. The server and each role run as their own process under their own identity;
//! what dies is started again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::json;
use tidegate_bus::server::{self, NatsServer, ServerError, ServerOptions};
use tidegate_bus::{CancellationToken, Identity, Role as BusRole};
use tidegate_policies::Bundle;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;

use super::supervise::{self, Role};
use super::{accounts, create, policy, provision, roles};
use crate::cell::{Cell, LocalSection, Running, RunningRole, replace};
use crate::cli::{DevArgs, Global, StopArgs};
use crate::{models, output};

/// Between two tries to start a server that ended.
const SERVER_EVERY: Duration = Duration::from_secs(1);
/// How long a cell may take to stop: its roles drain one after the other.
const STOPPED: Duration = Duration::from_secs(90);
/// How long the roles may take until all can do their work. Models load meanwhile: a slow disk, or a machine with other work.
const READY: Duration = Duration::from_secs(300);
/// How often it is told what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at the children.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn run(global: &Global, args: &DevArgs) -> Result<ExitCode> {
    let shutdown = CancellationToken::new();
    roles::stop_on_signal(shutdown.clone())?;
    if args.attached {
        stop_with_input(shutdown.clone());
    }
    let Some(mut dev) = Dev::start(global, args, &shutdown).await? else {
        output::note("stopped before it ran");
        return Ok(ExitCode::SUCCESS);
    };
    let told = dev.tell(global);
    if told.is_ok() {
        dev.watch(&shutdown).await;
    }
    // Whatever became of it: nothing that was started is left behind.
    output::note("stopping: every role drains first");
    dev.stop().await;
    told.map(|()| ExitCode::SUCCESS)
}

/// Stops the cell that `dev` started, and waits until it has.
pub(super) async fn stop(global: &Global, args: StopArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let running = cell.running()?;
    let pid = running.supervisor;
    if !supervise::is_of(pid, Path::new("tidegate")) {
        bail!("what ran this cell was ended (process {pid}): `tidegate dev` ends what it left, and goes on");
    }
    supervise::signal(Some(pid), Signal::SIGTERM);
    let begun = Instant::now();
    let ran = || cell.running().is_ok_and(|now| now.supervisor == pid);
    while !args.no_wait && ran() && supervise::is_of(pid, Path::new("tidegate")) {
        if begun.elapsed() > STOPPED {
            bail!(
                "the cell is still stopping after {} s (process {pid}); see `{}`",
                STOPPED.as_secs(),
                cell.dir.join("logs").display()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    match global.json {
        true => output::json(&json!({ "stopping": pid, "stopped": !args.no_wait }))?,
        false if args.no_wait => output::line("stopping"),
        false => output::line(format!("stopped, after {:.1} s", begun.elapsed().as_secs_f64())),
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the cell when whoever started it closes standard input or ends.
fn stop_with_input(shutdown: CancellationToken) {
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
        shutdown.cancel();
    });
}

/// A running dev cell.
pub(super) struct Dev {
    pub(super) cell: Cell,
    nats: NatsServer,
    roles: Vec<Role>,
    addresses: BTreeMap<String, String>,
    stopping: bool,
}

impl Dev {
    /// Creates the cell if need be, and starts everything in order; nothing where it is told to stop meanwhile.
    pub(super) async fn start(
        global: &Global,
        args: &DevArgs,
        shutdown: &CancellationToken,
    ) -> Result<Option<Self>> {
        let is_cell = global.cell.join("cell.toml").exists();
        let goes_on = is_cell && !args.fresh;
        if is_cell {
            refuse_while_running(&global.cell).await?;
        }
        if !is_cell {
            create::place::free(&global.cell)?;
        }
        // Before anything is removed or made.
        let server = server::find()?;
        if !goes_on {
            models::engine(&LocalSection::default())?;
        }
        let named = args.bundle.as_deref().map(policy::bundle_in).transpose()?;
        if is_cell && args.fresh {
            refuse_taken(args.port.unwrap_or(create::PORT))?;
        }
        if args.fresh {
            let left = create::place::clear(&global.cell)?;
            if !left.is_empty() {
                output::note(format!("not the cell's, so it stays: {}", left.join(", ")));
            }
        }
        let (mut cell, mut directory) = match goes_on {
            true => create::open(&global.cell)?,
            false => create::cell(&global.cell, args)?,
        };
        create::vault_key(&cell)?;
        let stand_in = create::keys(&cell)?;
        let bundle = match named {
            Some(bundle) => bundle,
            None if stand_in => policy::demo_bundle()?,
            None => policy::default_bundle()?,
        };
        if !goes_on {
            create::first_queues(&mut directory, &bundle);
        }
        let rendered = accounts::render(&cell, &[&bundle], &directory)?;
        output::note("starting nats-server");
        let mut options = ServerOptions::new(server, cell.nats());
        options.tls = cell.config.tls.as_ref().map(|tls| server::ServerTls {
            cert_file: tls.cert_file.clone(),
            key_file: tls.key_file.clone(),
        });
        let named = args.port.filter(|port| *port != 0);
        options.port = named.or_else(|| port_of(&cell.config.url)).filter(|port| *port != 0);
        let nats = match NatsServer::start(options.clone(), &rendered).await {
            Err(ServerError::PortTaken { .. }) if args.port == Some(0) => {
                NatsServer::start(ServerOptions { port: None, ..options }, &rendered).await?
            }
            Err(taken @ ServerError::PortTaken { .. }) if !goes_on => {
                // Nothing was ever in it.
                create::place::clear(&cell.dir)?;
                return Err(taken.into());
            }
            started => started?,
        };
        cell.config.url = nats.url().to_owned();
        cell.save()?;
        let mut dev = Self { cell, nats, roles: Vec::new(), addresses: BTreeMap::new(), stopping: false };
        let started = tokio::select! {
            started = dev.start_roles(global, args, (bundle, directory), stand_in) => Some(started),
            () = shutdown.cancelled() => None,
        };
        match started {
            Some(Ok(())) => Ok(Some(dev)),
            Some(Err(error)) => {
                dev.stop().await;
                Err(error)
            }
            None => {
                output::note("stopping: what was started drains first");
                dev.stop().await;
                Ok(None)
            }
        }
    }

    async fn start_roles(
        &mut self,
        global: &Global,
        args: &DevArgs,
        first: (Bundle, Directory),
        stand_in: bool,
    ) -> Result<()> {
        let bus = self.cell.connect(BusRole::Provisioner).await?;
        // What ships is for a new cell; another one goes on with what is active.
        let (canary, (bundle, directory)) = match provision::active(&bus).await? {
            Some(active) => (super::bundle::canary(&bus).await?, active),
            None => (None, first),
        };
        let (bundle, directory) = (&bundle, &directory);
        self.settle(bundle, canary.as_ref(), directory, stand_in).await?;
        // A bundle that names no destination at the stand-in has no use for it. Its model loads while the streams are made.
        let stand_in = stand_in && !self.cell.config.cloud.providers.is_empty();
        if stand_in {
            self.start_stand_in(global)?;
        }
        output::note("creating streams, consumers and buckets");
        provision::streams(&bus, &self.cell, bundle, directory).await?;
        output::note("starting the roles (the models load meanwhile)");
        self.start_each(["recorder", "vault", "local"].map(str::to_owned))?;
        if stand_in {
            self.find_stand_in().await?;
        }
        provision::first_versions(&bus, &self.cell, bundle, directory).await?;
        let cloud = (!self.cell.config.cloud.providers.is_empty()).then(|| "cloud".to_owned());
        let routers = (2..=args.routers).map(|n| format!("router-{n}"));
        self.start_each(cloud.into_iter().chain(["router".to_owned()]).chain(routers))?;
        self.look().await?;
        self.ready().await?;
        // Whoever waits for the file may use the cell from here on.
        self.note_running()
    }

    /// Providers and accounts of the bundles and directory that the cell goes on with.
    async fn settle(
        &mut self,
        bundle: &Bundle,
        canary: Option<&Bundle>,
        directory: &Directory,
        stand_in: bool,
    ) -> Result<()> {
        create::providers(&mut self.cell, bundle, stand_in)?;
        self.cell.save()?;
        create::save_directory(&self.cell, directory)?;
        let bundles: Vec<&Bundle> = std::iter::once(bundle).chain(canary).collect();
        let rendered = accounts::render(&self.cell, &bundles, directory)?;
        let before = fs::read_to_string(self.cell.nats().join("accounts.conf")).unwrap_or_default();
        if rendered != before {
            self.nats.reload(&rendered).await?;
        }
        Ok(())
    }

    /// Waits until every role says that it can do its work. A recorder that refuses its record needs an operator, who needs
    /// the cell: without it local work goes on, and nothing leaves.
    async fn ready(&mut self) -> Result<()> {
        let (deadline, mut tell) = (Instant::now() + READY, Instant::now() + TELL_EVERY);
        let mut refused = false;
        for role in ["recorder", "vault", "local", "cloud", "router"] {
            let runs = self.addresses.keys().any(|name| name.split('-').next() == Some(role));
            if !runs || (refused && role == "router") {
                continue;
            }
            while !super::status::is_ready(&self.addresses, role).await {
                if Instant::now() > deadline {
                    bail!(
                        "{role} is not ready after {} s; see `{}`",
                        READY.as_secs(),
                        self.cell.log(role).display()
                    );
                }
                if Instant::now() > tell {
                    let why = super::status::why_not_ready(&self.addresses, role).await;
                    output::note(format!("waiting for {role}: {}", why.unwrap_or_default()));
                    tell += TELL_EVERY;
                }
                let recorder = self.roles.iter_mut().find(|role| role.name == "recorder");
                if role == "recorder"
                    && let Some(words) = recorder.and_then(Role::last_words)
                {
                    output::note(format!("the recorder does not start, so nothing leaves the cell: {words}"));
                    refused = true;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    fn role(&self, name: &str) -> Result<Role> {
        let ops_file = self.ops_file(name);
        let command = name.split('-').next().unwrap_or(name);
        let arguments = [
            "--cell".to_owned(),
            self.cell.dir.display().to_string(),
            command.to_owned(),
            "--ops-file".to_owned(),
            ops_file.display().to_string(),
        ];
        let role = Role::new(name, arguments.to_vec(), self.cell.log(name), ops_file)?;
        Ok(match command {
            "local" => role.with_environment(engine_environment(models::threads(&self.cell.config.local))),
            _ => role,
        })
    }

    fn ops_file(&self, name: &str) -> PathBuf {
        self.cell.dir.join("run").join(format!("{name}.address"))
    }

    fn start_each(&mut self, names: impl IntoIterator<Item = String>) -> Result<()> {
        for name in names {
            let mut role = self.role(&name)?;
            role.start()?;
            self.roles.push(role);
        }
        Ok(())
    }

    /// A local model that stands in for a provider, behind the OpenAI protocol.
    fn start_stand_in(&mut self, global: &Global) -> Result<()> {
        output::note("no API key in the environment: a second local model stands in for the cloud provider");
        let address_file = self.ops_file("model");
        let arguments = ["--cell", &global.cell.display().to_string(), "model", "serve", "--address-file"]
            .map(str::to_owned)
            .into_iter()
            .chain([address_file.display().to_string()]);
        let mut role = Role::new("model", arguments.collect(), self.cell.log("model"), address_file)?
            .with_environment(engine_environment(1));
        role.start()?;
        self.roles.push(role);
        Ok(())
    }

    /// Writes where it listens into the cell's configuration, once its model has loaded.
    async fn find_stand_in(&mut self) -> Result<()> {
        let role = self.roles.iter_mut().find(|role| role.name == "model").context("no stand-in runs")?;
        let address = role.address().await?;
        create::point_stand_in(&mut self.cell, &address)
    }

    /// Notes who runs where.
    async fn look(&mut self) -> Result<()> {
        for role in &mut self.roles {
            let address = role.address().await?;
            self.addresses.insert(role.name.clone(), address);
        }
        Ok(())
    }

    fn note_running(&self) -> Result<()> {
        let roles = self.roles.iter().filter_map(|role| {
            let ops = self.addresses.get(&role.name)?.clone();
            Some((role.name.clone(), RunningRole { pid: role.pid_last()?, ops }))
        });
        let running = Running {
            supervisor: std::process::id(),
            nats: self.nats.pid().unwrap_or_default(),
            roles: roles.collect(),
            stopping: self.stopping,
        };
        replace(&self.cell.dir.join("run.json"), &serde_json::to_vec_pretty(&running)?, 0o644)
    }

    /// Starts again what dies, until shutdown. What fails here is tried again: the other roles go on meanwhile.
    pub(super) async fn watch(&mut self, shutdown: &CancellationToken) {
        let (mut changed, mut told) = (false, false);
        let mut server_due = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.nats.has_ended() && Instant::now() >= server_due {
                tracing::warn!("nats-server ended; starting it again.");
                match self.nats.restart().await {
                    Ok(()) => changed = true,
                    Err(error) => tracing::error!(%error, "nats-server does not start; trying again."),
                }
                server_due = Instant::now() + SERVER_EVERY;
            }
            for role in &mut self.roles {
                if role.keep_alive() {
                    self.addresses.remove(&role.name);
                    changed = true;
                }
            }
            for role in &mut self.roles {
                if !self.addresses.contains_key(&role.name)
                    && let Some(address) = role.address_now()
                {
                    self.addresses.insert(role.name.clone(), address);
                    changed = true;
                }
            }
            if changed {
                let noted = self.note_running();
                if let Err(error) = &noted
                    && !told
                {
                    tracing::warn!("What runs now could not be noted; trying again: {error:#}");
                }
                (changed, told) = (noted.is_err(), noted.is_err());
            }
        }
    }

    /// Drains: routers first, so that no new work comes; the recorder last, so that all of it is recorded.
    pub(super) async fn stop(mut self) {
        self.stopping = true;
        if self.cell.dir.join("run.json").exists()
            && let Err(error) = self.note_running()
        {
            tracing::warn!("That the cell stops could not be noted: {error:#}");
        }
        let order = |name: &str| match name.split('-').next().unwrap_or(name) {
            "router" => 0,
            "recorder" => 2,
            _ => 1,
        };
        self.roles.sort_by_key(|role| order(&role.name));
        for role in &mut self.roles {
            role.stop().await;
        }
        self.nats.stop().await;
        let _ = fs::remove_file(self.cell.dir.join("run.json"));
    }

    /// The lines to go on with.
    fn tell(&self, global: &Global) -> Result<()> {
        if global.json {
            let running = fs::read_to_string(self.cell.dir.join("run.json")).context("reading run.json")?;
            output::line(running.replace('\n', " "));
            return Ok(());
        }
        lines(&self.cell, &self.addresses, true);
        Ok(())
    }
}

/// How to go on with a running cell. `in_front`: it is this process, so Ctrl-C reaches it.
pub(super) fn lines(cell: &Cell, addresses: &BTreeMap<String, String>, in_front: bool) {
    output::line(format!("the cell runs: {} ({})", cell.config.url, cell.dir.display()));
    for (role, address) in addresses {
        match role.as_str() {
            // The stand-in speaks a provider's protocol and has no health door.
            "model" => output::line(format!("  {role:<10} {address} (a stand-in for a provider)")),
            _ => output::line(format!("  {role:<10} {address}/readyz")),
        }
    }
    commands(cell, in_front);
}

/// What to do with a cell that runs.
pub(super) fn commands(cell: &Cell, in_front: bool) {
    let (dir, tidegate) = (cell.dir.display(), program());
    if let (Ok(tenant), Ok(agent)) = (Name::new("acme"), Name::new("helpdesk")) {
        let helpdesk = Identity::Agent { tenant, agent };
        output::line(format!("listen:   {}", cell.listen_line(&helpdesk)));
        output::line(format!("publish:  {}", cell.publish_line(&helpdesk, "public")));
    }
    output::line(format!(
        "submit:   {tidegate} --cell {dir} submit chat 'What is a tide?' --sensitivity public"
    ));
    output::line(format!("record:   {tidegate} --cell {dir} audit tail"));
    output::line(format!("status:   {tidegate} --cell {dir} status"));
    let or = if in_front { ", or Ctrl-C" } else { "" };
    output::line(format!("stop:     {tidegate} --cell {dir} stop{or}"));
}

/// How this program is called here: by its name where the shell finds it, else by its path.
pub(super) fn program() -> String {
    let Ok(this) = std::env::current_exe() else { return "tidegate".to_owned() };
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&paths).map(|dir| dir.join("tidegate")).find(|path| path.is_file());
    if first.and_then(|path| path.canonicalize().ok()) == this.canonicalize().ok() {
        return "tidegate".to_owned();
    }
    let here = std::env::current_dir().ok();
    let beside = here.and_then(|here| this.strip_prefix(here).ok().map(|path| Path::new(".").join(path)));
    beside.unwrap_or(this).display().to_string()
}

fn engine_environment(threads: usize) -> impl Iterator<Item = (String, String)> {
    tidegate_engine::launch_environment(threads).into_iter().map(|(name, value)| (name.to_owned(), value))
}

/// A cell runs once. What a supervisor that was killed left behind is ended first.
async fn refuse_while_running(dir: &Path) -> Result<()> {
    let Ok(text) = fs::read_to_string(dir.join("run.json")) else { return Ok(()) };
    let Ok(running) = serde_json::from_str::<Running>(&text) else { return Ok(()) };
    if supervise::is_of(running.supervisor, Path::new("tidegate")) {
        running.refuse_while_stopping()?;
        bail!("this cell runs already (process {}): stop it with `tidegate stop`", running.supervisor);
    }
    let dir = std::path::absolute(dir).with_context(|| format!("finding `{}`", dir.display()))?;
    supervise::end_orphans(&dir, &running).await;
    Ok(())
}

/// Refuses a port that somebody else has, so that a cell which cannot begin costs none that is there. Zero takes a free one.
fn refuse_taken(port: u16) -> Result<(), ServerError> {
    match port != 0 && std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).is_err() {
        true => Err(ServerError::PortTaken { port }),
        false => Ok(()),
    }
}

fn port_of(url: &str) -> Option<u16> {
    url.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}
