//! The record: every message of every stream in one redb file.
