//! Parts of a backup that become one: each backup adds a part, and what names them all must stay short enough to be read.

use std::ops::ControlFlow;
use std::path::Path;

use super::CopyError;
use super::backup::PARTS;
use super::files::{FileSum, In, Out};
use super::manifest::{EpochNote, Manifest, Part};
use crate::checkpoint::{Checkpoint, NOTE_BYTES_MAX, thin};
use crate::error::Failure;

/// Parts that a backup may have before some become one.
pub(super) const PARTS_MAX: usize = 256;
/// Most bytes of leaves and bodies of a part that comes of two: more are not copied again.
const BYTES_MAX: u64 = 64 << 20;
/// Longest line of a note: each of its bytes is two at most.
pub(super) const NOTE_LINE_BYTES_MAX: usize = 2 * NOTE_BYTES_MAX + 64;

/// Makes one part of two, the smallest first, until there are no more than `most`, or all are large. `number` is the backup's.
pub(super) fn parts(dir: &Path, manifest: &mut Manifest, number: u64, most: usize) -> Result<(), CopyError> {
    let mut made = 0;
    while manifest.parts.len() > most {
        let bytes = |part: &Part| part.leaves.bytes + part.bodies.bytes;
        let pairs = manifest.parts.array_windows::<2>().enumerate();
        let smallest = pairs.map(|(at, [one, other])| (bytes(one) + bytes(other), at, one, other));
        let smallest = smallest.min_by_key(|(bytes, ..)| *bytes).filter(|(bytes, ..)| *bytes <= BYTES_MAX);
        let Some((_, at, one, other)) = smallest else { return Ok(()) };
        made += 1;
        let part = joined(dir, one, other, &format!("{PARTS}/{number:06}-of-two-{made}"))?;
        manifest.parts.splice(at..=at + 1, [part]);
    }
    Ok(())
}

fn joined(dir: &Path, one: &Part, other: &Part, name: &str) -> Result<Part, CopyError> {
    let leaves = appended(dir, [&one.leaves, &other.leaves], &format!("{name}.jsonl"))?;
    let bodies = appended(dir, [&one.bodies, &other.bodies], &format!("{name}.bodies"))?;
    let notes = notes(dir, [&one.notes, &other.notes], &format!("{name}.notes"))?;
    Ok(Part {
        first: one.first,
        records: one.records + other.records,
        pruned: one.pruned + other.pruned,
        pruned_bodies: one.pruned_bodies + other.pruned_bodies,
        missing: one.missing + other.missing,
        leaves,
        bodies,
        notes,
    })
}

/// Writes files one after the other, each compared with its sum.
fn appended(dir: &Path, files: [&FileSum; 2], name: &str) -> Result<FileSum, CopyError> {
    let mut out = Out::create(dir, name)?;
    for sum in files {
        let mut file = In::named(dir, sum)?;
        while let Some(bytes) = file.some()? {
            out.put(&bytes)?;
        }
        file.end()?;
    }
    out.finish()
}

/// Writes those of the checkpoints that stay.
fn notes(dir: &Path, files: [&FileSum; 2], name: &str) -> Result<FileSum, CopyError> {
    let mut all = Vec::new();
    for sum in files {
        let mut file = In::named(dir, sum)?;
        let changed = || CopyError::Changed { path: dir.join(&sum.name) };
        while let Some(line) = file.line(NOTE_LINE_BYTES_MAX)? {
            let note: EpochNote = serde_json::from_slice(&line).map_err(|_| changed())?;
            let size = Checkpoint::unverified(&note.note).ok_or_else(changed)?.size;
            all.push(((note.epoch, size), note));
        }
        file.end()?;
    }
    let (mut out, mut stay) = (Out::create(dir, name)?, Vec::new());
    thin::sift(all.iter().rev().map(|(place, _)| Ok::<_, Failure>(*place)), |_, stays| {
        stay.push(stays);
        ControlFlow::Continue(())
    })?;
    for ((_, note), _) in all.iter().zip(stay.iter().rev()).filter(|(_, stays)| **stays) {
        out.line(note)?;
    }
    out.finish()
}
