//! `tidegate audit access`: what is held of a data subject, out of the record's file with its key.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_audit::leaf::{Detail, Leaf};
use tidegate_audit::{Body, Opened, ReadError, Reader, RecordKind};
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::result::State;

use super::words::word;
use crate::cell::Cell;
use crate::cli::{AccessArgs, AuditArgs, Global, WhoArgs};
use crate::command::record::Record;
use crate::output;

/// Bodies that one answer opens; more are written to a directory.
const OPENED_MAX: usize = 10_000;

/// What is held of a data subject.
#[derive(Debug, Default, Serialize)]
struct Held {
    /// What the record calls it.
    subjects: Vec<String>,
    records: u64,
    /// Of these, by what can be had of their bodies.
    bodies: BTreeMap<&'static str, u64>,
    tasks: Vec<Of>,
}

/// What is held of one task; of records without one, together.
#[derive(Debug, Default, Serialize)]
struct Of {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Timestamp>,
    /// Records by kind.
    records: BTreeMap<String, u64>,
    /// Where its content was, as lane and name.
    reached: BTreeSet<String>,
    bodies: BTreeMap<&'static str, u64>,
}

/// Where opened bodies go.
enum Out {
    Nowhere,
    Answer(Vec<Value>),
    Directory(PathBuf),
}

pub(super) async fn run(global: &Global, args: &AuditArgs, asked: AccessArgs) -> Result<ExitCode> {
    let record = match &args.record {
        Some(dir) => Record::in_directory(dir, args.key.as_deref(), args.crashed)?,
        None => Record::open(&Cell::open(&global.cell)?).await?,
    };
    let reader = Arc::clone(record.file()?);
    let mut out = match asked.open {
        None => Out::Nowhere,
        Some(Some(dir)) => {
            std::fs::DirBuilder::new().mode(0o700).create(&dir).with_context(|| {
                format!("creating `{}`; name a directory that is not there yet", dir.display())
            })?;
            Out::Directory(dir)
        }
        Some(None) if global.json => Out::Answer(Vec::new()),
        Some(None) => bail!("name a directory with --open, or use --json as well"),
    };
    let who = asked.who;
    let (held, out) = tokio::task::spawn_blocking(move || {
        let held = held(&reader, &who, &mut out)?;
        anyhow::Ok((held, out))
    })
    .await
    .context("reading the record")??;
    show(global, held, out)
}

fn held(reader: &Reader, who: &WhoArgs, out: &mut Out) -> Result<Option<Held>> {
    let WhoArgs { tenant, subject } = who;
    let found = match reader.data_subject(tenant, subject) {
        Err(ReadError::KeyNeeded) => {
            bail!(
                "a data subject is looked up with the master key: ask where it is, or name it with --record and --key"
            )
        }
        found => found?,
    };
    let Some(found) = found else { return Ok(None) };
    let (mut held, mut tasks) = (Held::default(), BTreeMap::<Option<TaskId>, Of>::new());
    // What fails at one record ends the reading after it.
    let mut failed = Ok(());
    reader.holding_of(&found, &mut |record| {
        let opened = reader.body(record)?;
        let state = state(&opened);
        let of = tasks.entry(record.leaf.task).or_default();
        of.take(&record.leaf);
        *of.bodies.entry(state).or_default() += 1;
        *held.bodies.entry(state).or_default() += 1;
        held.records += 1;
        if let (Opened::Body(body), Ok(())) = (opened, &failed) {
            failed = out.put(&record.leaf, &body);
        }
        Ok(())
    })?;
    failed?;
    held.subjects = found.references;
    held.tasks = tasks.into_values().collect();
    held.tasks.sort_by_key(|of| of.first);
    Ok(Some(held))
}

fn state(opened: &Opened) -> &'static str {
    match opened {
        Opened::Body(_) => "readable",
        Opened::Erased { .. } => "erased",
        Opened::Pruned => "pruned",
        Opened::Nothing | Opened::Sealed | Opened::Lost => "lost",
    }
}

fn show(global: &Global, held: Option<Held>, out: Out) -> Result<ExitCode> {
    let nothing = held.is_none();
    let held = held.unwrap_or_default();
    if global.json {
        let mut answer = serde_json::to_value(&held)?;
        if let (Out::Answer(opened), Some(fields)) = (out, answer.as_object_mut()) {
            fields.insert("opened".to_owned(), Value::Array(opened));
        }
        output::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    if nothing {
        output::line("nothing is held of this data subject: it never came, or was erased");
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = held.tasks.iter().map(Of::row).collect();
    output::table(&["task", "agent", "kind", "state", "from", "to", "records", "reached", "bodies"], &rows);
    output::line(format!("{} records of {} tasks: {}", held.records, held.tasks.len(), counts(&held.bodies)));
    if let Out::Directory(dir) = out {
        output::line(format!("what could be opened is in `{}`", dir.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn counts(of: &BTreeMap<&'static str, u64>) -> String {
    of.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

// === impl Of ===

impl Of {
    fn take(&mut self, leaf: &Leaf) {
        self.task = leaf.task;
        self.agent = self.agent.take().or_else(|| leaf.agent.clone());
        self.state = leaf.state.or(self.state);
        self.first = self.first.or(Some(leaf.time));
        self.last = self.last.max(Some(leaf.time));
        *self.records.entry(word(&leaf.kind)).or_default() += 1;
        match (&leaf.detail, leaf.kind) {
            (Some(Detail::Task { kind: Some(kind), .. }), _) => self.kind = Some(word(kind)),
            (Some(Detail::Work { lane, target, .. }), RecordKind::Work) => {
                self.reached.insert(format!("{lane} {target}"));
            }
            (Some(Detail::Attempt { lane, target, .. }), _) => {
                self.reached.insert(format!("{lane} {target}"));
            }
            _ => {}
        }
    }

    fn row(&self) -> Vec<String> {
        let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let time = |time: Option<Timestamp>| or(time.map(|time| format!("{time:.0}")));
        let reached: Vec<_> = self.reached.iter().cloned().collect();
        vec![
            or(self.task.map(|task| task.to_string())),
            or(self.agent.as_ref().map(ToString::to_string)),
            or(self.kind.clone()),
            or(self.state.map(|state| state.as_str().to_owned())),
            time(self.first),
            time(self.last),
            self.records.values().sum::<u64>().to_string(),
            or(Some(reached.join(", ")).filter(|text| !text.is_empty())),
            counts(&self.bodies),
        ]
    }
}

// === impl Out ===

impl Out {
    fn put(&mut self, leaf: &Leaf, body: &Body) -> Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Answer(all) if all.len() >= OPENED_MAX => {
                bail!("more than {OPENED_MAX} records would be opened: name a directory with --open")
            }
            Self::Answer(all) => {
                all.push(message(leaf, body));
                Ok(())
            }
            Self::Directory(dir) => {
                let path = dir.join(format!("{:08}-{}.json", leaf.index, word(&leaf.kind)));
                write(&path, &message(leaf, body)).with_context(|| format!("writing `{}`", path.display()))
            }
        }
    }
}

/// A message with all it says. A payload that is JSON stands as such, other text as text, the rest in hexadecimal digits.
fn message(leaf: &Leaf, body: &Body) -> Value {
    let payload = match (serde_json::from_slice::<Value>(&body.payload), std::str::from_utf8(&body.payload)) {
        (Ok(value), _) => value,
        (Err(_), Ok(text)) => json!(text),
        (Err(_), Err(_)) => json!({ "hex": hex::encode(&body.payload) }),
    };
    json!({ "record": leaf.index, "kind": leaf.kind, "time": leaf.time, "position": leaf.position(),
        "subject": body.subject, "headers": body.headers, "payload": payload })
}

fn write(path: &Path, message: &Value) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec_pretty(message)?)?;
    Ok(file.write_all(b"\n")?)
}
