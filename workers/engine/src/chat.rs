//! One conversation under way: which rows it feeds next, and what it makes of the logits. No clock, no thread.

use std::sync::Arc;

use crate::constraint::{Constraint, SchemaCompiler};
use crate::engine::ModelInfo;
use crate::error::EngineError;
use crate::job::{ChatRequest, FinishReason, Usage};
use crate::model::{Cache, Decoder, Rows};
use crate::sampling::Sampler;
use crate::template::Template;
use crate::text::TextStream;
use crate::tokenizer::Tokenizer;

/// A chat model with all it needs.
pub(crate) struct ChatModel {
    pub(crate) decoder: Decoder,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Template,
    pub(crate) schemas: SchemaCompiler,
    pub(crate) info: Arc<ModelInfo>,
}

/// The state of one answer.
pub(crate) struct Conversation {
    cache: Cache,
    /// Chosen or given, not yet fed.
    pending: Vec<u32>,
    /// How much of `pending` the step under way feeds.
    feeding: usize,
    context_tokens: usize,
    usage: Usage,
    max_tokens: u32,
    sampler: Sampler,
    constraint: Option<Constraint>,
    text: TextStream,
}

/// What became of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Text that became certain.
    pub(crate) pieces: Vec<String>,
    /// Whether tokens were chosen (the prompt is read).
    pub(crate) chose: bool,
    /// Set when the answer is complete.
    pub(crate) finish: Option<FinishReason>,
}

impl ChatModel {
    /// Renders, tokenises and checks a request.
    pub(crate) fn begin(&self, request: &ChatRequest) -> Result<Conversation, EngineError> {
        let prompt = self.template.render(&self.tokenizer, &request.messages, request.tools.as_ref())?;
        let prompt = self.tokenizer.encode_prompt(&prompt);
        self.begin_tokens(prompt, request)
    }

    /// As [`Self::begin`], from tokens.
    pub(crate) fn begin_tokens(
        &self,
        prompt: Vec<u32>,
        request: &ChatRequest,
    ) -> Result<Conversation, EngineError> {
        let context_tokens = self.info.context_tokens;
        if prompt.len() >= context_tokens {
            return Err(EngineError::ContextTooLong { prompt_tokens: prompt.len(), context_tokens });
        }
        let constraint = request.schema.as_ref().map(|schema| self.schemas.compile(schema)).transpose()?;
        Ok(Conversation {
            cache: self
                .decoder
                .cache(context_tokens.min(prompt.len().saturating_add(request.params.max_tokens as usize))),
            usage: Usage { input_tokens: u32::try_from(prompt.len()).unwrap_or(u32::MAX), output_tokens: 0 },
            pending: prompt,
            feeding: 0,
            context_tokens,
            max_tokens: request.params.max_tokens,
            sampler: Sampler::new(&request.params),
            constraint,
            text: TextStream::new(request.params.stop.clone()),
        })
    }
}

impl Conversation {
    /// Tokens waiting to be fed.
    pub(crate) const fn waiting_rows(&self) -> usize {
        self.pending.len()
    }

    /// The next at most `budget` rows for a step.
    pub(crate) fn rows(&mut self, budget: usize) -> Rows<'_> {
        self.feeding = self.pending.len().min(budget);
        Rows {
            cache: &mut self.cache,
            tokens: &self.pending[..self.feeding],
            logits: self.feeding == self.pending.len(),
        }
    }

    /// Takes the step's logits, present when all pending tokens were fed.
    pub(crate) fn advance(
        &mut self,
        tokenizer: &Tokenizer,
        logits: Option<&[f32]>,
    ) -> Result<Progress, EngineError> {
        self.pending.drain(..std::mem::take(&mut self.feeding));
        let mut progress = Progress::default();
        let Some(logits) = logits else { return Ok(progress) };
        progress.chose = true;
        let chosen = self.choose(logits)?;
        let mut taken = 0;
        for token in &chosen {
            self.take(tokenizer, *token, &mut progress);
            taken += 1;
            if progress.finish.is_some() {
                break;
            }
        }
        // A complete answer to a schema ends itself, also when its last token was the last one allowed.
        if taken == chosen.len() && self.constraint.as_ref().is_some_and(Constraint::is_complete) {
            progress.finish = Some(FinishReason::Stop);
        }
        if progress.finish.is_some() {
            progress.pieces.extend(self.text.finish());
        }
        Ok(progress)
    }

    /// One chosen token, or all that the schema forces.
    fn choose(&mut self, logits: &[f32]) -> Result<Vec<u32>, EngineError> {
        let mut allowed = None;
        if let Some(constraint) = &mut self.constraint {
            let forced = constraint.take_forced();
            if !forced.is_empty() {
                return Ok(forced);
            }
            allowed = Some(constraint.allowed()?);
        }
        let token = self
            .sampler
            .choose(logits, allowed.as_ref())
            .ok_or(EngineError::Model { doing: "choosing a token" })?;
        if let Some(constraint) = &mut self.constraint {
            constraint.take(token)?;
        }
        Ok(vec![token])
    }

    fn take(&mut self, tokenizer: &Tokenizer, token: u32, progress: &mut Progress) {
        self.usage.output_tokens += 1;
        if tokenizer.is_end(token) {
            progress.finish = Some(FinishReason::Stop);
            return;
        }
        progress.pieces.extend(self.text.push(tokenizer.bytes(token)));
        self.pending.push(token);
        let used = self.cache.len() + self.pending.len();
        if self.text.is_stopped() {
            progress.finish = Some(FinishReason::Stop);
        } else if self.usage.output_tokens >= self.max_tokens || used >= self.context_tokens {
            progress.finish = Some(FinishReason::Length);
        }
    }

    pub(crate) const fn usage(&self) -> Usage {
        self.usage
    }

    pub(crate) fn into_text(self) -> String {
        self.text.into_text()
    }
}
