//! The vault: the one service of the local zone that knows which value a token stands for.
//!
//! Values lie sealed in one redb file; each has a key of its own in a second file, wrapped by a master key from a third. Erasing
//! destroys a value's key. Who asks is the local workers, by request and reply; a vault that does not answer is an answer: nothing
//! is redacted then, and nothing leaves. It decides nothing about tasks, and neither finds nor replaces anything.

pub use key::{KeyError, MasterKey};
pub use run::{RunError, VaultConfig, run};
pub use store::{Store, StoreError};

mod erase;
mod key;
mod run;
mod service;
mod store;
