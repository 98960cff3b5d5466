//! The doors: what Tidegate serves over HTTP. The only crate that names axum.
//!
//! [`serve_ops`] answers `/livez`, `/readyz` and `/metrics` for every role. [`serve_openai`] speaks the OpenAI protocol in
//! front of a chat model; what answers is given as a function, so no model runs in here.
//!
//! What it does not do: no authority over tasks, no NATS, no TLS (a proxy's work; by default only loopback is served).

mod connection;
mod openai;
mod ops;
mod serve;

pub use openai::{Answer, Asked, ChatError, ChatEvent, ChatStream, OpenaiConfig, serve_openai};
pub use ops::{Ops, Snapshot, serve_ops};
pub use serve::{BindError, Reach, ServeError, bind};
