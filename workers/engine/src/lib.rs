//! The engine: open models in process, behind one thread.
//!
//! [`Engine::start`] verifies and loads the models and starts the one thread that may call candle; [`Engine::submit`]
//! queues a [`Job`], whose events arrive on the engine's thread: any number of [`JobEvent::Token`], then exactly
//! one [`JobEvent::Done`] or [`JobEvent::Failed`]. Many jobs may be under way at once ([`EngineConfig::max_sequences`]).
//!
//! What it does not do: no network, no async runtime, no downloads, no opinion on what may be asked.

mod adapter;
mod chat;
mod constraint;
mod embed;
mod engine;
mod error;
mod gguf;
mod job;
mod load;
mod model;
mod queue;
mod sampling;
mod scan;
mod schedule;
mod template;
#[cfg(test)]
mod testing;
mod text;
mod tokenizer;
mod verify;

pub use adapter::{AdapterInfo, inspect_adapter};
pub use engine::{Engine, EngineConfig, EngineThread, ModelInfo, StepHook, launch_environment};
pub use error::{EngineError, LoadError, RefusedModel, SubmitError};
pub use job::{
    CancelFlag, ChatMessage, ChatRequest, FinishReason, Job, JobEvent, JobInput, Output, OutputContent,
    SamplingParams, Spent, Timings, Usage, limits,
};
pub use scan::{Converted, EntitySpan, LABEL_SCORE, MASK_SCORE, TextScan, convert_classifier};
pub use verify::{GgufInfo, inspect_gguf, verify_file};
