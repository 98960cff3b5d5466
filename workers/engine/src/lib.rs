//! The engine: open models in process.
