//! The doors over real connections on loopback, spoken to byte by byte.

#![expect(clippy::unwrap_used, reason = "tests")]

mod client;
mod limits;
mod openai;
mod ops;
