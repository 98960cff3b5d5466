//! A provider on loopback that keeps every byte that it is sent, and answers by repeating the last message.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Bytes of each piece of a streamed answer: fewer than a token has.
const PIECE_BYTES: usize = 5;

/// The provider. It ends when dropped.
pub struct Capture {
    address: String,
    kept: Arc<Kept>,
    serving: AbortHandle,
}

#[derive(Default)]
struct Kept {
    heads: Mutex<Vec<String>>,
    bodies: Mutex<Vec<String>>,
    /// Requests that are still to be answered by an error, count.
    refusals: AtomicUsize,
}

impl Capture {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let address = listener.local_addr().context("asking for the address")?.to_string();
        let kept = Arc::<Kept>::default();
        let to = Arc::clone(&kept);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&to)));
            }
        });
        Ok(Self { address, kept, serving: serving.abort_handle() })
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The bodies that it was sent, in order.
    #[must_use]
    pub fn bodies(&self) -> Vec<String> {
        self.kept.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What stood before them: request lines and headers.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.kept.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers so many requests from now on by an error of its own, 503.
    pub fn refuse(&self, requests: usize) {
        self.kept.refusals.store(requests, Ordering::SeqCst);
    }

    /// Whether it answers every request by such an error from now on.
    pub fn fail(&self, fails: bool) {
        self.refuse(if fails { usize::MAX } else { 0 });
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut stream: TcpStream, kept: Arc<Kept>) -> Option<()> {
    let (head, body) = read(&mut stream).await?;
    kept.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    kept.bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body.clone());
    let fewer = |left: usize| left.checked_sub(1);
    if kept.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
        let refusal = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(refusal.as_bytes()).await.ok()?;
        return stream.shutdown().await.ok();
    }
    let asked: Value = serde_json::from_str(&body).ok()?;
    let said = asked.pointer("/messages").and_then(Value::as_array).and_then(|all| all.last());
    let said = said.and_then(|last| last.get("content")).and_then(Value::as_str).unwrap_or_default();
    let model = asked.get("model").cloned().unwrap_or_default();
    let streams = asked.get("stream").and_then(Value::as_bool).unwrap_or(false);
    let (kind, text) = if streams {
        ("text/event-stream", events(said, &model))
    } else {
        let message = json!({ "role": "assistant", "content": said });
        let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
        let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
        (
            "application/json",
            json!({ "id": "1", "model": model, "choices": [choice], "usage": usage }).to_string(),
        )
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

/// The answer in pieces that cut tokens.
fn events(said: &str, model: &Value) -> String {
    let mut pieces: Vec<String> = Vec::new();
    for character in said.chars() {
        match pieces.last_mut() {
            Some(last) if last.len() < PIECE_BYTES => last.push(character),
            _ => pieces.push(character.to_string()),
        }
    }
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        format!("data: {}\n\n", json!({ "id": "1", "model": model, "choices": [choice] }))
    };
    let mut text: String =
        pieces.into_iter().map(|piece| chunk(json!({ "content": piece }), Value::Null)).collect();
    text.push_str(&chunk(json!({}), json!("stop")));
    text.push_str("data: [DONE]\n\n");
    text
}

/// Head and body of one request.
async fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let told = String::from_utf8_lossy(bytes.get(..head)?).into_owned();
            let text = told.to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let end = head + 4 + length.unwrap_or(0_usize);
            if bytes.len() >= end {
                return Some((told, String::from_utf8_lossy(bytes.get(head + 4..end)?).into_owned()));
            }
        }
        let mut piece = [0; 4_096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(piece.get(..count)?),
        }
    }
}
