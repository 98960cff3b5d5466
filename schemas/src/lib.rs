//! The words and the wire: types, subjects, limits and JSON Schemas.
