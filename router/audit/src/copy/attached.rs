//! What an export with bodies holds besides its leaves, read along with them: sealed bodies in order, and the sums of all of it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::CopyError;
use super::files::{FileSum, In, Out};
use super::state::State;
use crate::export::{BODIES, KEYS, STATE, SUMS};
use crate::segment::Segment;

/// Longest list of sums, bytes.
const SUMS_BYTES_MAX: u64 = 4_096;
/// Files that the sums are of, in their order.
const SUMMED: [&str; 3] = [BODIES, KEYS, STATE];

/// The files of an export that belong to its bodies.
pub(crate) struct Attached {
    dir: PathBuf,
    bodies: In,
    /// Segments whose bodies were pruned, those that are passed taken away.
    pruned: VecDeque<Rc<Segment>>,
}

/// Writes the sums, as `sha256sum -c` reads them.
pub(super) fn sums(dir: &Path, files: &[FileSum]) -> Result<(), CopyError> {
    let mut out = Out::create(dir, SUMS)?;
    for FileSum { name, sha256, .. } in files {
        out.put(line(&sha256.to_string(), name).as_bytes())?;
    }
    out.finish().map(drop)
}

fn line(digest: &str, name: &str) -> String {
    format!("{digest}  {name}\n")
}

// === impl Attached ===

impl Attached {
    /// Opens them, and names those that are missing or of no use; neither where the export is one without bodies.
    pub(crate) fn open(dir: &Path) -> (Option<Self>, Vec<&'static str>) {
        // Exports from before there were sums have none, and who rewrites the other files can take it away: it is no fault.
        let mut bad: Vec<_> = SUMMED.into_iter().filter(|name| !dir.join(name).exists()).collect();
        if bad.len() == SUMMED.len() {
            return (None, if dir.join(SUMS).exists() { bad } else { Vec::new() });
        }
        let bodies = In::open(&dir.join(BODIES));
        let state = In::open(&dir.join(STATE)).and_then(State::read);
        if state.is_err() && !bad.contains(&STATE) {
            bad.push(STATE);
        }
        let pruned =
            |state: State| state.segments().filter(|one| one.bodies.is_some()).map(Rc::new).collect();
        let opened = bodies.ok().zip(state.ok().map(pruned));
        (opened.map(|(bodies, pruned)| Self { dir: dir.to_owned(), bodies, pruned }), bad)
    }

    /// The segment whose bodies were pruned and that a record is in. Records are asked for in their order.
    pub(crate) fn pruned(&mut self, index: u64) -> Option<Rc<Segment>> {
        while self.pruned.front().is_some_and(|segment| segment.end <= index) {
            self.pruned.pop_front();
        }
        self.pruned.front().filter(|segment| segment.first <= index).cloned()
    }

    /// The next record's sealed body; the inner `None` where it has none, the outer one where the file is cut short.
    pub(crate) fn next(&mut self) -> Option<Option<Vec<u8>>> {
        self.bodies.body().ok().flatten()
    }

    /// All bodies are read: names the files that do not have the sums that were written with them.
    pub(crate) fn end(self) -> Vec<&'static str> {
        if !self.dir.join(SUMS).exists() {
            return Vec::new();
        }
        let sums = In::open(&self.dir.join(SUMS)).and_then(|mut file| file.rest(SUMS_BYTES_MAX));
        let sums = String::from_utf8(sums.unwrap_or_default()).unwrap_or_default();
        let (mut bad, mut whole, mut bodies) = (Vec::new(), String::new(), Some(self.bodies));
        for (name, said) in SUMMED.into_iter().zip(sums.split_inclusive('\n').chain(std::iter::repeat(""))) {
            let file = match bodies.take() {
                Some(read) => Ok(read),
                None => In::open(&self.dir.join(name)),
            };
            let digest = file.and_then(In::digest).map(|digest| digest.to_string()).unwrap_or_default();
            let expected = line(&digest, name);
            if expected != said {
                bad.push(name);
            }
            whole.push_str(&expected);
        }
        if bad.is_empty() && whole != sums {
            bad.push(SUMS);
        }
        bad
    }
}
