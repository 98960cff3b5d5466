//! Segments and retention: the recorder moves the oldest records into files of their own, and prunes on record what is past
//! its retention and nothing keeps.

use bytes::Bytes;
use tidegate_audit::leaf::{ActWord, Detail};
use tidegate_audit::{Block, Due, Filter, Level, Opened, Part, RecordKind};
use tidegate_bus::{Bus, Identity, Outbound, Role};
use tidegate_recorder::retain::{PRUNE, PruneAnswer, PruneQuestion};
use tidegate_schemas::control::{Act, Control, HoldTarget};
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::replay::ReplayTo;
use tidegate_schemas::subject::REPLAY;
use uuid::Uuid;

use crate::cell::{Cell, PATIENCE, name, road};
use crate::replay::{FAST, Operator, govern};

/// For ever, in a test.
const LATER_MS: u64 = 24 * 3_600 * 1_000;

/// A cell whose first tasks are in a segment, and whose recorder prunes only when it is asked.
async fn sealed(body_ms: u64, record_ms: u64) -> Cell {
    let mut cell = Cell::start().await;
    cell.config.checkpoint_ms = 200;
    cell.config.segment_age_ms = 0;
    cell.config.segment_look_ms = 50;
    cell.config.prune_ms = LATER_MS;
    (cell.config.body_retention_ms, cell.config.record_retention_ms) = (body_ms, record_ms);
    cell
}

async fn until_sealed(cell: &Cell) {
    let file = cell.config.directory.join("segments/seg-0.redb");
    cell.until("a segment", |reader, _| file.exists() && !reader.messages_of(0).unwrap().is_empty()).await;
}

async fn olga(cell: &Cell) -> Bus {
    cell.bus(Identity::Operator(name("olga"))).await
}

async fn does(bus: &Bus, act: Act) {
    let control = Control { schema_version: 1, act, reason: "a test".to_owned() };
    let payload = serde_json::to_vec(&control).unwrap();
    bus.publish(Outbound::new("control.record.olga", payload)).await.unwrap();
}

async fn asked(bus: &Bus, plan: bool) -> Vec<Due> {
    let question = serde_json::to_vec(&PruneQuestion { plan }).unwrap();
    let answer = bus.request(PRUNE, Bytes::from(question), PATIENCE).await.unwrap();
    let answer: PruneAnswer = serde_json::from_slice(&answer.payload).unwrap();
    answer.due
}

/// What the recorder said that it prunes.
fn said(cell: &Cell) -> Vec<(ActWord, u64, u64)> {
    let filter = Filter { kind: Some(RecordKind::Control), ..Filter::default() };
    let records = cell.reader().query(&filter).unwrap().records;
    let said = records.into_iter().filter_map(|record| match record.leaf.detail? {
        Detail::Control { operator, act, first: Some(first), records: Some(records), .. } => {
            (operator.as_str() == "recorder").then_some((act, first, records))
        }
        _ => None,
    });
    said.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_the_recorder_prunes_on_record_what_no_hold_keeps() {
    let cell = sealed(0, LATER_MS).await;
    let running = cell.record().await;
    road(&cell, 1, 100).await;
    until_sealed(&cell).await;
    let olga = olga(&cell).await;
    let mut look = tokio::time::interval(std::time::Duration::from_millis(50));
    let waited = async {
        loop {
            let plan = asked(&olga, true).await;
            if !plan.is_empty() {
                return plan;
            }
            look.tick().await;
        }
    };
    let plan = tokio::time::timeout(PATIENCE, waited).await.expect("bodies are past their retention");
    assert_eq!((plan[0].part, plan[0].first, &plan[0].block), (Part::Bodies, 0, &None));
    let records = plan[0].records;

    let hold = Uuid::now_v7();
    does(&olga, Act::HoldAdd { hold, target: HoldTarget::Tenant { tenant: name("acme") }, until: None })
        .await;
    cell.until("the hold", |reader, _| !reader.legal_holds().unwrap().is_empty()).await;
    let kept = asked(&olga, false).await;
    assert_eq!(kept[0].block, Some(Block::Hold { hold }));
    assert_eq!(said(&cell), [], "what stays is not said to go");
    let first = cell.reader().get(0).unwrap().unwrap();
    assert!(matches!(cell.reader().body(&first).unwrap(), Opened::Body(_)));

    does(&olga, Act::HoldRemove { hold }).await;
    cell.until("no hold", |reader, _| reader.legal_holds().unwrap().is_empty()).await;
    assert_eq!(asked(&olga, false).await[0].block, None);
    assert_eq!(cell.reader().body(&first).unwrap(), Opened::Pruned, "without the hold the same goes");
    assert_eq!(said(&cell), [(ActWord::PruneBodies, 0, records)]);

    // A replay leaves out what is gone, and says why.
    govern(&cell, &[]).await;
    let operator = Operator::of(&cell).await;
    let plan = operator.plan_of(RecordKind::Task);
    let tasks = cell.reader().query(&plan.filter).unwrap().records;
    let gone = cell.reader().pruned_among(&tasks).unwrap();
    assert!(gone > 80 && gone < 100, "{gone}");
    operator.run(&plan, ReplayTo::Subject, FAST).await.unwrap();
    let done = operator.until_done(plan.id).await;
    assert_eq!((done.published, done.pruned, done.erased, done.skipped), (100 - gone, gone, 0, 0));
    running.stop().await;
    cell.is_healthy();
}

/// Takes all messages of the first segment out of their streams, as trimming does one day.
async fn empty(cell: &Cell) {
    let bus = cell.bus(Identity::Role(Role::Recorder)).await;
    for (stream, (_, last)) in cell.reader().messages_of(0).unwrap() {
        bus.purge_before(&stream, last + 1).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_records_stay_while_a_stream_or_a_replay_holds_their_messages() {
    let cell = sealed(0, 0).await;
    let running = cell.record().await;
    road(&cell, 1, 100).await;
    until_sealed(&cell).await;
    let olga = olga(&cell).await;
    let recorder = cell.bus(Identity::Role(Role::Recorder)).await;
    let blocked = async |stream: &str| {
        let due = asked(&olga, false).await;
        let block = Block::Stream { stream: stream.to_owned() };
        assert_eq!((due[0].part, due[0].first, &due[0].block), (Part::Records, 0, &Some(block)));
        assert!(cell.reader().get(0).unwrap().is_some());
    };
    let spans = cell.reader().messages_of(0).unwrap();
    let (last, others) = (spans["TASKS_acme"].1, spans.keys().filter(|stream| *stream != "TASKS_acme"));
    for stream in others {
        recorder.purge_before(stream, spans[stream].1 + 1).await.unwrap();
    }
    recorder.purge_before("TASKS_acme", last).await.unwrap();
    blocked("TASKS_acme").await;

    let copy = Headers::new().with(header::REPLAY_POSITION, format!("TASKS_acme:{last}"));
    let copy = Outbound::new("replay.0.acme.desk.result.bot", "copied").with_headers(copy);
    let copied = recorder.publish(copy).await.unwrap().sequence;
    recorder.purge_before("TASKS_acme", last + 1).await.unwrap();
    blocked(REPLAY).await;

    // Negative control: the last copy was all that kept it.
    recorder.purge_before(REPLAY, copied + 1).await.unwrap();
    let due = asked(&olga, false).await;
    assert_eq!((due[0].first, &due[0].block), (0, &None));
    cell.until("it is pruned", |reader, _| reader.get(0).unwrap().is_none()).await;
    running.stop().await;
    cell.is_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_the_recorder_prunes_records_by_itself_and_goes_on() {
    let mut cell = sealed(LATER_MS, LATER_MS).await;
    let running = cell.record().await;
    road(&cell, 1, 100).await;
    until_sealed(&cell).await;
    running.stop().await;
    let before = cell.reader().status().unwrap().pruned;
    assert_eq!((before.records, before.bodies), (0, 0), "negative control: nothing is past its retention");

    (cell.config.body_retention_ms, cell.config.record_retention_ms) = (0, 0);
    cell.config.prune_ms = 100;
    let running = cell.record().await;
    until_sealed(&cell).await;
    empty(&cell).await;
    let file = cell.config.directory.join("segments/seg-0.redb");
    cell.until("it is pruned", |reader, status| {
        status.pruned.records > 0 && reader.get(0).unwrap().is_none() && !file.exists()
    })
    .await;
    road(&cell, 101, 101).await;
    let last = tidegate_schemas::ids::Position::new("RESULTS", 101);
    cell.until("it goes on", |reader, _| reader.holds(&last).unwrap()).await;
    running.stop().await;
    let report = cell.reader().verify(Level::Full, &mut |_, _| {}).unwrap();
    assert!(report.is_ok() && report.pruned >= 256, "{:?}", report.problems);
    assert_eq!(report.pruned + report.records, cell.reader().status().unwrap().records);
    assert!(said(&cell).iter().any(|(act, first, _)| (*act, *first) == (ActWord::PruneRecords, 0)));
    cell.is_healthy();
}
