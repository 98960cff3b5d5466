//! Records published again.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use tidegate_audit::{Filter, Plan, PlanHead, RecordKind, Replay, ReplayState};
use tidegate_bus::{ApiError, Bus, Identity, Outbound, Role, topology};
use tidegate_policies::Bundle;
use tidegate_recorder::replay::{ReplayAnswer, ReplayQuestion, subject};
use tidegate_schemas::control::{
    ACTIVE_KEY, Act, Active, BUNDLES_BUCKET, Control, DIRECTORY_BUCKET, RELEASE_BUCKET,
};
use tidegate_schemas::header;
use tidegate_schemas::replay::{Pace, ReplayOutcome, ReplayTo};
use tidegate_schemas::subject::{EVENTS, REPLAY};
use uuid::Uuid;

use crate::cell::{Cell, PATIENCE, directory, name, road, task_id};

pub(crate) const FAST: Pace = Pace::Rate { per_second: 10_000 };

/// Gives the cell a directory and a bundle: the default one, without some of its files.
pub(crate) async fn govern(cell: &Cell, without: &[&str]) {
    let bus = cell.role(Role::Provisioner).await;
    let put = async |bucket: &str, key: &str, value: Vec<u8>| {
        bus.kv_put(bucket, key, value).await.unwrap();
    };
    let directory = directory();
    let hash = directory.hash();
    put(DIRECTORY_BUCKET, &hash.to_string(), serde_json::to_vec(&directory).unwrap()).await;
    put(DIRECTORY_BUCKET, ACTIVE_KEY, serde_json::to_vec(&Active { event: 0, hash }).unwrap()).await;

    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/bundles/default");
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp").arg("-r").arg(shipped).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let dir = copy.path().join("default");
    without.iter().for_each(|file| std::fs::remove_file(dir.join(file)).unwrap());
    let bundle = Bundle::from_dir(&dir).unwrap();
    let hash = bundle.hash();
    put(BUNDLES_BUCKET, &hash.to_string(), bundle.archive().as_bytes().to_vec()).await;
    put(RELEASE_BUCKET, ACTIVE_KEY, serde_json::to_vec(&Active { event: 0, hash }).unwrap()).await;
}

/// An operator at work.
pub(crate) struct Operator<'a> {
    cell: &'a Cell,
    pub(crate) bus: Bus,
}

impl<'a> Operator<'a> {
    pub(crate) async fn of(cell: &'a Cell) -> Self {
        Self { cell, bus: cell.bus(Identity::Operator(name("olga"))).await }
    }

    fn plan(&self, filter: Filter) -> PlanHead {
        let reader = self.cell.reader();
        let upto = reader.status().unwrap().records;
        Plan::make(&reader, filter, upto, Uuid::now_v7(), Timestamp::now()).unwrap().head
    }

    pub(crate) fn plan_of(&self, kind: RecordKind) -> PlanHead {
        self.plan(Filter { kind: Some(kind), ..Filter::default() })
    }

    async fn act(&self, act: Act) -> u64 {
        let control = Control { schema_version: 1, act, reason: "a drill".to_owned() };
        let message = Outbound::new("control.replay.olga", serde_json::to_vec(&control).unwrap());
        self.bus.publish(message).await.unwrap().sequence
    }

    async fn ask(&self, question: &ReplayQuestion) -> Result<Vec<Replay>, String> {
        let payload = Bytes::from(serde_json::to_vec(question).unwrap());
        let begun = tokio::time::Instant::now();
        // A recorder that has just begun does not answer yet.
        let answer = loop {
            match self.bus.request(&subject(&name("olga")), payload.clone(), PATIENCE).await {
                Err(ApiError::NoResponder { .. }) if begun.elapsed() < PATIENCE => {}
                answer => break answer.unwrap(),
            }
        };
        match answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Nats-Service-Error")) {
            Some((_, sentence)) => Err(sentence.clone()),
            None => Ok(serde_json::from_slice::<ReplayAnswer>(&answer.payload).unwrap().replays),
        }
    }

    pub(crate) async fn run(
        &self,
        plan: &PlanHead,
        target: ReplayTo,
        pace: Pace,
    ) -> Result<Vec<Replay>, String> {
        let (replay, records) = (plan.id.to_string(), plan.records);
        let event = self.act(Act::ReplayStart { replay, plan: plan.hash, records, target }).await;
        self.ask(&ReplayQuestion::Run { event, plan: Box::new(plan.clone()), pace }).await
    }

    async fn until(&self, what: &str, id: Uuid, check: impl Fn(&Replay) -> bool) -> Replay {
        let begun = tokio::time::Instant::now();
        let mut look = tokio::time::interval(std::time::Duration::from_millis(10));
        loop {
            look.tick().await;
            let reader = tidegate_audit::Reader::open(&self.cell.config.directory, None);
            let found = reader.ok().and_then(|reader| reader.replay(id).unwrap());
            if let Some(found) = found.filter(&check) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        }
    }

    pub(crate) async fn until_done(&self, id: Uuid) -> Replay {
        self.until("the replay to be done", id, |replay| replay.state == ReplayState::Done).await
    }

    /// What EVENTS says of the end of a replay.
    async fn end(&self, id: Uuid) -> Option<(u64, ReplayOutcome)> {
        let bus = self.cell.role(Role::Router).await;
        let mut from = 1;
        while let Some(stored) = bus.first_from(EVENTS, "control.replay.recorder", from).await.unwrap() {
            from = stored.sequence + 1;
            let control: Control = serde_json::from_slice(&stored.payload).unwrap();
            if let Act::ReplayEnd { replay, published, outcome } = control.act
                && replay == id.to_string()
            {
                return Some((published, outcome));
            }
        }
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_goes_on_after_a_crash_and_neither_loses_nor_doubles() {
    const TASKS: u64 = 600;
    let cell = Cell::start().await;
    govern(&cell, &[]).await;
    let running = cell.record().await;
    road(&cell, 1, TASKS).await;
    cell.until_records(3 * TASKS).await;
    let olga = Operator::of(&cell).await;
    let plan = olga.plan_of(RecordKind::Task);
    olga.run(&plan, ReplayTo::Subject, Pace::Rate { per_second: 300 }).await.unwrap();
    olga.until("some to be published", plan.id, |replay| replay.done >= 20).await;
    running.crash().await;
    let bus = cell.role(Role::Router).await;
    let before = bus.stream_info(REPLAY).await.unwrap().messages;
    assert!((20..TASKS).contains(&before), "it stopped on its way, at {before}");

    let running = cell.record().await;
    let done = olga.until_done(plan.id).await;
    assert_eq!((done.done, done.published, done.skipped), (TASKS, TASKS, 0));
    let (mut seen, reader) = (BTreeSet::new(), cell.reader());
    let state = bus.stream_info(REPLAY).await.unwrap();
    assert_eq!(state.messages, TASKS, "none is double");
    for sequence in state.first..=state.last {
        let stored = bus.get(REPLAY, sequence).await.unwrap().unwrap();
        assert_eq!(stored.subject, format!("replay.{}.task.acme.bot.chat", plan.id));
        assert_eq!(stored.header(header::REPLAY_ID), Some(plan.id.to_string().as_str()));
        let position = stored.header(header::REPLAY_POSITION).unwrap().to_owned();
        let leaf = reader.at(&position.parse().unwrap()).unwrap().unwrap().leaf;
        assert_eq!(stored.header(header::REPLAY_TIME), Some(leaf.time.to_string().as_str()));
        let id = format!("replay:{}:{}", plan.id, leaf.index);
        assert_eq!(stored.header(header::MSG_ID), Some(id.as_str()));
        seen.insert(position);
    }
    assert_eq!(seen.len() as u64, TASKS, "none is missing");
    assert_eq!(olga.end(plan.id).await, Some((TASKS, ReplayOutcome::Done)), "its end is on record");

    let known = olga.ask(&ReplayQuestion::Status { replay: Some(plan.id) }).await.unwrap();
    assert_eq!(known, [done]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_needs_a_policy_that_permits_it() {
    let cell = Cell::start().await;
    govern(&cell, &["policies/70-replay.cedar"]).await;
    let running = cell.record().await;
    road(&cell, 1, 3).await;
    cell.until_records(9).await;
    let olga = Operator::of(&cell).await;
    let plan = olga.plan_of(RecordKind::Task);
    let refused = olga.run(&plan, ReplayTo::Subject, FAST).await.unwrap_err();
    assert!(refused.contains("not permitted"), "{refused}");
    assert_eq!(olga.end(plan.id).await, Some((0, ReplayOutcome::Refused)), "the refusal is on record");
    let bus = cell.role(Role::Router).await;
    assert_eq!(bus.stream_info(REPLAY).await.unwrap().messages, 0);

    // Negative control: with the policies it runs, and a plan of another record never does.
    govern(&cell, &[]).await;
    olga.run(&plan, ReplayTo::Subject, FAST).await.unwrap();
    assert_eq!(olga.until_done(plan.id).await.published, 3);
    let other = PlanHead { id: Uuid::now_v7(), filter: Filter::default(), ..plan };
    let stale = olga.run(&other, ReplayTo::Subject, FAST).await.unwrap_err();
    assert!(stale.contains("no longer holds"), "{stale}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_that_is_cancelled_stays_so() {
    let cell = Cell::start().await;
    govern(&cell, &[]).await;
    let running = cell.record().await;
    road(&cell, 1, 40).await;
    cell.until_records(120).await;
    let olga = Operator::of(&cell).await;
    let plan = olga.plan_of(RecordKind::Task);
    olga.run(&plan, ReplayTo::Subject, Pace::Rate { per_second: 10 }).await.unwrap();
    olga.until("some to be published", plan.id, |replay| replay.done >= 1).await;
    let event = olga.act(Act::ReplayCancel { replay: plan.id.to_string() }).await;
    let cancelled = olga.ask(&ReplayQuestion::Cancel { event }).await.unwrap().remove(0);
    assert_eq!(cancelled.state, ReplayState::Cancelled);
    assert!((1..40).contains(&cancelled.done), "{cancelled:?}");
    let published = cancelled.published;
    assert_eq!(olga.end(plan.id).await, Some((published, ReplayOutcome::Cancelled)));
    running.stop().await;

    let running = cell.record().await;
    cell.until_records(123).await;
    let other = olga.plan_of(RecordKind::Work);
    olga.run(&other, ReplayTo::Subject, FAST).await.unwrap();
    olga.until_done(other.id).await;
    let bus = cell.role(Role::Router).await;
    assert_eq!(bus.stream_info(REPLAY).await.unwrap().messages, published + 40, "only the other one ran");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_brings_a_support_tool_results_of_its_tenant_and_nothing_else() {
    let cell = Cell::start().await;
    govern(&cell, &[]).await;
    let running = cell.record().await;
    road(&cell, 1, 5).await;
    cell.until_records(15).await;
    let olga = Operator::of(&cell).await;
    let desk = ReplayTo::Tool { tenant: name("acme"), tool: name("desk") };
    let refused = olga.run(&olga.plan_of(RecordKind::Task), desk.clone(), FAST).await.unwrap_err();
    assert!(refused.contains("results of its own tenant"), "{refused}");
    let nobody = ReplayTo::Tool { tenant: name("acme"), tool: name("nobody") };
    let refused = olga.run(&olga.plan_of(RecordKind::Result), nobody, FAST).await.unwrap_err();
    assert!(refused.contains("no such support tool"), "{refused}");

    let plan = olga.plan_of(RecordKind::Result);
    olga.run(&plan, desk, FAST).await.unwrap();
    assert_eq!(olga.until_done(plan.id).await.published, 5);
    let tool = cell.bus(Identity::Tool { tenant: name("acme"), tool: name("desk") }).await;
    let spec = topology::replay_consumer(&name("acme"), &name("desk"), true);
    let mut reader = tool.reader(&spec, 16).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 5 {
        let group = tokio::time::timeout(PATIENCE, reader.take(16)).await.unwrap().unwrap();
        got.extend(group.iter().map(|delivery| delivery.message.subject.clone()));
        reader.done(group).await;
    }
    let wanted = |n| format!("replay.tool.acme.desk.{}.result.acme.bot.{}", plan.id, task_id(n));
    assert_eq!(got, (1..=5).map(wanted).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_as_original_submits_tasks_as_new_ones() {
    let cell = Cell::start().await;
    govern(&cell, &[]).await;
    let running = cell.record().await;
    road(&cell, 1, 2).await;
    let agent = cell.agent().await;
    let payload = json!({ "id": task_id(3), "reply": "mine", "labels": {"sensitivity": "public"},
        "input": {"messages": [{"role": "user", "content": "again"}]} });
    let headers = header::Headers::new()
        .with("ce-id", task_id(3).to_string())
        .with("ce-expirytime", "2020-01-01T00:00:00Z")
        .with("ce-source", "here");
    agent.publish(Outbound::new("task.bot.chat", payload.to_string()).with_headers(headers)).await.unwrap();
    cell.until_records(7).await;
    let olga = Operator::of(&cell).await;
    let refused = olga.run(&olga.plan_of(RecordKind::Result), ReplayTo::Original, FAST).await.unwrap_err();
    assert!(refused.contains("only tasks"), "{refused}");

    let plan = olga.plan_of(RecordKind::Task);
    olga.run(&plan, ReplayTo::Original, FAST).await.unwrap();
    assert_eq!(olga.until_done(plan.id).await.published, 3);
    let bus = cell.role(Role::Router).await;
    assert_eq!(bus.stream_info(REPLAY).await.unwrap().messages, 0);
    let last = bus.stream_info("TASKS_acme").await.unwrap().last;
    assert_eq!(last, 6, "three more tasks");
    let stored = bus.get("TASKS_acme", last).await.unwrap().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&stored.payload).unwrap();
    assert_eq!(body["replay_of"], json!(task_id(3)));
    assert_ne!(body["id"], json!(task_id(3)));
    assert_eq!(body["data_subjects"], json!([format!("task:{}", task_id(3))]), "erased with the first one");
    assert_eq!(
        (body.get("reply"), stored.header("ce-id"), stored.header("ce-expirytime")),
        (None, None, None)
    );
    assert_eq!(stored.header("ce-source"), Some("here"));
    running.stop().await;
}
