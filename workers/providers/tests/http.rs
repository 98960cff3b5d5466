//! The client against a scripted server: what leaves, what comes back, what is tried again, and what never leaves.

#![expect(clippy::unwrap_used, reason = "tests")]

mod double;

use std::time::{Duration, Instant};

use double::{
    Act, DONE, Double, GOOD, MORE, Notes, REQUEST, STOP, STREAMED, TEXT, answer, claims, cleared,
    cleared_with, config, control, name, stream, verify,
};
use jiff::{SignedDuration, Timestamp};
use tidegate_providers::error::Wait;
use tidegate_providers::{
    Answer, Client, Control, Failure, KeySource, ProviderConfig, ProviderError, input_tokens_max,
};
use tidegate_schemas::code::Code;
use tidegate_schemas::digest::Salt;
use tidegate_schemas::result::Finish;
use tidegate_schemas::ticket::Cleared;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long the kernel may take to make a connection on loopback.
const CONNECTED: Duration = Duration::from_millis(500);
/// More connections than a queue that was asked to hold one may hold, count.
const QUEUED_MAX: usize = 64;

/// A listener that accepts nothing and whose queue is full, and the connections that fill it: the next one is neither made nor
/// refused.
async fn full() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(made) = tokio::time::timeout(CONNECTED, TcpStream::connect(address)).await {
        queued.push(made.unwrap());
        assert!(queued.len() < QUEUED_MAX, "this machine queues more connections than it was asked to");
    }
    (listener, queued)
}

fn client(double: &Double) -> Client {
    Client::new(vec![config(&format!("http://{}/v1", double.address))]).unwrap()
}

async fn send(
    client: &Client,
    cleared: &Cleared,
    control: &Control,
) -> (Result<Answer, ProviderError>, Notes) {
    let mut notes = Notes::default();
    let outcome = client.send(cleared, control, &mut notes).await;
    (outcome, notes)
}

/// What becomes of these scripts, sent as a whole or streamed.
async fn run(bytes: &[u8], scripts: Vec<Vec<Act>>) -> (Result<Answer, ProviderError>, Notes, Double) {
    let double = Double::start(scripts).await;
    let (outcome, notes) = send(&client(&double), &cleared(bytes), &control()).await;
    (outcome, notes, double)
}

#[tokio::test]
async fn the_exact_bytes_leave_with_method_url_and_credentials() {
    let double = Double::start(vec![answer(200, "x-request-id: req-1\r\n", GOOD)]).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "sk-1\n").unwrap();
    let config = ProviderConfig {
        api_key: Some(KeySource::File(folder.path().join("key"))),
        ..config(&format!("http://{}/v1", double.address))
    };
    let (outcome, notes) = send(&Client::new(vec![config]).unwrap(), &cleared(REQUEST), &control()).await;
    let answer = outcome.unwrap();
    assert_eq!(answer.text.expose(), "hello");
    assert_eq!((answer.finish, answer.attempts, answer.model.as_str()), (Finish::Stop, 1, "m-1"));
    assert_eq!(answer.usage.unwrap().input_tokens, 3);
    assert_eq!((answer.request_id.as_deref(), answer.cost_usd_micros), (Some("req-1"), None));
    assert_eq!(notes.begun, [(1, "127.0.0.1".to_owned())]);
    assert_eq!(double.bodies(), [REQUEST]);
    let request = String::from_utf8(double.requests().remove(0)).unwrap();
    let head = request.split("\r\n\r\n").next().unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    lines.sort_unstable();
    let host = format!("host: {}", double.address);
    let length = format!("content-length: {}", REQUEST.len());
    let agent = concat!("user-agent: tidegate/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        lines,
        [
            "POST /v1/chat/completions HTTP/1.1",
            "accept: application/json",
            "authorization: Bearer sk-1",
            length.as_str(),
            "content-type: application/json",
            host.as_str(),
            agent,
        ]
    );
}

#[tokio::test]
async fn nothing_leaves_without_a_fitting_ticket() {
    let double = Double::start(vec![answer(200, "", GOOD)]).await;
    let client = client(&double);
    let salt = Salt::new([5; 32]);
    let good = claims(REQUEST, &salt);
    // What does not verify cannot even be handed to the client.
    assert!(verify(&good, REQUEST, &salt, 4).is_err(), "another key");
    assert!(verify(&good, STREAMED, &salt, 3).is_err(), "other bytes");
    // What verifies must fit the configuration and the bytes.
    let table: [(&str, Cleared); 7] = [
        ("provider", cleared_with(REQUEST, |claims| claims.provider = name("other"))),
        ("endpoint", cleared_with(REQUEST, |claims| claims.base_url = name("other"))),
        ("region", cleared_with(REQUEST, |claims| claims.region = name("us"))),
        ("model", cleared_with(REQUEST, |claims| claims.model = "m-2".into())),
        ("model in the bytes", cleared(br#"{"model":"m-2","max_tokens":1}"#)),
        ("tokens in the bytes", cleared_with(REQUEST, |claims| claims.output_tokens_max = 15)),
        ("form of the bytes", cleared(b"model=m-1")),
    ];
    for (what, cleared) in table {
        let (outcome, notes) = send(&client, &cleared, &control()).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error.failure, Failure::NotPermitted(_)), "{what}: {error:?}");
        assert_eq!((error.attempts, notes.begun.len()), (0, 0), "{what}");
    }
    let late = Control { deadline: Timestamp::now() - SignedDuration::from_secs(1), ..control() };
    assert_eq!(send(&client, &cleared(REQUEST), &late).await.0.unwrap_err().failure, Failure::Deadline);
    let withdrawn = control();
    withdrawn.cancel.cancel();
    assert_eq!(send(&client, &cleared(REQUEST), &withdrawn).await.0.unwrap_err().failure, Failure::Canceled);
    let mut deaf = Notes { refuse_from: Some(1), ..Notes::default() };
    let halted = client.send(&cleared(REQUEST), &control(), &mut deaf).await.unwrap_err();
    assert_eq!((halted.failure, halted.attempts), (Failure::Halted, 0));
    assert!(double.requests().is_empty(), "zero bytes");
    // Negative control: the fitting ticket reaches the same server.
    assert!(send(&client, &cleared(REQUEST), &control()).await.0.is_ok());
    assert_eq!(double.bodies(), [REQUEST]);
}

#[tokio::test]
async fn errors_are_tried_again_by_the_book() {
    for status in [408, 409, 429, 500, 502, 503, 529] {
        let (outcome, notes, double) =
            run(REQUEST, vec![answer(status, "retry-after-ms: 1\r\n", "{}"), answer(200, "", GOOD)]).await;
        assert_eq!(outcome.unwrap().attempts, 2, "{status}");
        assert_eq!(notes.retried[0].0, Failure::Status(status));
        assert_eq!(notes.begun.len(), 2, "each attempt was announced");
        assert_eq!(double.bodies(), [REQUEST, REQUEST]);
    }
    for status in [400, 401, 403, 404, 413, 422] {
        let (outcome, notes, double) =
            run(REQUEST, vec![answer(status, "", "{}"), answer(200, "", GOOD)]).await;
        let error = outcome.unwrap_err();
        assert_eq!((error.failure, error.failure.code()), (Failure::Status(status), Code::ProviderFailed));
        assert_eq!((notes.retried.len(), double.bodies().len()), (0, 1), "{status}");
    }
}

#[tokio::test]
async fn attempts_end_at_the_smaller_limit() {
    for (ticket, worker, expected) in [(2, 3, 2), (3, 1, 1)] {
        let scripts = (0..4).map(|_| answer(503, "retry-after-ms: 1\r\n", "{}")).collect();
        let double = Double::start(scripts).await;
        let cleared = cleared_with(REQUEST, |claims| claims.attempts_max = ticket);
        let control = Control { attempts_max: worker, ..control() };
        let error = send(&client(&double), &cleared, &control).await.0.unwrap_err();
        assert_eq!(error.failure.code(), Code::ProviderUnavailable);
        assert_eq!((error.attempts, double.bodies().len()), (expected, expected as usize));
    }
}

#[tokio::test]
async fn a_halt_between_attempts_ends_the_call() {
    let double = Double::start(vec![answer(503, "retry-after-ms: 1\r\n", "{}"), answer(200, "", GOOD)]).await;
    let mut notes = Notes { refuse_from: Some(2), ..Notes::default() };
    let error = client(&double).send(&cleared(REQUEST), &control(), &mut notes).await.unwrap_err();
    assert_eq!((error.failure, error.attempts, double.bodies().len()), (Failure::Halted, 1, 1));
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_kept() {
    let begun = Instant::now();
    let (outcome, _, _) =
        run(REQUEST, vec![answer(429, "retry-after: 1\r\n", "{}"), answer(200, "", GOOD)]).await;
    assert!(outcome.is_ok());
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let (outcome, _, double) =
        run(REQUEST, vec![answer(429, "retry-after: 121\r\n", "{}"), answer(200, "", GOOD)]).await;
    assert_eq!(outcome.unwrap_err().failure, Failure::Status(429));
    assert_eq!(double.bodies().len(), 1);
}

#[tokio::test]
async fn a_ticket_that_expires_in_a_pause_sends_nothing_more() {
    let double = Double::start(vec![answer(429, "retry-after: 1\r\n", "{}"), answer(200, "", GOOD)]).await;
    // Within the forgiven clock difference now, beyond it after the pause.
    let cleared = cleared_with(REQUEST, |claims| {
        claims.not_before = Timestamp::now() - SignedDuration::from_secs(30);
        claims.expires = Timestamp::now() - SignedDuration::from_millis(4_400);
    });
    let error = send(&client(&double), &cleared, &control()).await.0.unwrap_err();
    assert_eq!((error.failure, error.attempts), (Failure::Expired, 1));
    assert_eq!(double.bodies().len(), 1);
}

#[tokio::test]
async fn streams_are_whole_or_fail() {
    let head = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let (outcome, notes, _) = run(STREAMED, vec![stream(&[head, TEXT, MORE, STOP, DONE])]).await;
    assert_eq!(outcome.unwrap().text.expose(), "hello");
    assert_eq!(notes.text, ["hel", "lo"]);
    // Broken before any text: tried again, and announced again.
    for broken in [stream(&[]), stream(&[head]), stream(&["data: {\"x\":\n\n"]), stream(&[head, DONE])] {
        let (outcome, notes, double) = run(STREAMED, vec![broken, stream(&[TEXT, MORE, STOP, DONE])]).await;
        assert_eq!(outcome.unwrap().text.expose(), "hello");
        assert_eq!((notes.begun.len(), double.bodies().len()), (2, 2));
    }
    // Broken after text was handed on: never again, never completed.
    for broken in
        [stream(&[TEXT]), stream(&[TEXT, STOP]), stream(&[TEXT, DONE]), stream(&[TEXT, "data: {\n\n"])]
    {
        let (outcome, notes, double) = run(STREAMED, vec![broken, stream(&[TEXT, MORE, STOP, DONE])]).await;
        let error = outcome.unwrap_err();
        assert!(error.published && error.failure.is_transient(), "{error:?}");
        assert_eq!((notes.text.len(), double.bodies().len()), (1, 1));
    }
}

#[tokio::test]
async fn text_that_is_not_handed_on_leaves_a_second_try() {
    let double = Double::start(vec![stream(&[TEXT]), stream(&[TEXT, MORE, STOP, DONE])]).await;
    let control = Control { publish: false, ..control() };
    let (outcome, notes) = send(&client(&double), &cleared(STREAMED), &control).await;
    assert_eq!(outcome.unwrap().text.expose(), "hello");
    assert!(notes.text.is_empty());
}

#[tokio::test]
async fn refused_content_is_never_tried_again() {
    let refusal = r#"{"model":"m-1","choices":[{"index":0,"message":{"refusal":"no"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let filter = r#"{"error":{"code":"content_filter","message":"x"}}"#;
    for script in [answer(200, "", refusal), answer(400, "", filter)] {
        let (outcome, _, double) = run(REQUEST, vec![script, answer(200, "", GOOD)]).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.failure.code(), Code::ProviderRefused);
        assert_eq!(double.bodies().len(), 1);
    }
    let (outcome, _, _) = run(REQUEST, vec![answer(200, "", refusal)]).await;
    assert_eq!(outcome.unwrap_err().usage.unwrap().output_tokens, 1, "what was paid for is told");
}

#[tokio::test]
async fn ssrf_redirects_are_refused() {
    let other = Double::start(vec![answer(200, "", GOOD)]).await;
    let location = format!("location: http://{}/v1/chat/completions\r\n", other.address);
    for status in [301, 302, 303, 307, 308] {
        let (outcome, _, double) = run(REQUEST, vec![answer(status, &location, "")]).await;
        assert_eq!(outcome.unwrap_err().failure, Failure::Redirect);
        assert_eq!(double.bodies().len(), 1);
    }
    assert!(other.requests().is_empty(), "zero bytes at the redirect's target");
}

#[tokio::test]
async fn ssrf_a_name_that_resolves_inside_is_refused() {
    let double = Double::start(vec![answer(200, "", GOOD)]).await;
    // `localhost` stands for any public-looking name that is made to resolve to an inner address.
    let url = |scheme: &str| format!("{scheme}://localhost:{}/v1", double.address.port());
    let public = ProviderConfig {
        reach: tidegate_providers::Reach::Public,
        other_ports: [double.address.port()].into(),
        ..config(&url("https"))
    };
    let (outcome, _) = send(&Client::new(vec![public]).unwrap(), &cleared(REQUEST), &control()).await;
    assert_eq!(outcome.unwrap_err().failure, Failure::Address);
    assert!(double.requests().is_empty());
    // Negative control: with the explicit setting the same name is reached.
    let (outcome, _) =
        send(&Client::new(vec![config(&url("http"))]).unwrap(), &cleared(REQUEST), &control()).await;
    assert!(outcome.is_ok());
}

#[tokio::test]
async fn ssrf_proxies_of_the_environment_are_not_read() {
    let proxy = Double::start(vec![answer(200, "", GOOD)]).await;
    // Only a child process may change the environment safely; this test runs itself in one.
    if let Ok(target) = std::env::var("TIDEGATE_TEST_TARGET") {
        let client = Client::new(vec![config(&target)]).unwrap();
        assert!(send(&client, &cleared(REQUEST), &control()).await.0.is_ok());
        return;
    }
    let double = Double::start(vec![answer(200, "", GOOD)]).await;
    let proxy_url = format!("http://{}", proxy.address);
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ssrf_proxies_of_the_environment_are_not_read"])
        .env("TIDEGATE_TEST_TARGET", format!("http://{}/v1", double.address))
        .envs(
            ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
                .map(|name| (name, &proxy_url)),
        )
        .output()
        .await
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!((double.requests().len(), proxy.requests().len()), (1, 0));
}

#[tokio::test]
async fn every_wait_has_its_limit() {
    let hang = vec![Act::Hang];
    let silent = [stream(&[]), vec![Act::Hang]].concat();
    let table = [(hang, Wait::Header), (silent, Wait::Idle)];
    for (script, wait) in table {
        let double = Double::start(vec![script]).await;
        let config = ProviderConfig {
            connect_ms: 100,
            header_ms: 100,
            idle_ms: 100,
            ..config(&format!("http://{}/v1", double.address))
        };
        let control = Control { attempts_max: 1, ..control() };
        let (outcome, _) = send(&Client::new(vec![config]).unwrap(), &cleared(STREAMED), &control).await;
        assert_eq!(outcome.unwrap_err().failure, Failure::Timeout(wait));
    }
}

#[tokio::test]
async fn an_answer_that_does_not_stream_has_the_whole_time() {
    for (request, fine) in [(REQUEST, true), (STREAMED, false)] {
        let late = [vec![Act::Wait(Duration::from_millis(600))], answer(200, "", GOOD)].concat();
        let double = Double::start(vec![late]).await;
        let config = ProviderConfig {
            connect_ms: 100,
            header_ms: 100,
            idle_ms: 100,
            ..config(&format!("http://{}/v1", double.address))
        };
        let control = Control { attempts_max: 1, ..control() };
        let (outcome, _) = send(&Client::new(vec![config]).unwrap(), &cleared(request), &control).await;
        assert_eq!(outcome.is_ok(), fine, "negative control: a stream begins in time, {outcome:?}");
    }
}

#[tokio::test]
async fn the_whole_and_the_deadline_have_limits() {
    for (total_ms, deadline_ms, failure) in
        [(200, 5_000, Failure::Timeout(Wait::Total)), (5_000, 200, Failure::Deadline)]
    {
        let double = Double::start(vec![vec![Act::Hang]]).await;
        let config = ProviderConfig { total_ms, ..config(&format!("http://{}/v1", double.address)) };
        let control = Control {
            attempts_max: 1,
            deadline: Timestamp::now() + SignedDuration::from_millis(deadline_ms),
            ..control()
        };
        let (outcome, _) = send(&Client::new(vec![config]).unwrap(), &cleared(REQUEST), &control).await;
        assert_eq!(outcome.unwrap_err().failure, failure);
    }
}

#[tokio::test]
async fn a_provider_that_is_silent_until_the_deadline_is_told_from_one_that_had_no_time() {
    let begins = |head: &str| vec![Act::Send(head.as_bytes().to_vec()), Act::Hang];
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n";
    let table = [
        // It accepts, and says nothing for as long as a provider may take to begin.
        (vec![Act::Hang], 100, Failure::Silent),
        (begins(head), 100, Failure::Silent),
        // Negative controls: a producer in a hurry, and a provider that is slow to end what it began.
        (vec![Act::Hang], 5_000, Failure::Deadline),
        (begins(&format!("{head}{{")), 100, Failure::Deadline),
    ];
    for (script, header_ms, failure) in table {
        let double = Double::start(vec![script]).await;
        let config = ProviderConfig { header_ms, ..config(&format!("http://{}/v1", double.address)) };
        let deadline = Timestamp::now() + SignedDuration::from_millis(400);
        let control = Control { attempts_max: 1, deadline, ..control() };
        let (outcome, _) = send(&Client::new(vec![config]).unwrap(), &cleared(REQUEST), &control).await;
        assert_eq!(outcome.unwrap_err().failure, failure, "{header_ms}");
    }
}

#[tokio::test]
async fn a_withdrawn_call_stops_at_once() {
    let script = [stream(&[TEXT]), vec![Act::Hang]].concat();
    let double = Double::start(vec![script]).await;
    let control = control();
    let mut notes = Notes { cancel_on_text: Some(control.cancel.clone()), ..Notes::default() };
    let begun = Instant::now();
    let error = client(&double).send(&cleared(STREAMED), &control, &mut notes).await.unwrap_err();
    assert_eq!(error.failure, Failure::Canceled);
    assert!(error.published && begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn answers_have_limits_of_bytes() {
    let double = Double::start(vec![answer(200, "", &" ".repeat(4_000)), answer(200, "", GOOD)]).await;
    let config =
        ProviderConfig { answer_bytes_max: 1_000, ..config(&format!("http://{}/v1", double.address)) };
    let client = Client::new(vec![config]).unwrap();
    let error = send(&client, &cleared(REQUEST), &control()).await.0.unwrap_err();
    assert_eq!((error.failure, error.failure.code()), (Failure::TooLarge, Code::ProviderFailed));
    // Negative control: a small answer passes.
    assert!(send(&client, &cleared(REQUEST), &control()).await.0.is_ok());
    let endless =
        vec![Act::Send(format!("HTTP/1.1 200 OK\r\n{}\r\n{GOOD}", "x-a: b\r\n".repeat(100)).into_bytes())];
    let double = Double::start(vec![endless]).await;
    let control = Control { attempts_max: 1, ..control() };
    let client = crate::client(&double);
    assert_eq!(send(&client, &cleared(REQUEST), &control).await.0.unwrap_err().failure, Failure::Broken);
}

/// A provider that never stops saying a little is no reason to wait for ever: in the head, in the body, in a stream.
#[tokio::test]
async fn slow_loris_providers_are_cut_off_by_the_time_of_the_whole() {
    let pause = Duration::from_millis(20);
    let head = b"HTTP/1.1 200 OK\r\nx-slow: ".iter().copied().chain(std::iter::repeat_n(b'a', 100_000));
    let open = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n".to_vec();
    let events = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    let drips = || Act::Drip(vec![b' '; 100_000], pause);
    let table = [
        ("head", STREAMED, vec![Act::Drip(head.collect(), pause)], Wait::Header, 500),
        ("body", REQUEST, vec![Act::Send(open), drips()], Wait::Total, 10_000),
        ("stream", STREAMED, vec![Act::Send(events), drips()], Wait::Total, 10_000),
    ];
    for (what, bytes, script, wait, header_ms) in table {
        let double = Double::start(vec![script]).await;
        let config =
            ProviderConfig { header_ms, total_ms: 3_000, ..config(&format!("http://{}/v1", double.address)) };
        let (begun, control) = (Instant::now(), Control { attempts_max: 1, ..control() });
        let (outcome, notes) = send(&Client::new(vec![config]).unwrap(), &cleared(bytes), &control).await;
        let error = outcome.unwrap_err();
        assert_eq!((error.failure, error.published), (Failure::Timeout(wait), false), "{what}");
        assert!(begun.elapsed() < Duration::from_secs(9) && notes.text.is_empty(), "{what}");
    }
    // Negative control: one that is slow and comes to its end in time has answered.
    let Act::Send(whole) = answer(200, "", GOOD).remove(0) else { return };
    let double = Double::start(vec![vec![Act::Drip(whole, Duration::from_millis(1))]]).await;
    assert!(send(&client(&double), &cleared(REQUEST), &control()).await.0.is_ok());
}

#[tokio::test]
async fn a_head_of_a_mebibyte_is_refused_and_one_of_some_kibibytes_is_read() {
    let with_header = |bytes: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nx-large: {}\r\n", "a".repeat(bytes));
        vec![Act::Send(format!("{head}content-length: {}\r\n\r\n{GOOD}", GOOD.len()).into_bytes())]
    };
    let control = Control { attempts_max: 1, ..control() };
    for (bytes, fits) in [(1024 * 1024, false), (16 * 1024, true)] {
        let double = Double::start(vec![with_header(bytes)]).await;
        let outcome = send(&client(&double), &cleared(REQUEST), &control).await.0;
        let failure = outcome.map_err(|error| error.failure).map(|answer| answer.text.expose().clone());
        let expected = if fits { Ok("hello".to_owned()) } else { Err(Failure::Broken) };
        assert_eq!(failure, expected, "{bytes} bytes");
    }
    // An error's head is no way round: it is refused as an answer's is.
    let head = format!("HTTP/1.1 429 X\r\nretry-after: {}\r\n\r\n", "1".repeat(1024 * 1024));
    let double = Double::start(vec![vec![Act::Send(head.into_bytes())]]).await;
    assert_eq!(
        send(&client(&double), &cleared(REQUEST), &control).await.0.unwrap_err().failure,
        Failure::Broken
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let client = Client::new(vec![config(&format!("http://{address}/v1"))]).unwrap();
    let control = Control { attempts_max: 2, ..control() };
    let (outcome, notes) = send(&client, &cleared(REQUEST), &control).await;
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.failure, error.failure.code(), error.attempts),
        (Failure::Connect, Code::ProviderUnavailable, 2)
    );
    assert_eq!(notes.begun.len(), 2);
}

#[tokio::test]
async fn a_connection_that_is_never_made_has_its_limit_and_sends_nothing() {
    let (listener, queued) = full().await;
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    // Any other limit is far longer, so this one alone can end the attempts in time.
    let config = ProviderConfig { connect_ms: 200, header_ms: 15_000, ..config(&url) };
    let client = Client::new(vec![config]).unwrap();
    let control = Control { attempts_max: 2, ..control() };
    let begun = Instant::now();
    let (outcome, notes) = send(&client, &cleared(REQUEST), &control).await;
    let (error, took) = (outcome.unwrap_err(), begun.elapsed());
    let expected = Failure::Timeout(Wait::Connect);
    assert_eq!(
        (error.failure, error.failure.code(), error.attempts),
        (expected, Code::ProviderUnavailable, 2)
    );
    assert_eq!((notes.retried.len(), notes.retried[0].0), (1, expected), "it was tried again");
    assert!(error.to_string().contains("`connect_ms`"), "{error}");
    // Two waits and the pause between them.
    assert!((Duration::from_millis(400)..Duration::from_secs(10)).contains(&took), "{took:?}");
    // Negative control: once connections are accepted the same client is answered. Nothing of the attempts before has arrived.
    for _ in &queued {
        listener.accept().await.unwrap();
    }
    let double = Double::behind(listener, vec![answer(200, "", GOOD)]);
    assert_eq!(send(&client, &cleared(REQUEST), &control).await.0.unwrap().attempts, 1);
    assert_eq!(double.bodies(), [REQUEST]);
}

#[tokio::test]
async fn errors_hold_no_word_of_keys_bodies_or_urls() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "sk-CANARY").unwrap();
    let body = r#"{"error":{"message":"CANARY","type":"CANARY","code":"CANARY"}}"#;
    let scripts = vec![
        answer(400, "x-request-id: ok-1\r\n", body),
        answer(500, "", "CANARY"),
        answer(200, "", "CANARY"),
        vec![],
    ];
    let double = Double::start(scripts).await;
    let config = ProviderConfig {
        api_key: Some(KeySource::File(folder.path().join("key"))),
        ..config(&format!("http://{}/CANARY/v1", double.address))
    };
    let client = Client::new(vec![config]).unwrap();
    let bytes = br#"{"model":"m-1","messages":[{"role":"user","content":"CANARY"}],"max_tokens":16}"#;
    for _ in 0..4 {
        let control = Control { attempts_max: 1, ..control() };
        let error = send(&client, &cleared(bytes), &control).await.0.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
    }
    assert_eq!(double.requests().len(), 4);
    assert!(
        String::from_utf8_lossy(&double.requests()[0]).contains("CANARY"),
        "negative control: it was there"
    );
}

#[test]
fn a_request_that_offers_tools_may_be_read_as_more_tokens_than_bytes() {
    let tools = br#"{"model":"m-1","messages":[],"tools":[{"name":"answer"}],"max_tokens":16}"#;
    let most = |bytes: &[u8]| input_tokens_max(&cleared(bytes)) - bytes.len() as u64;
    // The longest prompt that Anthropic says it adds has 530 tokens; it tells them as input.
    assert!((530..=2_048).contains(&most(tools)), "what is told is no more than what is reserved");
    // Negative control: without tools nothing is added.
    assert_eq!(most(REQUEST), 0);
    assert_eq!(most(br#"{"model":"m-1","tools":null}"#), 0);
}
