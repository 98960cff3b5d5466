//! The vault's process: waits for the store, answers, erases and sweeps until shutdown.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_bus::{
    ApiError, Bus, CancellationToken, CheckError, Discovery, Health, PullOptions, ServeError, topology,
};

use crate::erase::Erasing;
use crate::key::{KeyError, MasterKey};
use crate::service::{self, Shared, blocking, now_ms};
use crate::store::{Store, StoreError};

/// How often one that stands by looks whether the store is free.
const STANDBY_EVERY: Duration = Duration::from_millis(250);
/// How often what has expired is destroyed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Erasures carried out at once, and held besides, count.
const ERASING: (usize, usize) = (1, 8);

/// How a vault runs.
#[derive(Debug, Clone)]
pub struct VaultConfig {
    /// Directory of the store and the values' keys.
    pub directory: PathBuf,
    /// File with the master key: 64 hexadecimal digits, readable by its owner only.
    pub master_key_file: PathBuf,
    /// How long a value is kept after it was last given a token, milliseconds.
    pub ttl_ms: u64,
}

impl VaultConfig {
    /// How long values are kept where nothing else is said, milliseconds: a week.
    pub const TTL_MS: u64 = 7 * 24 * 3_600_000;
}

/// Why the vault ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The master key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus is not as it must be.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Requests cannot be listened to.
    #[error("cannot listen to requests: {0}")]
    Listen(#[from] ApiError),
    /// The loop of erasures ended.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves until `shutdown`.
///
/// # Errors
/// [`RunError`], with what to do.
pub async fn run(
    bus: Bus,
    discovery: &Discovery,
    config: VaultConfig,
    shutdown: CancellationToken,
    health: Health,
) -> Result<(), RunError> {
    health.not_ready("store", "the store is not open yet");
    let master = MasterKey::load(&config.master_key_file)?;
    let Some(store) = open(&config, &master, &shutdown, &health).await? else { return Ok(()) };
    let consumer = topology::vault_consumer();
    bus.check(std::slice::from_ref(&consumer)).await?;
    let mut answering = service::serve(discovery, &store, &health, &shutdown).await?;
    answering.spawn(sweep(Arc::clone(&store), shutdown.clone()));
    health.ready("store");
    // So that what is held is told from the start.
    blocking(&store, |store| store.held()).await?;
    tracing::info!("The vault answers.");
    let options = PullOptions::new(consumer).with_in_flight(ERASING.0, ERASING.1);
    let erasing = Erasing { store };
    let served = tidegate_bus::serve(bus, options, erasing, shutdown.clone(), health).await;
    shutdown.cancel();
    while answering.join_next().await.is_some() {}
    Ok(served?)
}

/// Opens the store, or stands by until whoever has it ends. None at shutdown.
async fn open(
    config: &VaultConfig,
    master: &MasterKey,
    shutdown: &CancellationToken,
    health: &Health,
) -> Result<Option<Shared>, StoreError> {
    loop {
        let (directory, master, ttl_ms) = (config.directory.clone(), master.clone(), config.ttl_ms);
        let opened = tokio::task::spawn_blocking(move || Store::open(&directory, &master, ttl_ms)).await;
        match opened.unwrap_or_else(|_| Err(StoreError::Store("a defect; see the log".to_owned()))) {
            Ok(store) => return Ok(Some(Arc::new(Mutex::new(store)))),
            Err(held @ StoreError::Held { .. }) => health.not_ready("store", held.to_string()),
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(STANDBY_EVERY) => {}
        }
    }
}

async fn sweep(store: Shared, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        if let Err(error) = blocking(&store, |store| store.sweep(now_ms())).await {
            tracing::error!(%error, "What has expired could not be destroyed; trying again.");
        }
    }
}
