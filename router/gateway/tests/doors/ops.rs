//! Liveness, readiness, metrics.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tidegate_gateway::{BindError, Ops, Reach, Snapshot, bind, serve_ops};
use tokio_util::sync::CancellationToken;

use crate::client::get;

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

#[tokio::test]
async fn each_probe_says_how_the_role_is() {
    let health =
        Arc::new(Mutex::new(Snapshot { live: true, ready: true, sentence: "all parts work".to_owned() }));
    let seen = health.clone();
    let ops = Ops {
        health: Arc::new(move || seen.lock().unwrap().clone()),
        metrics: Arc::new(|| "# TYPE tidegate_records_total counter\ntidegate_records_total 7\n".to_owned()),
    };
    let listener = bind(local(), Reach::Loopback).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_ops(listener, ops, shutdown.clone()));

    // (live, ready) → (status of /livez, status of /readyz)
    let rows = [((true, true), (200, 200)), ((true, false), (200, 503)), ((false, true), (503, 503))];
    for ((live, ready), expected) in rows {
        *health.lock().unwrap() = Snapshot { live, ready, sentence: "the model is loading".to_owned() };
        let (livez, readyz) = (get(addr, "/livez").await, get(addr, "/readyz").await);
        assert_eq!((livez.status, readyz.status), expected, "live {live}, ready {ready}");
        assert_eq!(readyz.json()["sentence"], "the model is loading");
        assert_eq!(readyz.json()["ok"], live && ready);
    }
    let metrics = get(addr, "/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(metrics.body.contains("tidegate_records_total 7\n"));
    assert_eq!(get(addr, "/debug").await.status, 404);

    shutdown.cancel();
    serving.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn only_loopback_unless_told_otherwise() {
    let everywhere: SocketAddr = (Ipv4Addr::UNSPECIFIED, 0).into();
    assert!(matches!(bind(everywhere, Reach::Loopback).await, Err(BindError::NotLoopback { .. })));
    assert!(bind(everywhere, Reach::Anyone).await.is_ok());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = bind(local(), Reach::Loopback).await.unwrap();
    let addr = first.local_addr().unwrap();
    let error = bind(addr, Reach::Loopback).await.unwrap_err();
    assert!(matches!(error, BindError::Taken { .. }));
    assert!(error.to_string().contains(&addr.port().to_string()), "{error}");
}
