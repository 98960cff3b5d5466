//! Each check on numbers that pass, and on the same with one digit changed.
