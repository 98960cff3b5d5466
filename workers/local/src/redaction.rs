//! Redacting before a text leaves, and restoring what comes back: the work of the pools `redact` and `restore`.
//!
//! [`job`] and [`home`] are pure: what is asked of the vault, and what follows from its answer. A vault that does not answer is
//! no reason to wait before a text leaves: the task goes back, and stays inside. It is one before a paid answer is lost. Where the
//! bundle names a model, that reads the texts here as well ([`reading`]): where a value stands, nobody else is told.

pub use reading::replaced;

pub(crate) use follow::Followers;
pub(crate) use redactor::Redactor;
pub(crate) use restorer::Restoring;

mod ask;
mod follow;
mod home;
mod job;
mod reading;
mod redactor;
mod restorer;
#[cfg(test)]
mod tests;
