//! The key that tickets are signed with: read at the start, and again where another is put in its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tidegate_bus::CancellationToken;
use tidegate_schemas::ticket::{KEY_FILE_BYTES_MAX, Signer};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::run::RouterError;
use crate::signing::Signing;

/// How often it is looked whether there is another key.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The text of a key's file.
pub(crate) struct Secret(SecretString);

impl Secret {
    pub(crate) fn read(file: &Path) -> Result<Self, RouterError> {
        let text = std::fs::read_to_string(file).map(SecretString::from);
        let text = text.map_err(|error| unusable(file, error.to_string()))?;
        if text.expose_secret().len() > KEY_FILE_BYTES_MAX {
            return Err(unusable(file, "it is longer than a key".into()));
        }
        Ok(Self(text))
    }

    pub(crate) fn signer(&self, file: &Path) -> Result<Signer, RouterError> {
        // What stands in the file is a secret: no error quotes it.
        Signer::read(self.0.expose_secret())
            .map_err(|_| unusable(file, "it must be `<id> <64 hexadecimal digits>`".into()))
    }
}

/// Goes over to another key where one is put into the file, until shutdown. One that cannot be used changes nothing: the routers
/// go on to sign with the key that they have.
pub(crate) async fn watch(
    file: PathBuf,
    mut has: Secret,
    signing: Arc<Signing>,
    shutdown: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = look.tick() => {}
        }
        let Ok(found) = Secret::read(&file) else { continue };
        if found.0.expose_secret() == has.0.expose_secret() {
            continue;
        }
        match found.signer(&file) {
            Ok(signer) => {
                info!(key = signer.key_id(), "Tickets are signed with another key.");
                signing.go_over(signer);
            }
            Err(error) => {
                warn!(%error, "The ticket key was changed and cannot be used; signing goes on with the one before.")
            }
        }
        has = found;
    }
}

fn unusable(file: &Path, why: String) -> RouterError {
    RouterError::Key { file: file.to_owned(), why }
}
