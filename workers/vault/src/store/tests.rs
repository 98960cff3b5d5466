#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use redb::ReadableTableMetadata as _;
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::vault::Secret;
use uuid::Uuid;

use super::*;

const TTL_MS: u64 = 1_000;
const SECRET: &str = "jane@example.org";

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn store(directory: &Path) -> Store {
    Store::open(directory, &MasterKey::from_bytes([7; 32]), TTL_MS).unwrap()
}

fn scope(tenant: &str, session: Option<&str>, task: u128) -> Scope {
    let session = session.map(|text| text.parse().unwrap());
    Scope { tenant: name(tenant), agent: name("bot"), session, task: TaskId(Uuid::from_u128(task)) }
}

fn issue(scope: &Scope, sequence: u64, values: &[&str]) -> Issue {
    let task = Position::new(format!("TASKS_{}", scope.tenant), sequence);
    let of = |value: &&str| Secret { entity: name("email"), value: (*value).to_owned().into() };
    Issue { scope: scope.clone(), task, values: values.iter().map(of).collect() }
}

fn resolve(store: &Store, scope: &Scope, tokens: &[Token], now_ms: u64) -> Vec<Option<String>> {
    let asked = Resolve { scope: scope.clone(), tokens: tokens.to_vec() };
    let values = store.resolve(&asked, now_ms).unwrap().values;
    values.into_iter().map(|value| value.map(Sensitive::into_inner)).collect()
}

#[test]
fn vault_gives_a_value_one_token_within_a_session_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let first = scope("acme", Some("s"), 1);
    let tokens = store.issue(&issue(&first, 1, &[SECRET, "b@x.org", SECRET]), 0).unwrap().tokens;
    assert_eq!(tokens[0], tokens[2]);
    assert_ne!(tokens[0], tokens[1]);
    let later = scope("acme", Some("s"), 2);
    assert_eq!(
        store.issue(&issue(&later, 2, &[SECRET]), 1).unwrap().tokens[0],
        tokens[0],
        "the same session"
    );
    assert_eq!(resolve(&store, &later, &tokens[..1], 1), [Some(SECRET.to_owned())]);
    let others = [
        scope("acme", Some("t"), 1),
        scope("globex", Some("s"), 1),
        scope("acme", None, 1),
        Scope { agent: name("other"), ..first },
    ];
    for other in others {
        assert_eq!(resolve(&store, &other, &tokens, 1), [None, None, None], "{}", other.key());
        assert_ne!(store.issue(&issue(&other, 3, &[SECRET]), 1).unwrap().tokens[0], tokens[0]);
    }
}

#[test]
fn vault_keeps_values_over_a_restart_and_only_under_its_master_key() {
    let directory = tempfile::tempdir().unwrap();
    let scope = scope("acme", None, 1);
    let tokens = store(directory.path()).issue(&issue(&scope, 1, &[SECRET]), 0).unwrap().tokens;
    assert_eq!(resolve(&store(directory.path()), &scope, &tokens, 1), [Some(SECRET.to_owned())]);
    let other = Store::open(directory.path(), &MasterKey::from_bytes([8; 32]), TTL_MS).unwrap();
    assert_eq!(resolve(&other, &scope, &tokens, 1), [None], "another master key");
}

#[test]
fn vault_writes_no_value_in_the_clear() {
    let directory = tempfile::tempdir().unwrap();
    let scope = scope("acme", Some("a-session"), 1);
    store(directory.path()).issue(&issue(&scope, 1, &[SECRET]), 0).unwrap();
    let holds = |needle: &str| {
        std::fs::read_dir(directory.path()).unwrap().any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
        })
    };
    assert!(!holds(SECRET) && !holds("a-session"));
    assert!(holds("<EMAIL_"), "negative control: what is there is found");
}

#[test]
fn vault_forgets_what_expired() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let scope = scope("acme", Some("s"), 1);
    let tokens = store.issue(&issue(&scope, 1, &[SECRET]), 0).unwrap().tokens;
    store.issue(&issue(&scope, 2, &[SECRET]), 600).unwrap();
    assert_eq!(resolve(&store, &scope, &tokens, 1_500), [Some(SECRET.to_owned())], "used again, kept longer");
    assert_eq!(resolve(&store, &scope, &tokens, 1_600), [None]);
    assert_eq!(store.sweep(1_599).unwrap(), 0);
    assert_eq!(store.sweep(1_600).unwrap(), 1);
    assert_eq!(resolve(&store, &scope, &tokens, 700), [None], "gone");
    assert_ne!(store.issue(&issue(&scope, 3, &[SECRET]), 1_700).unwrap().tokens, tokens);
}

#[test]
fn vault_erases_by_the_tasks_of_a_data_subject() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let scope = scope("acme", Some("s"), 1);
    let first = store.issue(&issue(&scope, 5, &[SECRET, "b@x.org"]), 0).unwrap().tokens;
    // A later task of the session has one of them, too.
    store.issue(&issue(&scope, 9, &[SECRET]), 0).unwrap();
    let key = std::fs::read(directory.path().join("keys.bin")).unwrap();
    assert_eq!(store.erase("TASKS_acme", &[(1, 4), (6, 8)]).unwrap(), 0, "other tasks");
    assert_eq!(store.erase("TASKS_globex", &[(1, 9)]).unwrap(), 0, "another tenant's");
    assert_eq!(store.erase("TASKS_acme", &[(9, 9)]).unwrap(), 1);
    assert_eq!(resolve(&store, &scope, &first, 1), [None, Some("b@x.org".to_owned())]);
    assert_eq!(store.erase("TASKS_acme", &[(9, 9)]).unwrap(), 0, "once done, nothing is left to do");
    let now = std::fs::read(directory.path().join("keys.bin")).unwrap();
    assert_ne!(key, now, "the key's bytes are overwritten");
    assert_eq!(now.len(), key.len());
}

#[test]
fn vault_takes_only_so_much() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let scope = scope("acme", None, 1);
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    for values in [vec!["x"; VALUES_MAX + 1], vec![long.as_str()], vec![""]] {
        assert!(matches!(store.issue(&issue(&scope, 1, &values), 0), Err(StoreError::TooMuch)));
    }
    assert!(store.issue(&issue(&scope, 1, &vec!["x"; VALUES_MAX]), 0).is_ok(), "negative control");
}

#[test]
fn vault_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let held = store(directory.path());
    let second = Store::open(directory.path(), &MasterKey::from_bytes([7; 32]), TTL_MS);
    assert!(matches!(second, Err(StoreError::Held { .. })));
    drop(held);
    store(directory.path());
}

#[test]
fn vault_counts_what_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    assert_eq!(store.held().unwrap(), 0);
    store.issue(&issue(&scope("acme", Some("s"), 1), 1, &[SECRET, "b@x.org", SECRET]), 0).unwrap();
    store.issue(&issue(&scope("acme", Some("t"), 2), 2, &[SECRET]), 0).unwrap();
    assert_eq!(store.held().unwrap(), 3, "a value once a session");
    store.erase("TASKS_acme", &[(2, 2)]).unwrap();
    assert_eq!(store.held().unwrap(), 2, "what was erased is not held");
    store.sweep(TTL_MS).unwrap();
    assert_eq!(store.held().unwrap(), 0, "nor what has expired");
}

/// Rows that say which task an entry was in, either way round.
fn rows(store: &Store) -> (u64, u64) {
    let reading = store.database.begin_read().unwrap();
    let tasks = reading.open_multimap_table(TASKS).unwrap().len().unwrap();
    (tasks, reading.open_multimap_table(REFS).unwrap().len().unwrap())
}

#[test]
fn vault_keeps_no_trace_of_a_task_whose_values_expired_or_were_erased() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let scope = scope("acme", Some("s"), 1);
    store.issue(&issue(&scope, 1, &[SECRET, "b@x.org"]), 0).unwrap();
    store.issue(&issue(&scope, 2, &[SECRET]), 0).unwrap();
    assert_eq!(rows(&store), (3, 3), "negative control: what lives is known by its tasks");
    // The value was in two tasks; erased for one of them, nothing of it is left in the other.
    assert_eq!(store.erase("TASKS_acme", &[(2, 2)]).unwrap(), 1);
    assert_eq!(rows(&store), (1, 1));
    assert_eq!(store.sweep(TTL_MS).unwrap(), 1);
    assert_eq!(rows(&store), (0, 0));
}

#[test]
fn vault_takes_over_a_store_that_knew_entries_by_their_tasks_only() {
    let directory = tempfile::tempdir().unwrap();
    let scope = scope("acme", None, 1);
    {
        let mut store = store(directory.path());
        store.issue(&issue(&scope, 1, &[SECRET, "b@x.org"]), 0).unwrap();
        let writing = store.database.begin_write().unwrap();
        writing.delete_multimap_table(REFS).unwrap();
        writing.open_table(META).unwrap().remove(REFERRED).unwrap();
        // A row that an earlier erasure left behind.
        let mut tasks = writing.open_multimap_table(TASKS).unwrap();
        tasks.insert(("TASKS_acme", 9), b"gone".as_slice()).unwrap();
        drop(tasks);
        writing.commit().unwrap();
    }
    let mut store = store(directory.path());
    assert_eq!(rows(&store), (2, 2), "what is gone is forgotten, the rest found either way");
    assert_eq!(store.erase("TASKS_acme", &[(1, 1)]).unwrap(), 2);
    assert_eq!(rows(&store), (0, 0));
}

#[test]
fn vault_goes_on_giving_a_value_its_new_token_when_the_old_one_is_swept() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let scope = scope("acme", Some("s"), 1);
    let token = |store: &mut Store, now| store.issue(&issue(&scope, 1, &[SECRET]), now).unwrap().tokens;
    let old = token(&mut store, 0);
    let new = token(&mut store, TTL_MS);
    assert_ne!(old, new, "the first had expired");
    assert_eq!(store.sweep(TTL_MS).unwrap(), 1);
    assert_eq!(token(&mut store, TTL_MS + 1), new);
}
