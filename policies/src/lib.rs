//! The judge: taxonomy, Cedar policies, destinations, prompts and cases.
//!
//! A [`Bundle`] is governance as data, read once and named by its content. A [`Judge`] holds one bundle ready to use and
//! turns a task, a directory and facts into a decision. Pure: no clock, no randomness, no network; files are read only by
//! [`Bundle::from_dir`]. It does not publish, sign or remember anything.

pub use bare::{Bare, Compared, Plain};
pub use bundle::{Bundle, BundleError, Manifest, Told};
pub use cedar_tests::{CedarBundle, CedarDecision, CedarRequest, CedarTest};
pub use destination::{DestinationSpec, Tokens};
pub use judge::Judge;
pub use permission::{Permission, ReplayRequest, ReviewRequest};
pub use prompt::Prompt;
pub use properties::{Form, Property};
pub use taxonomy::{Taxonomy, scan::Findings, span::Span};

pub mod bare;
pub mod bundle;
pub mod cases;
pub mod cedar_tests;
pub mod check;
pub mod destination;
pub mod diff;
pub mod explain;
pub mod flag;
pub mod judge;
pub mod layout;
pub mod permission;
pub mod prompt;
pub mod properties;
pub mod release;
pub mod taxonomy;
pub mod trial;

mod engine;
