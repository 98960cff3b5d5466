//! The server's accounts, keys and the cell's copy of the directory: made from what is active, by one process at a time.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tidegate_bus::accounts::{self, Identities};
use tidegate_bus::{Bus, server};
use tidegate_policies::Bundle;
use tidegate_schemas::directory::Directory;

use super::{bundle, create, directory, policy, provision, supervise};
use crate::cell::{Cell, replace};

/// How long another command may take to do the same.
const LOCK_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Makes everybody's keys that are missing, and the accounts' file.
pub(super) fn render(cell: &Cell, bundles: &[&Bundle], directory: &Directory) -> Result<String> {
    let mut identities = Identities::open(cell.identities())?;
    identities.ensure_all(directory)?;
    Ok(accounts::render(&provision::shape(cell, bundles), directory, &identities)?)
}

/// Brings keys and accounts to what is active, and has the running server take them over; with `again` also where the file
/// says so already, since whoever wrote it may have ended before the server was told.
pub(super) async fn settle(cell: &Cell, bus: &Bus, again: bool) -> Result<()> {
    let _held = lock(&cell.dir.join("accounts.lock")).await?;
    // Read under the lock, so that who comes last writes what is newest.
    let directory = directory::active(bus).await?.context("the cell has no directory")?;
    let active = policy::active_bundle(bus).await?;
    let canary = bundle::canary(bus).await?;
    let bundles: Vec<&Bundle> = std::iter::once(&active).chain(&canary).collect();
    create::save_directory(cell, &directory)?;
    let rendered = render(cell, &bundles, &directory)?;
    let file = cell.nats().join("accounts.conf");
    if !again && fs::read_to_string(&file).is_ok_and(|before| before == rendered) {
        return Ok(());
    }
    let pid = cell.running().map(|running| running.nats).ok();
    let Some(pid) = pid.filter(|pid| supervise::is_of(*pid, &cell.nats())) else {
        replace(&file, rendered.as_bytes(), 0o600)?;
        bail!(
            "`{}` is written, but this cell's nats-server does not run here: send it SIGHUP, twice",
            file.display()
        );
    };
    let told = server::reload(&cell.nats(), pid, &rendered).await;
    told.context("the directory is in force, its accounts are not; repeat the command")
}

/// Waits until no other command holds the file. The lock ends with the file, and with the process.
async fn lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.with_context(|| format!("opening `{}`", path.display()))?;
    let deadline = Instant::now() + LOCK_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(TryLockError::WouldBlock) => {
                bail!("another command holds `{}`: repeat this one when it has ended", path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking `{}`", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn accounts_are_written_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.lock");
        let held = lock(&path).await.unwrap();
        let other = File::options().write(true).open(&path).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        assert!(other.try_lock().is_ok(), "negative control");
    }
}
