//! What was found of records, taken in file by file: the live one and segments. A file that is missing or breaks the reader
//! is named, and its records' hashes are taken from the tree, so that what comes after is judged all the same.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::hands::{Broken, Found, Note, Stretch};
use super::tree::TreeCheck;
use super::{Fault, Report, Trust};
use crate::error::Failure;
use crate::merkle::proof;
use crate::read::Reader;
use crate::read::view::{Place, View};
use crate::retain;
use crate::segment::alone::Head;
use crate::segment::{Part, Segment};
use crate::store::tree::Stored;

/// The record in one moment, while what was found in it is taken in.
pub(super) struct Intake<'a> {
    reader: &'a Reader,
    trust: &'a Trust,
    view: View,
    stored: Stored,
}

// === impl Intake ===

impl<'a> Intake<'a> {
    pub(super) fn begin(reader: &'a Reader, trust: &'a Trust) -> Result<Self, Failure> {
        let view = reader.begin()?;
        let stored = Stored::open(&view)?;
        Ok(Self { reader, trust, view, stored })
    }

    /// Takes in what was found of the next records.
    pub(super) fn take(
        &self,
        Stretch { range, place, found }: Stretch,
        tree: &mut TreeCheck,
        report: &mut Report,
    ) -> Result<(), Failure> {
        match &place {
            Place::Live | Place::Nowhere => self.notes(None, found, tree, report),
            Place::Segment(segment) if segment.records.is_some() => {
                pruned(&self.stored, segment, range, tree, report)
            }
            Place::Segment(segment) => self.sealed(segment, range, found, tree, report),
        }
    }

    /// Records of a segment, between what its file says of itself at their begin and at their end.
    fn sealed(
        &self,
        segment: &Segment,
        range: Range<u64>,
        mut found: Found,
        tree: &mut TreeCheck,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let unread = found.broken.take();
        let mut broken = self.said(segment, tree, range.start, report).err();
        if broken.is_none() {
            if segment.bodies.is_some() {
                explained(&self.stored, segment, Part::Bodies, range.start, report)?;
            }
            self.notes(Some(segment), found, tree, report)?;
            broken = unread.or_else(|| self.said(segment, tree, range.end, report).err());
        }
        let Some(why) = broken else { return Ok(()) };
        // It may have been pruned meanwhile.
        let now = self.reader.begin()?;
        if let Some(gone) = pruned_since(&now, segment, Part::Records)? {
            return pruned(&Stored::open(&now)?, &gone, tree.size()..range.end, tree, report);
        }
        unreadable(segment, Part::Records, &why, report);
        // Once a hash is missing for good the tree does not grow any more.
        for _ in tree.size()..range.end {
            tree.lose(&self.stored, report)?;
        }
        Ok(())
    }

    fn notes(
        &self,
        segment: Option<&Segment>,
        found: Found,
        tree: &mut TreeCheck,
        report: &mut Report,
    ) -> Result<(), Failure> {
        report.records += found.records;
        report.bodies += found.bodies;
        report.pruned_bodies += found.pruned_bodies;
        for note in found.notes {
            match (note, segment) {
                (Note::Leaf(hash), _) => tree.leaf(&self.stored, hash, report)?,
                (Note::Lost, _) => tree.lose(&self.stored, report)?,
                (Note::Wrong(problem), _) => report.add(problem.index, problem.position, problem.fault),
                (Note::Bodies(why), Some(segment)) => unreadable(segment, Part::Bodies, &why, report),
                // The live file's are in the same file as the records.
                (Note::Bodies(_), None) => {}
            }
        }
        Ok(())
    }

    /// Compares what a segment's file says of itself with the tree at its begin and at its end.
    fn said(&self, segment: &Segment, tree: &TreeCheck, at: u64, report: &mut Report) -> Result<(), Broken> {
        // A file that was changed at random may break any promise of its format.
        match catch_unwind(AssertUnwindSafe(|| said(&self.view, segment, self.trust, tree, at, report))) {
            Ok(Ok(())) => Ok(()),
            other => Err(Broken(other.ok().and_then(Result::err))),
        }
    }
}

/// The segment, where a part of it was pruned by now.
pub(super) fn pruned_since(now: &View, segment: &Segment, part: Part) -> Result<Option<Segment>, Failure> {
    let found = now.segments()?.into_iter().find(|found| found.first == segment.first);
    Ok(found.filter(|found| found.pruning(part).is_some()))
}

/// Names a file once.
fn unreadable(segment: &Segment, part: Part, Broken(failed): &Broken, report: &mut Report) {
    let named = failed.as_ref().and_then(Failure::segment);
    let file = named.map_or_else(|| part.file(segment.first), |named| named.file.clone());
    let missing = named.is_some_and(|named| named.missing);
    let fault = if missing { Fault::SegmentMissing } else { Fault::SegmentUnreadable };
    if !report.problems.iter().any(|known| known.position.as_deref() == Some(&file)) {
        report.add(Some(segment.first), Some(file), fault);
    }
}

/// Takes the hashes of what was pruned. That it was must be on record.
fn pruned(
    stored: &Stored,
    segment: &Segment,
    range: Range<u64>,
    tree: &mut TreeCheck,
    report: &mut Report,
) -> Result<(), Failure> {
    explained(stored, segment, Part::Records, range.start, report)?;
    let records = range.end - range.start;
    report.pruned += records;
    report.pruned_bodies += records;
    for _ in range {
        tree.lose(stored, report)?;
    }
    Ok(())
}

fn explained(
    stored: &Stored,
    segment: &Segment,
    part: Part,
    at: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let told = report.problems.iter().any(|known| known.fault == Fault::NotPruned && known.index == Some(at));
    if !told && at == segment.first && !retain::is_explained(stored, segment, part)? {
        report.add(Some(segment.first), Some(part.file(segment.first)), Fault::NotPruned);
    }
    Ok(())
}

fn said(
    view: &View,
    segment: &Segment,
    trust: &Trust,
    tree: &TreeCheck,
    at: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let Some(frontier) = tree.frontier().filter(|_| at == segment.first || at == segment.end) else {
        return Ok(());
    };
    let head = Head::read(&*view.shelf().take(Part::Records, segment.first)?)?;
    // Where a record is bad already, the tree over it fits nothing; the tiles still say where a segment begins.
    let by_tiles = proof::frontier(&Stored::open(view)?, at)?;
    let placed = report.problems.iter().any(|problem| problem.index.is_some());
    let fits = head.is_some_and(|head| match &trust.key {
        _ if at == segment.first => head.start() == frontier || (placed && head.start() == &by_tiles),
        _ if placed => true,
        Some(key) => head.signs(frontier, key).is_some(),
        None => head.signs_unverified(frontier),
    });
    if !fits {
        report.add(Some(segment.first), Some(Part::Records.file(segment.first)), Fault::SegmentHead);
    }
    Ok(())
}
