//! The solver: found, tried before it is believed, asked with a time limit.
//!
//! It is a program beside this one: cvc5, which speaks SMT-LIB on its standard input. A solver that is missing, that cannot
//! tell true from false, that fails, or that takes too long proves nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cedar_policy_symcc::solver::{Decision, LocalSolver, Solver as _};
use cedar_policy_symcc::{CedarSymCompiler, SmtLibScript as _, err};
use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// The program's name.
const PROGRAM: &str = "cvc5";
/// Where the project's own set-up would put it.
const OWN: &str = ".tools/bin/cvc5";
/// Most time for making one counterexample plain.
const PLAIN_MAX: Duration = Duration::from_secs(20);
/// Time that a solver has to tell true from false.
const TRIAL: Duration = Duration::from_secs(10);

/// A compiler of Cedar into the solver's language, with its solver.
pub(crate) type Compiler = CedarSymCompiler<LocalSolver>;

/// Why something was not proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// There is no solver.
    #[error(
        "there is no solver: install cvc5 (Debian: `apt-get install cvc5`) or name the program with CVC5"
    )]
    NoSolver,
    /// The solver cannot be believed.
    #[error("`{0}` is no solver: it does not tell true from false")]
    NotASolver(PathBuf),
    /// It took too long.
    #[error("the solver gave no answer within {0:?}")]
    TimedOut(Duration),
    /// It gave up.
    #[error("the solver does not know")]
    Unknown,
    /// It failed, or what is asked cannot be put to it.
    #[error("{0}")]
    Failed(String),
    /// What it found does not stand up when it is asked of Cedar itself.
    #[error("the solver's counterexample does not hold in Cedar's own authorizer")]
    Unconfirmed,
    /// Nothing is said.
    #[error("no request meets its condition, so it says nothing")]
    Vacuous,
}

/// Where the solver is, and how long it may take for one answer.
#[derive(Debug, Clone)]
pub struct Solver {
    program: Option<PathBuf>,
    limit: Duration,
    plain: Duration,
}

/// One process of it; started when it is first needed, and again after it was cut off.
pub(crate) struct Session {
    solver: Solver,
    runtime: Runtime,
    compiler: Option<Compiler>,
}

// === impl Solver ===

impl Solver {
    /// The program that `CVC5` names, else the one on `PATH`, else the project's own.
    #[must_use]
    pub fn find(limit: Duration) -> Self {
        let named = std::env::var_os("CVC5").filter(|name| !name.is_empty()).map(PathBuf::from);
        Self { program: named.or_else(on_path).or_else(own), limit, plain: PLAIN_MAX }
    }

    /// This program.
    #[must_use]
    pub fn at(program: &Path, limit: Duration) -> Self {
        Self { program: Some(program.to_owned()), limit, plain: PLAIN_MAX }
    }

    /// None.
    #[must_use]
    pub fn none(limit: Duration) -> Self {
        Self { program: None, limit, plain: PLAIN_MAX }
    }

    /// With other time for making one counterexample plain; none leaves each as it was found.
    #[must_use]
    pub fn plain_within(self, plain: Duration) -> Self {
        Self { plain, ..self }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> Option<&Path> {
        self.program.as_deref()
    }

    pub(crate) fn session(&self) -> Result<Session, NotProven> {
        if self.program.is_none() {
            return Err(NotProven::NoSolver);
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| NotProven::Failed(error.to_string()))?;
        Ok(Session { solver: self.clone(), runtime, compiler: None })
    }
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(PROGRAM)).find(|program| program.is_file())
}

/// In the project's directory: here, or above the program.
fn own() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok();
    let above = exe.iter().flat_map(|exe| exe.ancestors().skip(1)).map(|dir| dir.join(OWN));
    std::iter::once(PathBuf::from(OWN)).chain(above).find(|program| program.is_file())
}

// === impl Session ===

impl Session {
    /// Most time for making one counterexample plain.
    pub(crate) fn plain(&self) -> Duration {
        self.solver.plain
    }

    /// Asks, within the limit. After anything but an answer the process is ended, and the next question starts another.
    pub(crate) fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Compiler) -> Result<T, err::Error>,
    ) -> Result<T, NotProven> {
        let limit = self.solver.limit;
        let mut compiler = match self.compiler.take() {
            Some(compiler) => compiler,
            None => self.start()?,
        };
        let answer = self.runtime.block_on(async { timeout(limit, question(&mut compiler)).await });
        match answer {
            Ok(Ok(answer)) => {
                self.compiler = Some(compiler);
                Ok(answer)
            }
            Ok(Err(err::Error::SolverUnknown)) => Err(NotProven::Unknown),
            Ok(Err(error)) => Err(NotProven::Failed(error.to_string())),
            Err(_) => Err(NotProven::TimedOut(limit)),
        }
    }

    fn start(&self) -> Result<Compiler, NotProven> {
        let program = self.solver.program.as_deref().ok_or(NotProven::NoSolver)?;
        let started = self.runtime.block_on(async { timeout(TRIAL, tried(program)).await });
        match started {
            Ok(Ok(Some(compiler))) => Ok(compiler),
            Ok(Err(err::Error::SolverError(cedar_policy_symcc::err::SolverError::Io(error))))
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                Err(NotProven::NoSolver)
            }
            _ => Err(NotProven::NotASolver(program.to_owned())),
        }
    }
}

/// Starts the program and has it decide what is plain: a solver that finds everything unsatisfiable would prove everything.
async fn tried(program: &Path) -> Result<Option<Compiler>, err::Error> {
    let mut command = Command::new(program);
    command.args(["--lang", "smt"]).kill_on_drop(true);
    let mut solver = LocalSolver::from_command(&mut command)?;
    for (assertion, wanted) in
        [("(= (_ bv1 64) (bvadd (_ bv0 64) (_ bv1 64)))", Decision::Sat), ("false", Decision::Unsat)]
    {
        let input = solver.smtlib_input();
        let written = async {
            input.reset().await?;
            input.set_logic("ALL").await?;
            input.assert(assertion).await
        };
        written.await.map_err(|error| err::Error::SolverError(error.into()))?;
        if solver.check_sat().await? != wanted {
            return Ok(None);
        }
    }
    CedarSymCompiler::new(solver).map(Some)
}
