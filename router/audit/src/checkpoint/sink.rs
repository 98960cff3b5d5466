//! The checkpoint file: each signed note appended, outside the store, so that an older or emptied store is noticed.
//!
//! A note ends with a blank line. What is cut short at the end is a crash's, and is cut off.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::NOTE_BYTES_MAX;

/// What stands between the text of a note and its signatures, and between two notes.
const BLANK: &str = "\n\n";
/// Begins each line of a signature.
const DASH: &str = "\u{2014} ";

/// The file, opened to append.
pub(crate) struct Sink {
    file: File,
    newest: Option<String>,
}

// === impl Sink ===

impl Sink {
    /// Opens the file, or makes it, and reads its newest note.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(path)?;
        let length = file.metadata()?.len();
        let tail = tail(&file, length)?;
        let whole = whole(&tail);
        let newest = notes(tail.get(..whole).unwrap_or_default()).pop();
        let rest = tail.get(whole..).unwrap_or_default();
        if whole > 0 && !rest.is_empty() && !rest.ends_with(BLANK) {
            file.set_len(length - rest.len() as u64)?;
        } else if !rest.is_empty() {
            return Err(foreign());
        }
        Ok(Self { file, newest })
    }

    /// The newest note.
    pub(crate) fn newest(&self) -> Option<&str> {
        self.newest.as_deref()
    }

    /// Appends a note, durably.
    pub(crate) fn append(&mut self, note: &str) -> std::io::Result<()> {
        self.file.write_all(entry(note).as_bytes())?;
        self.file.sync_data()?;
        self.newest = Some(note.to_owned());
        Ok(())
    }
}

/// The newest note of a file.
pub(super) fn newest(path: &Path) -> std::io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let tail = tail(&file, file.metadata()?.len())?;
    Ok(notes(tail.get(..whole(&tail)).unwrap_or_default()).pop())
}

/// The newest note of a file of them; else what the file ends with, which is a note alone where it is one.
pub(super) fn kept(path: &Path) -> std::io::Result<String> {
    let file = File::open(path)?;
    let tail = tail(&file, file.metadata()?.len())?;
    Ok(notes(tail.get(..whole(&tail)).unwrap_or_default()).pop().unwrap_or(tail))
}

/// The end of the file, long enough for a note.
fn tail(file: &File, length: u64) -> std::io::Result<String> {
    let want = length.min(2 * NOTE_BYTES_MAX as u64);
    let mut bytes = vec![0; usize::try_from(want).unwrap_or_default()];
    file.read_exact_at(&mut bytes, length - want)?;
    // It may begin within a character.
    let start =
        (0..bytes.len().min(4)).find(|at| std::str::from_utf8(bytes.get(*at..).unwrap_or_default()).is_ok());
    match start {
        Some(start) => String::from_utf8(bytes.split_off(start)).map_err(|_| foreign()),
        None if bytes.is_empty() => Ok(String::new()),
        None => Err(foreign()),
    }
}

fn foreign() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "it holds something else than checkpoints")
}

/// Where the last note that is whole ends.
fn whole(text: &str) -> usize {
    let mut end = text.len();
    while let Some(at) = text.get(..end).and_then(|text| text.rfind(BLANK)) {
        let before = text.get(..at).unwrap_or_default();
        if before.rsplit('\n').next().is_some_and(|line| line.starts_with(DASH)) {
            return at + BLANK.len();
        }
        end = at + 1;
    }
    0
}

/// A note as the file has it.
pub(crate) fn entry(note: &str) -> String {
    format!("{note}\n")
}

/// The notes of a checkpoint file, the oldest first. Text that is no note comes out as it is, and no key opens it.
#[must_use]
pub(crate) fn notes(text: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let mut parts = text.split(BLANK).filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        match parts.next_if(|next| next.starts_with(DASH)) {
            Some(signatures) => notes.push(format!("{part}{BLANK}{signatures}\n")),
            None => notes.push(part.to_owned()),
        }
    }
    notes
}
