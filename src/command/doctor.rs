//! `tidegate doctor`: this machine and this cell, each thing with what to do about it. Looks and changes nothing.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;
use tidegate_audit::Reader;
use tidegate_bus::{Bus, server};
use tidegate_policies::{Bundle, check};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::limits::CLOCK_SKEW_MS_MAX;
use tidegate_schemas::subject::{EVENTS, Lane};

use super::record::Record;
use super::{act, dead, directory, policy, status};
use crate::cell::{Cell, LocalSection};
use crate::cli::Global;
use crate::{models, output};

mod kept;

/// Free space below which a cell is about to stop, bytes.
const FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// No clock that is right shows an earlier time than the one this was written at (Unix seconds).
const CLOCK_MIN_S: i64 = 1_790_000_000;

/// How one thing is.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    ok: bool,
    found: String,
    /// What to do, where it is not well or should be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, ok: true, found: found.into(), todo: None }
    }

    /// Nothing is broken, but somebody should look.
    fn look(what: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { what, ok: true, found: found.into(), todo: Some(todo.into()) }
    }

    fn bad(what: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { what, ok: false, found: found.into(), todo: Some(todo.into()) }
    }
}

pub(super) async fn run(global: &Global) -> Result<ExitCode> {
    let mut findings = vec![nats_server()];
    findings.extend(models_here()?);
    findings.push(bundle());
    findings.push(clock());
    findings.push(disk(&global.cell));
    match Cell::open(&global.cell) {
        Ok(cell) => of_cell(&cell, &mut findings).await,
        // A machine without a cell is no sick machine.
        Err(_) => findings.push(Finding::ok(
            "cell",
            format!("none in `{}`; start one with `tidegate dev`", global.cell.display()),
        )),
    }
    let bad = findings.iter().filter(|finding| !finding.ok).count();
    if global.json {
        output::json(&findings)?;
    } else {
        for finding in &findings {
            let mark = if finding.ok { "ok " } else { "BAD" };
            output::line(format!("{mark}  {:<14} {}", finding.what, finding.found));
            if let Some(todo) = &finding.todo {
                output::line(format!("     {:<14} → {todo}", ""));
            }
        }
        let look = findings.iter().filter(|finding| finding.ok && finding.todo.is_some()).count();
        output::line(match (bad, look) {
            (0, 0) => "all well".to_owned(),
            (0, _) => format!("well, but {look} to look at"),
            _ => format!("{bad} of {} not well", findings.len()),
        });
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn nats_server() -> Finding {
    match server::find() {
        Ok(path) => Finding::ok("nats-server", path.display().to_string()),
        Err(error) => Finding::bad(
            "nats-server",
            error.to_string(),
            "run `deploy/fetch nats-server`, or set TIDEGATE_NATS_SERVER",
        ),
    }
}

fn models_here() -> Result<Vec<Finding>> {
    let finding = |model: models::Model| {
        let wrong = model.files.iter().find_map(|file| model.verify(file).err());
        match wrong {
            None => Finding::ok("model", format!("{} is what the manifest says", model.name)),
            Some(error) => Finding::bad(
                "model",
                output::sentence(&error),
                "run `deploy/fetch models`, or set TIDEGATE_MODELS",
            ),
        }
    };
    Ok(models::manifest()?.model.into_iter().map(finding).collect())
}

fn bundle() -> Finding {
    let checked = policy::default_dir().and_then(|dir| Ok(check::dir(&dir)?));
    match checked {
        Ok((_, report)) => {
            Finding::ok("bundle", format!("the default one loads: {} policies", report.policies))
        }
        Err(error) => Finding::bad(
            "bundle",
            output::sentence(&error),
            "run in the project's directory, or name one with --bundle",
        ),
    }
}

fn clock() -> Finding {
    let now = Timestamp::now();
    if now.as_second() < CLOCK_MIN_S {
        return Finding::bad(
            "clock",
            format!("it shows {now:.0}"),
            "set it: tickets and deadlines depend on it",
        );
    }
    Finding::ok("clock", format!("{now:.0}"))
}

fn disk(dir: &Path) -> Finding {
    let there =
        dir.ancestors().find(|dir| dir.is_dir()).map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    match nix::sys::statvfs::statvfs(&there) {
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let found = format!("{} MiB free for `{}`", free / (1024 * 1024), dir.display());
            if free < FREE_BYTES_MIN {
                return Finding::bad(
                    "disk",
                    found,
                    "free at least 1 GiB: with a full disk nothing is acknowledged any more",
                );
            }
            Finding::ok("disk", found)
        }
        Err(error) => Finding::bad(
            "disk",
            format!("cannot be asked: {error}"),
            "check that the cell's directory can be reached",
        ),
    }
}

async fn of_cell(cell: &Cell, findings: &mut Vec<Finding>) {
    findings.push(secrets(cell));
    let runs = cell.running().is_ok();
    match act::connect(cell).await {
        Ok(bus) => {
            findings.push(Finding::ok(
                "server",
                format!("{} answers, version {}", cell.config.url, bus.server_version()),
            ));
            findings.push(streams(&bus).await);
            findings.push(clock_of(&bus).await);
            findings.extend(released(cell, &bus).await);
            findings.extend(kept::look(&bus).await);
        }
        Err(error) if runs => {
            let todo = format!("see `{}`", cell.nats().join("nats-server.log").display());
            findings.push(Finding::bad("server", output::sentence(&error), todo));
        }
        Err(_) => findings.push(port(&cell.config.url)),
    }
    for role in status::roles(cell).await {
        let found = format!("{} ({}): {}", role.role, role.address, role.sentence);
        findings.push(match role.ready {
            true => Finding::ok("role", found),
            false => Finding::bad("role", found, format!("see `{}`", cell.log(&role.role).display())),
        });
    }
    if !runs {
        findings.push(Finding::look("roles", "the cell is not running", "start it with `tidegate dev`"));
    }
    if cell.record().exists() {
        findings.extend(record(cell));
        findings.extend(letters(cell).await);
    }
}

/// What the active bundle needs of this cell beside destinations: its weights, and people.
async fn released(cell: &Cell, bus: &Bus) -> Vec<Finding> {
    let Ok(Some(bundle)) = policy::active_if_any(bus).await else { return Vec::new() };
    let mut findings = vec![pins(&cell.config.local, &bundle)];
    if let Ok(Some(directory)) = directory::active(bus).await {
        findings.push(reviewers(&bundle, &directory));
    }
    findings
}

fn pins(section: &LocalSection, bundle: &Bundle) -> Finding {
    let what = "weights";
    let loads = match models::engine(section) {
        Ok(engine) => [(engine.chat_sha256, engine.chat_adapter_sha256), (engine.embed_sha256, None)],
        Err(error) => {
            return Finding::bad(what, output::sentence(&error), "see `[local]` in cell.toml");
        }
    };
    let missing = others(bundle, &loads);
    if missing.is_empty() {
        return Finding::ok(what, "those that the active bundle pins are what a worker here loads");
    }
    let unknown =
        if loads.iter().any(|(weights, _)| weights.is_none()) { " (of one it is not known)" } else { "" };
    Finding::look(
        what,
        format!("a worker here loads others than the active bundle pins for {}{unknown}", missing.join(", ")),
        "work of them fails unless another host's worker has them: name the model (and its adapter) and its hash under `[local]` in cell.toml, or pin it in a bundle",
    )
}

/// What a worker loads: the hash of the weights, and of the adapter that is merged into them.
type Loaded = (Option<String>, Option<String>);

/// Local destinations of which the pinned weights, with their adapter, are none of those that a worker loads.
fn others(bundle: &Bundle, loads: &[Loaded]) -> Vec<String> {
    let read = |hash: &Option<String>| hash.as_ref().and_then(|hash| hash.to_ascii_lowercase().parse().ok());
    let loads: Vec<(Option<Digest>, Option<Digest>)> =
        loads.iter().map(|(weights, adapter)| (read(weights), read(adapter))).collect();
    let local = bundle.destinations().iter().filter(|spec| spec.lane == Lane::Local);
    let other = local.filter(|spec| {
        let pinned = (spec.model_sha256, spec.chosen().adapter_sha256);
        pinned != (None, None) && !loads.contains(&pinned)
    });
    other.map(|spec| format!("`{}`", spec.name)).collect()
}

fn reviewers(bundle: &Bundle, directory: &Directory) -> Finding {
    let missing: Vec<String> =
        policy::without_reviewers(bundle, directory).iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        return Finding::ok("reviews", "each queue of the active bundle has its reviewers");
    }
    Finding::look(
        "reviews",
        format!("{}: what is held there ends rejected", missing.join("; ")),
        "give it to somebody: `tidegate tool reviewer NAME --queue QUEUE`",
    )
}

/// Seeds and keys are for their owner only.
fn secrets(cell: &Cell) -> Finding {
    let mut open = Vec::new();
    let dirs = [cell.identities(), cell.dir.join("keys"), cell.nats()];
    for dir in dirs {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let secret = path.extension().is_some_and(|ext| ext == "nk" || ext == "key" || ext == "conf");
            let mode = entry.metadata().map_or(0, |meta| meta.permissions().mode());
            if secret && mode & 0o077 != 0 {
                open.push(format!("`{}`", path.display()));
            }
        }
    }
    if open.is_empty() {
        return Finding::ok("secrets", "seeds and keys are readable by their owner only");
    }
    Finding::bad(
        "secrets",
        format!("others may read {}", open.join(", ")),
        "chmod 600 them, and renew what may have been read",
    )
}

/// Whether the cell's port is free, where nothing of the cell runs.
fn port(url: &str) -> Finding {
    let port = url.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let Some(port) = port else {
        return Finding::bad(
            "port",
            format!("`{url}` names no port"),
            "write a URL like nats://127.0.0.1:4222 into cell.toml",
        );
    };
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Finding::ok("port", format!("{port} is free")),
        Err(error) => Finding::bad(
            "port",
            format!("{port} is taken, and not by this cell ({error})"),
            "stop what listens there (ss -ltnp), or start a new cell with `tidegate dev --port 0`",
        ),
    }
}

async fn streams(bus: &Bus) -> Finding {
    match bus.stream_names().await {
        Ok(names) if names.iter().any(|name| name == EVENTS) => {
            Finding::ok("streams", format!("{} are there", names.len()))
        }
        Ok(_) => Finding::bad("streams", "the cell's streams are not there", "run `tidegate provision`"),
        Err(error) => Finding::bad(
            "streams",
            error.to_string(),
            "check that JetStream is enabled and its disk can be written",
        ),
    }
}

/// The newest act or attempt cannot be of the future, if both clocks are right.
async fn clock_of(bus: &Bus) -> Finding {
    let last = match bus.stream_info(EVENTS).await {
        Ok(state) => state.last_at.unwrap_or(Timestamp::UNIX_EPOCH),
        Err(error) => return Finding::bad("clocks", error.to_string(), "see the line about streams"),
    };
    let ahead = last.duration_since(Timestamp::now()).as_millis();
    if ahead > i128::from(CLOCK_SKEW_MS_MAX) {
        return Finding::bad(
            "clocks",
            format!("the server's is {ahead} ms ahead of this host's"),
            "synchronise both, for example by chrony",
        );
    }
    Finding::ok("clocks", "this host's and the server's agree")
}

/// Messages that were given up and that nobody has dealt with.
async fn letters(cell: &Cell) -> Option<Finding> {
    let record = Record::open(cell).await.ok()?;
    let open = dead::open(&record, None).await.ok()?.len();
    (open > 0).then(|| Finding::look("dead letters", format!("{open} open"), "see `tidegate dead list`"))
}

fn record(cell: &Cell) -> Vec<Finding> {
    let read =
        Reader::open(&cell.record(), None).context("opening it").and_then(|reader| Ok(reader.status()?));
    match read {
        Ok(status) => {
            let found = format!("{} records, {} tasks open", status.records, status.open);
            let alarms = (status.anomalies > 0).then(|| {
                let todo = "see `tidegate audit query --anomalies`";
                Finding::look("alarms", format!("{} records are odd", status.anomalies), todo)
            });
            [Finding::ok("record", found)].into_iter().chain(alarms).collect()
        }
        Err(error) => vec![Finding::bad(
            "record",
            output::sentence(&error),
            "start the recorder; if it stays so, restore a copy of the directory",
        )],
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    #[test]
    fn weights_that_a_bundle_pins_and_no_worker_here_loads_are_told() {
        let bundle = super::policy::default_bundle().unwrap();
        let pin = |name: &str| {
            let spec = bundle.destinations().iter().find(|spec| spec.name.as_str() == name).unwrap();
            spec.model_sha256.map(|pin| pin.to_string())
        };
        let (chat, embed) = (pin("local-chat"), pin("local-embed"));
        let others = |loads: [Option<String>; 2], adapter: Option<String>| {
            let [chat, embed] = loads;
            super::others(&bundle, &[(chat, adapter), (embed, None)])
        };
        assert!(others([chat.clone(), embed.clone()], None).is_empty(), "negative control");
        let adapter = Some("00".repeat(32));
        assert_eq!(
            others([chat.clone(), embed.clone()], adapter.clone()),
            ["`local-chat`"],
            "merged weights are others"
        );
        assert_eq!(others([adapter, embed], None), ["`local-chat`"]);
        let unknown = others([chat, None], None);
        assert_eq!(unknown, ["`local-embed`"], "of weights that nobody named nothing is known");
    }
}
