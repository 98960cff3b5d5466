//! The cloud worker: lets exactly what a ticket permits leave to exactly where it permits, and tells what became of it.
//!
//! [`run`] pulls the work of its providers, verifies each ticket, claims and records each attempt before its first byte,
//! calls the provider, streams text, and publishes a result, or a step back to the router. What it does with a message is
//! decided by [`life`], a pure step function; the rest is the shell that performs it.
//!
//! What it does not do: it chooses no destination, changes no byte of a request, and sees nothing of a task but the bytes
//! that may leave. It holds no state beyond the calls under way; a message that it was killed over comes again, and the
//! attempts claimed before stay claimed.

pub mod life;

mod call;
mod config;
mod desk;
mod gate;
mod keys;
mod run;
mod send;
mod swap;
mod watch;
mod worker;

pub use config::CloudConfig;
pub use run::{RunError, run};
pub use tidegate_providers::{ConfigError, Endpoint, KeySource, ProviderConfig, Reach};
