//! Whose a directory is. A cell begins in an empty one only, and what is removed for a fresh one are the files that a cell makes,
//! by their names: whatever else came to lie beside them is somebody else's and stays.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::DIRECTORY;
use crate::cell::Cell;

/// What makes a directory a cell. It is written last and removed last, so that what was cut short can be told.
const CELL: &str = "cell.toml";
/// Files that a cell makes, by directory; `*` stands for any part of a name.
const OWN: [(&str, &[&str]); 12] = [
    ("identities", &["*.nk", "*.partial"]),
    (
        "keys",
        &[
            "ticket.key",
            "ticket.pub",
            "ticket.partial",
            "checkpoint.key",
            "checkpoint.pub",
            "checkpoint.partial",
            "master.key",
            "master.key.next",
            "master.partial",
            "vault.key",
            "vault.partial",
            "openai.key",
            "openai.partial",
            "anthropic.key",
            "anthropic.partial",
        ],
    ),
    ("logs", &["*.log"]),
    ("run", &["*.address", "*.partial"]),
    ("record/segments", &["seg-*", "body-*"]),
    ("record", &["seg-0.redb", "keys.bin", "keys.new"]),
    ("record-copy/segments", &["seg-*", "body-*"]),
    ("record-copy", &["seg-0.redb", "keys.bin", "keys.new"]),
    ("vault", &["vault.redb", "keys.bin"]),
    ("nats/streams", &[]),
    (
        "nats",
        &[
            "accounts.conf",
            "accounts.partial",
            "nats.conf",
            "nats-server*",
            "*.ports",
            "jetstream.key",
            "encryption.conf",
            "encryption.new",
            "tls.conf",
            "tls.new",
        ],
    ),
    (
        "",
        &[
            DIRECTORY,
            "directory.partial",
            "run.json",
            "run.partial",
            "checkpoints",
            "checkpoints.new",
            "accounts.lock",
            "cell.partial",
        ],
    ),
];
/// What the server keeps, in a layout of its own.
const STREAMS: &str = "nats/streams/jetstream";

/// Refuses to begin a cell among other things.
pub(in super::super) fn free(dir: &Path) -> Result<()> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!(
                "`{}` holds other things than a cell (it has no {CELL}): name an empty or a new directory with --cell",
                dir.display()
            ),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("looking into `{}`", dir.display())),
    }
}

/// Removes the cell in a directory, and the directory where nothing else is in it. Returns what stays, by name. What is no cell
/// is somebody else's: it stays, and is refused.
pub(in super::super) fn clear(dir: &Path) -> Result<Vec<String>> {
    if !dir.join(CELL).is_file() {
        return free(dir).map(|()| Vec::new());
    }
    Cell::open(dir).with_context(|| {
        format!("`{}` may be no cell of this program, so nothing in it is removed", dir.display())
    })?;
    let streams = dir.join(STREAMS);
    if !is_behind_link(dir, STREAMS) && streams.is_dir() && !is_link(&streams) {
        fs::remove_dir_all(&streams).with_context(|| format!("removing `{}`", streams.display()))?;
    }
    for (own, names) in OWN.into_iter().filter(|(own, _)| !is_behind_link(dir, own)) {
        remove(&dir.join(own), names, own.is_empty())?;
    }
    remove(dir, &[CELL], true)?;
    let left = entries(dir)?;
    if left.is_empty() && !is_link(dir) {
        fs::remove_dir(dir).with_context(|| format!("removing `{}`", dir.display()))?;
    }
    Ok(left)
}

/// Removes files of these names, and the directory where nothing else is in it. What a link leads to is not in the cell: it stays.
/// The cell's own directory is gone last, by who asked.
fn remove(dir: &Path, names: &[&str], is_top: bool) -> Result<()> {
    if is_link(dir) && !is_top {
        return fs::remove_file(dir).with_context(|| format!("removing `{}`", dir.display()));
    }
    let mut left = 0;
    for name in entries(dir)? {
        let path = dir.join(&name);
        if names.iter().any(|own| fits(own, &name)) && (!path.is_dir() || is_link(&path)) {
            fs::remove_file(&path).with_context(|| format!("removing `{}`", path.display()))?;
        } else {
            left += 1;
        }
    }
    if left == 0 && dir.is_dir() && !is_top {
        // Somebody who wrote into it meanwhile keeps it.
        let _ = fs::remove_dir(dir);
    }
    Ok(())
}

/// Whether a directory of the cell can only be reached through a link in it.
fn is_behind_link(dir: &Path, own: &str) -> bool {
    Path::new(own).ancestors().skip(1).any(|above| !above.as_os_str().is_empty() && is_link(&dir.join(above)))
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_symlink())
}

/// Names in a directory, in order; none where it is not there.
fn entries(dir: &Path) -> Result<Vec<String>> {
    let looking = || format!("looking into `{}`", dir.display());
    let found = match fs::read_dir(dir) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).with_context(looking),
    };
    let mut names = Vec::new();
    for entry in found {
        names.push(entry.with_context(looking)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn fits(own: &str, name: &str) -> bool {
    match own.split_once('*') {
        None => own == name,
        Some((begin, end)) => {
            name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    /// Every file below a directory.
    fn files(dir: &Path) -> BTreeSet<PathBuf> {
        let mut all = BTreeSet::new();
        for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => all.extend(files(&entry.path())),
                false => drop(all.insert(entry.path())),
            }
        }
        all
    }

    fn write(dir: &Path, names: &[&str]) -> BTreeSet<PathBuf> {
        let written = names.iter().map(|name| dir.join(name));
        written
            .inspect(|path| {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "kept").unwrap();
            })
            .collect()
    }

    const CELLS: [&str; 14] = [
        "directory.json",
        "checkpoints",
        "run.json",
        "accounts.lock",
        "keys/ticket.key",
        "keys/master.key",
        "identities/role.router.nk",
        "logs/router.log",
        "run/router.address",
        "record/seg-0.redb",
        "record/keys.bin",
        "record/segments/seg-0.redb",
        "nats/nats-server.log",
        "nats/streams/jetstream/APP/streams/TASKS/msgs/1.blk",
    ];
    const THEIRS: [&str; 9] = [
        "notes.txt",
        "src/main.rs",
        "keys/house.key",
        "keys/master.key.copy",
        "logs/notes.txt",
        "record/notes.txt",
        "record/segments/photo.jpg",
        "nats/streams/other/1",
        "nats/my.conf",
    ];

    fn begun(dir: &Path) {
        fs::write(dir.join(CELL), "name = \"dev\"\nurl = \"nats://127.0.0.1:1\"\n").unwrap();
    }

    #[test]
    fn what_is_no_cell_is_neither_removed_nor_begun_in() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = write(dir.path(), &THEIRS);
        for refused in [free(dir.path()), clear(dir.path()).map(drop)] {
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("no cell.toml") && said.contains("--cell"), "{said}");
        }
        // Somebody else's file of that name makes it no cell.
        fs::write(dir.path().join(CELL), "[battery]\ncells = 4\n").unwrap();
        assert!(clear(dir.path()).is_err());
        fs::remove_file(dir.path().join(CELL)).unwrap();
        assert_eq!(files(dir.path()), theirs);
        let free_dirs = [dir.path().join("nothing"), dir.path().join("empty")];
        fs::create_dir(&free_dirs[1]).unwrap();
        free_dirs.iter().for_each(|dir| free(dir).unwrap());
    }

    #[test]
    fn only_what_is_the_cell_s_own_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let cell = dir.path().join("cell");
        write(&cell, &CELLS);
        begun(&cell);
        assert_eq!(clear(&cell).unwrap(), Vec::<String>::new());
        assert!(!cell.exists(), "negative control: a cell alone goes as a whole");
        // The same among somebody else's files, also in directories of the same names.
        let theirs = write(&cell, &THEIRS);
        write(&cell, &CELLS);
        begun(&cell);
        assert_eq!(clear(&cell).unwrap(), ["keys", "logs", "nats", "notes.txt", "record", "src"]);
        assert_eq!(files(&cell), theirs);
    }

    #[test]
    fn what_a_link_leads_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (cell, disk) = (dir.path().join("cell"), dir.path().join("disk"));
        // Another cell's root, even.
        let names = ["cell.toml", "seg-0.redb", "keys.bin", "segments/seg-0.redb", "streams/jetstream/1"];
        let kept = write(&disk, &names);
        write(&cell, &CELLS[..8]);
        begun(&cell);
        for link in ["record", "nats"] {
            std::os::unix::fs::symlink(&disk, cell.join(link)).unwrap();
        }
        clear(&cell).unwrap();
        assert_eq!(files(&disk), kept);
        assert!(!cell.exists());
    }
}
