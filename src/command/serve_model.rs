//! `tidegate model serve`: a local model by the OpenAI protocol on loopback, a labelled stand-in for a provider.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use tidegate_bus::CancellationToken;
use tidegate_engine::{
    CancelFlag, ChatMessage, ChatRequest, Engine, EngineConfig, EngineError, FinishReason, Job, JobEvent,
    JobInput, SamplingParams,
};
use tidegate_gateway::{Answer, Asked, ChatError, ChatEvent, OpenaiConfig, Reach};
use tidegate_schemas::limits::OUTPUT_TOKENS_DEFAULT;
use tidegate_schemas::result::{Finish, Usage};
use tokio::sync::mpsc;

use super::roles;
use crate::cell::replace;
use crate::cli::ServeArgs;
use crate::{launch, models, output};

/// Longest answer.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// Names that the stand-in answers to besides its own.
const NAMES: [&str; 2] = ["SmolLM2-135M-Instruct", "stand-in"];

pub(super) async fn run(args: &ServeArgs) -> Result<ExitCode> {
    let mut config = EngineConfig::default();
    launch::with_threads(config.threads);
    launch::undumpable()?;
    let shutdown = CancellationToken::new();
    roles::stop_on_signal(shutdown.clone())?;
    match &args.gguf {
        Some(path) => config.chat = Some(path.clone()),
        None => {
            let (path, sha256) = models::default_chat()?;
            (config.chat, config.chat_sha256) = (Some(path), Some(sha256));
        }
    }
    // A port that is taken is told before the model loads.
    let listener = tidegate_gateway::bind(args.listen, Reach::Loopback).await?;
    let (engine, thread) = Engine::start(config).context("loading the model")?;
    let address = listener.local_addr().context("asking for the address")?;
    if let Some(file) = &args.address_file {
        replace(file, format!("http://{address}\n").as_bytes(), 0o644)?;
    }
    output::note(format!("a stand-in for a provider: http://{address}/v1 (a local model, no data leaves)"));
    let models = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let openai = OpenaiConfig { models, key: None, stand_in: true, time_limit: TIME_LIMIT };
    tidegate_gateway::serve_openai(listener, openai, answer(engine.clone()), shutdown).await?;
    engine.shutdown();
    thread.join();
    Ok(ExitCode::SUCCESS)
}

fn answer(engine: Engine) -> Answer {
    let numbers = AtomicU64::new(0);
    Arc::new(move |asked: Asked| {
        let cancel = CancelFlag::new();
        let (sender, receiver) = mpsc::unbounded_channel();
        let job = Job {
            id: numbers.fetch_add(1, Ordering::Relaxed),
            deadline: Instant::now().checked_add(asked.time_limit),
            input: JobInput::Chat(request(asked)),
            cancel: cancel.clone(),
            events: Box::new(move |event| {
                // A client that went away hears no more; its job is withdrawn by the guard below.
                let _ = sender.send(event);
            }),
        };
        engine.submit(job).map_err(|_| ChatError::Overloaded)?;
        let guard = Withdraw(cancel);
        let events = futures::stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
            let event = receiver.recv().await?;
            Some((event_of(event), (receiver, guard)))
        });
        Ok(events.boxed())
    })
}

/// Withdraws a job when its answer is dropped.
struct Withdraw(CancelFlag);

impl Drop for Withdraw {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn request(asked: Asked) -> ChatRequest {
    let sampling = asked.chat.sampling;
    let message = |m: tidegate_schemas::task::ChatMessage| ChatMessage {
        role: m.role.as_str().to_owned(),
        content: m.content.into_inner(),
    };
    let tools: Vec<_> = asked.chat.tools.into_iter().map(|tool| tool.into_inner()).collect();
    ChatRequest {
        messages: asked.chat.messages.into_iter().map(message).collect(),
        tools: (!tools.is_empty()).then(|| serde_json::Value::Array(tools)),
        params: SamplingParams {
            temperature: sampling.temperature.unwrap_or(0.0),
            top_p: sampling.top_p.unwrap_or(1.0),
            max_tokens: sampling.max_tokens.unwrap_or(OUTPUT_TOKENS_DEFAULT),
            seed: sampling.seed.unwrap_or(0),
            stop: sampling.stop.into_iter().map(|stop| stop.into_inner()).collect(),
        },
        schema: asked.schema.map(|schema| schema.into_inner()),
    }
}

fn event_of(event: JobEvent) -> ChatEvent {
    match event {
        JobEvent::Token { text, .. } => ChatEvent::Fragment(text.into()),
        JobEvent::Done(output) => ChatEvent::End {
            finish: match output.finish {
                FinishReason::Length => Finish::Length,
                _ => Finish::Stop,
            },
            usage: Usage {
                input_tokens: u64::from(output.usage.input_tokens),
                output_tokens: u64::from(output.usage.output_tokens),
                cached_tokens: 0,
            },
        },
        JobEvent::Failed(error, _) => ChatEvent::Failed(match error {
            EngineError::ContextTooLong { .. } | EngineError::TextTooLong { .. } => {
                ChatError::ContextTooLong(error.to_string())
            }
            EngineError::DeadlineExceeded | EngineError::Canceled => ChatError::Late,
            EngineError::BadSchema { .. } => ChatError::Invalid(error.to_string()),
            _ => ChatError::Failed,
        }),
    }
}
