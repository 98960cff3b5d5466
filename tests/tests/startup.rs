//! What the program says when it cannot start, and what it does when a role is started by hand.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};
use tidegate_tests::TestCell;
use tidegate_tests::cell::{PROVIDER_KEYS, program, root};
use tidegate_tests::wait::until;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long a model may take to load.
const LOADED: Duration = Duration::from_secs(90);
/// How long a role may take to drain.
const DRAINED: Duration = Duration::from_secs(10);
/// How long a whole cell may take to stop.
const STOPPED: Duration = Duration::from_secs(60);
/// How long the demo's first result may take once it is built, seconds.
const FIRST_RESULT_S: f64 = 60.0;
/// What the engine reads its threads from.
const THREADS: [&str; 3] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS", "CANDLE_BARRIER_POOL_SPIN_LIMIT"];

/// The program as an operator starts it: none of the variables that `tidegate dev` or a test runner sets.
fn by_hand(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.current_dir(root()).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for name in THREADS.into_iter().chain(PROVIDER_KEYS) {
        command.env_remove(name);
    }
    command
}

/// What it says as it fails: one line, whose sentence is given back.
async fn sentence(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("tidegate: ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert_eq!(said.lines().last(), Some(lines[0]), "nothing after it: {said}");
    lines[0].to_owned()
}

/// A GGUF file without weights, of this architecture.
fn gguf(architecture: &str) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let entry = [text("general.architecture"), 8u32.to_le_bytes().to_vec(), text(architecture)].concat();
    [&b"GGUF\x03\0\0\0"[..], &0u64.to_le_bytes(), &1u64.to_le_bytes(), &entry].concat()
}

fn models() -> std::path::PathBuf {
    std::env::var_os("TIDEGATE_MODELS").map_or_else(|| root().join(".models"), Into::into)
}

fn cell_with(dir: &Path, local: &str) -> String {
    let cell = dir.join("cell");
    std::fs::create_dir_all(&cell).unwrap();
    let config = format!("name = \"dev\"\nurl = \"nats://127.0.0.1:1\"\n[local]\n{local}\n");
    std::fs::write(cell.join("cell.toml"), config).unwrap();
    cell.display().to_string()
}

/// A cell that a demo leaves running. It must not outlive a test that fails.
struct Kept(PathBuf);

impl Kept {
    /// Whether its supervisor runs it: the last that this one does is to remove the file.
    fn runs(&self) -> bool {
        self.0.join("run.json").exists()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.runs() {
            return;
        }
        let mut stop = std::process::Command::new(program());
        // Whatever it says: the test has failed already.
        let _ = stop.arg("--cell").arg(&self.0).arg("stop").stdin(Stdio::null()).output();
        let begun = Instant::now();
        while self.runs() && begun.elapsed() < STOPPED {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// What `./deploy/quickstart --keep` runs once everything is built, and the lines that it ends with.
#[tokio::test]
async fn the_guided_demo_passes_and_leaves_its_cell_running() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let kept = Kept(dir.path().join("cell"));
    let cell = kept.0.display().to_string();
    let output = by_hand(&["demo", "--keep", "--cell", &cell]).output().await?;
    let (told, noted) =
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    let said = format!("{told}\n{noted}");
    ensure!(output.status.success() && told.contains("6 scenes passed, 0 failed"), "{said}");
    let first = noted.split("(first result ").nth(1).and_then(|rest| rest.split(' ').next());
    let first: f64 = first.context("no first result")?.parse()?;
    ensure!(first <= FIRST_RESULT_S, "the first result took {first} s: {said}");

    // The process that printed them has ended, and what they name is there.
    let line = |what: &str| {
        let found = told.lines().find_map(|line| line.strip_prefix(what)).map(str::trim_start);
        found.with_context(|| format!("no line `{what}`: {said}"))
    };
    let doors: Vec<&str> = told.lines().filter_map(|line| line.strip_suffix("/readyz")).collect();
    ensure!(doors.len() == 5, "recorder, local, cloud, router and vault: {said}");
    for door in doors {
        ready(door.split_whitespace().last().context("an address")?).await?;
    }
    let publish = line("publish:")?;
    ensure!(publish.starts_with("nats --server nats://127.0.0.1:"), "{publish}");
    ensure!(publish.contains(" pub task.helpdesk.chat ") && publish.contains(&cell), "{publish}");
    for (what, words) in [("record:", "audit tail"), ("status:", "status"), ("stop:", "stop")] {
        let line = line(what)?;
        ensure!(line.ends_with(&format!("--cell {cell} {words}")), "{line}");
    }
    let submit = format!("{} --max-tokens 4", line("submit:")?);
    let submitted = typed(&submit).await?;
    ensure!(submitted.status.success(), "{submit}: {}", String::from_utf8_lossy(&submitted.stderr));

    ensure!(kept.runs(), "it runs until it is told to stop");
    what_stops_says_so(&kept.0).await?;
    let stopping = typed(line("stop:")?).await?;
    ensure!(stopping.status.success(), "{}", String::from_utf8_lossy(&stopping.stderr));
    ensure!(!kept.runs(), "whoever was told that it stopped can go on");
    // Negative control: of a cell that has stopped the same line gets no result.
    let refused = typed(&submit).await?;
    ensure!(refused.status.code() == Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    Ok(())
}

/// While a cell drains, nobody is sent round in circles, and nobody sees the server's own errors.
async fn what_stops_says_so(cell: &Path) -> Result<()> {
    let (file, dir) = (cell.join("run.json"), cell.display().to_string());
    let running = std::fs::read_to_string(&file)?;
    let mut stopping: serde_json::Value = serde_json::from_str(&running)?;
    ensure!(stopping.get("stopping").is_none(), "negative control: {running}");
    stopping["stopping"] = true.into();
    std::fs::write(&file, stopping.to_string())?;
    for command in ["dev", "status"] {
        let said = sentence(by_hand(&["--cell", &dir, command])).await;
        ensure!(said.contains("is stopping") && said.contains("waits until it has"), "{said}");
    }
    std::fs::write(&file, &running)?;
    let said = sentence(by_hand(&["--cell", &dir, "dev"])).await;
    ensure!(said.contains("runs already") && said.contains("tidegate stop"), "{said}");
    Ok(())
}

/// What becomes of a line that somebody types.
async fn typed(line: &str) -> Result<std::process::Output> {
    let mut shell = Command::new("sh");
    shell.current_dir(root()).args(["-c", line]).stdin(Stdio::null()).kill_on_drop(true);
    shell.output().await.context("running a line")
}

#[tokio::test]
async fn a_model_that_cannot_be_used_is_one_sentence_that_says_what_to_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let real = models().join("SmolLM2-135M-Instruct/model.gguf");
    let whole = std::fs::read(&real).context("the default model: run ./tests/run")?;
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let cut = file("cut.gguf", &whole[..whole.len() / 2]);
    let text = file("text.gguf", b"these are not weights");
    let gemma = file("gemma.gguf", &gguf("gemma3"));
    let mixture = file("mixture.gguf", &gguf("qwen3moe"));
    // The file that must be served, and what the sentence holds: what is wrong, and what to do.
    let rows: [(&str, [&str; 2]); 5] = [
        ("/nowhere/model.gguf", ["can't read the model file `/nowhere/model.gguf`", "deploy/fetch models"]),
        (&cut, ["lies beyond the end of the file", "fetch it again"]),
        (&text, ["does not begin with the GGUF magic", "fetch it again"]),
        (&gemma, ["`gemma3` is not supported", "supported are llama and qwen3"]),
        (&mixture, ["`qwen3moe` is not supported", "supported are llama and qwen3"]),
    ];
    for (path, words) in rows {
        let said = sentence(by_hand(&["model", "serve", "--gguf", path])).await;
        assert!(words.iter().all(|word| said.contains(word)), "{path}: {said}");
        // The worker says so before it looks for a server.
        let cell = cell_with(dir.path(), &format!("chat_model = \"{path}\""));
        let said = sentence(by_hand(&["--cell", &cell, "local"])).await;
        let words = if path.starts_with("/nowhere") { ["is missing", "cell.toml"] } else { words };
        assert!(words.iter().all(|word| said.contains(word)), "{path}: {said}");
    }
    // The default models: gone, and with other bytes than the manifest says.
    let other = dir.path().join("models");
    let mut command = by_hand(&["model", "serve"]);
    command.env("TIDEGATE_MODELS", &other);
    let said = sentence(command).await;
    assert!(said.contains("is missing") && said.contains("deploy/fetch models"), "{said}");
    file("models/SmolLM2-135M-Instruct/model.gguf", &whole[..1_000_000]);
    let mut command = by_hand(&["model", "serve"]);
    command.env("TIDEGATE_MODELS", &other);
    let said = sentence(command).await;
    assert!(said.contains("was expected") && said.matches("fetch it again").count() == 1, "{said}");
    // A model that the cell names, of another digest than it says.
    let local = format!("chat_model = \"{}\"\nchat_sha256 = \"{}\"", real.display(), "0".repeat(64));
    let cell = cell_with(dir.path(), &local);
    let output = by_hand(&["--cell", &cell, "model", "verify", "--json"]).output().await?;
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(output.status.code(), Some(1));
    let named = rows.as_array().and_then(|rows| rows.last()).context("a row")?;
    assert!(named["state"] == "bad" && named["why"].as_str().unwrap().contains("was expected"), "{named}");
    // Negative control: the cell takes the whole file.
    let cell = cell_with(dir.path(), &format!("chat_model = \"{}\"", real.display()));
    let output = by_hand(&["--cell", &cell, "local", "--check-config"]).output().await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test]
async fn what_is_no_cell_of_ours_stays() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let notes = dir.path().join("notes.txt");
    std::fs::write(&notes, "kept")?;
    let folder = dir.path().display().to_string();
    for more in [&["--fresh"][..], &[]] {
        let dev = ["--cell", &folder, "dev", "--port", "0"];
        let said = sentence(by_hand(&[&dev[..], more].concat())).await;
        assert!(said.contains("no cell.toml") && said.contains("--cell"), "{said}");
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 1, "nothing is begun beside it");
    }
    let cell = cell_with(dir.path(), "");
    let said = sentence(by_hand(&["demo", "--cell", &cell])).await;
    assert!(said.contains("no demo made") && said.contains("--cell"), "{said}");
    assert!(notes.exists() && Path::new(&cell).join("cell.toml").exists());
    Ok(())
}

#[tokio::test]
async fn a_server_without_room_for_the_streams_is_one_sentence_that_says_what_to_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cell = dir.path().join("cell").display().to_string();
    // nats-server as it is, but for the limit of all streams together.
    let real = tidegate_bus::server::find()?.canonicalize()?;
    let cramped = dir.path().join(real.file_name().context("a program")?);
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\n\
         if [ \"$1\" = -c ]; then sed -i 's/max_file_store: .*/max_file_store: 1MB/' \"$2\"; fi\n\
         exec '{}' \"$@\"\n",
        real.display()
    );
    std::fs::write(&cramped, script)?;
    std::fs::set_permissions(&cramped, std::fs::Permissions::from_mode(0o755))?;
    let mut command = by_hand(&["--cell", &cell, "dev", "--port", "0"]);
    command.env("TIDEGATE_NATS_SERVER", &cramped);
    let said = sentence(command).await;
    assert!(said.contains("no room for `$JS.API.STREAM.CREATE."), "{said}");
    assert!(said.contains("free room") && said.contains("raise `max_file_store`"), "{said}");
    assert!(said.len() < 400, "one sentence: {said}");
    // Negative control: with room the same cell starts, and ends with its input.
    let mut child = by_hand(&["--cell", &cell, "dev", "--attached"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let first = tokio::time::timeout(LOADED, async {
        while let Some(line) = lines.next_line().await? {
            if line.starts_with("the cell runs: ") {
                return Ok(());
            }
        }
        anyhow::bail!("it ended without running")
    });
    first.await??;
    drop(child.stdin.take());
    ensure!(tokio::time::timeout(STOPPED, child.wait()).await??.success());
    Ok(())
}

/// Starts a cell in a group of its own, as a shell does.
fn in_a_group(cell: &Path) -> Result<Child> {
    let dir = cell.display().to_string();
    let log = std::fs::File::create(cell.with_extension("out"))?;
    let mut command = by_hand(&["--cell", &dir, "dev", "--port", "0"]);
    Ok(command.process_group(0).stdout(log.try_clone()?).stderr(log).spawn()?)
}

/// Signals a group, as Ctrl-C does.
fn interrupt_group(child: &Child) -> Result<()> {
    let pid = i32::try_from(child.id().context("it runs")?)?;
    Ok(killpg(Pid::from_raw(pid), Signal::SIGINT)?)
}

#[tokio::test]
async fn ctrl_c_lets_every_role_drain_before_the_server_ends() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let kept = Kept(dir.path().join("cell"));
    let mut child = in_a_group(&kept.0)?;
    until("the cell", LOADED, || async { Ok(kept.runs().then_some(())) }).await?;
    let running: serde_json::Value = serde_json::from_slice(&std::fs::read(kept.0.join("run.json"))?)?;
    let nats = i32::try_from(running["nats"].as_i64().context("a server")?)?;
    let group = |pid| getpgid(Some(Pid::from_raw(pid))).map(Pid::as_raw);
    assert_ne!(
        group(nats)?,
        i32::try_from(child.id().unwrap())?,
        "the server is in no group of the terminal's"
    );
    interrupt_group(&child)?;
    let status = tokio::time::timeout(STOPPED, child.wait()).await??;
    let said = std::fs::read_to_string(kept.0.with_extension("out"))?;
    ensure!(status.success() && !said.contains("did not drain"), "{said}");
    for role in ["recorder", "vault", "local", "cloud", "router"] {
        let log = std::fs::read_to_string(kept.0.join("logs").join(format!("{role}.log")))?;
        ensure!(log.contains("Drained and ended."), "{role}: {log}");
    }
    ensure!(kill(Pid::from_raw(nats), None).is_err(), "the server has ended too");
    Ok(())
}

#[tokio::test]
async fn ctrl_c_while_a_cell_starts_ends_it_and_leaves_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cell = dir.path().join("cell");
    let mut child = in_a_group(&cell)?;
    let log = cell.join("logs/local.log");
    until("a role to begin", LOADED, || async { Ok(log.exists().then_some(())) }).await?;
    assert!(!cell.join("run.json").exists(), "negative control: it does not run yet");
    interrupt_group(&child)?;
    let status = tokio::time::timeout(STOPPED, child.wait()).await??;
    let said = std::fs::read_to_string(cell.with_extension("out"))?;
    ensure!(status.success() && said.contains("stopped before it ran"), "{said}");
    let name = cell.display().to_string();
    let left = std::fs::read_dir("/proc")?.filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains(&name).then_some(line)
    });
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "no process of it is left");
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let (port, cell) =
        (taken.local_addr()?.port().to_string(), dir.path().join("cell").display().to_string());
    let address = format!("127.0.0.1:{port}");
    let said = sentence(by_hand(&["--cell", &cell, "dev", "--port", &port])).await;
    assert!(said.contains(&port) && said.contains("taken by another program"), "{said}");
    assert!(!Path::new(&cell).exists(), "a cell that never ran is not left behind");
    let mut command = by_hand(&["--cell", &cell, "dev", "--port", "0"]);
    command.env("TIDEGATE_NATS_SERVER", "/nowhere/nats-server");
    let said = sentence(command).await;
    assert!(said.contains("/nowhere/nats-server") && !Path::new(&cell).exists(), "{said}");
    // A cell that has this port for its own.
    cell_with(dir.path(), "");
    let config = format!("name = \"dev\"\nurl = \"nats://{address}\"\n");
    std::fs::write(Path::new(&cell).join("cell.toml"), config)?;
    std::fs::write(
        Path::new(&cell).join("directory.json"),
        serde_json::to_string(&tidegate_schemas::directory::Directory::empty())?,
    )?;
    let rows: [&[&str]; 4] = [
        &["--cell", &cell, "dev"],
        &["--cell", &cell, "dev", "--fresh", "--port", &port],
        &["--cell", &cell, "router", "--ops", &address],
        &["model", "serve", "--listen", &address],
    ];
    for arguments in rows {
        let said = sentence(by_hand(arguments)).await;
        assert!(said.contains(&port) && said.contains("taken by another program"), "{said}");
        assert!(said.len() < 300, "one sentence: {said}");
    }
    assert!(Path::new(&cell).join("cell.toml").exists(), "what there was before stays");
    // Negative control: where nobody listens the same command has another complaint.
    drop(taken);
    let said = sentence(by_hand(&["--cell", &cell, "router", "--ops", &address])).await;
    assert!(!said.contains("taken"), "{said}");
    Ok(())
}

/// A role that an operator starts, and its address.
async fn start(cell: &TestCell, dir: &Path, environment: &[(&str, &str)]) -> Result<(Child, String)> {
    let file = dir.join("address");
    let _ = std::fs::remove_file(&file);
    let cell = cell.path().display().to_string();
    let arguments = ["--cell", &cell, "local", "--ops-file", &file.display().to_string()];
    let mut command = by_hand(&arguments);
    let log = std::fs::File::create(dir.join("log"))?;
    let mut child = command.envs(environment.iter().copied()).stderr(log).spawn()?;
    let address = until("the role's address", LOADED, || {
        let (read, ended) = (std::fs::read_to_string(&file).ok(), child.try_wait());
        async move {
            anyhow::ensure!(ended?.is_none(), "the role ended at its start");
            Ok(read.filter(|text| text.ends_with('\n')).map(|text| text.trim().to_owned()))
        }
    })
    .await?;
    Ok((child, address))
}

/// A variable that a process was started with.
fn variable(child: &Child, name: &str) -> Option<String> {
    let environ = std::fs::read(format!("/proc/{}/environ", child.id()?)).ok()?;
    let environ = String::from_utf8(environ).ok()?;
    environ.split('\0').find_map(|row| row.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

#[tokio::test]
async fn story_a_role_that_is_started_by_hand_has_its_threads_and_drains_when_told() -> Result<()> {
    let cell = TestCell::start(&[]).await?;
    let dir = tempfile::tempdir()?;
    let (mut child, address) = start(&cell, dir.path(), &[]).await?;
    let cores = std::thread::available_parallelism()?.get();
    assert_eq!(variable(&child, "RAYON_NUM_THREADS"), Some(cores.saturating_sub(1).max(1).to_string()));
    assert!(THREADS.iter().all(|name| variable(&child, name).is_some()));
    ready(&address).await?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("a process id")?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    let status = tokio::time::timeout(DRAINED, child.wait()).await.context("it did not drain")??;
    let log = std::fs::read_to_string(dir.path().join("log"))?;
    assert!(status.success() && log.contains("Drained and ended."), "{status}: {log}");
    assert!(!log.contains("threads differ"), "{log}");
    // Negative control: what the operator has set stays, and is told where it is not what the cell asks for.
    let (child, _) = start(&cell, dir.path(), &[("RAYON_NUM_THREADS", "7")]).await?;
    assert_eq!(variable(&child, "RAYON_NUM_THREADS").as_deref(), Some("7"));
    let log = dir.path().join("log");
    until("the engine's warning", LOADED, || async {
        Ok(std::fs::read_to_string(&log)?.contains("threads differ").then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_server_that_is_gone_is_one_sentence_that_says_what_to_do() -> Result<()> {
    let mut cell = TestCell::start(&[]).await?;
    let dir = cell.path().display().to_string();
    let task = ["submit", "embed", "x", "--sensitivity", "internal", "--no-wait"];
    let control = by_hand(&["--cell", &dir]).args(task).output().await?;
    assert!(control.status.success(), "negative control: {}", String::from_utf8_lossy(&control.stderr));
    cell.stop().await?;
    let rows: [&[&str]; 7] = [
        &task,
        &["status"],
        &["results"],
        &["review", "list"],
        &["lane", "off", "cloud", "--reason", "a drill"],
        &["router"],
        &["recorder"],
    ];
    for arguments in rows {
        let said = sentence(by_hand(&[&["--cell", &dir], arguments].concat())).await;
        let words = ["no nats-server at `nats://127.0.0.1:", "start it with `tidegate dev`"];
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
        assert!(said.len() < 250, "one sentence: {said}");
    }
    // What needs no server is still there to be asked.
    let record = by_hand(&["--cell", &dir, "audit", "verify"]).output().await?;
    assert!(record.status.success(), "{}", String::from_utf8_lossy(&record.stderr));
    // Who was never added is told so first.
    let stranger = [&["--cell", &dir][..], &task, &["--agent", "stranger"]].concat();
    let said = sentence(by_hand(&stranger)).await;
    assert!(said.contains("tidegate agent add acme stranger"), "{said}");
    Ok(())
}

/// Waits until a role is ready.
async fn ready(address: &str) -> Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let host = address.trim_start_matches("http://").to_owned();
    until("the role is ready", LOADED, || async {
        let mut stream = tokio::net::TcpStream::connect(&host).await?;
        let asked = format!("GET /readyz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.starts_with("HTTP/1.1 200").then_some(()))
    })
    .await
}
