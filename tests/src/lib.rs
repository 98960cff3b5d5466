//! The proof: a harness for real cells, and the stories told with it.
