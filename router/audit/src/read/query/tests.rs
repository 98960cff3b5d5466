//! Queries against a look at every record.
#![expect(clippy::unwrap_used, reason = "tests")]

use redb::ReadableDatabase as _;
use serde_json::json;
use tidegate_schemas::code::Code;
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::{Identifier, Name};
use tidegate_schemas::labels::{Sensitivity, Stakes};
use tidegate_schemas::result::State;
use tidegate_schemas::task::Kind;

use crate::entry::{Entry, Item};
use crate::error::ReadError;
use crate::fixture::{at, items, keys, result, small, store, task, task_id, work};
use crate::leaf::RecordKind;
use crate::read::{Filter, Reader, Record};
use crate::store::Store;
use crate::table;

/// Task, work and result of task `n`, which differ by `n` in all that can be asked for.
fn varied(n: u64) -> [Entry; 3] {
    let of = |many: u64, names: &[&str]| names[usize::try_from(n % many).unwrap()].to_owned();
    let swap = |mut entry: Entry, pairs: &[(&str, &str)]| {
        let mut text = String::from_utf8(entry.payload.to_vec()).unwrap();
        for (old, new) in pairs {
            text = text.replace(old, new);
            entry.subject = entry.subject.replace(old, new);
            entry.headers.iter_mut().for_each(|(_, value)| *value = value.replace(old, new));
        }
        entry.payload = text.into();
        entry
    };
    let (agent, person) = (of(5, &["desk", "bot", "bot", "clerk", "bot"]), format!("customer-{}", n % 3));
    let outcome = of(2, &["local", "cloud"]);
    let (kind, rule) = (of(3, &["personal", "health", "unknown"]), of(2, &["gdpr", "hipaa"]));
    let known = format!(
        "\"known\":{{\"categories\":[\"card\",\"{kind}\"],\"regulations\":[\"{rule}\"],\"residency\":[\"{}\"],\
         \"consent\":[\"marketing\"],\"purpose\":\"{}\"}},",
        of(4, &["eu", "ch", "eu", "us"]),
        of(5, &["support", "hiring", "support", "support", "support"])
    );
    let pairs = [
        (".bot.", format!(".{agent}.")),
        ("bot", agent),
        ("customer-1", person),
        ("flow-1", format!("flow-{}", n % 4)),
        ("\"local\"", format!("\"{outcome}\"")),
        ("permit-local", format!("permit-{}", n % 3)),
        ("local-small", of(3, &["local-small", "local-large", "eu-cloud"])),
        ("1111111111", format!("111111111{}", n % 2)),
        ("\"internal\"", of(2, &["\"internal\"", "\"restricted\""])),
        ("\"low\"", of(4, &["\"low\"", "\"high\"", "\"low\"", "\"medium\""])),
        ("\"scan\":", known + "\"scan\":"),
    ];
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(old, new)| (*old, new.as_str())).collect();
    let state = of(3, &["completed", "completed", "failed"]);
    let mut ended = result(n, n, &format!("WORK_LOCAL:{n}"), &state);
    if state == "failed" {
        let mut told: serde_json::Value = serde_json::from_slice(&ended.payload).unwrap();
        told["error"] = json!({"code": "model_failed"});
        ended.payload = told.to_string().into();
    }
    [swap(task(n, n), &pairs), swap(work(n, n, &format!("TASKS_acme:{n}")), &pairs), swap(ended, &pairs)]
}

fn batch(tasks: std::ops::Range<u64>) -> Vec<Item> {
    items(tasks.flat_map(varied))
}

/// All that a filter finds, in pages of `limit`.
fn all(reader: &Reader, filter: &Filter, limit: usize) -> Vec<Record> {
    let mut page = Filter { limit: Some(limit), after: None, ..filter.clone() };
    let mut found = Vec::new();
    loop {
        let next = reader.query(&page).unwrap();
        assert!(next.records.len() <= limit);
        found.extend(next.records);
        match next.next {
            Some(next) => page.after = Some(next),
            None => return found,
        }
    }
}

fn name(text: &str) -> Option<Name> {
    Some(Name::new(text).unwrap())
}

/// One filter a thing that can be asked for, and some together. Each finds something, the last ones nothing.
fn filters(reader: &Reader) -> Vec<(&'static str, Filter)> {
    let leaf = reader.get(1).unwrap().unwrap().leaf;
    let plain = Filter::default;
    let bundle: Digest = format!("{}1{}", "1".repeat(9), "1".repeat(54)).parse().unwrap();
    vec![
        ("all", plain()),
        ("tenant", Filter { tenant: name("acme"), ..plain() }),
        ("agent", Filter { agent: name("clerk"), ..plain() }),
        ("task", Filter { task: Some(task_id(7)), ..plain() }),
        ("kind", Filter { kind: Some(RecordKind::Work), ..plain() }),
        ("task kind", Filter { task_kind: Some(Kind::Chat), ..plain() }),
        ("state", Filter { state: Some(State::Failed), ..plain() }),
        ("code", Filter { code: Some(Code::ModelFailed), ..plain() }),
        ("outcome", Filter { outcome: Some(Outcome::Cloud), ..plain() }),
        ("destination", Filter { destination: name("eu-cloud"), ..plain() }),
        ("policy", Filter { policy: Some("permit-2".to_owned()), ..plain() }),
        ("bundle", Filter { bundle: Some(bundle), ..plain() }),
        ("sensitivity", Filter { sensitivity: Some(Sensitivity::Restricted), ..plain() }),
        ("stakes", Filter { stakes: Some(Stakes::Low), ..plain() }),
        ("category", Filter { category: name("health"), ..plain() }),
        ("category of all", Filter { category: name("card"), ..plain() }),
        ("category that no bundle knew", Filter { category: name("unknown"), ..plain() }),
        ("regulation", Filter { regulation: name("gdpr"), ..plain() }),
        ("residency", Filter { residency: name("ch"), ..plain() }),
        ("consent", Filter { consent: name("marketing"), ..plain() }),
        ("purpose", Filter { purpose: name("hiring"), ..plain() }),
        (
            "labels together",
            Filter {
                category: name("personal"),
                regulation: name("hipaa"),
                residency: name("us"),
                outcome: Some(Outcome::Cloud),
                ..plain()
            },
        ),
        ("subject reference", Filter { subject_ref: leaf.subjects.first().cloned(), ..plain() }),
        ("from", Filter { from: Some(at(20)), ..plain() }),
        ("to", Filter { to: Some(at(20)), ..plain() }),
        ("times", Filter { from: Some(at(10)), to: Some(at(20)), ..plain() }),
        (
            "tenant and times",
            Filter { tenant: name("acme"), from: Some(at(10)), to: Some(at(20)), ..plain() },
        ),
        (
            "together",
            Filter {
                tenant: name("acme"),
                outcome: Some(Outcome::Cloud),
                policy: Some("permit-1".to_owned()),
                from: Some(at(5)),
                ..plain()
            },
        ),
        ("no such policy", Filter { policy: Some("permit-9".to_owned()), ..plain() }),
        ("no such category", Filter { category: name("finance"), ..plain() }),
        ("no region, but a category", Filter { residency: name("health"), ..plain() }),
        (
            "not by what a task declared",
            Filter { kind: Some(RecordKind::Task), category: name("card"), ..plain() },
        ),
        ("never together", Filter { kind: Some(RecordKind::Task), state: Some(State::Failed), ..plain() }),
    ]
}

/// Where nothing is found, the filter must be one of those that find nothing.
fn check(reader: &Reader, what: &str) {
    let every = reader.tail(0, 10_000).unwrap();
    for (name, filter) in filters(reader) {
        let expected: Vec<_> = every.iter().filter(|record| filter.matches(&record.leaf)).cloned().collect();
        assert_eq!(expected.is_empty(), name.starts_with("n"), "{what}: {name}");
        for limit in [2, 1_000] {
            assert_eq!(all(reader, &filter, limit), expected, "{what}: {name}");
        }
    }
    // What stands in no leaf by its name.
    let by_name = |filter: Filter, third: &dyn Fn(u64) -> bool| {
        let found = all(reader, &filter, 7);
        let expected: Vec<_> =
            every.iter().filter(|record| third(record.leaf.index / 3 + 1)).cloned().collect();
        assert!(!expected.is_empty() && found == expected, "{what}");
    };
    let id = |text: &str| Some(Identifier::new(text).unwrap());
    by_name(Filter { workflow: id("flow-1"), ..Filter::default() }, &|n| n % 4 == 1);
    by_name(Filter { workflow: id("flow-1"), tenant: name("acme"), ..Filter::default() }, &|n| n % 4 == 1);
    by_name(Filter { subject: id("customer-2"), ..Filter::default() }, &|n| n % 3 == 2);
    by_name(Filter { subject: id(&format!("task:{}", task_id(5))), ..Filter::default() }, &|n| n == 5);
    let nobody = Filter { subject: id("customer-9"), ..Filter::default() };
    assert_eq!(all(reader, &nobody, 7), []);
}

/// Records that the index knows.
fn indexed(store: &Store) -> u64 {
    let txn = store.open_file().begin_read().unwrap();
    let meta = txn.open_table(table::META).unwrap();
    meta.get(table::META_INDEXED).unwrap().map_or(0, |row| row.value())
}

#[test]
fn query_finds_the_same_whatever_the_index_knows() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.append(&batch(1..21)).unwrap();
    assert_eq!(indexed(&store), 0);
    check(&store.reader(), "nothing indexed");
    assert!(!store.index().unwrap());
    assert_eq!(indexed(&store), 60);
    check(&store.reader(), "all indexed");
    store.append(&batch(21..31)).unwrap();
    assert_eq!(indexed(&store), 60);
    check(&store.reader(), "some indexed");
    store.index().unwrap();
    check(&store.reader(), "a block that was begun before");
    // A crash: what waited in memory is gone, and read back.
    store.append(&batch(31..41)).unwrap();
    drop(store);
    let mut store = Store::open(dir.path(), keys(), &small()).unwrap();
    check(&store.reader(), "opened again");
    store.append(&batch(41..45)).unwrap();
    assert_eq!(indexed(&store), 120, "an append reads back what was lost");
    check(&store.reader(), "read back, with newer records waiting");
    assert!(!store.index().unwrap());
    assert_eq!(indexed(&store), 132);
    check(&store.reader(), "all indexed again");
    check(&Reader::open(dir.path(), Some(crate::fixture::master())).unwrap(), "from the file");
}

#[test]
fn query_an_index_that_is_missing_is_made_again_block_by_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    (0..5).for_each(|n| drop(store.append(&batch(n * 350 + 1..n * 350 + 351)).unwrap()));
    assert!(indexed(&store) >= 4_200, "appends index by themselves");
    let flow = Filter { workflow: Some(Identifier::new("flow-2").unwrap()), ..Filter::default() };
    let before = all(&store.reader(), &flow, 1_000);
    assert!(before.len() > 1_000);
    // As a release without an index would have left it.
    let txn = crate::store::write(store.open_file()).unwrap();
    assert!(txn.delete_table(table::TERMS).unwrap() && txn.delete_table(table::WINDOWS).unwrap());
    txn.open_table(table::META).unwrap().remove(table::META_INDEXED).unwrap();
    txn.commit().unwrap();
    drop(store);
    let reader = Reader::open(dir.path(), Some(crate::fixture::master())).unwrap();
    assert_eq!(all(&reader, &flow, 1_000), before, "found without an index too");
    drop(reader);
    let mut store = Store::open(dir.path(), keys(), &small()).unwrap();
    assert_eq!(indexed(&store), 0);
    let mut steps = 1;
    while store.index().unwrap() {
        steps += 1;
    }
    assert_eq!((steps, indexed(&store)), (2, 5_250));
    assert_eq!(all(&store.reader(), &flow, 1_000), before);
}

#[test]
fn query_pages_have_each_record_once_while_more_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let mut page = Filter { tenant: name("acme"), from: Some(at(3)), limit: Some(5), ..Filter::default() };
    let (mut found, mut next) = (Vec::new(), 1);
    store.append(&batch(1..11)).unwrap();
    loop {
        let read = store.reader().query(&page).unwrap();
        found.extend(read.records.iter().map(|record| record.leaf.index));
        let Some(cursor) = read.next else { break };
        page.after = Some(cursor);
        if next < 20 {
            store.append(&batch(next + 10..next + 11)).unwrap();
            if next % 4 == 0 {
                store.index().unwrap();
            }
            next += 1;
        }
    }
    let expected: Vec<u64> = (6..store.records()).collect();
    assert_eq!(found, expected, "in order, each once, with what came meanwhile");
}

#[test]
fn query_a_page_is_bounded_in_records_and_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    (0..5).for_each(|n| drop(store.append(&batch(n * 350 + 1..n * 350 + 351)).unwrap()));
    let reader = store.reader();
    let page = reader.query(&Filter { limit: Some(1_000_000), ..Filter::default() }).unwrap();
    let bytes: usize = page.records.iter().map(|record| record.line.len()).sum();
    assert!(page.next.is_some() && page.records.len() <= 1_000, "{}", page.records.len());
    assert!(bytes < super::PAGE_BYTES + crate::leaf::LEAF_BYTES_MAX, "{bytes}");
    assert_eq!(all(&reader, &Filter::default(), 1_000_000).len(), 5_250, "and nothing is left out for it");
}

#[test]
fn query_names_need_the_master_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut made = store(dir.path());
    made.append(&batch(1..3)).unwrap();
    drop(made);
    let reader = Reader::open(dir.path(), None).unwrap();
    let id = || Some(Identifier::new("customer-1").unwrap());
    for filter in
        [Filter { subject: id(), ..Filter::default() }, Filter { workflow: id(), ..Filter::default() }]
    {
        assert!(matches!(reader.query(&filter), Err(ReadError::KeyNeeded)));
    }
    let reference = reader.get(0).unwrap().unwrap().leaf.subjects.pop();
    let by_reference = Filter { subject_ref: reference, ..Filter::default() };
    assert_eq!(all(&reader, &by_reference, 10).len(), 3, "what a leaf says is found without");
}

#[test]
fn query_that_no_index_serves_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    (0..5).for_each(|n| drop(store.append(&batch(n * 350 + 1..n * 350 + 351)).unwrap()));
    let reader = store.reader();
    let mut page = Filter { trace: Some("0".repeat(32)), ..Filter::default() };
    let mut reached = Vec::new();
    while let Some(next) = reader.look(&page, 2_000).unwrap().next {
        reached.push(next.index());
        page.after = Some(next);
    }
    assert_eq!(reached, [2_047, 4_095], "each call looks at so many, and says how far it is");
    // Negative control: one that an index serves needs one call, though it finds nothing either.
    let nobody = Filter { agent: name("nobody"), ..Filter::default() };
    assert_eq!(reader.look(&nobody, 2_000).unwrap(), crate::read::Page { records: Vec::new(), next: None });
}
