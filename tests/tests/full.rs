//! A real full disk under the broker: it acknowledges nothing, and nothing that it acknowledged is lost.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tidegate_schemas::header::Headers;
use tidegate_schemas::result::State;
use tidegate_tests::conservation::Ledger;
use tidegate_tests::wait::until;
use tidegate_tests::{Agent, Operator, TestCell};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(60);
/// Room for the streams, MiB.
const DISK_MIB: usize = 48;
/// Tasks that are published while the disk is full, count.
const TASKS: usize = 12;

/// nats-server as it is, with its streams on a small disk of its own: a file system in memory, in a namespace that this user may
/// make. A process keeps it while the server is ended and started again.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn new() -> Result<Self> {
        let disk = Self { dir: tempfile::tempdir()? };
        let real = tidegate_bus::server::find()?.canonicalize()?;
        let script = format!(
            "#!/bin/sh\n\
             PATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
             if [ \"$1\" != -c ]; then exec '{real}' \"$@\"; fi\n\
             store=$(echo \"$TIDEGATE_NATS_STORE\" | tr -d '\"')\n\
             if [ ! -f '{keeper}' ]; then\n\
             mkdir -p \"$store\"\n\
             unshare --user --map-root-user --mount sh -c \"mount -t tmpfs -o size={DISK_MIB}m none '$store' && echo \\$\\$ >'{keeper}.new' && mv '{keeper}.new' '{keeper}' && exec sleep 900\" &\n\
             while [ ! -f '{keeper}' ]; do kill -0 $! || exit 1; sleep 0.05; done\n\
             fi\n\
             exec nsenter --target \"$(cat '{keeper}')\" --user --mount --preserve-credentials '{real}' \"$@\"\n",
            real = real.display(),
            keeper = disk.keeper().display(),
        );
        fs::write(disk.program(), script)?;
        fs::set_permissions(disk.program(), fs::Permissions::from_mode(0o755))?;
        Ok(disk)
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("nats-server")
    }

    fn keeper(&self) -> PathBuf {
        self.dir.path().join("keeper")
    }

    /// A file on the disk, as it is reached from outside.
    fn filler(&self, cell: &TestCell) -> Result<PathBuf> {
        let keeper =
            fs::read_to_string(self.keeper()).context("this machine makes no namespaces for users")?;
        let store = cell.path().join("nats/streams/filler");
        Ok(Path::new("/proc").join(keeper.trim()).join("root").join(store.strip_prefix("/")?))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let keeper = fs::read_to_string(self.keeper()).ok();
        if let Some(pid) = keeper.and_then(|text| text.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Writes until there is no room.
fn fill(path: &Path) -> Result<u64> {
    let mut file = fs::File::create(path)?;
    let mut written = 0;
    for piece in [1 << 16, 1] {
        while let Ok(count) = file.write(&vec![0_u8; piece]) {
            written += count as u64;
        }
    }
    Ok(written)
}

fn embed(id: &str) -> Value {
    json!({ "id": id, "labels": { "sensitivity": "internal" }, "input": { "texts": ["x".repeat(20_000)] } })
}

#[tokio::test]
async fn crash_story_a_full_disk_of_the_broker_s_loses_nothing_that_was_acknowledged() -> Result<()> {
    let disk = SmallDisk::new()?;
    let program = disk.program().display().to_string();
    let cell = TestCell::start_with(&[("TIDEGATE_NATS_SERVER", &program)], &[]).await?;
    let agent = Agent::connect(&cell, "acme", "helpdesk").await?;
    let first = Uuid::now_v7().to_string();
    assert_eq!(
        agent.ask("embed", embed(&first)).await?.state,
        State::Completed,
        "negative control: there is room"
    );
    cell.recorded(SOON).await?;

    let filler = disk.filler(&cell)?;
    let written = fill(&filler)?;
    assert!(written > 1 << 20, "the disk is full with {written} bytes of ours");
    let ids: Vec<String> = (0..TASKS).map(|_| Uuid::now_v7().to_string()).collect();
    let publish = async |id: &String| {
        let body = embed(id).to_string().into_bytes();
        let sent = agent.publish("embed", Some(id), Headers::new(), body);
        matches!(tokio::time::timeout(Duration::from_secs(8), sent).await, Ok(Ok(_)))
    };
    let mut refused = Vec::new();
    for id in &ids {
        // Once it has refused one it takes none until it is started again.
        if !refused.is_empty() || !publish(id).await {
            refused.push(id);
        }
    }
    assert!(!refused.is_empty(), "a full disk acknowledges nothing");

    fs::remove_file(&filler)?;
    cell.kill_and_wait("nats").await?;
    until("the server to take tasks again", SOON, || async { Ok(publish(refused[0]).await.then_some(())) })
        .await?;
    for id in &refused {
        until("the task to be taken", SOON, || async { Ok(publish(id).await.then_some(())) }).await?;
    }
    for id in &ids {
        until("the task to end", SOON, || async {
            let told = cell.output(&["task", "get", id, "--json"]).await?;
            let state = serde_json::from_slice::<Value>(&told.stdout).unwrap_or_default();
            Ok((state["state"] == "completed").then_some(()))
        })
        .await?;
    }
    let operator = Operator::connect(&cell).await?;
    cell.recorded(SOON).await?;
    let ledger = Ledger::read(&operator).await?;
    assert_eq!((ledger.accepted.len(), ledger.breaches()), (TASKS + 1, Vec::<String>::new()));
    cell.tidegate(&["audit", "verify"]).await?;
    Ok(())
}
