//! The doors: health, readiness and metrics over HTTP, and the OpenAI stand-in.
