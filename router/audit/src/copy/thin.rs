//! Retention of a backup: what it took from the record since leaves the backup's parts too.

use std::path::Path;

use super::CopyError;
use super::backup::PARTS;
use super::files::Out;
use super::manifest::{Manifest, Part};
use super::source::{PartSource, Piece};
use crate::leaf::{Leaf, leaf_hash};
use crate::segment::Segment;

/// Writes those parts anew of whose records something was pruned since. `number` is the backup's.
pub(super) fn parts(
    dir: &Path,
    manifest: &mut Manifest,
    number: u64,
    segments: &[Segment],
) -> Result<(), CopyError> {
    for (ordinal, part) in manifest.parts.iter_mut().enumerate() {
        let gone = gone(part, segments);
        if gone != (part.pruned, part.pruned_bodies) {
            let name = format!("{PARTS}/{number:06}-{:06}", ordinal + 1);
            *part = Part { pruned: gone.0, pruned_bodies: gone.1, ..thinned(dir, part, &name, segments)? };
        }
    }
    Ok(())
}

/// How many of a part's records, and of their bodies, are pruned.
pub(super) fn gone(part: &Part, segments: &[Segment]) -> (u64, u64) {
    let end = part.first.saturating_add(part.records);
    let shared = |segment: &Segment| segment.end.min(end).saturating_sub(segment.first.max(part.first));
    let count = |is: fn(&Segment) -> bool| segments.iter().filter(|one| is(one)).map(shared).sum();
    (count(|segment| segment.records.is_some()), count(|segment| segment.bodies.is_some()))
}

fn thinned(dir: &Path, part: &Part, name: &str, segments: &[Segment]) -> Result<Part, CopyError> {
    let mut source = PartSource::open(dir, part)?;
    let mut leaves = Out::create(dir, &format!("{name}.jsonl"))?;
    let mut bodies = Out::create(dir, &format!("{name}.bodies"))?;
    let (mut index, mut missing) = (part.first, 0);
    while let Some(piece) = source.next()? {
        let segment = segments.iter().find(|segment| (segment.first..segment.end).contains(&index));
        let pruned = segment.is_some_and(|segment| segment.records.is_some());
        let bodiless = segment.is_some_and(|segment| segment.bodies.is_some());
        match piece {
            Piece::Record { line, sealed, .. } if !pruned => {
                leaves.leaf(&line)?;
                let sealed = sealed.filter(|_| !bodiless);
                bodies.body(sealed.as_deref())?;
                let commits = || serde_json::from_slice::<Leaf>(&line).is_ok_and(|leaf| leaf.body.is_some());
                missing += u64::from(sealed.is_none() && !bodiless && commits());
            }
            Piece::Record { line, .. } => {
                leaves.pruned(&leaf_hash(&line))?;
                bodies.body(None)?;
            }
            Piece::Pruned(hash) => {
                leaves.pruned(&hash)?;
                bodies.body(None)?;
            }
        }
        index += 1;
    }
    source.end()?;
    let (leaves, bodies) = (leaves.finish()?, bodies.finish()?);
    Ok(Part { leaves, bodies, missing, ..part.clone() })
}
