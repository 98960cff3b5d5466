//! The providers: cloud model APIs over HTTP, and the only crate that names `reqwest` and `backoff`.
//!
//! [`Client::send`] takes a [`Cleared`](tidegate_schemas::ticket::Cleared) payload and nothing else: bytes whose ticket
//! verified. It adds method, URL and credentials, never a byte of the body, and it decides nothing: a claim that does not
//! fit the configuration is an error, and what to do after the last attempt is the router's.

pub mod client;
pub mod config;
pub mod error;

pub mod answer;
pub mod price;
pub mod retry;
pub mod sse;

mod address;
mod call;
mod egress;
mod probe;
mod protocol;

pub use answer::Answer;
pub use client::{Attempting, Client, Control, Halt, Witness};
pub use config::{Endpoint, KeySource, ProviderConfig, Reach};
pub use error::{ConfigError, Failure, ProviderError};
pub use probe::input_tokens_max;
