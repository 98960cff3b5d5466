//! What one client may do to the door: nothing that another would notice for long.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use crate::client::PATIENCE;
use crate::openai::{Script, start};

#[tokio::test]
async fn an_answer_under_way_is_cut_when_the_drain_is_over() {
    let door = start(Script::Endless, None).await;
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#;
    let mut stream = TcpStream::connect(door.addr).await.unwrap();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut some = [0; 64];
    timeout(PATIENCE, stream.read_exact(&mut some)).await.unwrap().unwrap();
    door.shutdown.cancel();
    timeout(PATIENCE, door.serving).await.unwrap().unwrap().unwrap();
    // The connection ends, and so does the answer behind it.
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    timeout(PATIENCE, door.dropped.notified()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_withdraws_its_request() {
    let door = start(Script::Endless, None).await;
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#;
    let mut stream = TcpStream::connect(door.addr).await.unwrap();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut some = [0; 64];
    timeout(PATIENCE, stream.read_exact(&mut some)).await.unwrap().unwrap();
    drop(stream);
    timeout(PATIENCE, door.dropped.notified()).await.unwrap();
}

#[tokio::test]
async fn a_silent_client_loses_its_connection() {
    // The idle limit is the time limit and half a minute: with paused time that passes at once.
    let door = start(Script::Endless, None).await;
    let mut stream = TcpStream::connect(door.addr).await.unwrap();
    stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    // The server has accepted once another connection is answered.
    let models = crate::client::get(door.addr, "/v1/models").await;
    assert_eq!(models.status, 200);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60 + 31)).await;
    tokio::time::resume();
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(read.is_err() || rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "closed without an answer");
}
