//! One file a command.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::cli::{Cli, Command, ModelCommand};
use crate::{output, telemetry};

mod roles;

mod create;
mod dev;
mod provision;
mod serve_model;
mod supervise;

mod demo;

mod results;
mod submit;
mod task;

mod accounts;
mod act;
mod backtest;
mod budget;
mod bundle;
mod directory;
mod flag;
mod lane;
mod policy;
mod prove;
mod review;
mod ticket;

mod audit;
mod dead;
mod record;
mod replay;

mod doctor;
mod model;
mod status;

/// Runs what was asked for.
pub(crate) fn run(arguments: Cli) -> Result<ExitCode> {
    if let Some(role) = arguments.command.role() {
        telemetry::logs(role);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let code = runtime.block_on(dispatch(arguments));
    // A blocked thread (a model that is loading) must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

async fn dispatch(arguments: Cli) -> Result<ExitCode> {
    let Cli { command, global } = arguments;
    match command {
        Command::Dev(args) => dev::run(&global, &args).await,
        Command::Stop(args) => dev::stop(&global, args).await,
        Command::Provision => provision::run(&global).await,
        Command::Router(args) => roles::router(&global, &args).await,
        Command::Local(args) => roles::local(&global, &args).await,
        Command::Cloud(args) => roles::cloud(&global, &args).await,
        Command::Recorder(args) => roles::recorder(&global, &args).await,
        Command::Vault(args) => roles::vault(&global, &args).await,
        Command::Demo(args) => demo::run(&global, &args).await,
        Command::Submit(args) => submit::run(&global, *args).await,
        Command::Task(command) => task::run(&global, command).await,
        Command::Results(args) => results::run(&global, &args).await,
        Command::Tenant(command) => directory::tenant(&global, command).await,
        Command::Agent(command) => directory::agent(&global, command).await,
        Command::Tool(command) => directory::tool(&global, command).await,
        Command::Status => status::run(&global).await,
        Command::Dead(command) => dead::run(&global, command).await,
        Command::Budget(command) => budget::run(&global, command).await,
        Command::Flag(command) => flag::run(&global, command).await,
        Command::Lane(command) => lane::run(&global, command).await,
        Command::Bundle(command) => bundle::run(&global, command).await,
        Command::Policy(command) => policy::run(&global, command).await,
        Command::Model(ModelCommand::Serve(args)) => serve_model::run(&args).await,
        Command::Model(ModelCommand::List) => model::list(&global),
        Command::Model(ModelCommand::Verify) => model::verify(&global),
        Command::Model(ModelCommand::Convert) => model::convert(&global),
        Command::Review(command) => review::run(&global, command).await,
        Command::Audit(args) => audit::run(&global, *args).await,
        Command::Ticket(command) => ticket::run(&global, command).await,
        Command::Replay(command) => replay::run(&global, command).await,
        Command::Doctor => doctor::run(&global).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
            output::piece(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
    }
}
