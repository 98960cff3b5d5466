//! A task's message read once more: as it was sent, or with what a reviewer put in the place of its input.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::{Message, Task};
use crate::header::Headers;
use crate::ids::Position;
use crate::labels::Labels;
use crate::subject::Subject;

/// A task's message as a stream or the record holds it.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// Its subject.
    pub subject: &'a str,
    /// Its headers.
    pub headers: &'a Headers,
    /// Its payload.
    pub payload: &'a [u8],
    /// Where it stands.
    pub position: &'a Position,
    /// When the server stored it.
    pub submitted: Timestamp,
}

impl Again<'_> {
    /// Reads it; `None` when it is no task.
    #[must_use]
    pub fn read(&self) -> Option<Task> {
        let Ok(Subject::Task { tenant, agent, kind }) = Subject::parse(self.subject) else { return None };
        let (headers, payload, position) = (self.headers, self.payload, self.position);
        let (tenant, agent, kind, submitted) = (&tenant, &agent, kind.as_str(), self.submitted);
        Task::read(&Message { tenant, agent, kind, headers, payload, position, submitted }).ok()
    }

    /// Reads it with a reviewer's input, and with labels that can only be stricter than the task's; and gives the payload
    /// that the edit makes, the same each time.
    ///
    /// # Errors
    /// A sentence that quotes nothing of it.
    pub fn edited(
        &self,
        original: &Task,
        input: &Value,
        labels: Option<&Labels>,
    ) -> Result<(Task, Bytes), &'static str> {
        const UNREADABLE: &str = "the held task cannot be read";
        let mut body: Value = serde_json::from_slice(self.payload).map_err(|_| UNREADABLE)?;
        let fields = body.as_object_mut().ok_or(UNREADABLE)?;
        fields.insert("input".into(), input.clone());
        if let Some(labels) = labels {
            if !labels.at_least_as_strict_as(&original.labels) {
                return Err("an edit cannot make labels less strict");
            }
            let labels = serde_json::to_value(labels).map_err(|_| "the labels cannot be written")?;
            fields.insert("labels".into(), labels);
        }
        let payload = Bytes::from(serde_json::to_vec(&body).map_err(|_| UNREADABLE)?);
        let again = Again { payload: &payload, ..*self };
        let task = again.read().ok_or("the edited input does not fit the task's kind")?;
        Ok((task, payload))
    }
}
