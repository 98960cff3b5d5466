//! The notes of a checkpoint file, read one at a time: there is no limit to how many a file holds.

use std::io::{BufRead, Error, ErrorKind, Read as _, Result};

use super::NOTE_BYTES_MAX;

/// What stands between the text of a note and its signatures, and between two notes.
pub(super) const BLANK: &str = "\n\n";
/// Begins each line of a signature.
pub(super) const DASH: &str = "\u{2014} ";

/// The notes, the oldest first. Text that is no note comes out as it is, and no key opens it; of text without an end as much
/// as no note is long.
pub(crate) struct Notes<R> {
    file: R,
    /// A part that was read and may be the text of a note.
    ahead: Option<String>,
}

/// The notes of a text.
#[must_use]
pub(crate) fn notes(text: &str) -> Vec<String> {
    // A text is text, and is read without fail.
    Notes::new(text.as_bytes()).map_while(Result::ok).collect()
}

// === impl Notes ===

impl<R: BufRead> Notes<R> {
    pub(crate) fn new(file: R) -> Self {
        Self { file, ahead: None }
    }

    /// What stands before the next blank line, or the end.
    fn part(&mut self) -> Result<Option<String>> {
        let mut part = Vec::new();
        loop {
            let room = (NOTE_BYTES_MAX + BLANK.len()).saturating_sub(part.len());
            let read = (&mut self.file).take(room as u64).read_until(b'\n', &mut part)?;
            let ended = part.ends_with(BLANK.as_bytes());
            if ended {
                part.truncate(part.len() - BLANK.len());
            }
            if read == 0 && part.is_empty() {
                return Ok(None);
            }
            // Between two blank lines there is nothing.
            if (ended && !part.is_empty()) || read == 0 {
                let what = "it holds something else than checkpoints";
                return String::from_utf8(part)
                    .map(Some)
                    .map_err(|_| Error::new(ErrorKind::InvalidData, what));
            }
        }
    }

    fn read(&mut self) -> Result<Option<String>> {
        let part = match self.ahead.take() {
            Some(part) => part,
            None => match self.part()? {
                Some(part) => part,
                None => return Ok(None),
            },
        };
        self.ahead = self.part()?;
        match self.ahead.take_if(|next| next.starts_with(DASH)) {
            Some(signatures) => Ok(Some(format!("{part}{BLANK}{signatures}\n"))),
            None => Ok(Some(part)),
        }
    }
}

impl<R: BufRead> Iterator for Notes<R> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.read().transpose()
    }
}
