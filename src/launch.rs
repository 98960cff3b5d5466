//! Threads of a process that runs models. The arithmetic library reads their count from the environment, once, and a process
//! cannot change its own environment safely: one that was started without takes its own place, once.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

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
