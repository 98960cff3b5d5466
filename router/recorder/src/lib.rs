//! The recorder: streams into the record, deadlines, trimming and queries.
