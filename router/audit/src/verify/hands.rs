//! Records read on several threads: what each says by itself and of the indices. A thread hands over what it found and none
//! of the bytes, in the order of the records and not far ahead, so memory stays as small as with one thread.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::bodies::Bodies;
use super::links::Links;
use super::{Fault, Problem};
use crate::error::Failure;
use crate::leaf::{Leaf, leaf_hash};
use crate::merkle::Hash;
use crate::read::Reader;
use crate::read::view::{Place, View};
use crate::store::Heads;

/// Records read in one transaction; long ones would pin pages that the writer wants back.
pub(super) const CHUNK: u64 = 4_096;
/// Most threads; beyond, the tree is what takes its time.
const THREADS_MAX: usize = 8;
/// Chunks that a thread may be ahead.
const AHEAD: usize = 1;

/// Records of one file in a row.
pub(super) struct Stretch {
    pub(super) range: Range<u64>,
    pub(super) place: Place,
    pub(super) found: Found,
}

/// What they say.
#[derive(Default)]
pub(super) struct Found {
    /// In the order of the records.
    pub(super) notes: Vec<Note>,
    /// Records read.
    pub(super) records: u64,
    /// Bodies hashed.
    pub(super) bodies: u64,
    /// Bodies that retention took away.
    pub(super) pruned_bodies: u64,
    /// Their file could not be read to the end.
    pub(super) broken: Option<Broken>,
}

/// Why a file cannot be read: by what redb says, or by a panic in it.
pub(super) struct Broken(pub(super) Option<Failure>);

/// Of one record.
pub(super) enum Note {
    /// The hash of its leaf.
    Leaf(Hash),
    /// It is missing, or is none.
    Lost,
    /// Something is wrong with it.
    Wrong(Problem),
    /// From it on, the file of bodies cannot be read.
    Bodies(Broken),
}

/// What the threads hand over, in order.
pub(super) struct Hands {
    threads: Vec<Receiver<Result<Vec<Stretch>, Failure>>>,
    next: usize,
}

/// Reads a range of records on as many threads as there are processors, while `take` takes what they find.
pub(super) fn read<T>(
    reader: &Reader,
    heads: &Heads,
    range: Range<u64>,
    take: impl FnOnce(&mut Hands) -> T,
) -> T {
    let chunks = (range.end - range.start).div_ceil(CHUNK);
    let processors = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let threads = processors.min(usize::try_from(chunks).unwrap_or(processors));
    thread::scope(|scope| {
        let mut hands = Hands { threads: Vec::new(), next: 0 };
        let mut running = Vec::new();
        for n in 0..threads {
            let (give, take) = sync_channel(AHEAD);
            hands.threads.push(take);
            let firsts = range.clone().step_by(CHUNK as usize).skip(n).step_by(threads);
            let end = range.end;
            running.push(scope.spawn(move || hand(reader, heads, firsts, end, &give)));
        }
        let taken = catch_unwind(AssertUnwindSafe(|| take(&mut hands)));
        // Whoever still reads has nobody to hand it to.
        drop(hands);
        let panicked = running.into_iter().filter_map(|thread| thread.join().err()).next();
        match (panicked, taken) {
            (Some(panic), _) | (None, Err(panic)) => resume_unwind(panic),
            (None, Ok(taken)) => taken,
        }
    })
}

fn hand(
    reader: &Reader,
    heads: &Heads,
    firsts: impl Iterator<Item = u64>,
    end: u64,
    give: &SyncSender<Result<Vec<Stretch>, Failure>>,
) {
    for first in firsts {
        let read = chunk(reader, heads, first..end.min(first + CHUNK));
        if give.send(read).is_err() {
            return;
        }
    }
}

fn chunk(reader: &Reader, heads: &Heads, range: Range<u64>) -> Result<Vec<Stretch>, Failure> {
    let view = reader.begin()?;
    let mut links = Links::open(&view, heads)?;
    let mut stretches = Vec::new();
    for (range, place) in view.places(range)? {
        let mut found = Found::default();
        let mut read = || records(reader, &view, &mut links, &place, range.clone(), &mut found);
        match &place {
            Place::Live | Place::Nowhere => read()?,
            // Only their hashes are left.
            Place::Segment(segment) if segment.records.is_some() => {}
            // A file that was changed at random may break any promise of its format.
            Place::Segment(_) => match catch_unwind(AssertUnwindSafe(read)) {
                Ok(Ok(())) => {}
                other => found.broken = Some(Broken(other.ok().and_then(Result::err))),
            },
        }
        stretches.push(Stretch { range, place, found });
    }
    Ok(stretches)
}

fn records(
    reader: &Reader,
    view: &View,
    links: &mut Links<'_>,
    place: &Place,
    range: Range<u64>,
    found: &mut Found,
) -> Result<(), Failure> {
    found.notes.reserve(usize::try_from(range.end - range.start).unwrap_or_default());
    let mut bodies = match Bodies::open(reader, view, place, range.clone())? {
        Ok(bodies) => bodies,
        Err(broken) => {
            found.notes.push(Note::Bodies(broken));
            Bodies::Broken
        }
    };
    let mut expected = range.start;
    if let Some(rec) = view.records(place)? {
        for row in rec.range(range.clone())? {
            let (index, row) = row?;
            found.lose(expected..index.value());
            expected = index.value() + 1;
            record(links, place, &mut bodies, index.value(), row.value(), found)?;
        }
    }
    found.lose(expected..range.end);
    Ok(())
}

fn record(
    links: &mut Links<'_>,
    place: &Place,
    bodies: &mut Bodies,
    index: u64,
    row: &[u8],
    found: &mut Found,
) -> Result<(), Failure> {
    found.records += 1;
    let Some((hash, line)) = row.split_first_chunk::<32>() else {
        found.notes.push(Note::Lost);
        found.wrong(index, None, Fault::LeafForm);
        return Ok(());
    };
    let of_line = leaf_hash(line);
    found.notes.push(Note::Leaf(of_line));
    if of_line != *hash {
        found.wrong(index, None, Fault::LeafHash);
    }
    // One look at all of the text costs less than one at each string in it.
    let read = str::from_utf8(line).ok().and_then(|line| serde_json::from_str::<Leaf>(line).ok());
    let Some(leaf) = read else {
        found.wrong(index, None, Fault::LeafForm);
        return Ok(());
    };
    match bodies {
        Bodies::Pruned => found.pruned_bodies += u64::from(leaf.body.is_some()),
        Bodies::Rows(rows) => match rows.check(place, &leaf, index)? {
            Ok(checked) => {
                found.bodies += u64::from(checked.hashed);
                if let Some(fault) = checked.fault {
                    found.wrong(index, Some(&leaf), fault);
                }
            }
            Err(broken) => {
                found.notes.push(Note::Bodies(broken));
                *bodies = Bodies::Broken;
            }
        },
        // Its file is named already.
        Bodies::Broken => {}
    }
    links.check(&leaf, index, |fault| found.wrong(index, Some(&leaf), fault))
}

// === impl Hands ===

impl Hands {
    /// What the next chunk holds; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Stretch>>, Failure> {
        let count = self.threads.len().max(1);
        let Some(thread) = self.threads.get(self.next % count) else { return Ok(None) };
        self.next += 1;
        // A thread that ends early panicked, which is told when it is joined.
        thread.recv().ok().transpose()
    }
}

// === impl Found ===

impl Found {
    fn lose(&mut self, missing: Range<u64>) {
        for index in missing {
            self.notes.push(Note::Lost);
            self.wrong(index, None, Fault::Missing);
        }
    }

    fn wrong(&mut self, index: u64, leaf: Option<&Leaf>, fault: Fault) {
        let position = leaf.map(|leaf| leaf.position().to_string());
        self.notes.push(Note::Wrong(Problem { index: Some(index), position, fault }));
    }
}
