//! A data subject erased: in the record, and in the streams.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use tidegate_audit::{
    Erasure, ErasureState, Filter, GapReason, Level, Opened, Reader, RecordKind, ReplayState, Signer, Store,
};
use tidegate_bus::{ApiError, Outbound, Role};
use tidegate_recorder::erase::{EraseAnswer, EraseQuestion, Found, subject};
use tidegate_recorder::rejudge::{self, Unjudged};
use tidegate_schemas::control::{Act, Control, EraseOutcome, HoldTarget};
use tidegate_schemas::header;
use tidegate_schemas::ids::{Identifier, Position};
use tidegate_schemas::replay::ReplayTo;
use tidegate_schemas::subject::REPLAY;

use crate::cell::{Cell, PATIENCE, name, result, task_id, work};
use crate::replay::{FAST, Operator, govern};

const ANNA: &str = "customer-anna-4711";
const BERT: &str = "customer-bert-0815";
const TEXT: &str = "planted-5b1c-anna.schmidt@example.com";

/// Task number `n` of a data subject, with something to find.
fn task(n: u64, who: &str, text: &str) -> Outbound {
    let payload = json!({
        "id": task_id(n).to_string(), "labels": {"sensitivity": "public"}, "data_subjects": [who],
        "input": {"messages": [{"role": "user", "content": text}]}
    });
    Outbound::new("task.bot.chat", payload.to_string()).with_id(task_id(n).to_string())
}

fn of(who: &str, text: &str, mut message: Outbound) -> Outbound {
    message.headers.set(header::SUBJECTS, who);
    let mut payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    payload["note"] = json!(text);
    message.payload = payload.to_string().into();
    message
}

async fn submit(cell: &Cell, n: u64, who: &str, text: &str) {
    cell.agent().await.publish(task(n, who, text)).await.unwrap();
    let router = cell.role(Role::Router).await;
    router.publish(of(who, text, work(n, &Position::new("TASKS_acme", n)))).await.unwrap();
}

async fn finish(cell: &Cell, n: u64, who: &str, text: &str) {
    let router = cell.role(Role::Router).await;
    router.publish(of(who, text, result(n, &Position::new("WORK_LOCAL", n)))).await.unwrap();
}

async fn whole(cell: &Cell, n: u64, who: &str, text: &str) {
    submit(cell, n, who, text).await;
    finish(cell, n, who, text).await;
}

async fn ask(olga: &Operator<'_>, question: &EraseQuestion) -> EraseAnswer {
    let payload = Bytes::from(serde_json::to_vec(question).unwrap());
    let begun = tokio::time::Instant::now();
    loop {
        // A recorder that has just begun does not answer yet.
        match olga.bus.request(&subject(&name("olga")), payload.clone(), PATIENCE).await {
            Err(ApiError::NoResponder { .. }) if begun.elapsed() < PATIENCE => {}
            answer => return serde_json::from_slice(&answer.unwrap().payload).unwrap(),
        }
    }
}

async fn find(olga: &Operator<'_>, who: &str) -> Option<Found> {
    let question =
        EraseQuestion::Find { tenant: name("acme"), subject: Identifier::new(who.to_owned()).unwrap() };
    ask(olga, &question).await.found
}

/// Puts the act on record.
async fn erase(olga: &Operator<'_>, subjects: &[String]) -> u64 {
    let act = Act::Erase { tenant: name("acme"), subjects: subjects.to_vec() };
    let control = Control { schema_version: 1, act, reason: "asked to".to_owned() };
    let message = Outbound::new("control.erase.olga", serde_json::to_vec(&control).unwrap());
    olga.bus.publish(message).await.unwrap().sequence
}

async fn until(cell: &Cell, what: &str, event: u64, check: impl Fn(&Erasure) -> bool) -> Erasure {
    let mut found = None;
    cell.until(what, |reader, _| {
        found = reader.erasures().unwrap().into_iter().find(|erasure| erasure.event == event);
        found.as_ref().is_some_and(&check)
    })
    .await;
    found.unwrap()
}

async fn until_ended(cell: &Cell, event: u64) -> (Erasure, EraseOutcome) {
    let ended = until(cell, "the erasure to end", event, |erasure| erasure.state.has_ended()).await;
    let ErasureState::Ended(outcome) = ended.state else { unreachable!() };
    (ended, outcome)
}

/// Files below a directory that hold these bytes.
fn found(dir: &Path, bytes: &[u8]) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(found(&entry.path(), bytes));
        } else if std::fs::read(entry.path()).is_ok_and(|file| file.windows(bytes.len()).any(|w| w == bytes))
        {
            files.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    files
}

fn states(reader: &Reader) -> (u64, u64, u64) {
    let records = reader.tail(0, 1_000).unwrap();
    let (mut readable, mut erased, mut lost) = (0, 0, 0);
    for record in &records {
        match reader.body(record).unwrap() {
            Opened::Body(_) => readable += 1,
            Opened::Erased { .. } => erased += 1,
            _ => lost += 1,
        }
    }
    (readable, erased, lost)
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_leaves_nothing_to_find_in_the_files_of_record_and_broker() {
    let cell = Cell::start_unencrypted().await;
    govern(&cell, &[]).await;
    let running = cell.record().await;
    for n in 1..=3 {
        whole(&cell, n, ANNA, TEXT).await;
    }
    whole(&cell, 4, BERT, "another's").await;
    cell.until_records(12).await;
    let olga = Operator::of(&cell).await;
    // A copy more: replayed before.
    let replay = olga.plan_of(RecordKind::Task);
    olga.run(&replay, ReplayTo::Subject, FAST).await.unwrap();
    olga.until_done(replay.id).await;

    let (nats, record) = (cell.dir.path().join("nats"), cell.config.directory.clone());
    for text in [TEXT, ANNA] {
        assert!(!found(&nats, text.as_bytes()).is_empty(), "negative control: the scan finds what is there");
        assert!(found(&record, text.as_bytes()).is_empty(), "what the record holds is sealed");
    }
    cell.until_records(14).await;
    let (readable, erased, lost) = states(&cell.reader());
    assert!(readable >= 14 && (erased, lost) == (0, 0), "negative control: all can be read");
    let rows_before = std::fs::read(record.join("keys.bin")).unwrap();

    let known = find(&olga, ANNA).await.unwrap();
    assert_eq!((known.records, known.tasks, known.open), (9, 3, 0));
    let event = erase(&olga, &known.subjects).await;
    let (ended, outcome) = until_ended(&cell, event).await;
    assert_eq!(
        (outcome, ended.records, ended.messages),
        (EraseOutcome::Erased, 9, 12),
        "and three in REPLAY"
    );

    let rows = std::fs::read(record.join("keys.bin")).unwrap();
    let gone: Vec<&[u8]> =
        rows_before[16..].chunks(72).filter(|row| !rows.windows(72).any(|w| w == *row)).collect();
    assert_eq!(gone.len(), 1, "one row is another");
    for dir in [&nats, &record] {
        for bytes in [TEXT.as_bytes(), ANNA.as_bytes(), gone[0]] {
            assert_eq!(found(dir, bytes), Vec::<String>::new());
        }
        assert!(!found(dir, b"acme").is_empty(), "negative control: the files are there, and read");
    }
    let bus = cell.role(Role::Router).await;
    for n in 1..=4 {
        for stream in ["TASKS_acme", "WORK_LOCAL", "RESULTS"] {
            assert_eq!(bus.get(stream, n).await.unwrap().is_some(), n == 4, "{stream}:{n}");
        }
    }
    assert_eq!(bus.stream_info(REPLAY).await.unwrap().messages, 1);
    let (_, erased, lost) = states(&cell.reader());
    assert_eq!((erased, lost), (9, 0), "told from what is damaged");

    // Again: nothing is held. By the old name too, for whoever kept it; and by a name that never was.
    assert_eq!(find(&olga, ANNA).await, None);
    let again = erase(&olga, &["ab".repeat(16)]).await;
    assert_eq!(until_ended(&cell, again).await.1, EraseOutcome::NothingHeld);

    // What comes later is nobody that was there before.
    whole(&cell, 5, ANNA, "later").await;
    cell.until("the new one's records", |reader, _| {
        reader.query(&Filter { kind: Some(RecordKind::Result), ..Filter::default() }).unwrap().records.len()
            == 5
    })
    .await;
    let new = find(&olga, ANNA).await.unwrap();
    assert_eq!(new.records, 3);
    assert_ne!(new.subjects, known.subjects);

    // Replays and re-judging leave it out, and count it apart.
    let replay = olga.plan_of(RecordKind::Task);
    olga.run(&replay, ReplayTo::Subject, FAST).await.unwrap();
    let done = olga.until_done(replay.id).await;
    assert_eq!((done.state, done.published, done.erased, done.skipped), (ReplayState::Done, 2, 3, 0));
    let works = Filter { kind: Some(RecordKind::Work), ..Filter::default() };
    let judged = rejudge::run(&cell.reader(), &works, None, &mut |_, _| None, &mut |_, _| {}).unwrap();
    assert_eq!(judged.unjudged.get(&Unjudged::Erased), Some(&3), "{:?}", judged.unjudged);
    assert_eq!(judged.unjudged.get(&Unjudged::Lost), None);

    running.stop().await;
    cell.is_healthy();
    let key = Signer::load(&cell.config.checkpoint_key_file, &cell.config.origin).unwrap().public();
    let (_, accounts) = cell.reader().prove_completeness(&key, &mut |_, _| {}).unwrap();
    let told: Vec<_> = accounts
        .iter()
        .filter(|account| account.erased > 0)
        .map(|account| (account.stream.as_str(), account.erased, account.erasures[0].event))
        .collect();
    assert_eq!(told, [("RESULTS", 3, event), ("TASKS_acme", 3, event), ("WORK_LOCAL", 3, event)]);
    assert!(accounts.iter().all(|account| account.is_complete() && account.is_explained()));
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_explains_the_gaps_of_a_record_made_again_from_the_streams() {
    let mut cell = Cell::start().await;
    let running = cell.record().await;
    whole(&cell, 1, BERT, "kept").await;
    whole(&cell, 2, ANNA, TEXT).await;
    whole(&cell, 3, BERT, "kept").await;
    cell.until_records(9).await;
    let olga = Operator::of(&cell).await;
    let known = find(&olga, ANNA).await.unwrap();
    let event = erase(&olga, &known.subjects).await;
    until_ended(&cell, event).await;
    running.stop().await;
    // Negative control: what somebody else deleted is no erasure.
    cell.role(Role::Recorder).await.delete("WORK_LOCAL", 1, true).await.unwrap();

    cell.config.directory = cell.dir.path().join("again");
    cell.config.checkpoint_file = Some(cell.dir.path().join("checkpoints-again"));
    crate::rebuild::accept(&cell).await;
    let running = cell.record().await;
    cell.until("all results", |reader, _| {
        reader.query(&Filter { kind: Some(RecordKind::Gap), ..Filter::default() }).unwrap().records.len() == 4
    })
    .await;
    let gaps = cell.reader().query(&Filter { kind: Some(RecordKind::Gap), ..Filter::default() }).unwrap();
    let told: BTreeSet<_> = gaps
        .records
        .iter()
        .map(|record| {
            let leaf = &record.leaf;
            let Some(tidegate_audit::leaf::Detail::Gap { to, reason }) = leaf.detail else { unreachable!() };
            (leaf.source.stream.as_str(), leaf.source.sequence, to, reason, leaf.flags.is_empty())
        })
        .collect();
    let expected = [
        ("RESULTS", 2, 2, GapReason::Erased, true),
        ("TASKS_acme", 2, 2, GapReason::Erased, true),
        ("WORK_LOCAL", 2, 2, GapReason::Erased, true),
    ];
    for gap in expected {
        assert!(told.contains(&gap), "{told:?}");
    }
    let other: Vec<_> = told.iter().filter(|gap| !expected.contains(gap)).collect();
    assert!(
        matches!(other[..], [("WORK_LOCAL", 1, 1, GapReason::Break | GapReason::Deleted, _)]),
        "{other:?}"
    );
    running.stop().await;
}

/// An operator's act about holds.
async fn hold(olga: &Operator<'_>, act: Act) {
    let control = Control { schema_version: 1, act, reason: "a lawsuit".to_owned() };
    let message = Outbound::new("control.record.olga", serde_json::to_vec(&control).unwrap());
    olga.bus.publish(message).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_waits_while_a_hold_is_on_the_person_the_tenant_or_a_task() {
    let cell = Cell::start().await;
    govern(&cell, &[]).await;
    let running = cell.record().await;
    let olga = Operator::of(&cell).await;
    let people = ["customer-1", "customer-2", "customer-3"];
    for (n, who) in (1..).zip(people) {
        whole(&cell, n, who, TEXT).await;
    }
    cell.until_records(9).await;
    let id = |n| uuid::Uuid::from_u128(n);
    for (n, who) in (1_u64..).zip(people) {
        let target = match n {
            1 => {
                let reference = cell.reader().hold_reference(&name("acme"), who).unwrap();
                HoldTarget::Subject { tenant: name("acme"), reference }
            }
            2 => HoldTarget::Task { task: task_id(2) },
            _ => HoldTarget::Tenant { tenant: name("acme") },
        };
        let this = id(u128::from(n));
        hold(&olga, Act::HoldAdd { hold: this, target, until: None }).await;
        cell.until("the hold to count", |reader, _| {
            reader.legal_holds().unwrap().iter().any(|held| held.id == this)
        })
        .await;
        let found = find(&olga, who).await.unwrap();
        let event = erase(&olga, &found.subjects).await;
        let waiting = until(&cell, "it to wait", event, |erasure| erasure.waits.is_some()).await;
        assert!(waiting.waits.unwrap().contains(&format!("legal hold {this}")), "{who}");
        // Who asks first is told which hold it is, and the same act once more erases nothing twice.
        let told = find(&olga, who).await.unwrap().holds;
        assert_eq!(told.iter().map(|hold| hold.id).collect::<Vec<_>>(), [this], "{who}");
        assert!(found.holds.iter().any(|hold| hold.id == this), "{who}");
        let again = erase(&olga, &found.subjects).await;
        until(&cell, "it to wait too", again, |erasure| erasure.waits.is_some()).await;
        assert!(matches!(waiting.state, ErasureState::Waiting), "{who}: nothing is destroyed");
        // Negative control: without the hold the same act is carried out.
        hold(&olga, Act::HoldRemove { hold: this }).await;
        let (ended, outcome) = until_ended(&cell, event).await;
        assert_eq!((outcome, ended.messages), (EraseOutcome::Erased, 3), "{who}");
        let (second, outcome) = until_ended(&cell, again).await;
        assert_eq!((outcome, second.messages), (EraseOutcome::NothingHeld, 0), "{who}");
        assert_eq!(second.records, 0, "{who}: it was erased once");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_waits_for_open_tasks_and_goes_on_after_a_crash() {
    let cell = Cell::start().await;
    let running = cell.record().await;
    submit(&cell, 1, ANNA, TEXT).await;
    cell.until_records(2).await;
    let olga = Operator::of(&cell).await;
    let known = find(&olga, ANNA).await.unwrap();
    assert_eq!((known.records, known.open), (2, 1));
    let event = erase(&olga, &known.subjects).await;
    let waiting = until(&cell, "it to wait", event, |erasure| erasure.waits.is_some()).await;
    assert_eq!(waiting.state, ErasureState::Waiting);
    assert!(waiting.waits.unwrap().contains("have not ended"));
    assert_eq!(states(&cell.reader()).1, 0, "nothing is erased before");
    running.crash().await;
    let running = cell.record().await;
    finish(&cell, 1, ANNA, TEXT).await;
    let (ended, outcome) = until_ended(&cell, event).await;
    assert_eq!((outcome, ended.records, ended.messages), (EraseOutcome::Erased, 3, 3));
    running.stop().await;
    cell.is_healthy();
}

#[tokio::test(flavor = "multi_thread")]
async fn erase_that_died_between_keys_and_streams_is_completed() {
    // Whether the messages were counted, how many were deleted then, and how many it tells in the end. The last one is the negative
    // control: without a count that outlives the crash only the rest would be told.
    for (counted, deleted, told) in [(false, 0, 3), (true, 0, 3), (true, 2, 3), (false, 2, 1)] {
        let cell = Cell::start().await;
        let running = cell.record().await;
        whole(&cell, 1, ANNA, TEXT).await;
        cell.until_records(3).await;
        let olga = Operator::of(&cell).await;
        let known = find(&olga, ANNA).await.unwrap();
        running.stop().await;
        let event = erase(&olga, &known.subjects).await;
        died(&cell, event, known.subjects, counted).await;
        for stream in ["TASKS_acme", "WORK_LOCAL"].into_iter().take(deleted) {
            assert!(cell.role(Role::Recorder).await.delete(stream, 1, true).await.unwrap());
        }

        let running = cell.record().await;
        let (ended, outcome) = until_ended(&cell, event).await;
        assert_eq!((outcome, ended.records, ended.messages), (EraseOutcome::Erased, 3, told));
        assert_eq!(states(&cell.reader()).1, 3);
        running.stop().await;
        cell.is_healthy();
        assert!(cell.reader().verify(Level::Full, &mut |_, _| {}).unwrap().is_ok());
    }
}

/// As a recorder leaves it that dies when the keys are gone: marked, perhaps counted, and nothing of the rest done.
async fn died(cell: &Cell, event: u64, subjects: Vec<String>, counted: bool) {
    let options = tidegate_audit::Options {
        checkpoint_file: cell.config.checkpoint_file.clone(),
        ..Default::default()
    };
    let mut store = Store::open(&cell.config.directory, cell.keys(), &options).unwrap();
    let reader = store.reader();
    let held = reader.holding(&name("acme"), &subjects, &mut |_| Ok(())).unwrap();
    let erasure = Erasure {
        event,
        operator: name("olga"),
        tenant: name("acme"),
        subjects,
        begun: Timestamp::now(),
        records: held.records,
        messages: if counted { 3 } else { 0 },
        counted,
        state: ErasureState::Destroyed,
        waits: None,
        act: None,
    };
    store.destroy(&erasure, &held.rows).unwrap();
}
