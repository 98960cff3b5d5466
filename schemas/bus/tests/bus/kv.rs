//! Buckets: compare-and-set, reading without a consumer across accounts, and notices.

use futures::StreamExt;
use tidegate_bus::{Identity, KvError, Role};

use crate::cell::{Cell, PATIENCE, name};

#[tokio::test]
async fn compare_and_set_lets_one_writer_win() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    assert_eq!(router.kv_get("budgets", "acme.today").await.unwrap(), None);
    let first = router.kv_create("budgets", "acme.today", "1").await.unwrap();
    assert!(matches!(router.kv_create("budgets", "acme.today", "2").await, Err(KvError::Conflict { .. })));
    let second = router.kv_update("budgets", "acme.today", "2", first).await.unwrap();
    assert!(matches!(
        router.kv_update("budgets", "acme.today", "3", first).await,
        Err(KvError::Conflict { .. })
    ));
    let entry = router.kv_get("budgets", "acme.today").await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.revision), (&b"2"[..], second));
    router.kv_delete("budgets", "acme.today").await.unwrap();
    assert_eq!(router.kv_get("budgets", "acme.today").await.unwrap(), None);
    router.kv_create("budgets", "acme.today", "4").await.unwrap();
    for key in ["", "a b", "a..b", "a.*", "ü"] {
        assert!(matches!(router.kv_get("budgets", key).await, Err(KvError::BadKey { .. })), "{key}");
    }
}

#[tokio::test]
async fn a_change_reaches_every_zone() {
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let mut zones = Vec::new();
    let readers = [Role::Recorder, Role::Local, Role::Cloud, Role::Gateway].map(Identity::Role);
    for identity in readers.into_iter().chain([Identity::Operator(name("olga"))]) {
        let bus = cell.bus(identity).await;
        let notices = bus.kv_notices("flags").await.unwrap();
        bus.flush().await.unwrap();
        zones.push((bus, notices));
    }
    router.kv_put("flags", "lane.cloud", "off").await.unwrap();
    router.kv_put("flags", "lane.local", "on").await.unwrap();
    for (bus, notices) in &mut zones {
        tokio::time::timeout(PATIENCE, notices.next()).await.unwrap().unwrap();
        let entry = bus.kv_get("flags", "lane.cloud").await.unwrap().unwrap();
        assert_eq!(entry.value, "off", "{:?}", bus.identity());
        let mut keys: Vec<_> =
            bus.kv_entries("flags", ">").await.unwrap().into_iter().map(|e| e.key).collect();
        keys.sort();
        assert_eq!(keys, ["lane.cloud", "lane.local"], "{:?}", bus.identity());
    }
    // Negative control: who reads may not write.
    for (bus, _) in &zones {
        let written = bus.kv_put("flags", "lane.cloud", "on").await;
        assert!(matches!(written, Err(KvError::Write(_))), "{:?}: {written:?}", bus.identity());
    }
    assert_eq!(router.kv_get("flags", "lane.cloud").await.unwrap().unwrap().value, "off");
}

#[tokio::test]
async fn more_values_than_the_server_tells_at_once_are_read_by_their_keys() {
    const KEYS: usize = 1_025;
    let cell = Cell::start().await;
    let router = cell.role(Role::Router).await;
    let keys: Vec<String> = (0..KEYS).map(|number| format!("tenant.t{number}")).collect();
    for part in keys.chunks(64) {
        let written = part.iter().map(|key| router.kv_swap("budgets", key, key.clone(), None));
        assert!(futures::future::join_all(written).await.iter().all(Result::is_ok));
    }
    let mut read = router.kv_values("budgets", &keys).await.unwrap();
    read.sort_by_key(|entry| entry.revision);
    assert_eq!(read.len(), KEYS);
    assert!(read.iter().all(|entry| entry.value == entry.key), "each its own");
    // Negative control: at once they are too many.
    assert!(router.kv_entries("budgets", ">").await.is_err());
    let some = ["tenant.t7".to_owned(), "tenant.nobody".to_owned()];
    let read = router.kv_values("budgets", &some).await.unwrap();
    assert_eq!(read.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["tenant.t7"]);
    assert!(router.kv_values("budgets", &[]).await.unwrap().is_empty());
    assert!(matches!(router.kv_values("budgets", &["a.>".to_owned()]).await, Err(KvError::BadKey { .. })));
}
