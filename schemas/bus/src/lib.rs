//! The bus: connections, streams, consumers, the pull loop and publishing over NATS JetStream.
//!
//! The only crate that names `async-nats`. It moves messages and keeps the promises of the broker (nothing acknowledged is
//! lost, nothing is acknowledged before its effect is durable); it knows subjects and streams, and nothing of what the
//! payloads say.

pub mod accounts;
pub mod identity;
pub mod server;
pub mod spec;
pub mod topology;

mod api;
mod bus;
mod check;
mod config;
mod connect;
mod dead;
mod discovery;
mod error;
mod event;
mod head;
mod health;
mod kv;
mod message;
mod provision;
mod publish;
mod pull;
mod reader;
mod room;
mod serve;
mod wire;

pub use api::{ConsumerState, StreamState};
pub use bus::{Bus, CoreMessage, CoreStream};
pub use check::CheckError;
pub use config::{BusConfig, BusLimits, PublishMode};
pub use connect::ConnectError;
pub use dead::{Dead, Telling};
pub use discovery::{Discovery, Endpoint, Query};
pub use error::{ApiError, PublishError};
pub use event::{Denial, DeniedAction};
pub use health::{Health, HealthReport};
pub use identity::{Identity, Role};
pub use kv::{KvEntry, KvError};
pub use message::{Inbound, Outbound, Published, Stored};
pub use provision::{ProvisionError, ProvisionReport, provision};
pub use reader::{Delivery, Reader};
pub use room::tell_room;
pub use serve::{Handler, PullOptions, ServeError, Verdict, serve};
pub use spec::{BucketSpec, ConsumerSpec, StreamSpec};
pub use tokio_util::sync::CancellationToken;
pub use topology::{CellShape, Topology, topology};
