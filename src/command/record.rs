//! Asking the record: through the recorder where it answers, else from the file beside it. Bodies are sealed; they are read
//! from the file alone, and only where this host holds the key.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tidegate_audit::leaf::{Leaf, leaf_hash};
use tidegate_audit::read::{Timeline, Workflow};
use tidegate_audit::{Filter, MasterKey, OpenError, Opened, Page, ReadError, Reader, Status};
use tidegate_bus::{Bus, Identity};
use tidegate_recorder::guard::Guarded;
use tidegate_recorder::service;
use tidegate_schemas::ids::{Identifier, Name, Position, TaskId};

use super::act;
use crate::cell::Cell;

/// How long the recorder may take to say that it is there.
const PRESENT: Duration = Duration::from_secs(3);
/// How long the recorder may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Most records that are gathered over pages.
const GATHERED_MAX: usize = 100_000;
/// Records of one page.
const PAGE: usize = 1_000;
/// Header of a refusal, and of its code (NATS micro services, ADR-32).
const REFUSAL: &str = "Nats-Service-Error";

/// Of records, by index, those whose message was erased: sequence in EVENTS of the act.
pub(super) type Erased = BTreeMap<u64, u64>;

/// Where the record is asked.
pub(super) struct Record {
    recorder: Option<Bus>,
    file: Result<Arc<Reader>, OpenError>,
}

impl Record {
    /// The cell's record.
    pub(super) async fn open(cell: &Cell) -> Result<Self> {
        let file = Self::file_of(cell);
        let asked = async {
            let bus = cell.connect(Identity::Operator(act::operator()?)).await?;
            bus.request(service::STATUS, Bytes::new(), PRESENT).await.context("asking the recorder")?;
            anyhow::Ok(bus)
        };
        match (asked.await, file) {
            (Ok(bus), file) => Ok(Self { recorder: Some(bus), file }),
            (Err(_), Ok(file)) => Ok(Self { recorder: None, file: Ok(file) }),
            (Err(no_answer), Err(no_file)) => Err(no_file).context(format!("{no_answer:#}")),
        }
    }

    /// A record's directory, without its recorder. Bodies stay sealed unless `key` names the master key's file.
    pub(super) fn in_directory(dir: &Path, key: Option<&Path>, crashed: bool) -> Result<Self, OpenError> {
        let master = key.map(MasterKey::load).transpose()?;
        Ok(Self { recorder: None, file: Ok(Arc::new(reader(dir, master, crashed)?)) })
    }

    fn file_of(cell: &Cell) -> Result<Arc<Reader>, OpenError> {
        // Without the key everything but bodies and workflow names can still be read.
        let master = MasterKey::load(&cell.master_key()).ok();
        Ok(Arc::new(Reader::open(&cell.record(), master)?))
    }

    /// Who answers, in words.
    pub(super) fn source(&self) -> &'static str {
        if self.recorder.is_some() { "the recorder" } else { "the file" }
    }

    /// The file, which must be at hand.
    pub(super) fn file(&self) -> Result<&Arc<Reader>> {
        self.file.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Where the record stands.
    pub(super) async fn status(&self) -> Result<Status> {
        match &self.recorder {
            Some(bus) => Ok(ask::<service::StatusAnswer>(bus, service::STATUS, &()).await?.record),
            None => self.read(|reader| reader.status()).await,
        }
    }

    /// Where the canary's guards stand; none without a canary. Only a recorder watches.
    pub(super) async fn guarded(&self) -> Result<Option<Guarded>> {
        match &self.recorder {
            Some(bus) => ask(bus, service::GUARDS, &()).await,
            None => Ok(None),
        }
    }

    /// One page.
    pub(super) async fn page(&self, filter: Filter) -> Result<(Page, Erased)> {
        let Some(bus) = &self.recorder else {
            let read = move |reader: &Reader| {
                let page = reader.query(&filter)?;
                let erased = reader.erased_among(&page.records)?;
                Ok((page, erased))
            };
            return self.read(read).await;
        };
        let answer: service::RecordsAnswer = ask(bus, service::RECORDS, &filter).await?;
        Ok((Page { records: records(&answer.records)?, next: answer.next }, answer.erased))
    }

    /// All records that a filter matches.
    pub(super) async fn all(&self, filter: Filter) -> Result<Vec<tidegate_audit::Record>> {
        let mut filter = Filter { limit: Some(PAGE), ..filter };
        let mut found = Vec::new();
        loop {
            let (page, _) = self.page(filter.clone()).await?;
            found.extend(page.records);
            match page.next {
                Some(_) if found.len() > GATHERED_MAX => {
                    bail!("more than {GATHERED_MAX} records match: narrow the question")
                }
                Some(next) => filter.after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// What is recorded of a task: one timeline a tenant and agent that use the id.
    pub(super) async fn task(&self, tenant: Option<Name>, task: TaskId) -> Result<Vec<Timeline>> {
        Ok(self.task_told(tenant, task).await?.into_iter().map(|(timeline, _)| timeline).collect())
    }

    /// The same, each with what of it was erased.
    pub(super) async fn task_told(
        &self,
        tenant: Option<Name>,
        task: TaskId,
    ) -> Result<Vec<(Timeline, Erased)>> {
        let Some(bus) = &self.recorder else {
            let read = move |reader: &Reader| {
                let found = reader.task(tenant.as_ref(), task)?;
                let told = |one: Timeline| reader.erased_among(&one.records).map(|erased| (one, erased));
                found.into_iter().map(told).collect()
            };
            return self.read(read).await;
        };
        let answer: service::TaskAnswer =
            ask(bus, service::TASK, &service::TaskQuestion { tenant, task }).await?;
        let timeline = |found: service::TaskTimeline| {
            let records = records(&found.records)?;
            let service::TaskTimeline { tenant, agent, state, deadline, cut, erased, .. } = found;
            Ok((Timeline { tenant, agent, task, state, deadline, records, cut }, erased))
        };
        answer.timelines.into_iter().map(timeline).collect()
    }

    /// The tasks of a workflow.
    pub(super) async fn workflow(&self, workflow: Identifier) -> Result<Workflow> {
        let Some(bus) = &self.recorder else {
            return self.read(move |reader| reader.workflow(None, &workflow)).await;
        };
        ask(bus, service::WORKFLOW, &service::WorkflowQuestion { tenant: None, workflow }).await
    }

    /// The sealed message of a record, where the file and its key are at hand.
    pub(super) async fn body(&self, record: &tidegate_audit::Record) -> Result<Opened> {
        if self.file.is_err() {
            return Ok(Opened::Sealed);
        }
        let record = record.clone();
        self.read(move |reader| reader.body(&record)).await
    }

    /// How many of these records have a message that retention took away; none where the file is not at hand.
    pub(super) async fn pruned(&self, records: Vec<tidegate_audit::Record>) -> Result<Option<u64>> {
        if self.file.is_err() {
            return Ok(None);
        }
        self.read(move |reader| reader.pruned_among(&records)).await.map(Some)
    }

    /// The payload of a recorded message, where it can be opened.
    pub(super) async fn payload(&self, position: &Position) -> Result<Option<Bytes>> {
        if self.file.is_err() {
            return Ok(None);
        }
        let position = position.clone();
        let body = self.read(move |reader| match reader.at(&position)? {
            Some(record) => reader.body(&record),
            None => Ok(Opened::Nothing),
        });
        Ok(match body.await? {
            Opened::Body(body) => Some(body.payload),
            Opened::Nothing | Opened::Sealed | Opened::Pruned | Opened::Erased { .. } | Opened::Lost => None,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        with: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T> {
        let reader = Arc::clone(self.file()?);
        let read = tokio::task::spawn_blocking(move || with(&reader));
        Ok(read.await.context("reading the record")??)
    }
}

/// The record in a directory, beside its recorder; `crashed`: as its recorder left it when it died.
pub(super) fn reader(dir: &Path, master: Option<MasterKey>, crashed: bool) -> Result<Reader, OpenError> {
    if crashed { Reader::open_crashed(dir, master) } else { Reader::open(dir, master) }
}

/// Asks the cell's services and reads the answer; a refusal is an error with its sentence.
pub(super) async fn ask<T: DeserializeOwned>(
    bus: &Bus,
    subject: &str,
    question: &impl Serialize,
) -> Result<T> {
    ask_for(bus, subject, question, ANSWER).await
}

/// The same, with so long to answer.
pub(super) async fn ask_for<T: DeserializeOwned>(
    bus: &Bus,
    subject: &str,
    question: &impl Serialize,
    answer_max: Duration,
) -> Result<T> {
    let question = serde_json::to_vec(question)?;
    let question = if question == b"null" { Bytes::new() } else { question.into() };
    let answer =
        bus.request(subject, question, answer_max).await.context("asking the recorder; does it run?")?;
    let refusal = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(REFUSAL));
    if let Some((_, sentence)) = refusal {
        bail!("the recorder refused: {sentence}");
    }
    serde_json::from_slice(&answer.payload).context("reading the recorder's answer")
}

fn records(lines: &[Box<RawValue>]) -> Result<Vec<tidegate_audit::Record>> {
    let record = |line: &RawValue| {
        let line = line.get().to_owned();
        let leaf: Leaf = serde_json::from_str(&line).context("reading a record")?;
        Ok(tidegate_audit::Record { leaf, hash: leaf_hash(line.as_bytes()), line })
    };
    lines.iter().map(|line| record(line)).collect()
}
