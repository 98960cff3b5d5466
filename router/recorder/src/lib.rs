//! The recorder: every stream into the record, causes first, acknowledged after the commit; deadlines, trimming, queries,
//! replays and erasures; segments and retention; guards of a canary; and recorded decisions judged again.
//!
//! One process a cell; the record's lock is the lease. It decides about no task: it copies, counts, and says what is missing.

pub mod erase;
pub mod guard;
pub mod look;
pub mod rejudge;
pub mod replay;
pub mod retain;
pub mod review;
pub mod service;

mod conduct;
mod config;
mod deadline;
mod error;
mod feed;
pub mod rotate;
mod run;
mod sequencer;
mod shared;
mod signing;
mod trim;
mod writer;

pub use config::RecorderConfig;
pub use error::RecorderError;
pub use run::run;
pub use signing::published;
