//! A harness for real cells: `tidegate dev` as a child, agents and operators beside it. Nothing is mocked; what a story
//! sees is what a user sees.

pub mod capture;
pub mod cell;
pub mod client;
pub mod conservation;
pub mod proxy;
pub mod secret;
pub mod wait;

pub use cell::TestCell;
pub use client::{Agent, Operator};
pub use proxy::Proxy;
