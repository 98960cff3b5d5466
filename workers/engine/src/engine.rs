//! The handle: start, submit, drain.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{EngineError, LoadError, SubmitError};
use crate::job::Job;
use crate::load;
use crate::queue::{Queue, Waiting};
use crate::schedule::{Scheduler, fail_waiting};

/// What the engine loads and how much it may use.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The chat model, a GGUF file; `None` serves no chat.
    pub chat: Option<PathBuf>,
    /// The SHA-256 the chat file must have, lower-case hex; `None` takes the file as it is and reports its hash.
    pub chat_sha256: Option<String>,
    /// A LoRA adapter that is merged into the chat model: a directory with `adapter_model.safetensors` and `adapter_config.json`, or the
    /// former, with the latter beside it.
    pub chat_adapter: Option<PathBuf>,
    /// The SHA-256 the adapter must have, lower-case hex: of `adapter_config.json` and then the weights, as one text.
    pub chat_adapter_sha256: Option<String>,
    /// The embedding model: a directory with `model.safetensors`, `config.json` and `tokenizer.json`; `None` serves no embeddings.
    pub embed: Option<PathBuf>,
    /// The SHA-256 `model.safetensors` must have, lower-case hex.
    pub embed_sha256: Option<String>,
    /// The token classifier: a directory with `config.json`, `tokenizer.json` and `model_q4.onnx` or what was made of it,
    /// `model.safetensors`; `None` scans nothing.
    pub scan: Option<PathBuf>,
    /// The SHA-256 its `model.safetensors` must have, lower-case hex.
    pub scan_sha256: Option<String>,
    /// Largest model file in bytes.
    pub max_model_bytes: u64,
    /// Threads wanted for arithmetic. candle reads its count from the process's environment once: start the
    /// process with [`launch_environment`]; [`ModelInfo::threads`] tells what is in force.
    pub threads: usize,
    /// Jobs that may wait; one more is refused with [`SubmitError::Overloaded`].
    pub queue: usize,
    /// Jobs that may run at the same time; 1 gives bit-equal answers for the same seed.
    pub max_sequences: usize,
    /// Tokens a conversation may have, prompt and answer; the model's own limit holds too.
    pub context_tokens: usize,
    /// Looks on at each step; measurements and tests.
    pub on_step: Option<StepHook>,
}

/// Called on the engine's thread at the beginning of each step of a model, inside of what is caught: while it blocks the
/// model is busy, and a panic in it is one of that step.
#[derive(Clone)]
pub struct StepHook(Arc<dyn Fn() + Send + Sync>);

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            chat: None,
            chat_sha256: None,
            chat_adapter: None,
            chat_adapter_sha256: None,
            embed: None,
            embed_sha256: None,
            scan: None,
            scan_sha256: None,
            max_model_bytes: 8 * 1024 * 1024 * 1024,
            threads: cores.saturating_sub(1).max(1),
            queue: 64,
            max_sequences: 1,
            context_tokens: 8192,
            on_step: None,
        }
    }
}

impl StepHook {
    /// A hook that calls `look`.
    pub fn new(look: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    pub(crate) fn call(&self) {
        (self.0)();
    }
}

impl fmt::Debug for StepHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepHook")
    }
}

/// The variables a process must be started with so that the engine uses `threads` threads and leaves the cores
/// to others while it waits. They are read once by the arithmetic library and can't be set from inside safely.
#[must_use]
pub fn launch_environment(threads: usize) -> [(&'static str, String); 3] {
    let threads = threads.max(1).to_string();
    [
        ("RAYON_NUM_THREADS", threads.clone()),
        ("CANDLE_NUM_THREADS", threads),
        ("CANDLE_BARRIER_POOL_SPIN_LIMIT", "200".to_owned()),
    ]
}

/// What a loaded model is, for results, metrics and the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// `chat`, `embed` or `scan`.
    pub kind: String,
    /// The model's name, from its file or directory.
    pub name: String,
    /// `llama`, `qwen3` or `bert`.
    pub architecture: String,
    /// The weights' type as stored, and as computed with where they were repacked (`Q4_1 as Q8_0`).
    pub quantisation: String,
    /// SHA-256 of the weights' file, lower-case hex.
    pub sha256: String,
    /// SHA-256 of the adapter that is merged into them, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_sha256: Option<String>,
    /// Tokens a request may have, prompt and answer.
    pub context_tokens: usize,
    /// Threads in force for arithmetic.
    pub threads: usize,
    /// Instruction set of the kernels in use (`avx2`, `avx512-vnni`, …): answers are bit-equal only within one.
    pub kernels: String,
}

/// A handle to the engine; cheap to clone and to share between threads. When the last one is dropped the engine
/// finishes what it has and ends.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Handle>);

struct Handle {
    queue: Arc<Queue>,
    models: Vec<ModelInfo>,
}

/// The engine's thread. [`EngineThread::join`] drains it.
#[derive(Debug)]
pub struct EngineThread(JoinHandle<()>);

// === impl Engine ===

impl Engine {
    /// Verifies and loads the models and starts the thread. Blocks until they are loaded (seconds).
    ///
    /// # Errors
    /// Whatever keeps a model from being used, in one sentence that says what to do.
    pub fn start(config: EngineConfig) -> Result<(Self, EngineThread), LoadError> {
        let in_force = candle_core::utils::get_num_threads();
        if in_force != config.threads {
            tracing::warn!(
                wanted = config.threads,
                in_force,
                "The engine's threads differ from the configuration; start the process with its launch environment."
            );
        }
        let queue = Arc::new(Queue::new(config.queue));
        let (loaded, outcome) = mpsc::sync_channel(1);
        let of_thread = queue.clone();
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || run(&config, &of_thread, &loaded))
            .map_err(|_| LoadError::Thread)?;
        // The sender is dropped without a word only by a panic while loading.
        let models = outcome.recv().map_err(|_| LoadError::Thread)??;
        Ok((Self(Arc::new(Handle { queue, models })), EngineThread(thread)))
    }

    /// Queues a job. Its events come on the engine's thread.
    ///
    /// # Errors
    /// The queue is full, or the engine has stopped; the job's function is then never called.
    pub fn submit(&self, job: Job) -> Result<(), SubmitError> {
        self.0.queue.push(job)
    }

    /// The models that are loaded, chat first.
    #[must_use]
    pub fn models(&self) -> &[ModelInfo] {
        &self.0.models
    }

    /// Whether jobs are taken; readiness depends on it.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.0.queue.is_closed()
    }

    /// Jobs waiting, without those under way.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.queue.len()
    }

    /// Takes no further jobs. Those under way and queued are finished; [`EngineThread::join`] waits for them.
    /// To end sooner, cancel them.
    pub fn shutdown(&self) {
        self.0.queue.close();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("models", &self.models).finish_non_exhaustive()
    }
}

// === impl EngineThread ===

impl EngineThread {
    /// Waits until all jobs that were taken have ended. Call [`Engine::shutdown`] first. Blocks.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("The engine's thread ended by a panic.");
        }
    }
}

// === the thread ===

/// Closes the queue and fails what waits, however the thread ends.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        while let Some(waiting) = self.0.pop() {
            fail_waiting(waiting.job, EngineError::ShutDown);
        }
    }
}

fn run(config: &EngineConfig, queue: &Queue, loaded: &mpsc::SyncSender<Result<Vec<ModelInfo>, LoadError>>) {
    let _closing = Closing(queue);
    let models = match load::models(config) {
        Ok(models) => models,
        Err(error) => {
            drop(loaded.send(Err(error)));
            return;
        }
    };
    let infos = models.infos();
    if loaded.send(Ok(infos)).is_err() {
        return;
    }
    let mut scheduler = Scheduler::new(models, config.max_sequences, config.on_step.clone());
    while serve(queue, &mut scheduler) {
        if scheduler.is_broken() {
            tracing::error!("The model panicked again and again; the engine stops. Restart the process.");
            scheduler.fail_all(&EngineError::ShutDown);
            return;
        }
    }
}

/// Takes jobs while there is room and makes one step; false when the queue is closed and all jobs have ended.
fn serve(queue: &Queue, scheduler: &mut Scheduler) -> bool {
    if scheduler.is_idle() {
        match queue.wait() {
            Some(waiting) => scheduler.admit(waiting),
            None => return false,
        }
    }
    let now = Instant::now();
    for Waiting { job, .. } in queue.sweep(now) {
        if let Some(error) = job.is_over(now) {
            fail_waiting(job, error);
        }
    }
    // A conversation takes seconds, a scan milliseconds: it does not wait for one.
    while scheduler.has_room_to_scan() {
        match queue.pop_scan() {
            Some(waiting) => scheduler.admit(waiting),
            None => break,
        }
    }
    while scheduler.has_room() {
        match queue.pop() {
            Some(waiting) => scheduler.admit(waiting),
            None => break,
        }
    }
    scheduler.step();
    true
}
