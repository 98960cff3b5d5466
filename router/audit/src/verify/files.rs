//! Records in their files: the live one and segments, one range at a time. A file that is missing or breaks the reader is
//! named, and its records' hashes are taken from the tree, so that what comes after is judged all the same.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::tree::TreeCheck;
use super::{Fault, Report, Trust, body, links};
use crate::error::Failure;
use crate::leaf::{Leaf, leaf_hash};
use crate::merkle::proof;
use crate::read::Reader;
use crate::read::view::{Bodies, Place, View};
use crate::retain;
use crate::segment::alone::Head;
use crate::segment::{Part, Segment};
use crate::store::Heads;
use crate::store::tree::Stored;

/// Checks the records of one range.
pub(super) fn chunk(
    reader: &Reader,
    heads: &Heads,
    trust: &Trust,
    range: Range<u64>,
    tree: &mut TreeCheck,
    report: &mut Report,
) -> Result<(), Failure> {
    let view = reader.begin()?;
    for (part, place) in view.places(range)? {
        let segment = match &place {
            Place::Segment(segment) => segment,
            Place::Live | Place::Nowhere => {
                records(reader, &view, heads, &place, part, tree, report)?;
                continue;
            }
        };
        if segment.records.is_some() {
            pruned(&view, segment, part, tree, report)?;
            continue;
        }
        let whole = part.end;
        // A file that was changed at random may break any promise of its format.
        let read = catch_unwind(AssertUnwindSafe(|| {
            said(&view, segment, trust, tree, part.start, report)?;
            records(reader, &view, heads, &place, part, tree, report)?;
            said(&view, segment, trust, tree, whole, report)
        }));
        if !matches!(read, Ok(Ok(()))) {
            let failed = read.ok().and_then(Result::err);
            // It may have been pruned meanwhile.
            let now = reader.begin()?;
            if let Some(gone) = pruned_since(&now, segment, Part::Records)? {
                pruned(&now, &gone, tree.size()..whole, tree, report)?;
                continue;
            }
            broken(segment, Part::Records, failed.as_ref(), report);
            let stored = Stored::open(&view)?;
            while tree.size() < whole {
                tree.lose(&stored, report)?;
            }
        }
    }
    Ok(())
}

/// The segment, where a part of it was pruned by now.
fn pruned_since(now: &View, segment: &Segment, part: Part) -> Result<Option<Segment>, Failure> {
    let found = now.segments()?.into_iter().find(|found| found.first == segment.first);
    Ok(found.filter(|found| found.pruning(part).is_some()))
}

/// Names a file once.
fn broken(segment: &Segment, part: Part, failed: Option<&Failure>, report: &mut Report) {
    let named = failed.and_then(Failure::segment);
    let file = named.map_or_else(|| part.file(segment.first), |named| named.file.clone());
    let missing = named.is_some_and(|named| named.missing);
    let fault = if missing { Fault::SegmentMissing } else { Fault::SegmentUnreadable };
    if !report.problems.iter().any(|known| known.position.as_deref() == Some(&file)) {
        report.add(Some(segment.first), Some(file), fault);
    }
}

/// Takes the hashes of what was pruned. That it was must be on record.
fn pruned(
    view: &View,
    segment: &Segment,
    range: Range<u64>,
    tree: &mut TreeCheck,
    report: &mut Report,
) -> Result<(), Failure> {
    let stored = Stored::open(view)?;
    explained(&stored, segment, Part::Records, range.start, report)?;
    let records = range.end - range.start;
    report.pruned += records;
    report.pruned_bodies += records;
    for _ in range {
        tree.lose(&stored, report)?;
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

/// Compares what a segment's file says of itself with the tree at its begin and at its end.
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

fn records(
    reader: &Reader,
    view: &View,
    heads: &Heads,
    place: &Place,
    range: Range<u64>,
    tree: &mut TreeCheck,
    report: &mut Report,
) -> Result<(), Failure> {
    let stored = Stored::open(view)?;
    let mut bodies = bodies(reader, view, &stored, place, range.start, report)?;
    let mut expected = range.start;
    view.rows(range.clone(), |index, row| -> Result<(), Failure> {
        for missing in expected..index {
            tree.lose(&stored, report)?;
            report.add(Some(missing), None, Fault::Missing);
        }
        expected = index + 1;
        report.records += 1;
        let Some((hash, line)) = row.split_first_chunk::<32>() else {
            tree.lose(&stored, report)?;
            report.add(Some(index), None, Fault::LeafForm);
            return Ok(());
        };
        let found = leaf_hash(line);
        tree.leaf(&stored, found, report)?;
        if found != *hash {
            report.add(Some(index), None, Fault::LeafHash);
        }
        let Ok(leaf) = serde_json::from_slice::<Leaf>(line) else {
            report.add(Some(index), None, Fault::LeafForm);
            return Ok(());
        };
        match &bodies {
            Some(sealed) if sealed.is_pruned() => report.pruned_bodies += u64::from(leaf.body.is_some()),
            Some(sealed) => {
                let readable = sealed_body(sealed, place, &leaf, index, report)?;
                if !readable {
                    bodies = None;
                }
            }
            // Its file is named already.
            None => {}
        }
        links(view, heads, &leaf, index, report)
    })?;
    for missing in expected..range.end {
        tree.lose(&stored, report)?;
        report.add(Some(missing), None, Fault::Missing);
    }
    Ok(())
}

/// Checks a record's body. `false` when its segment's file cannot be read, which is named then.
fn sealed_body(
    bodies: &Bodies,
    place: &Place,
    leaf: &Leaf,
    index: u64,
    report: &mut Report,
) -> Result<bool, Failure> {
    let mut check = || -> Result<(), Failure> {
        let sealed = bodies.get(index)?;
        body(leaf, index, sealed.as_ref().map(|sealed| sealed.value()), report);
        Ok(())
    };
    let Place::Segment(segment) = place else { return check().map(|()| true) };
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(Ok(())) => Ok(true),
        other => {
            broken(segment, Part::Bodies, other.ok().and_then(Result::err).as_ref(), report);
            Ok(false)
        }
    }
}

/// The bodies of a range; none where their file cannot be read.
fn bodies(
    reader: &Reader,
    view: &View,
    stored: &Stored,
    place: &Place,
    from: u64,
    report: &mut Report,
) -> Result<Option<Bodies>, Failure> {
    let Place::Segment(segment) = place else { return view.bodies(place).map(Some) };
    if segment.bodies.is_some() {
        explained(stored, segment, Part::Bodies, from, report)?;
    }
    match catch_unwind(AssertUnwindSafe(|| view.bodies(place))) {
        Ok(Ok(bodies)) => Ok(Some(bodies)),
        other => {
            let now = reader.begin()?;
            if let Some(gone) = pruned_since(&now, segment, Part::Bodies)? {
                return now.bodies(&Place::Segment(Box::new(gone))).map(Some);
            }
            broken(segment, Part::Bodies, other.ok().and_then(Result::err).as_ref(), report);
            Ok(None)
        }
    }
}
