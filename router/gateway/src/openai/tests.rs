//! The protocol over real connections.
