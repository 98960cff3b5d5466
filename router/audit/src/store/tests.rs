#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use tidegate_schemas::ids::{Identifier, Name};
use tidegate_schemas::result::State;

use crate::entry::{Gap, GapReason, Item};
use crate::error::{AppendError, OpenError};
use crate::fixture::{
    CANARY, at, cancel, items, keys, master, refused, result, review, road, seeded, store, task, task_id,
    verdict, work,
};
use crate::keys::MasterKey;
use crate::leaf::{Flag, RecordKind, leaf_hash};
use crate::read::{Filter, Opened, Reader};
use crate::store::{Keys, Options, Store};
use crate::verify::Level;

mod bounded;
mod disk;
mod erase;
mod full;
mod named;
mod power;
mod rotate;
mod schema;
mod signed;

#[test]
fn a_task_is_recorded_from_submission_to_result() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let appended = store.append(&road(2)).unwrap();
    assert_eq!((appended.first, appended.records, appended.duplicates), (0, 6, 0));
    assert_eq!(appended.anomalies, vec![]);

    let reader = store.reader();
    let timelines = reader.task(None, task_id(2)).unwrap();
    assert_eq!(timelines.len(), 1);
    assert_eq!(timelines[0].state, State::Completed);
    let kinds: Vec<_> = timelines[0].records.iter().map(|record| record.leaf.kind).collect();
    assert_eq!(kinds, [RecordKind::Task, RecordKind::Work, RecordKind::Result]);
    for record in &timelines[0].records {
        assert_eq!(record.hash, leaf_hash(record.line.as_bytes()));
    }
    let decision = timelines[0].records[1].leaf.decision.clone().unwrap();
    assert_eq!(decision.policies[0], "permit-local");
    assert!(decision.policies[1].starts_with("sha256:"), "a sentence is no policy's name");

    let Item::Message(sent) = &road(2)[3] else { panic!("a message") };
    let Opened::Body(body) = reader.body(&timelines[0].records[0]).unwrap() else { panic!("a body") };
    assert_eq!((&body.subject, &body.headers, &body.payload), (&sent.subject, &sent.headers, &sent.payload));
    let status = reader.status().unwrap();
    assert_eq!((status.records, status.accepted, status.ended, status.open), (6, 2, 2, 0));
    assert!(reader.verify(Level::Full, &mut |_, _| {}).unwrap().is_ok());
}

#[test]
fn what_a_producer_withdraws_raises_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let unknown = [cancel(7, 1), result(7, 1, "TASKS_acme:1", "canceled"), cancel(7, 2)];
    assert_eq!(store.append(&items(unknown)).unwrap().anomalies, vec![]);
    // The task itself comes after its withdrawal: it is accepted, and has ended.
    assert_eq!(store.append(&items([task(7, 3)])).unwrap().anomalies, vec![]);
    let status = store.reader().status().unwrap();
    assert_eq!((status.accepted, status.ended, status.open, status.anomalies), (1, 1, 0, 0));
    // Negative controls: a result of a task that nobody knows, and another than canceled of one that was only withdrawn.
    let stray = [result(8, 2, "TASKS_acme:1", "canceled")];
    assert_eq!(store.append(&items(stray)).unwrap().anomalies, vec![(4, Flag::Orphan)]);
    let stray = [cancel(9, 4), result(9, 3, "TASKS_acme:4", "completed")];
    assert_eq!(store.append(&items(stray)).unwrap().anomalies, vec![(6, Flag::Orphan)]);
}

#[test]
fn an_id_used_again_is_answered_and_raises_no_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let again = refused("TASKS_acme:2", 1, "id_conflict");
    assert_eq!(store.append(&items([task(7, 1), task(7, 2), again])).unwrap().anomalies, vec![]);
    let status = store.reader().status().unwrap();
    assert_eq!((status.accepted, status.ended, status.open, status.anomalies), (1, 0, 1, 0));
    // Negative controls: another code, and a refusal of what is no task of this agent.
    let other = refused("TASKS_acme:1", 2, "policy_denied");
    assert_eq!(store.append(&items([other])).unwrap().anomalies, vec![(3, Flag::Orphan)]);
    let event = refused("RESULTS:1", 3, "id_conflict");
    assert_eq!(store.append(&items([event])).unwrap().anomalies, vec![(4, Flag::Orphan)]);
}

#[test]
fn queries_find_by_each_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(5)).unwrap();
    let reader = store.reader();
    let acme = Some(Name::new("acme").unwrap());
    let flow = Some(Identifier::new("flow-1").unwrap());
    let cases = [
        ("all", Filter::default(), 15),
        ("tenant", Filter { tenant: acme.clone(), ..Filter::default() }, 15),
        ("another tenant", Filter { tenant: Some(Name::new("other").unwrap()), ..Filter::default() }, 0),
        ("state", Filter { state: Some(State::Completed), ..Filter::default() }, 5),
        ("another state", Filter { state: Some(State::Failed), ..Filter::default() }, 0),
        (
            "outcome",
            Filter { outcome: Some(tidegate_schemas::decision::Outcome::Local), ..Filter::default() },
            5,
        ),
        ("policy", Filter { policy: Some("permit-local".to_owned()), ..Filter::default() }, 5),
        ("kind", Filter { kind: Some(RecordKind::Task), ..Filter::default() }, 5),
        ("workflow", Filter { workflow: flow.clone(), ..Filter::default() }, 15),
        ("workflow of a tenant", Filter { workflow: flow, tenant: acme.clone(), ..Filter::default() }, 15),
        ("from", Filter { tenant: acme.clone(), from: Some(at(4)), ..Filter::default() }, 6),
        ("from and to", Filter { tenant: acme, from: Some(at(2)), to: Some(at(4)), ..Filter::default() }, 6),
        ("anomalies", Filter { anomalies: true, ..Filter::default() }, 0),
    ];
    for (name, filter, expected) in cases {
        let mut page = Filter { limit: Some(2), ..filter };
        let mut found = 0;
        loop {
            let next = reader.query(&page).unwrap();
            found += next.records.len();
            match next.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, expected, "{name}");
    }
    let tree = reader.workflow(None, &Identifier::new("flow-1").unwrap()).unwrap();
    assert_eq!(tree.tasks.len(), 5);
    assert_eq!(tree.tasks[0].state, State::Completed);
}

#[test]
fn what_is_recorded_is_not_recorded_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(3)).unwrap();
    let again = store.append(&road(4)).unwrap();
    assert_eq!((again.records, again.duplicates), (3, 9));
    assert_eq!(store.append(&road(4)).unwrap().records, 0);
    assert_eq!(store.records(), 12);
}

#[test]
fn a_missing_sequence_needs_a_gap_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&items([task(1, 1)])).unwrap();
    let error = store.append(&items([task(2, 2), task(5, 5)])).unwrap_err();
    assert!(matches!(error, AppendError::Gap { expected: 3, got: 5, .. }), "{error}");
    assert_eq!(store.next_sequence("TASKS_acme"), 2, "nothing of a refused batch holds");

    let gap =
        |from, to, reason| Item::Gap(Gap { stream: "TASKS_acme".to_owned(), from, to, reason, time: at(0) });
    let filled =
        [gap(2, 3, GapReason::Deleted), gap(4, 4, GapReason::Unexplained), Item::Message(task(5, 5))];
    let appended = store.append(&filled).unwrap();
    assert_eq!(appended.anomalies, vec![(1, Flag::Unexplained), (2, Flag::Unexplained)]);
    assert_eq!(store.next_sequence("TASKS_acme"), 6);
    assert!(store.reader().verify(Level::Full, &mut |_, _| {}).unwrap().is_ok());
}

#[test]
fn a_second_terminal_result_is_an_anomaly() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(1)).unwrap();
    let second = store.append(&items([result(1, 2, "WORK_LOCAL:1", "failed")])).unwrap();
    assert_eq!(second.anomalies, vec![(3, Flag::SecondTerminal)]);
    let status = store.reader().status().unwrap();
    assert_eq!((status.accepted, status.ended, status.open, status.anomalies), (1, 1, 0, 1));
    assert_eq!(
        store.reader().task(None, task_id(1)).unwrap()[0].state,
        State::Completed,
        "the first one holds"
    );
    assert!(
        store.reader().verify(Level::Full, &mut |_, _| {}).unwrap().is_ok(),
        "flagged, so the record is sound"
    );
    let odd = store.reader().query(&Filter { anomalies: true, ..Filter::default() }).unwrap();
    assert_eq!(odd.records[0].leaf.flags, [Flag::SecondTerminal]);
}

#[test]
fn a_missing_cause_is_an_anomaly() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let appended = store.append(&items([task(1, 1), work(1, 1, "TASKS_acme:7")])).unwrap();
    assert_eq!(appended.anomalies, vec![(1, Flag::CauseMissing)]);
    assert!(store.reader().verify(Level::Full, &mut |_, _| {}).unwrap().is_ok());
}

#[test]
fn open_tasks_are_due_at_their_deadline_or_the_review_s_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&items([task(1, 1), task(2, 2), review(2, 1, "TASKS_acme:2")])).unwrap();
    let reader = store.reader();
    let due = |now| -> Vec<_> {
        reader.overdue(at(now), 10).unwrap().into_iter().map(|open| (open.task, open.state)).collect()
    };
    assert_eq!(due(300), []);
    assert_eq!(due(301), [(task_id(1), State::Submitted)]);
    assert_eq!(due(1_000).len(), 2, "the held one at its review's end");
    assert_eq!(due(1_000)[1], (task_id(2), State::InputRequired));
    let open = &reader.open_tasks(10).unwrap()[1];
    assert_eq!(
        (open.position.to_string(), open.last.to_string()),
        ("TASKS_acme:2".into(), "EVENTS:1".into())
    );

    store.append(&items([verdict(2, "EVENTS:1"), work(2, 1, "EVENTS:2")])).unwrap();
    let timeline = &reader.task(None, task_id(2)).unwrap()[0];
    assert_eq!(timeline.records.len(), 4, "the verdict is linked by the review that it names");
    assert_eq!(timeline.state, State::Working);
    store.append(&items([result(2, 1, "WORK_LOCAL:1", "completed")])).unwrap();
    assert_eq!(due(2_000), [(task_id(1), State::Submitted)]);
}

#[test]
fn streams_keep_what_open_tasks_need() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&road(4)).unwrap();
    store.append(&items([task(5, 5), work(5, 5, "TASKS_acme:5"), task(6, 6)])).unwrap();
    let reader = store.reader();
    let open = reader.open_floors().unwrap();
    assert_eq!((open["TASKS_acme"], open["WORK_LOCAL"]), (5, 5));
    assert_eq!(reader.trim_floor("TASKS_acme", at(1_000), &open).unwrap(), 5, "an open task");
    assert_eq!(reader.trim_floor("TASKS_acme", at(3), &open).unwrap(), 3, "too young");
    assert_eq!(reader.trim_floor("RESULTS", at(1_000), &open).unwrap(), 5, "all of them");
    assert_eq!(reader.trim_floor("NEVER", at(1_000), &open).unwrap(), 1);
    let gone = |tasks, work| [("TASKS_acme".to_owned(), tasks), ("WORK_LOCAL".to_owned(), work)].into();
    assert_eq!(reader.results_floor("RESULTS", 5, &gone(5, 5)).unwrap(), 5);
    assert_eq!(reader.results_floor("RESULTS", 5, &gone(5, 2)).unwrap(), 2, "work 2 is still there");
}

#[test]
fn one_writer_at_a_time_and_readers_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let second = Store::open(dir.path(), keys(), &Options::default());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    let beside = Reader::open(dir.path(), Some(master())).unwrap();
    assert_eq!(beside.status().unwrap().records, 0);
    store.append(&road(2)).unwrap();
    assert_eq!(beside.status().unwrap().records, 6, "it follows the commits");
    let record = beside.get(0).unwrap().unwrap();
    assert!(matches!(beside.body(&record).unwrap(), Opened::Body(_)));
    let keyless = Reader::open(dir.path(), None).unwrap();
    assert_eq!(keyless.body(&record).unwrap(), Opened::Sealed);
    drop(store);
    let mut store = self::store(dir.path());
    assert_eq!(store.append(&road(3)).unwrap().records, 3, "it goes on where it stopped");
}

#[test]
fn another_master_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).append(&road(1)).unwrap();
    let other = Store::open(
        dir.path(),
        Keys { master: MasterKey::from_bytes([8; 32]), ..keys() },
        &Options::default(),
    );
    assert!(matches!(other, Err(OpenError::WrongKey)));
    assert!(matches!(Reader::open(&dir.path().join("no"), None), Err(OpenError::Absent { .. })));
    std::fs::remove_file(dir.path().join("keys.bin")).unwrap();
    let keyless = Store::open(dir.path(), keys(), &Options::default());
    assert!(matches!(keyless, Err(OpenError::KeyFile { .. })));
}

#[test]
fn a_body_is_lost_with_any_one_of_its_subjects_keys() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).append(&road(1)).unwrap();
    let reader = Reader::open(dir.path(), Some(master())).unwrap();
    let record = reader.get(0).unwrap().unwrap();
    assert!(matches!(reader.body(&record).unwrap(), Opened::Body(_)));
    let path = dir.path().join("keys.bin");
    let mut keys = std::fs::read(&path).unwrap();
    // After the cell's own key and that of references.
    let row = 16 + 2 * 72;
    keys[row..row + 72].fill(0);
    std::fs::write(&path, keys).unwrap();
    assert_eq!(reader.body(&record).unwrap(), Opened::Lost);
    assert!(reader.verify(Level::Full, &mut |_, _| {}).unwrap().is_ok(), "and every leaf stays provable");
}

/// Whether a text stands anywhere in the record's files.
fn stands(dir: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn nothing_that_was_written_by_producer_or_model_stands_in_the_clear() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let mut odd = task(9, 5);
    odd.subject = format!("task.acme.bot.{}", "anna-schmidt");
    odd.headers = vec![("X".to_owned(), CANARY.to_owned()), ("x".to_owned(), CANARY.to_owned())];
    let mut wild = task(9, 1);
    (wild.stream, wild.subject) = ("EVENTS".to_owned(), format!("no.such.{CANARY}"));
    store.append(&road(4)).unwrap();
    let appended = store.append(&items([odd, wild])).unwrap();
    assert_eq!(
        appended.anomalies,
        vec![(13, Flag::Malformed)],
        "a bad task is its producer's, a bad subject ours"
    );
    drop(store);
    for text in [CANARY, "anna", "customer-1", "flow-1"] {
        assert!(!stands(dir.path(), text), "`{text}` stands in the clear");
    }
    assert!(stands(dir.path(), "permit-local"), "negative control: the search does find what is there");
}

fn leaves(cuts: &[usize]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut store = seeded(dir.path());
    let mut all = road(8);
    all.extend(items([task(3, 9), result(3, 9, "WORK_LOCAL:3", "failed"), review(9, 1, "TASKS_acme:99")]));
    let mut rest = all.as_slice();
    for cut in cuts {
        let (now, later) = rest.split_at((*cut).min(rest.len()));
        store.append(now).unwrap();
        rest = later;
    }
    store.append(rest).unwrap();
    store.reader().tail(0, 100).unwrap().into_iter().map(|record| record.line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_split_into_batches_changes_no_leaf(cuts in prop::collection::vec(0_usize..7, 0..12)) {
        prop_assert_eq!(leaves(&cuts), leaves(&[]));
    }
}
