//! Server-sent events (WHATWG HTML §9.2), read from chunks that may be split anywhere: inside a line ending, a field name or
//! a UTF-8 character. Bounded: an event and a line have a largest size.

#[cfg(test)]
mod tests;

/// Largest event, bytes of its `data` lines.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// One event with data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its `event` field; empty where there was none.
    pub name: String,
    /// Its `data` lines, joined by line feeds.
    pub data: String,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An event passes its limit.
    #[error("an event passes {EVENT_BYTES_MAX} bytes")]
    TooLarge,
    /// An event is not UTF-8.
    #[error("an event is not UTF-8")]
    NotUtf8,
}

/// A reader of events.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    after_cr: bool,
    begun: bool,
}

impl Events {
    /// Reads a chunk and gives the events that it completes. What a stream leaves unfinished at its end is no event.
    ///
    /// # Errors
    /// [`SseError`]; the stream must be given up then.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<Event>, SseError> {
        let mut events = Vec::new();
        for &byte in chunk {
            // A line ends with CR LF, LF or CR; the LF of a CR LF may come with the next chunk.
            let lf_of_cr = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            if lf_of_cr {
                continue;
            }
            if byte == b'\r' || byte == b'\n' {
                events.extend(self.end_of_line()?);
            } else {
                self.line.push(byte);
                if self.line.len() > EVENT_BYTES_MAX {
                    return Err(SseError::TooLarge);
                }
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Result<Option<Event>, SseError> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_of_event();
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                let data = match &mut self.data {
                    Some(data) => {
                        data.push(b'\n');
                        data
                    }
                    None => self.data.insert(Vec::new()),
                };
                data.extend_from_slice(value);
                if data.len() > EVENT_BYTES_MAX {
                    return Err(SseError::TooLarge);
                }
            }
            b"event" => self.name = value.to_vec(),
            // `id` and `retry` belong to reconnecting, which a paid call never does; an empty field is a comment.
            _ => {}
        }
        Ok(None)
    }

    fn end_of_event(&mut self) -> Result<Option<Event>, SseError> {
        let name = std::mem::take(&mut self.name);
        let Some(data) = self.data.take() else { return Ok(None) };
        let text = |bytes| String::from_utf8(bytes).map_err(|_| SseError::NotUtf8);
        Ok(Some(Event { name: text(name)?, data: text(data)? }))
    }
}
