//! The local worker: runs work on open models in process.
