//! Redacting before a text leaves, and restoring what comes back: the work of the pools `redact` and `restore`.
//!
//! [`job`] and [`home`] are pure: what is asked of the vault, and what follows from its answer. A vault that does not answer is
//! no reason to wait before a text leaves: the task goes back, and stays inside. It is one before a paid answer is lost.

pub(crate) use follow::Followers;
pub(crate) use redactor::Redactor;
pub(crate) use restorer::Restoring;

mod ask;
mod follow;
mod home;
mod job;
mod redactor;
mod restorer;
#[cfg(test)]
mod tests;
