//! A data subject whose naming leaf was pruned while its key still seals something: erasing finds it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use super::erase::{acme, erasure, holding, names, opened, subject};
use super::{Opened, Reader, Store, items, seeded, store};
use crate::copy;
use crate::copy::tests::segments::{prune, seal};
use crate::erase::names as kept;
use crate::fixture::{at, cancel, erase, keys, result, task, task_id, task_of};
use crate::segment::Part;
use crate::store::write;
use crate::table;
use tidegate_schemas::ids::Name;

/// A person's task and one that names nobody; their withdrawals come late, and say of nobody whose data they hold. The leaves
/// that did are pruned. Returns the index of the first withdrawal.
fn late(dir: &Path) -> (Store, u64) {
    let mut store = seeded(dir);
    let two = [(1_000, 1, &["customer-2"][..]), (1_001, 2, &[])];
    for (n, sequence, whose) in two {
        let ended = result(n, sequence, &format!("TASKS_acme:{sequence}"), "completed");
        store.append(&items([task_of(n, sequence, whose), ended])).unwrap();
    }
    let more = (3..=140).flat_map(|n| [task(n, n), result(n, n, &format!("TASKS_acme:{n}"), "completed")]);
    store.append(&items(more)).unwrap();
    seal(&mut store);
    let first = store.append(&items([cancel(1_000, 141), cancel(1_001, 142)])).unwrap().first;
    prune(&mut store, Part::Records, 0).unwrap();
    (store, first)
}

fn own() -> String {
    format!("task:{}", task_id(1_001))
}

/// Erases who is called so by an act that is recorded. Returns how many records that took.
fn erased(store: &mut Store, who: &str) -> u64 {
    let reader = store.reader();
    let known = names(&reader, who).unwrap();
    let event = store.next_sequence("EVENTS");
    store.append(&items([erase(event, &known)])).unwrap();
    let held = holding(&reader, &known);
    assert_eq!((held.rows.len(), held.keys.len()), (1, 1), "{who}");
    store.destroy(&erasure(event, &known), &held.rows).unwrap();
    store.forget(&held.tasks, &held.keys).unwrap();
    held.records
}

fn taken(reader: &Reader, index: u64) -> bool {
    matches!(opened(reader, index), Opened::Erased { .. })
}

#[test]
fn erase_finds_what_a_key_still_seals_when_the_leaf_that_named_it_was_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, first) = late(&dir.path().join("record"));
    let reader = store.reader();
    let leaf = reader.get(first).unwrap().unwrap().leaf;
    assert!(leaf.subjects.is_empty() && leaf.body.is_some(), "control: no leaf says whose it is");
    assert!(matches!(opened(&reader, first), Opened::Body(_)), "control: and it can be read");
    for (who, n) in [("customer-2", 1_000), (&*own(), 1_001)] {
        let held = holding(&reader, &names(&reader, who).unwrap());
        assert_eq!((held.records, held.tasks), (1, [task_id(n)].into()), "{who}");
    }
    let of_another = Name::new("globex").unwrap();
    let known = names(&reader, "customer-2").unwrap();
    let none = reader.holding(&of_another, &known, &mut |_| Ok(())).unwrap();
    assert_eq!(none.rows, BTreeSet::new(), "another tenant's act means nobody here");

    // A copy has them too.
    let (to, again) = (dir.path().join("backup"), dir.path().join("again"));
    let public = keys().signer.public();
    store.checkpoint().unwrap();
    reader.backup(&to, Some(&public), at(0), &mut |_, _| {}).unwrap();
    copy::restore(&to, Some(&again), Some(&public), &mut |_, _| {}).unwrap();
    std::fs::copy(dir.path().join("record/keys.bin"), again.join("keys.bin")).unwrap();
    for mut store in [store, self::store(&again)] {
        for (who, index) in [("customer-2", first), (&*own(), first + 1)] {
            assert_eq!(erased(&mut store, who), 1);
            assert!(taken(&store.reader(), index), "{who}");
            assert_eq!(names(&store.reader(), who), None);
        }
    }

    // Negative control: without the names that are kept, nothing is found.
    let other = tempfile::tempdir().unwrap();
    let (store, _) = late(other.path());
    let txn = write(&store.db).unwrap();
    txn.open_table(table::NAMES).unwrap().retain(|_, _| false).unwrap();
    txn.commit().unwrap();
    let reader = store.reader();
    let known = reader.data_subject(&acme(), &subject("customer-2")).unwrap().unwrap();
    let held = holding(&reader, &known.references);
    assert!(held.rows.is_empty() && known.is_unnamed(&held));
    // Whoever has the id and the master key sees it all the same, by the keys.
    let seen = reader.holding_of(&known, &mut |_| Ok(())).unwrap();
    assert_eq!((seen.records, seen.tasks), (1, [task_id(1_000)].into()));
    // So it is where an older release pruned: whoever has the id can have the names kept.
    let mut store = store;
    store.name_subject(&known).unwrap();
    let held = holding(&store.reader(), &known.references);
    assert!(held.records == 1 && !known.is_unnamed(&held));
}

#[test]
fn erase_destroys_the_key_of_a_person_of_whom_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = late(dir.path());
    let count = |store: &Store| {
        let all = kept::all(&store.reader().begin().unwrap()).unwrap();
        (all.len(), all.values().filter(|kept| kept.own).count())
    };
    assert_eq!(count(&store), (3, 1), "two persons, and the task that names none");
    store.append(&items((143..=420).map(|n| task_of(n, n, &["customer-3"])))).unwrap();
    let ended = |n| result(n, n - 2, &format!("TASKS_acme:{n}"), "completed");
    store.append(&items((143..=420).map(ended))).unwrap();
    seal(&mut store);
    prune(&mut store, Part::Records, 256).unwrap();
    assert_eq!(count(&store), (3, 0), "a task's own name went with its key, and a third person came");
    assert_eq!(names(&store.reader(), &own()), None);

    let reader = store.reader();
    let known = names(&reader, "customer-2").unwrap();
    let held = holding(&reader, &known);
    assert_eq!((held.records, held.keys.len(), held.rows.len()), (0, 0, 1));
    let event = store.next_sequence("EVENTS");
    store.append(&items([erase(event, &known)])).unwrap();
    store.destroy(&erasure(event, &known), &held.rows).unwrap();
    assert_eq!(names(&reader, "customer-2"), None);
    assert!(names(&reader, "customer-3").is_some(), "negative control");
}
