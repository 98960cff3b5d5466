//! The local worker: runs work on open models in this process.
//!
//! [`run`] pulls the work of its pools, hands it to the engine, streams tokens, and publishes what became of it: a result,
//! or a step back to the router. What it does with a message is decided by [`life`], a pure step function; the rest is
//! the shell that performs it.
//!
//! What it does not do: it judges nothing, and holds no state beyond the messages under way; a message that it was killed
//! over comes again, here or elsewhere, and ids absorb what was published before.

pub mod life;

mod config;
mod desk;
mod inference;
mod redaction;
mod run;
mod send;
mod watch;
mod worker;

#[cfg(test)]
#[path = "../tests/cell/work.rs"]
#[expect(clippy::unwrap_used, reason = "tests")]
mod local_work;

pub use config::{LocalConfig, PoolConfig};
pub use inference::{Inference, begin};
pub use life::chat_request;
pub use redaction::replaced;
pub use run::{RunError, run};
