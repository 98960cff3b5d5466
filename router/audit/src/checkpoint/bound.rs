//! The checkpoint file kept short. Of its notes stay: the first of each history, the newest ones, of those between them the
//! newest in so many records, and each that the record does not give. What goes says nothing that the record itself does not:
//! who kept such a note is held to it as before, by a root that is made from the tree.
//!
//! The file is written anew beside itself and put in its place, so at each moment one or the other is there, whole. Where
//! that cannot be (a file that may only grow, another's file, one with two names) it grows as before.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Error, ErrorKind, Result, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::notes::Notes;
use super::sink::{entry, foreign};
use super::{Checkpoint, PublicKey};

/// Newest notes, all of which stay.
const NEWEST: u64 = 1_024;
/// Fewest records of which the newest note stays.
const SPAN_MIN: u64 = 4_096;
/// Most notes of a history that stay for their span: with more records a span is longer.
const SPANS_MAX: u64 = 1_024;
/// Notes that are held against the record in one go: the record is written by the same thread.
const CHECKS_MAX: u64 = 8_192;

/// Tells whether the record gives a checkpoint.
pub(crate) type Given<'a> = dyn FnMut(&Checkpoint) -> Result<bool> + 'a;

/// What one go did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thinned {
    /// Notes that went.
    pub(crate) gone: u64,
    /// Whether all that may go did.
    pub(crate) done: bool,
}

/// Writes the notes that stay into a file beside `path`, and puts it into its place. Gives the file that is there now, opened to
/// append, where it is another one.
pub(super) fn thin(path: &Path, key: &PublicKey, given: &mut Given<'_>) -> Result<(Thinned, Option<File>)> {
    let of = File::open(path)?.metadata()?;
    if of.nlink() > 1 {
        return Err(refused("it has another name, under which it would grow no more"));
    }
    let draft = draft(path);
    let replaced = write(path, &draft, key, given).and_then(|thinned| {
        let made = std::fs::metadata(&draft)?;
        if (made.uid(), made.gid()) != (of.uid(), of.gid()) {
            return Err(refused("it is another's file"));
        }
        if thinned.gone == 0 {
            return Ok((thinned, None));
        }
        std::fs::set_permissions(&draft, of.permissions())?;
        let file = OpenOptions::new().read(true).append(true).open(&draft)?;
        std::fs::rename(&draft, path)?;
        Ok((thinned, Some(file)))
    });
    if !matches!(replaced, Ok((_, Some(_)))) {
        // What cannot be removed is written over the next time.
        let _ = std::fs::remove_file(&draft);
    }
    replaced
}

fn draft(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, what)
}

fn write(path: &Path, draft: &Path, key: &PublicKey, given: &mut Given<'_>) -> Result<Thinned> {
    let all = || Ok::<_, Error>(Notes::new(BufReader::new(File::open(path)?)));
    let (mut total, mut size) = (0, 0);
    for note in all()? {
        let Some(head) = Checkpoint::unverified(&note?) else { return Err(foreign()) };
        (total, size) = (total + 1, head.size.max(size));
    }
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    let mut out = BufWriter::new(file);
    let mut keep = |note: &str| out.write_all(entry(note).as_bytes());
    let thinned = sift(all()?, total, span(size), key, given, &mut keep)?;
    out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok(thinned)
}

/// Records of which one note stays. It doubles as the record grows, so that what stays once is among what stayed before.
fn span(size: u64) -> u64 {
    (size / SPANS_MAX).checked_next_power_of_two().unwrap_or(u64::MAX).max(SPAN_MIN)
}

/// Hands out the notes that stay, of `total`.
fn sift(
    mut notes: impl Iterator<Item = Result<String>>,
    total: u64,
    span: u64,
    key: &PublicKey,
    given: &mut Given<'_>,
    keep: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Thinned> {
    let place = |note: String| {
        let head = Checkpoint::unverified(&note);
        let known = head.and_then(|head| Some((key.epoch(&head.origin)?, head)));
        (note, known)
    };
    let mut next = || notes.next().map(|note| note.map(place)).transpose();
    let (mut at, mut checks, mut gone, mut epoch) = (0, 0, 0, None);
    let mut current = next()?;
    while let Some((note, known)) = current {
        current = next()?;
        at += 1;
        let follows = current.as_ref().and_then(|(_, known)| known.as_ref());
        let goes = match &known {
            Some((of, head)) if at + NEWEST <= total && epoch == Some(*of) && checks < CHECKS_MAX => {
                let again =
                    |(next, more): &(u64, Checkpoint)| next == of && more.size / span == head.size / span;
                let spare = follows.is_some_and(again);
                checks += u64::from(spare);
                spare && given(head)?
            }
            _ => false,
        };
        if goes {
            gone += 1;
        } else {
            keep(&note)?;
        }
        epoch = known.map(|(of, _)| of).or(epoch);
    }
    Ok(Thinned { gone, done: checks < CHECKS_MAX })
}

#[cfg(test)]
mod tests;
