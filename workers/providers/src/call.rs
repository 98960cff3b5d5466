//! One attempt: one request, one answer, with a time limit on every wait and a limit on every byte count.

use std::error::Error as _;
use std::time::{Duration, Instant, SystemTime};

use reqwest::Response;
use tokio::time::timeout;

use crate::answer::{Parsed, identifier};
use crate::client::{Provider, Witness};
use crate::config::{Place, ProviderConfig};
use crate::egress::AddressRefused;
use crate::error::{Failure, Wait};
use crate::probe::Probe;
use crate::protocol::{self, Reader};
use crate::retry;
use crate::sse::Events;

/// How long a stream that said it is over may take to close, milliseconds; closed, its connection serves again.
const CLOSE_MS_MAX: u64 = 1_000;

/// What is sent where.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) provider: &'a Provider,
    pub(crate) place: &'a Place,
    pub(crate) bytes: &'a bytes::Bytes,
    pub(crate) probe: Probe,
    /// Whether fragments of text are handed on.
    pub(crate) publish: bool,
}

/// What an attempt leaves behind even when it is dropped half-way.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// Whether a byte of an answer came.
    pub(crate) answered: bool,
    pub(crate) published: bool,
    pub(crate) request_id: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) first_text_ms: Option<u64>,
}

/// Sends the bytes and reads the answer.
pub(crate) async fn exchange<W: Witness>(
    outgoing: Outgoing<'_>,
    trail: &mut Trail,
    witness: &mut W,
) -> Result<Parsed, Failure> {
    let begun = Instant::now();
    let mut response = send(outgoing).await?;
    let protocol = outgoing.provider.config.protocol;
    trail.request_id = header(&response, protocol::request_id_header(protocol)).and_then(identifier);
    let status = response.status().as_u16();
    if !response.status().is_success() {
        let (date, millis) = (header(&response, "retry-after"), header(&response, "retry-after-ms"));
        trail.retry_after = retry::retry_after(date, millis, SystemTime::now());
        // The body only refines what the status says; one that does not come whole refines nothing.
        let body = body(outgoing, trail, &mut response, protocol::ERROR_BYTES_MAX).await.unwrap_or_default();
        return Err(protocol::refine(status, &body));
    }
    if outgoing.probe.stream {
        return stream(outgoing, &mut response, trail, witness, begun).await;
    }
    let body = body(outgoing, trail, &mut response, outgoing.provider.config.answer_bytes_max).await?;
    trail.first_text_ms = Some(millis(begun));
    protocol::whole(protocol, outgoing.probe.forced, &body)
}

async fn send(outgoing: Outgoing<'_>) -> Result<Response, Failure> {
    let Provider { config, key, http, .. } = outgoing.provider;
    let accept = if outgoing.probe.stream { "text/event-stream" } else { "application/json" };
    let mut request = http
        .post(outgoing.place.url.clone())
        .header("content-type", "application/json")
        .header("accept", accept)
        .body(outgoing.bytes.clone());
    for (name, value) in protocol::headers(config.protocol, key.as_ref()) {
        let mut value = reqwest::header::HeaderValue::try_from(value)
            .map_err(|_| Failure::NotPermitted("the key is no header"))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    // What does not stream mostly answers nothing, no header either, before the whole is there.
    let header_ms = if outgoing.probe.stream { config.header_ms } else { config.total_ms };
    let limit = Duration::from_millis(config.connect_ms.saturating_add(header_ms));
    match timeout(limit, request.send()).await {
        Err(_) => Err(Failure::Timeout(Wait::Header)),
        Ok(Err(error)) => Err(failure(&error)),
        Ok(Ok(response)) => Ok(response),
    }
}

/// The cause of an HTTP error, by kind. Its text would name the URL, so it goes no further.
fn failure(error: &reqwest::Error) -> Failure {
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<AddressRefused>() {
            return Failure::Address;
        }
        source = inner.source();
    }
    match error.is_connect() {
        true if error.is_timeout() => Failure::Timeout(Wait::Connect),
        true => Failure::Connect,
        false => Failure::Broken,
    }
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

async fn chunk(response: &mut Response, silent_ms: u64) -> Result<Option<bytes::Bytes>, Failure> {
    match timeout(Duration::from_millis(silent_ms), response.chunk()).await {
        Err(_) => Err(Failure::Timeout(Wait::Idle)),
        Ok(Err(_)) => Err(Failure::Broken),
        Ok(Ok(chunk)) => Ok(chunk),
    }
}

async fn body(
    outgoing: Outgoing<'_>,
    trail: &mut Trail,
    response: &mut Response,
    bytes_max: usize,
) -> Result<Vec<u8>, Failure> {
    let ProviderConfig { idle_ms, total_ms, .. } = &outgoing.provider.config;
    let mut body = Vec::new();
    // Headers may come long before a whole answer does.
    while let Some(chunk) = chunk(response, if body.is_empty() { *total_ms } else { *idle_ms }).await? {
        trail.answered = true;
        if body.len() + chunk.len() > bytes_max {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn stream<W: Witness>(
    outgoing: Outgoing<'_>,
    response: &mut Response,
    trail: &mut Trail,
    witness: &mut W,
    begun: Instant,
) -> Result<Parsed, Failure> {
    let Provider { config, .. } = outgoing.provider;
    let mut events = Events::default();
    let mut reader = Reader::new(config.protocol, outgoing.probe.forced);
    let mut bytes = 0;
    while let Some(chunk) = chunk(response, config.idle_ms).await? {
        trail.answered = true;
        bytes += chunk.len();
        if bytes > config.answer_bytes_max.saturating_mul(STREAM_OVERHEAD) {
            return Err(Failure::TooLarge);
        }
        for event in events.push(&chunk).map_err(|_| Failure::Malformed)? {
            let Some(text) = reader.take(&event)? else { continue };
            trail.first_text_ms.get_or_insert_with(|| millis(begun));
            if outgoing.publish {
                trail.published = true;
                witness.fragment(&text).await;
            }
        }
        if reader.is_over() {
            let close = async { while let Ok(Some(_)) = response.chunk().await {} };
            let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), close).await;
            break;
        }
    }
    reader.end()
}

/// A streamed token stands in an event of about this many times its size.
const STREAM_OVERHEAD: usize = 64;

pub(crate) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
