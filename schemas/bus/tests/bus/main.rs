//! The bus on a real nats-server, with the accounts and the configuration that ship.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod accounts;
mod cell;
mod injection;
mod kv;
mod life;
mod matrix;
mod memory;
mod power;
mod publish;
mod serve;
