//! What of a key file is durable, for tests that let the power go.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

/// Key file → its bytes when it was synced last; `None` where its syncs do nothing.
static SYNCED: LazyLock<Mutex<HashMap<PathBuf, Option<Vec<u8>>>>> = LazyLock::new(Mutex::default);

/// A sync has ended.
pub(super) fn synced(path: &Path, file: &File) -> std::io::Result<()> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap()];
    file.read_exact_at(&mut bytes, 0)?;
    let mut all = SYNCED.lock().unwrap();
    match all.get_mut(path) {
        Some(None) => {}
        Some(Some(held)) => *held = bytes,
        None => drop(all.insert(path.to_owned(), Some(bytes))),
    }
    Ok(())
}

/// From now on the syncs of this file do nothing.
pub(crate) fn lie(path: &Path) {
    SYNCED.lock().unwrap().insert(path.to_owned(), None);
}

/// The bytes of a file when it was synced last, in this process; `None` where it never was.
pub(crate) fn durable(path: &Path) -> Option<Vec<u8>> {
    SYNCED.lock().unwrap().get(path).cloned().flatten()
}
