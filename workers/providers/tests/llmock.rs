//! The client before llmock, a provider that fails as told and judges whoever met the failures. Its verdict is read
//! strictly: no error and no warning.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod double;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use double::{Notes, cleared_with, config, control};
use serde_json::{Value, json};
use tidegate_providers::{Answer, Client, Control, ProviderConfig, ProviderError};
use tidegate_schemas::render::Protocol;

struct Llmock {
    process: Child,
    address: String,
}

impl Llmock {
    fn start() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python =
            std::env::var_os("TIDEGATE_PYTHON").map_or_else(|| root.join(".venv/bin/python"), PathBuf::from);
        assert!(
            python.exists(),
            "no Python at {}; run tests/python/setup or set TIDEGATE_PYTHON",
            python.display()
        );
        let mut process = Command::new(python)
            .arg(root.join("tests/python/llmock_server.py"))
            // Time between two pieces of a stream: else the double may have sent all of it before it hears that we stopped reading,
            // and then takes our next attempt for another call.
            .env("LLMOCK_STREAM_CHUNK_DELAY_MS", "20")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").expect("llmock says where it listens").1.to_owned();
        Self { process, address }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 2"), "{head}");
        serde_json::from_str(body).unwrap_or_default()
    }

    /// Sets the scene, lets the client play, and reads the verdict.
    async fn scene(
        &self,
        protocol: Protocol,
        stream: bool,
        behaviors: Value,
    ) -> (Result<Answer, ProviderError>, Value) {
        self.ask("POST", "/_llmock/reset", &json!({}));
        if behaviors != json!([]) {
            self.ask("POST", "/_llmock/scenario", &json!({ "behaviors": behaviors }));
        }
        let base = match protocol {
            Protocol::OpenaiChat => "v1",
            Protocol::AnthropicMessages => "anthropic/v1",
        };
        let config =
            ProviderConfig { protocol, idle_ms: 700, ..config(&format!("http://{}/{base}", self.address)) };
        let mut request =
            json!({ "model": "m-1", "max_tokens": 16, "messages": [{ "role": "user", "content": "hi" }] });
        if stream {
            request["stream"] = json!(true);
        }
        let cleared = cleared_with(request.to_string().as_bytes(), |_| {});
        // A stream whose text nobody has seen may be tried again; that is what the verdict is about.
        let control = Control { publish: false, ..control() };
        let outcome =
            Client::new(vec![config]).unwrap().send(&cleared, &control, &mut Notes::default()).await;
        (outcome, self.ask("GET", "/_llmock/verdict", &json!({})))
    }
}

impl Drop for Llmock {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn strict(verdict: &Value) -> (u64, u64) {
    (verdict["errors"].as_u64().unwrap(), verdict["warnings"].as_u64().unwrap())
}

#[tokio::test]
async fn the_strict_verdict_passes() {
    let llmock = Llmock::start();
    let fault = |kind: &str, after: u32| json!([{ "type": "stream_fault", "kind": kind, "after_chunks": after, "stall_seconds": 5 }]);
    let scenes = [
        ("no fault", false, json!([])),
        ("no fault, streamed", true, json!([])),
        ("rate limit", false, json!([{ "type": "fail", "status": 429, "retry_after": 1 }])),
        ("overloaded twice", false, json!([{ "type": "fail", "status": 503, "times": 2 }])),
        ("broken connection", true, fault("disconnect", 2)),
        ("cut stream", true, fault("truncate", 2)),
        ("silent stream", true, fault("stall", 2)),
        ("broken chunk", true, fault("malformed", 2)),
    ];
    for protocol in [Protocol::OpenaiChat, Protocol::AnthropicMessages] {
        for (what, stream, behaviors) in &scenes {
            let faults = behaviors.as_array().unwrap().len();
            let (outcome, verdict) = llmock.scene(protocol, *stream, behaviors.clone()).await;
            let answer = outcome.unwrap_or_else(|error| panic!("{protocol:?}, {what}: {error}"));
            assert!(!answer.text.expose().is_empty(), "{protocol:?}, {what}");
            assert_eq!(strict(&verdict), (0, 0), "{protocol:?}, {what}: {verdict}");
            assert_eq!(answer.attempts > 1, faults > 0, "{protocol:?}, {what}: the fault was met");
        }
    }
}

#[tokio::test]
async fn errors_that_stay_are_not_tried_again() {
    let llmock = Llmock::start();
    for status in [400, 401, 404] {
        let fails = json!([{ "type": "fail", "status": status, "times": null }]);
        let (outcome, verdict) = llmock.scene(Protocol::OpenaiChat, false, fails).await;
        assert_eq!(outcome.unwrap_err().failure.status(), Some(status));
        assert_eq!((strict(&verdict), verdict["attempts"].as_u64()), ((0, 0), Some(1)), "{verdict}");
    }
    // Negative control: a client that hands half an answer on and cannot take it back is told so.
    llmock.ask("POST", "/_llmock/reset", &json!({}));
    let cut = json!([{ "type": "stream_fault", "kind": "truncate", "after_chunks": 2, "times": null }]);
    llmock.ask("POST", "/_llmock/scenario", &json!({ "behaviors": cut }));
    let config = config(&format!("http://{}/v1", llmock.address));
    let bytes = json!({ "model": "m-1", "max_tokens": 16, "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let cleared = cleared_with(bytes.to_string().as_bytes(), |_| {});
    let outcome = Client::new(vec![config]).unwrap().send(&cleared, &control(), &mut Notes::default()).await;
    assert!(outcome.unwrap_err().published);
    assert_ne!(strict(&llmock.ask("GET", "/_llmock/verdict", &json!({}))), (0, 0));
}
