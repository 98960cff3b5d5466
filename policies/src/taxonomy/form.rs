//! A text in one of the forms in which it is looked at, and where each byte of the form comes from.

use std::borrow::Cow;
use std::ops::Range;

/// A text as recognisers read it.
#[derive(Debug, Clone)]
pub(super) struct Form<'t> {
    /// What is looked at.
    pub(super) bytes: Cow<'t, [u8]>,
    origin: Origin,
}

/// Where the bytes of a form come from in the text that somebody wrote.
#[derive(Debug, Clone)]
enum Origin {
    /// Each from itself.
    Same,
    /// Each from what begins there; one entry more than bytes, the last is where the text ends.
    Each(Vec<usize>),
    /// All from this part, as what a blob decodes to.
    Part(Range<usize>),
}

/// A form while it is being written.
#[derive(Debug)]
pub(super) struct Writer<'f> {
    from: &'f Form<'f>,
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

// === impl Form ===

impl<'t> Form<'t> {
    /// A text as it was written.
    pub(super) fn of(text: &'t str) -> Self {
        Self { bytes: Cow::Borrowed(text.as_bytes()), origin: Origin::Same }
    }

    /// What a part of this form decodes to.
    pub(super) fn decoded(&self, part: Range<usize>, text: String) -> Form<'static> {
        Form { bytes: Cow::Owned(text.into_bytes()), origin: Origin::Part(self.origin(part)) }
    }

    /// Where a range of this form comes from: the whole of each character or escape that it is part of.
    pub(super) fn origin(&self, range: Range<usize>) -> Range<usize> {
        match &self.origin {
            Origin::Same => range,
            Origin::Part(part) => part.clone(),
            Origin::Each(starts) => {
                let at = |index: usize| starts.get(index).or(starts.last()).copied().unwrap_or_default();
                let start = at(range.start);
                let last = at(range.end.saturating_sub(1));
                let rest = starts.get(range.end..).unwrap_or_default();
                let end = rest.iter().copied().find(|next| *next > last).unwrap_or_else(|| at(usize::MAX));
                start..end.max(start)
            }
        }
    }

    /// Begins another form of this one.
    pub(super) fn rewrite(&self) -> Writer<'_> {
        let room = self.bytes.len();
        Writer { from: self, bytes: Vec::with_capacity(room), starts: Vec::with_capacity(room + 1) }
    }
}

// === impl Writer ===

impl Writer<'_> {
    /// Adds bytes that stand for what begins at an index of the form that is rewritten.
    pub(super) fn push(&mut self, bytes: &[u8], at: usize) {
        self.bytes.extend_from_slice(bytes);
        self.starts.resize(self.bytes.len(), at);
    }

    /// Adds bytes of the form that is rewritten, as they stand from an index on.
    pub(super) fn copy(&mut self, bytes: &[u8], at: usize) {
        self.bytes.extend_from_slice(bytes);
        self.starts.extend(at..at + bytes.len());
    }

    /// The new form, with places in what somebody wrote.
    pub(super) fn finish(self) -> Form<'static> {
        let Self { from, bytes, mut starts } = self;
        starts.push(from.bytes.len());
        let origin = match &from.origin {
            Origin::Same => Origin::Each(starts),
            Origin::Part(part) => Origin::Part(part.clone()),
            Origin::Each(earlier) => {
                let end = earlier.last().copied().unwrap_or_default();
                for start in &mut starts {
                    *start = earlier.get(*start).copied().unwrap_or(end);
                }
                Origin::Each(starts)
            }
        };
        Form { bytes: Cow::Owned(bytes), origin }
    }
}
