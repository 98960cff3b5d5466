//! `tidegate`: one binary, one command a role, and the operator's tools.

mod cell;
mod cli;
mod command;
mod launch;
mod models;
mod output;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

/// Deciding and publishing make many small things; this allocator serves them with less time than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One crypto provider for the whole tree, installed before anything may open a TLS connection.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return output::failed("the TLS provider was installed twice; this is a defect");
    }
    let arguments = cli::Cli::parse();
    match launch::without_core_files().and_then(|()| command::run(arguments)) {
        Ok(code) => code,
        Err(error) => output::ended(&error),
    }
}
