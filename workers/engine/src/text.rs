//! From tokens' bytes to pieces of text that may be shown: whole characters, and nothing of a stop string.

#[cfg(test)]
mod tests;

/// Collects the answer and hands out what is certain.
#[derive(Debug)]
pub(crate) struct TextStream {
    stop: Vec<String>,
    /// All text so far that is valid, up to a stop string.
    text: String,
    /// Bytes after `text` that are not yet a whole character.
    partial: Vec<u8>,
    /// How much of `text` was handed out.
    shown: usize,
    stopped: bool,
}

impl TextStream {
    pub(crate) const fn new(stop: Vec<String>) -> Self {
        Self { stop, text: String::new(), partial: Vec::new(), shown: 0, stopped: false }
    }

    /// Adds a token's bytes; returns the piece that became certain, if any.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<String> {
        if self.stopped {
            return None;
        }
        self.partial.extend_from_slice(bytes);
        let before = self.text.len();
        self.take_characters();
        self.find_stop(before);
        let certain = if self.stopped { self.text.len() } else { self.text.len() - self.held_back() };
        self.show(certain)
    }

    /// Ends the answer: returns what was held back. A character that never became whole is shown as U+FFFD.
    pub(crate) fn finish(&mut self) -> Option<String> {
        if !self.stopped && !self.partial.is_empty() {
            let rest = std::mem::take(&mut self.partial);
            self.text.push_str(&String::from_utf8_lossy(&rest));
        }
        self.show(self.text.len())
    }

    /// Whether a stop string was met.
    pub(crate) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The whole answer so far.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn show(&mut self, certain: usize) -> Option<String> {
        let piece = self.text.get(self.shown..certain).filter(|piece| !piece.is_empty())?.to_owned();
        self.shown = certain;
        Some(piece)
    }

    /// Moves whole characters over; bytes that can never become one are replaced at once.
    fn take_characters(&mut self) {
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(valid) => {
                    self.text.push_str(valid);
                    self.partial.clear();
                    return;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.text.push_str(&String::from_utf8_lossy(&self.partial[..valid]));
                    let Some(invalid) = error.error_len() else {
                        self.partial.drain(..valid);
                        return;
                    };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    self.partial.drain(..valid + invalid);
                }
            }
        }
    }

    /// Cuts at the first stop string that ends beyond `before`.
    fn find_stop(&mut self, before: usize) {
        let first = self
            .stop
            .iter()
            .filter_map(|stop| {
                let mut from = before.saturating_sub(stop.len());
                while !self.text.is_char_boundary(from) {
                    from -= 1;
                }
                self.text[from..].find(stop.as_str()).map(|at| from + at)
            })
            .min();
        if let Some(at) = first {
            self.text.truncate(at.max(self.shown));
            self.partial.clear();
            self.stopped = true;
        }
    }

    /// Bytes at the end that may be the beginning of a stop string.
    fn held_back(&self) -> usize {
        let could_begin = |stop: &String| {
            (1..stop.len())
                .rev()
                .find(|len| stop.is_char_boundary(*len) && self.text.ends_with(&stop[..*len]))
                .unwrap_or(0)
        };
        self.stop.iter().map(could_begin).max().unwrap_or(0)
    }
}
