//! Proofs: what holds of a bundle for every request that there can be, not only for those that somebody thought of.
//!
//! [`prove`] takes the bundle's own properties, and of every bundle that no policy can fail and that each can apply; it answers
//! each with proven, refuted or not proven. [`compare`] says whether access to the cloud got wider from one bundle to another.
//! What is refuted comes with a counterexample that Cedar's own authorizer was asked about, as a task where it can be one.
//!
//! What a proof rests on:
//!
//! - **Requests are valid by the schema and entities are well formed.** The analyser knows no others. The judge refuses unknown
//!   principals before it asks and validates every context, and a policy that fails all the same denies.
//! - **Numbers are within the judge's limits, labels are only ever raised, and a lane is asked of its own destinations**
//!   (`assume`). A test holds this against the judge's own questions.
//! - **The destination is any that the schema allows**, of any name, region and attributes, for what must never happen: so it
//!   holds for destinations that are added later. For what must be reachable it is one of those that the bundle has, as they are.
//! - **Facts are what the judge says that they are**, such as `over_cost`: where a task would cost too much is computed in the judge,
//!   since a `forbid` that computes could fail and be skipped.
//! - What is found in a text, capabilities beyond kind, tools and tokens, queues and the judge's own rules are no part of a
//!   proof: they only take away from what policies permit.
//!
//! It needs tokio for the solver's process and is a program of its own: nothing of it is linked into router or command line.

use std::path::Path;
use std::sync::Arc;

use tidegate_policies::{Bundle, BundleError};

pub use compare::{Access, Change, Comparison, Outcome, compare};
pub use report::Report;
pub use solver::{NotProven, Solver};
pub use suite::{Finding, Verdict, prove};
pub use witness::{Counterexample, Runnable};

mod ask;
mod assume;
mod compare;
mod expression;
mod pool;
mod report;
mod runnable;
mod solver;
mod suite;
mod witness;
mod world;

/// Why nothing could be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// There is no such question.
    #[error(
        "the bundle has no property `{0}`; `never-fails:<policy>` and `applies:<policy>` are asked of every policy"
    )]
    Unknown(String),
    /// What was valid cannot be put into the prover's form.
    #[error("{0}")]
    Defect(String),
}

/// Reads a bundle's directory.
///
/// # Errors
/// [`ProveError`] with the rule that the bundle breaks.
pub fn bundle(dir: &Path) -> Result<Arc<Bundle>, ProveError> {
    Ok(Arc::new(Bundle::from_dir(dir)?))
}

/// Reads a bundle's archive, as a cell keeps it.
///
/// # Errors
/// [`ProveError`] with the rule that the bundle breaks.
pub fn archived(archive: &str) -> Result<Arc<Bundle>, ProveError> {
    Ok(Arc::new(Bundle::from_kept(archive)?))
}
