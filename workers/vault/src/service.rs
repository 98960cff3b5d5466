//! Answering local workers, one request after the other: the store has one writer, and who asks has little patience.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_bus::{ApiError, CancellationToken, Discovery, Endpoint, Health, Query};
use tidegate_schemas::metric;
use tidegate_schemas::vault::{ISSUE, REQUEST_BYTES_MAX, RESOLVE};
use tokio::task::JoinSet;

use crate::store::{Store, StoreError};

/// The store, shared by whoever answers, erases and sweeps.
pub(crate) type Shared = Arc<Mutex<Store>>;

/// Why a question has no answer: a code like HTTP's and a sentence without content.
struct Refusal(usize, String);

/// Listens on the vault's subjects.
///
/// # Errors
/// [`ApiError`] when they cannot be listened on.
pub(crate) async fn serve(
    discovery: &Discovery,
    store: &Shared,
    health: &Health,
    shutdown: &CancellationToken,
) -> Result<JoinSet<()>, ApiError> {
    let mut tasks = JoinSet::new();
    for (name, subject) in [("vault-issue", ISSUE), ("vault-resolve", RESOLVE)] {
        let endpoint = discovery.endpoint(name, subject).await?;
        // So that it stands there from the start.
        count(subject, "answered", 0);
        tasks.spawn(listen(endpoint, Arc::clone(store), health.clone(), shutdown.clone()));
    }
    Ok(tasks)
}

fn count(subject: &str, outcome: &'static str, more: u64) {
    let question = if subject == ISSUE { "issue" } else { "resolve" };
    metrics::counter!(metric::VAULT_QUESTIONS, "question" => question, "outcome" => outcome).increment(more);
}

async fn listen(mut endpoint: Endpoint, store: Shared, health: Health, shutdown: CancellationToken) {
    loop {
        let query = tokio::select! {
            () = shutdown.cancelled() => return,
            query = endpoint.next() => query,
        };
        let Some(query) = query else { return };
        let answered = answer(&query, &store).await;
        count(query.subject(), if answered.is_ok() { "answered" } else { "refused" }, 1);
        match answered {
            Ok(payload) => query.respond(payload.into()).await,
            Err(Refusal(code, sentence)) => {
                health.error(sentence.clone());
                query.refuse(code, &sentence).await;
            }
        }
    }
}

async fn answer(query: &Query, store: &Shared) -> Result<Vec<u8>, Refusal> {
    if query.payload().len() > REQUEST_BYTES_MAX {
        return Err(Refusal(413, format!("the request is longer than {REQUEST_BYTES_MAX} bytes")));
    }
    match query.subject() {
        ISSUE => {
            let asked = question(query)?;
            with(store, move |store| store.issue(&asked, now_ms())).await.and_then(|answer| encode(&answer))
        }
        RESOLVE => {
            let asked = question(query)?;
            with(store, move |store| store.resolve(&asked, now_ms())).await.and_then(|answer| encode(&answer))
        }
        _ => Err(Refusal(404, "there is no such question".to_owned())),
    }
}

/// Does something with the store, where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    store: &Shared,
    work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let store = Arc::clone(store);
    // A panic leaves the store as its last commit was.
    let done = tokio::task::spawn_blocking(move || {
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut store);
        show(&store);
        done
    });
    done.await.unwrap_or_else(|_| Err(StoreError::Store("a defect; see the log".to_owned())))
}

/// Tells how many values are held.
fn show(store: &Store) {
    if let Ok(held) = store.held() {
        metrics::gauge!(metric::VAULT_VALUES).set(held as f64);
    }
}

async fn with<T: Send + 'static>(
    store: &Shared,
    work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    blocking(store, work).await.map_err(|error| {
        let code = if matches!(error, StoreError::TooMuch) { 413 } else { 500 };
        Refusal(code, error.to_string())
    })
}

pub(crate) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

fn question<T: DeserializeOwned>(query: &Query) -> Result<T, Refusal> {
    serde_json::from_slice(query.payload()).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Refusal(400, format!("the request has an unknown form at line {line} column {column}"))
    })
}

fn encode<T: Serialize>(answer: &T) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(answer).map_err(|_| Refusal(500, "the answer could not be written".to_owned()))
}
