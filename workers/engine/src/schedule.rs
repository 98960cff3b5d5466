//! The step loop's state: jobs under way, and one step of all of them.
//!
//! A step sweeps out what is withdrawn or late, embeds or scans some texts for each such job, and feeds the decoder one
//! batch: a row for each conversation that is writing, and chunks of the prompts of those that are not. A panic fails
//! the jobs it touches and no other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::chat::{ChatModel, Conversation, Progress};
use crate::embed::{EmbedModel, Embedding};
use crate::engine::StepHook;
use crate::error::EngineError;
use crate::job::{
    CancelFlag, FinishReason, Job, JobEvent, JobInput, Output, OutputContent, Spent, Timings, Usage,
};
use crate::queue::Waiting;
use crate::scan::{ScanModel, Scanning};

/// Prompt rows in one step: enough to keep the kernels busy, few enough that cancel and deadline are seen soon.
const PROMPT_ROWS: usize = 64;
/// Panics of the model one after the other that end the engine: its thread pool is then beyond repair.
const MAX_PANICS: u32 = 3;

/// Scans under way.
const SCANS_MAX: usize = 4;

/// The loaded models.
pub(crate) struct Models {
    pub(crate) chat: Option<ChatModel>,
    pub(crate) embed: Option<EmbedModel>,
    pub(crate) scan: Option<ScanModel>,
}

/// All jobs under way.
pub(crate) struct Scheduler {
    models: Models,
    max_sequences: usize,
    on_step: Option<StepHook>,
    running: Vec<Running>,
    panics: u32,
}

struct Running {
    job: Under,
    work: Work,
    /// Set when the job has come to its end; the sweep after the step tells the caller.
    ended: Option<Result<FinishReason, EngineError>>,
}

/// What remains of a job once its input is taken.
struct Under {
    id: u64,
    deadline: Option<Instant>,
    cancel: CancelFlag,
    events: Box<dyn FnMut(JobEvent) + Send>,
    queued: Duration,
    started: Instant,
    first_choice: Option<Instant>,
    pieces: u32,
}

enum Work {
    Chat(Box<Conversation>),
    Embed(Embedding),
    Scan(Scanning),
}

// === impl Scheduler ===

impl Scheduler {
    pub(crate) const fn new(models: Models, max_sequences: usize, on_step: Option<StepHook>) -> Self {
        Self { models, max_sequences, on_step, running: Vec::new(), panics: 0 }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.running.len() - self.scans() < self.max_sequences.max(1)
    }

    /// Whether another scan may begin. Scans take no place of a sequence: they share nothing with one but the thread.
    pub(crate) fn has_room_to_scan(&self) -> bool {
        self.scans() < SCANS_MAX
    }

    fn scans(&self) -> usize {
        self.running.iter().filter(|running| matches!(running.work, Work::Scan(_))).count()
    }

    pub(crate) const fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether the model panics again and again.
    pub(crate) const fn is_broken(&self) -> bool {
        self.panics >= MAX_PANICS
    }

    /// Begins a job, or ends it where it can't begin.
    pub(crate) fn admit(&mut self, waiting: Waiting) {
        let now = Instant::now();
        if let Some(error) = waiting.job.is_over(now) {
            return fail_waiting(waiting.job, error);
        }
        let Job { id, input, deadline, cancel, events } = waiting.job;
        let mut job = Under {
            id,
            deadline,
            cancel,
            events,
            queued: now.duration_since(waiting.since),
            started: now,
            first_choice: None,
            pieces: 0,
        };
        let begun = catch_unwind(AssertUnwindSafe(|| self.models.begin(input)));
        match begun.unwrap_or(Err(EngineError::Panicked)) {
            Ok(work) => self.running.push(Running { job, work, ended: None }),
            Err(error) => job.emit_last(JobEvent::Failed(error, None)),
        }
    }

    /// One step of all jobs under way.
    pub(crate) fn step(&mut self) {
        let now = Instant::now();
        for running in &mut self.running {
            running.ended = running.job.is_over(now).map(Err);
        }
        self.sweep();
        self.embed();
        self.scan();
        self.decode();
        self.sweep();
    }

    /// Ends all jobs under way.
    pub(crate) fn fail_all(&mut self, error: &EngineError) {
        for running in &mut self.running {
            running.ended = Some(Err(error.clone()));
        }
        self.sweep();
    }

    fn sweep(&mut self) {
        let mut index = 0;
        while let Some(running) = self.running.get_mut(index) {
            match running.ended.take() {
                Some(outcome) => self.running.remove(index).end(&self.models, outcome),
                None => index += 1,
            }
        }
    }

    fn embed(&mut self) {
        let Some(model) = &self.models.embed else { return };
        for running in &mut self.running {
            let Work::Embed(embedding) = &mut running.work else { continue };
            let stepped = catch_unwind(AssertUnwindSafe(|| {
                self.on_step.iter().for_each(StepHook::call);
                model.step(embedding)
            }));
            running.ended = match outcome_of(stepped, &mut self.panics) {
                Ok(true) => Some(Ok(FinishReason::Stop)),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            };
        }
    }

    fn scan(&mut self) {
        let Some(model) = &self.models.scan else { return };
        for running in &mut self.running {
            let Work::Scan(scanning) = &mut running.work else { continue };
            let stepped = catch_unwind(AssertUnwindSafe(|| {
                self.on_step.iter().for_each(StepHook::call);
                model.step(scanning)
            }));
            running.ended = match outcome_of(stepped, &mut self.panics) {
                Ok(true) => Some(Ok(FinishReason::Stop)),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            };
        }
    }

    fn decode(&mut self) {
        let Some(chat) = &self.models.chat else { return };
        let mut batch = Vec::new();
        let mut rows = Vec::new();
        let mut budget = PROMPT_ROWS;
        for Running { job, work, ended } in &mut self.running {
            let Work::Chat(conversation) = work else { continue };
            let wanted = conversation.waiting_rows();
            // Whoever writes gets its row in each step; prompts share the rest.
            let granted = if wanted == 1 { 1 } else { wanted.min(budget) };
            budget = budget.saturating_sub(granted);
            if granted > 0 {
                batch.push((job, conversation, granted, ended));
            }
        }
        if batch.is_empty() {
            return;
        }
        for (_, conversation, granted, _) in &mut batch {
            rows.push(conversation.rows(*granted));
        }
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            self.on_step.iter().for_each(StepHook::call);
            chat.decoder.step(&mut rows).map_err(|error| {
                tracing::error!(error = %error, "A step of the model failed.");
                EngineError::Model { doing: "computing a step" }
            })
        }));
        drop(rows);
        let logits = outcome_of(stepped, &mut self.panics);
        for (index, (job, conversation, _, ended)) in batch.into_iter().enumerate() {
            let advanced = match &logits {
                Ok(logits) => {
                    let logits = logits.get(index).and_then(Option::as_deref);
                    catch_unwind(AssertUnwindSafe(|| job.advance(chat, conversation, logits)))
                        .unwrap_or(Err(EngineError::Panicked))
                }
                Err(error) => Err(error.clone()),
            };
            *ended = advanced.map_err(Some).map_or_else(|error| error.map(Err), |finish| finish.map(Ok));
        }
    }
}

fn outcome_of<T>(
    stepped: std::thread::Result<Result<T, EngineError>>,
    panics: &mut u32,
) -> Result<T, EngineError> {
    match stepped {
        Ok(Ok(made)) => {
            *panics = 0;
            Ok(made)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            *panics += 1;
            tracing::error!(panics = *panics, "The model panicked; the jobs of this step failed.");
            Err(EngineError::Panicked)
        }
    }
}

/// Ends a job that never began.
pub(crate) fn fail_waiting(mut job: Job, error: EngineError) {
    drop(catch_unwind(AssertUnwindSafe(|| (job.events)(JobEvent::Failed(error, None)))));
}

// === impl Models ===

impl Models {
    fn begin(&self, input: JobInput) -> Result<Work, EngineError> {
        input.validate()?;
        match input {
            JobInput::Chat(request) => {
                let chat = self.chat.as_ref().ok_or(EngineError::UnsupportedKind { kind: "chat" })?;
                Ok(Work::Chat(Box::new(chat.begin(&request)?)))
            }
            JobInput::Embed { texts } => {
                let embed = self.embed.as_ref().ok_or(EngineError::UnsupportedKind { kind: "embed" })?;
                Ok(Work::Embed(embed.begin(texts)?))
            }
            JobInput::Scan { texts } => {
                let scan = self.scan.as_ref().ok_or(EngineError::UnsupportedKind { kind: "scan" })?;
                Ok(Work::Scan(scan.begin(texts)))
            }
        }
    }
}

// === impl Running ===

impl Running {
    fn end(mut self, models: &Models, outcome: Result<FinishReason, EngineError>) {
        let event = match outcome {
            Ok(finish) => self.job.output(self.work, models, finish),
            Err(error) => JobEvent::Failed(error, self.job.spent(&self.work, models).map(Box::new)),
        };
        self.job.emit_last(event);
    }
}

// === impl Under ===

impl Under {
    fn is_over(&self, now: Instant) -> Option<EngineError> {
        crate::job::is_over(&self.cancel, self.deadline, now)
    }

    /// Lets the conversation choose and sends what became certain. A panic in the caller's function leaves as one.
    fn advance(
        &mut self,
        chat: &ChatModel,
        conversation: &mut Conversation,
        logits: Option<&[f32]>,
    ) -> Result<Option<FinishReason>, EngineError> {
        let Progress { pieces, chose, finish } = conversation.advance(&chat.tokenizer, logits)?;
        if chose && self.first_choice.is_none() {
            self.first_choice = Some(Instant::now());
        }
        for text in pieces {
            (self.events)(JobEvent::Token { index: self.pieces, text });
            self.pieces += 1;
        }
        Ok(finish)
    }

    /// What a job under way has cost so far.
    fn spent(&self, work: &Work, models: &Models) -> Option<Spent> {
        let now = Instant::now();
        let first_choice = self.first_choice.unwrap_or(now);
        let timings = Timings {
            queued: self.queued,
            prompt: first_choice.duration_since(self.started),
            decode: now.duration_since(first_choice),
        };
        let (usage, info) = match work {
            Work::Chat(conversation) => {
                (conversation.usage(), models.chat.as_ref().map(|chat| chat.info.clone()))
            }
            Work::Embed(embedding) => {
                let usage = Usage { input_tokens: embedding.input_tokens, output_tokens: 0 };
                (usage, models.embed.as_ref().map(|embed| embed.info.clone()))
            }
            Work::Scan(scanning) => {
                let usage = Usage { input_tokens: scanning.input_tokens, output_tokens: 0 };
                (usage, models.scan.as_ref().map(|scan| scan.info.clone()))
            }
        };
        info.map(|model| Spent { usage, timings, model })
    }

    fn output(&self, work: Work, models: &Models, finish: FinishReason) -> JobEvent {
        let Some(Spent { usage, timings, model }) = self.spent(&work, models) else {
            return JobEvent::Failed(EngineError::Model { doing: "finishing" }, None);
        };
        let content = match work {
            Work::Chat(conversation) => OutputContent::Text(conversation.into_text()),
            Work::Embed(embedding) => OutputContent::Embeddings(embedding.into_vectors()),
            Work::Scan(scanning) => OutputContent::Scanned(scanning.into_scans()),
        };
        JobEvent::Done(Output { content, finish, usage, timings, model })
    }

    fn emit_last(&mut self, event: JobEvent) {
        if catch_unwind(AssertUnwindSafe(|| (self.events)(event))).is_err() {
            tracing::error!(job = self.id, "The function that takes a job's events panicked.");
        }
    }
}
