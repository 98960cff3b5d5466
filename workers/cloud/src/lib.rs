//! The cloud worker: verifies the ticket and calls a provider.
