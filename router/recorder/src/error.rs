//! Why the recorder stopped.

use tidegate_audit::{KeyError, OpenError};
use tidegate_bus::ApiError;

/// Why the recorder could not start, or ended otherwise than by shutdown.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The record could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The master key could not be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The bus could not be used.
    #[error(transparent)]
    Bus(#[from] ApiError),
    /// The connection is closed for good.
    #[error("the connection to the bus is closed")]
    Closed,
    /// The writer's thread could not be started.
    #[error("cannot start the record's writer: {0}")]
    Thread(#[source] std::io::Error),
    /// The writer's thread is gone.
    #[error("the record's writer ended; see the log, then start the recorder again")]
    WriterEnded,
}
