//! The recorder on a real nats-server, with the accounts and the configuration that ship.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod cell;
mod checkpoints;
mod corrupt;
mod erase;
mod gaps;
mod rebuild;
mod replay;
mod retain;
mod road;
mod standby;
mod tasks;
