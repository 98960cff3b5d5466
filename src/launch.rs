//! How a process begins: its threads, and that no file tells what its memory held.
//!
//! The arithmetic library reads the count of threads from the environment, once, and a process cannot change its own
//! environment safely: one that was started without takes its own place, once.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// No core file of this process, nor of what it starts: memory holds tasks, results and keys.
pub(crate) fn without_core_files() -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("turning core files off")
}

/// Nor does the system hand its memory to a program that collects cores, or to another process of the same user. For a role:
/// it lasts until the process takes another program's place.
pub(crate) fn undumpable() -> Result<()> {
    prctl::set_dumpable(false).context("closing the process's memory to others")
}

/// Starts this program anew in its own place where a variable of the engine's launch environment is not set. What the
/// operator has set stays; the engine tells where that is not what its configuration asks for.
pub(crate) fn with_threads(threads: usize) {
    let environment = tidegate_engine::launch_environment(threads);
    let unset: Vec<_> = environment.into_iter().filter(|(name, _)| env::var_os(name).is_none()).collect();
    if unset.is_empty() {
        return;
    }
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "tidegate".into());
    // Only a failure comes back: then the engine runs, on every core.
    let error = match env::current_exe() {
        Ok(program) => Command::new(program).arg0(name).args(arguments).envs(unset).exec(),
        Err(error) => error,
    };
    tracing::warn!(%error, "The engine's environment could not be set; its threads take every core.");
}
