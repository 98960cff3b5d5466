//! A cell in one thread: the lives of router, local worker and cloud worker, which are pure, on a simulated broker, with
//! simulated providers and the recorder's watch over deadlines. One seed gives one run, the same each time.
//!
//! [`run`] plays a plan (tasks, and the faults that meet them) and checks all the while what must hold; it gives back what did
//! not. A [`Mutant`] is a cell with one guard taken away, which a check of its own must notice.
//!
//! What it does not show: threads, sockets, files, the real broker and the shells around the lives. Those are the stories'
//! and the crash tests' (`tests/tests`).

pub use cell::Cell;
pub use check::{Breach, Invariant};
pub use mutant::Mutant;
pub use run::{Options, Report, run};

mod broker;
mod call;
mod cell;
mod check;
mod cloud;
mod dice;
mod gates;
mod host;
mod local;
mod mutant;
mod network;
mod permission;
mod plan;
mod process;
mod provider;
mod router;
mod run;
mod watch;
mod world;
