//! The bus: streams, consumers, the pull loop and publishing.
