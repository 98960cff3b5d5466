//! The words and the wire: what Tidegate's roles say to each other, on which subjects, within which limits.
//!
//! Pure: no clock, no network, no runtime. A message enters as bytes, is checked against [`limits`] before it is parsed,
//! and leaves as a domain type whose existence proves that it is valid.

pub mod task;

pub mod attempt;
pub mod breaker;
pub mod budget;
pub mod checkpoint;
pub mod control;
pub mod dead;
pub mod decision;
pub mod directory;
pub mod labels;
pub mod live;
pub mod release;
pub mod replay;
pub mod result;
pub mod review;
pub mod standing;
pub mod step;
pub mod ticket;
pub mod work;

pub mod cloudevent;
pub mod code;
pub mod digest;
pub mod flag;
pub mod header;
pub mod ids;
pub mod json;
pub mod limits;
pub mod metric;
pub mod redact;
pub mod render;
pub mod scan;
pub mod schema;
pub mod sensitive;
pub mod subject;
pub mod trace;
pub mod vault;
