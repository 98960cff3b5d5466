//! The hub: tasks, steps and verdicts become work, reviews and rejected results.
//!
//! [`life`] is pure: what follows from a message. [`run`] is the shell that performs it; the process keeps nothing, so any
//! number of routers work side by side. It does not run work and does not keep the record.

pub use allowance::Allowance;
pub use gates::Gates;
pub use run::{RouterConfig, RouterError, run};

pub mod life;
pub mod recent;

mod alarm;
mod allowance;
mod control;
mod egress;
mod gates;
mod judges;
mod keys;
mod knowledge;
mod poison;
mod quota;
mod release;
mod room;
mod run;
mod shell;
mod signing;
mod wait;
