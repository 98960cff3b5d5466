//! A double of a provider on loopback: it records every byte that reaches it and answers as scripted, one script a request.

#![expect(dead_code, reason = "each test binary uses a part")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use jiff::{SignedDuration, Timestamp};
use tidegate_providers::{Attempting, Control, Failure, Halt, ProviderConfig, Witness};
use tidegate_schemas::digest::{Digest, Salt};
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::ticket::{Claims, Cleared, Signer, TicketError, Verifier};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What the double does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Writes bytes.
    Send(Vec<u8>),
    /// Says nothing for so long.
    Wait(Duration),
    /// Writes bytes one by one, with this pause before each.
    Drip(Vec<u8>, Duration),
    /// Says and does nothing more; the connection stays open.
    Hang,
}

/// A scripted server and what reached it.
#[derive(Clone)]
pub(crate) struct Double {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl Double {
    pub(crate) async fn start(scripts: Vec<Vec<Act>>) -> Self {
        Self::behind(TcpListener::bind("127.0.0.1:0").await.unwrap(), scripts)
    }

    pub(crate) async fn start_tls(scripts: Vec<Vec<Act>>, tls: tokio_rustls::TlsAcceptor) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), scripts, Some(tls))
    }

    /// Behind a listener that was there before.
    pub(crate) fn behind(listener: TcpListener, scripts: Vec<Vec<Act>>) -> Self {
        Self::listen(listener, scripts, None)
    }

    fn listen(listener: TcpListener, scripts: Vec<Vec<Act>>, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let address = listener.local_addr().unwrap();
        let double = Self { address, seen: Arc::default(), tls };
        let scripts = Arc::new(Mutex::new(VecDeque::from(scripts)));
        let server = double.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, scripts) = (server.clone(), scripts.clone());
                tokio::spawn(async move {
                    match &server.tls {
                        None => server.serve(stream, &scripts).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                server.serve(stream, &scripts).await;
                            }
                        }
                    }
                });
            }
        });
        double
    }

    async fn serve(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        scripts: &Mutex<VecDeque<Vec<Act>>>,
    ) {
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        while !is_whole(&request) {
            match stream.read(&mut chunk).await {
                Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                _ => return,
            }
        }
        self.seen.lock().unwrap().push(request);
        let script = scripts.lock().unwrap().pop_front().unwrap_or_default();
        for act in script {
            match act {
                Act::Send(bytes) => {
                    // A client that has gone away is what some tests are about.
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.flush().await;
                }
                Act::Wait(silence) => tokio::time::sleep(silence).await,
                Act::Drip(bytes, pause) => {
                    let mut tick = tokio::time::interval(pause);
                    for byte in bytes {
                        tick.tick().await;
                        if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                }
                Act::Hang => std::future::pending().await,
            }
        }
        let _ = stream.shutdown().await;
    }

    /// Whole requests that arrived, heads and bodies.
    pub(crate) fn requests(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }

    /// Bodies that arrived.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.requests()
            .into_iter()
            .map(|request| {
                let head = request.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
                request[head + 4..].to_vec()
            })
            .collect()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let Some(head) = request.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    request.len() >= head + 4 + length.map_or(0, |length| length.trim().parse().unwrap())
}

/// A whole answer with `content-length`.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![Act::Send(
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}")
            .into_bytes(),
    )]
}

/// The head of a stream and its parts; the end of the connection ends it.
pub(crate) fn stream(parts: &[&str]) -> Vec<Act> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    std::iter::once(head)
        .chain(parts.iter().copied())
        .map(|part| Act::Send(part.as_bytes().to_vec()))
        .collect()
}

pub(crate) const GOOD: &str = r#"{"model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
pub(crate) const REQUEST: &[u8] =
    br#"{"model":"m-1","messages":[{"role":"user","content":"hi"}],"max_tokens":16}"#;
pub(crate) const STREAMED: &[u8] =
    br#"{"model":"m-1","messages":[{"role":"user","content":"hi"}],"max_tokens":16,"stream":true}"#;
pub(crate) const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hel\"}}]}\n\n";
pub(crate) const MORE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n";
pub(crate) const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Installs the crypto that the binary installs in `main`.
pub(crate) fn install_crypto() {
    // A second test of the same process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A provider `double` at this URL, on loopback.
pub(crate) fn config(url: &str) -> ProviderConfig {
    install_crypto();
    serde_json::from_value(serde_json::json!({
        "name": "double",
        "protocol": "openai_chat",
        "endpoints": { "main": { "url": url, "region": "eu", "models": ["m-1"] } },
        "reach": "loopback",
        "connect_ms": 2_000, "header_ms": 2_000, "idle_ms": 2_000, "total_ms": 20_000
    }))
    .unwrap()
}

pub(crate) fn claims(bytes: &[u8], salt: &Salt) -> Claims {
    let now = Timestamp::now();
    Claims {
        version: 1,
        id: Uuid::from_u128(7),
        audience: "cell-a".into(),
        tenant: name("acme"),
        agent: name("support"),
        task: TaskId(Uuid::from_u128(8)),
        decision: Uuid::from_u128(9),
        bundle: Digest::plain(b"bundle"),
        directory: Digest::plain(b"directory"),
        content: salt.digest(bytes),
        content_bytes: bytes.len() as u64,
        provider: name("double"),
        model: "m-1".into(),
        region: name("eu"),
        base_url: name("main"),
        attempts_max: 3,
        output_tokens_max: 16,
        cost_usd_micros_max: None,
        not_before: now,
        expires: now + SignedDuration::from_secs(60),
        deadline: now + SignedDuration::from_secs(60),
    }
}

/// Signs with one key, verifies with another's public half.
pub(crate) fn verify(
    claims: &Claims,
    bytes: &[u8],
    salt: &Salt,
    signed_by: u8,
) -> Result<Cleared, TicketError> {
    let trusted = SigningKey::from_bytes(&[3; 32]).verifying_key();
    let ticket = Signer::new("k1", SigningKey::from_bytes(&[signed_by; 32])).sign(claims);
    Verifier::new("cell-a", vec![("k1".into(), trusted)]).verify(
        &ticket,
        salt,
        bytes::Bytes::copy_from_slice(bytes),
        Timestamp::now(),
    )
}

pub(crate) fn cleared_with(bytes: &[u8], change: impl FnOnce(&mut Claims)) -> Cleared {
    let salt = Salt::new([5; 32]);
    let mut claims = claims(bytes, &salt);
    change(&mut claims);
    verify(&claims, bytes, &salt, 3).unwrap()
}

pub(crate) fn cleared(bytes: &[u8]) -> Cleared {
    cleared_with(bytes, |_| {})
}

pub(crate) fn control() -> Control {
    Control {
        attempts_max: 3,
        deadline: Timestamp::now() + SignedDuration::from_secs(30),
        cancel: CancellationToken::new(),
        publish: true,
    }
}

/// Notes what it is told; may refuse to let an attempt begin.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) begun: Vec<(u32, String)>,
    pub(crate) text: Vec<String>,
    pub(crate) retried: Vec<(Failure, Duration)>,
    pub(crate) refuse_from: Option<u32>,
    pub(crate) cancel_on_text: Option<CancellationToken>,
}

impl Witness for Notes {
    async fn begins(&mut self, attempt: Attempting<'_>) -> Result<(), Halt> {
        if self.refuse_from.is_some_and(|from| attempt.number >= from) {
            return Err(Halt);
        }
        self.begun.push((attempt.number, attempt.host.to_owned()));
        Ok(())
    }

    async fn fragment(&mut self, text: &str) {
        self.text.push(text.to_owned());
        if let Some(cancel) = &self.cancel_on_text {
            cancel.cancel();
        }
    }

    async fn retries(&mut self, failure: Failure, pause: Duration) {
        self.retried.push((failure, pause));
    }
}
