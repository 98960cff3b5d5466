//! Another master key: where a file `<master key file>.next` lies, the record goes over to it, and it takes the old one's place.
//!
//! First all keys of data subjects are sealed anew, in one file that replaces the old one, then the key's file is put in its place.
//! A recorder that died between the two finds that only the next key fits, and goes on from there. Where the keys are systemd's
//! credentials nothing can be put in place: the next key then serves until it is given as the first.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_audit::{AppendError, KeyError, Keys, MasterKey, OpenError, Options, Signer, Store};
use tidegate_bus::CancellationToken;
use tracing::{info, warn};

use crate::config::RecorderConfig;
use crate::shared::Shared;
use crate::writer::Keeper;

/// How often it is looked whether there is a next key.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// File of the key that comes after the one in `master`.
#[must_use]
pub fn next_key_file(master: &Path) -> PathBuf {
    let mut name = master.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

/// Opens the record with the key that fits, and goes over to the next one where there is one.
pub(crate) fn open(config: &RecorderConfig, signer: &Signer, options: &Options) -> Result<Store, OpenError> {
    let path = &config.master_key_file;
    let next = next(path);
    let with =
        |master: MasterKey| Store::open(&config.directory, Keys { master, signer: signer.clone() }, options);
    let master = MasterKey::load(path)?;
    let Some(next) = next?.filter(|next| !next.is_same(&master)) else { return with(master) };
    let store = match with(master) {
        Ok(mut store) => {
            go_over(&mut store, next).map_err(|error| OpenError::Corrupt { what: error.to_string() })?;
            store
        }
        Err(OpenError::WrongKey) => with(next)?,
        Err(other) => return Err(other),
    };
    put_in_place(path);
    Ok(store)
}

/// Goes over to a next key that appears while the record is open, until shutdown.
pub(crate) async fn watch(
    config: RecorderConfig,
    shared: Shared,
    keeper: Keeper,
    shutdown: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // One that could not be put in place is not tried again.
    let mut done: Option<MasterKey> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = look.tick() => {}
        }
        let path = config.master_key_file.clone();
        let (next, master) = match (next(&path), MasterKey::load(&path)) {
            (Ok(Some(next)), Ok(master)) => (next, master),
            (Ok(None), _) => continue,
            (Err(error), _) | (_, Err(error)) => {
                warn!(%error, "The next master key cannot be used.");
                continue;
            }
        };
        if next.is_same(&master) || done.as_ref().is_some_and(|done| done.is_same(&next)) {
            continue;
        }
        let (shared, key) = (shared.clone(), next.clone());
        let rotated = keeper.change(move |store| {
            go_over(store, key)?;
            shared.set_reader(Some(store.reader()));
            put_in_place(&path);
            Ok(())
        });
        match rotated.await {
            Ok(()) => done = Some(next),
            Err(why) => warn!(why, "The record could not go over to its next master key; trying again."),
        }
    }
}

/// The next key, where there is one.
fn next(master: &Path) -> Result<Option<MasterKey>, KeyError> {
    match MasterKey::load(&next_key_file(master)) {
        Ok(next) => Ok(Some(next)),
        Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn go_over(store: &mut Store, next: MasterKey) -> Result<(), AppendError> {
    store.rotate(next)?;
    info!("The record has its next master key; the old one opens nothing of it any more.");
    Ok(())
}

/// Puts the next key in the place of the old one.
fn put_in_place(path: &Path) {
    let moved = std::fs::rename(next_key_file(path), path)
        .and_then(|()| File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all());
    if let Err(error) = moved {
        warn!(%error, "The master key's file could not be replaced; give the next key in its place before the next start.");
    }
}
