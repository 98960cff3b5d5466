//! Records published again.

use jiff::Timestamp;
use tidegate_audit::plan::PlanError;
use tidegate_audit::{Filter, Plan, RecordKind};
use tidegate_bus::{CancellationToken, Identity};
use tidegate_recorder::replay::{ReplayError, ReplayOptions, run};
use tidegate_schemas::header;
use tidegate_schemas::subject::REPLAY;
use uuid::Uuid;

use crate::cell::{Cell, name, road};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_run_once_and_goes_on_where_it_stopped() {
    let cell = Cell::start().await;
    let running = cell.record().await;
    road(&cell, 1, 6).await;
    cell.until_records(18).await;
    running.stop().await;
    let reader = cell.reader();
    let filter = Filter { kind: Some(RecordKind::Task), ..Filter::default() };
    let plan = Plan::make(&reader, filter, Uuid::now_v7(), Timestamp::now()).unwrap();
    let file = cell.dir.path().join("plan.json");
    plan.write(&file).unwrap();
    let plan = Plan::read(&file).unwrap();
    assert_eq!(plan.indices.len(), 6);

    let ops = cell.bus(Identity::Operator(name("olga"))).await;
    let options = ReplayOptions { rate: 1_000, cursor_file: cell.dir.path().join("plan.cursor") };
    let cancel = CancellationToken::new();
    let done = run(&ops, &reader, &plan, &options, &cancel, |_, _| {}).await.unwrap();
    assert_eq!((done.published, done.skipped, done.complete), (6, 0, true));
    let again = run(&ops, &reader, &plan, &options, &cancel, |_, _| {}).await.unwrap();
    assert_eq!((again.done, again.published, again.complete), (6, 0, true));
    std::fs::remove_file(&options.cursor_file).unwrap();
    run(&ops, &reader, &plan, &options, &cancel, |_, _| {}).await.unwrap();

    let bus = cell.role(tidegate_bus::Role::Router).await;
    let state = bus.stream_info(REPLAY).await.unwrap();
    assert_eq!(state.messages, 6, "the ids keep a lost cursor from doubling anything");
    let first = bus.get(REPLAY, 1).await.unwrap().unwrap();
    assert_eq!(first.subject, format!("replay.{}.task.acme.bot.chat", plan.id));
    assert_eq!(first.header(header::REPLAY_POSITION), Some("TASKS_acme:1"));

    let changed = Plan { indices: vec![0, 1], ..plan };
    let refused = run(&ops, &reader, &changed, &options, &cancel, |_, _| {}).await.unwrap_err();
    assert!(matches!(refused, ReplayError::Plan(PlanError::Stale)), "{refused}");
}
