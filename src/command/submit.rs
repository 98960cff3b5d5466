//! `tidegate submit`: a task in, its decision, its tokens and its result out, as an agent sees them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::json;
use tidegate_bus::{Bus, CoreMessage, CoreStream, Identity, Outbound, Stored};
use tidegate_schemas::decision::{Decision, Outcome};
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::TaskId;
use tidegate_schemas::live::{Delta, Transition};
use tidegate_schemas::redact::Restored;
use tidegate_schemas::result::{Output, State, TaskResult};
use tidegate_schemas::subject::RESULTS;
use uuid::Uuid;

use crate::cell::Cell;
use crate::cli::{Global, SubmitArgs, Who};
use crate::output;
use envelope::Envelope;

mod envelope;

/// How long after the deadline a result is waited for.
const GRACE: Duration = Duration::from_secs(15);
/// Between two looks for the result in its stream.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the router's word of its decision may come after the worker's of the result.
const WORD: Duration = Duration::from_millis(300);

pub(crate) async fn run(global: &Global, args: SubmitArgs) -> Result<ExitCode> {
    let task = Envelope::of(&args)?;
    let cell = Cell::open(&global.cell)?;
    let (id, agent) = (task.id, &args.who.agent);
    let token = Uuid::new_v4().simple().to_string();
    let bus = connect(&cell, &args.who).await?;
    let replies = bus.subscribe_core(&format!("reply.{agent}.{token}")).await?;
    let states = bus.subscribe_core(&format!("state.{agent}.{id}")).await?;
    let deltas = bus.subscribe_core(&format!("delta.{agent}.{id}")).await?;
    // In headers, so that what is wrong with the envelope is answered too.
    let headers = Headers::new()
        .with("content-type", "application/json")
        .with(header::ID, task.named.clone())
        .with(header::REPLY, token);
    let subject = format!("task.{agent}.{}", envelope::kind_word(args.kind));
    let message = Outbound::new(subject, task.payload.clone()).with_id(task.msg_id()).with_headers(headers);
    let accepted = bus.publish(message).await.context("submitting the task")?;
    if args.no_wait {
        return accepted_only(global, id, accepted.duplicate);
    }
    if !global.json {
        let again =
            if accepted.duplicate { " (known already; here is what becomes of the first)" } else { "" };
        output::note(format!("task {id} taken by the stream{again}"));
    }
    let wait = task.deadline + GRACE;
    let streams = args.stream && !global.json;
    let told = !global.json;
    let result = format!("result.{agent}.{id}");
    // Another task's result may stand there, whose id this one has: that is no answer to this one.
    let of = (!accepted.duplicate).then(|| accepted.position().to_string());
    let mut ear =
        Ear { bus, result, of, replies, states, deltas, streams, told, decided: None, streamed: false };
    let ended = match tokio::time::timeout(wait, ear.follow()).await {
        Ok(result) => Some(result?),
        // A reply is told once; the result itself may be there all the same.
        Err(_) => ear.stored().await?,
    };
    match ended {
        Some(result) => show(global, &ear, &result),
        None => not_ended(global, id, wait),
    }
}

/// Connects as an agent of a tenant.
pub(crate) async fn connect(cell: &Cell, who: &Who) -> Result<Bus> {
    cell.connect(Identity::Agent { tenant: who.tenant.clone(), agent: who.agent.clone() }).await
}

fn accepted_only(global: &Global, id: TaskId, duplicate: bool) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "task": id, "duplicate": duplicate }))?;
    } else {
        output::line(id.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn not_ended(global: &Global, id: TaskId, wait: Duration) -> Result<ExitCode> {
    if global.json {
        output::json(&json!({ "task": id, "state": null }))?;
    } else {
        output::note(format!("no result within {} s; ask `tidegate task get {id}` later", wait.as_secs()));
    }
    Ok(ExitCode::from(2))
}

/// What was decided, and why.
struct Decided {
    outcome: Outcome,
    sentence: String,
}

/// Hears of one task.
struct Ear {
    bus: Bus,
    /// Subject of the result.
    result: String,
    /// Position of the task, where it was not sent before.
    of: Option<String>,
    replies: CoreStream,
    states: CoreStream,
    deltas: CoreStream,
    /// Whether pieces are printed as they come.
    streams: bool,
    /// Whether transitions are.
    told: bool,
    decided: Option<Decided>,
    /// Whether pieces were printed.
    streamed: bool,
}

// === impl Ear ===

impl Ear {
    async fn follow(&mut self) -> Result<TaskResult> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                biased;
                Some(message) = self.deltas.next(), if self.streams => self.streamed |= piece(&message),
                Some(message) = self.states.next() => self.transition(&message),
                reply = self.replies.next() => {
                    let message = reply.context("the connection closed before the result came")?;
                    let result = serde_json::from_slice(&message.payload).context("reading the result")?;
                    let of = |(name, value): &(String, String)| (name == header::DECISION).then(|| value.clone());
                    self.decision(message.headers.iter().find_map(of).as_deref());
                    self.hear_out(&result).await;
                    return Ok(result);
                }
                // A reply is told once, and the task may have been sent before; where the server is away the next look asks again.
                _ = look.tick() => if let Ok(Some(result)) = self.stored().await {
                    return Ok(result);
                },
            }
        }
    }

    /// The result as its stream holds it.
    async fn stored(&mut self) -> Result<Option<TaskResult>> {
        let stored =
            self.bus.last_for_subject(RESULTS, &self.result).await.context("asking for the result")?;
        let ours =
            |stored: &Stored| self.of.as_deref().is_none_or(|of| stored.header(header::TASK) == Some(of));
        let Some(stored) = stored.filter(ours) else { return Ok(None) };
        self.decision(stored.header(header::DECISION));
        Ok(Some(serde_json::from_slice(&stored.payload).context("reading the result")?))
    }

    fn transition(&mut self, message: &CoreMessage) {
        let Ok(now) = serde_json::from_slice::<Transition<'_>>(&message.payload) else { return };
        if let (Some(outcome), Some(sentence)) = (now.outcome, &now.sentence) {
            self.decided = Some(Decided { outcome, sentence: sentence.to_string() });
        }
        if now.state.is_terminal() || !self.told {
            return;
        }
        let place = now.destination.map(|d| format!(" → {d}")).unwrap_or_default();
        let outcome = now.outcome.map_or("", Outcome::as_str);
        output::note(format!(
            "{}: {outcome}{place}: {}",
            now.state.as_str(),
            now.sentence.unwrap_or_default()
        ));
    }

    /// A result of the router's own carries its decision.
    fn decision(&mut self, header: Option<&str>) {
        if let Some(decision) = header.and_then(|text| serde_json::from_str::<Decision>(text).ok()) {
            self.decided = Some(Decided { outcome: decision.outcome, sentence: decision.sentence });
        }
    }

    /// What is told on core NATS comes by another way than the result, so a decision may be told after it.
    async fn hear_out(&mut self, result: &TaskResult) {
        let until = tokio::time::Instant::now() + WORD;
        while self.decided.is_none() && result.decision.is_some() {
            let Ok(Some(message)) = tokio::time::timeout_at(until, self.states.next()).await else { return };
            self.transition(&message);
        }
    }
}

/// Prints a piece; says whether there was something to print.
fn piece(message: &CoreMessage) -> bool {
    let Ok(delta) = serde_json::from_slice::<Delta<'_>>(&message.payload) else { return false };
    output::piece(&output::visible(&delta.text));
    !delta.text.is_empty()
}

/// What became of tokens that left in the place of values.
fn restored(counts: &Restored) -> String {
    let Restored { restored, foreign, dropped, mangled } = counts;
    let rest = [(dropped, "did not come back"), (mangled, "came back changed"), (foreign, "were not ours")];
    let rest: Vec<String> =
        rest.into_iter().filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let tail = if rest.is_empty() { String::new() } else { format!("; of the tokens {}", rest.join(", ")) };
    format!("it left with tokens in the place of what was found; {restored} values were put back{tail}")
}

/// A result with the decision behind it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    result: &'a TaskResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentence: Option<&'a str>,
}

fn show(global: &Global, ear: &Ear, result: &TaskResult) -> Result<ExitCode> {
    let code = if result.state == State::Completed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if global.json {
        let outcome = ear.decided.as_ref().map(|decided| decided.outcome);
        let sentence = ear.decided.as_ref().map(|decided| decided.sentence.as_str());
        output::json(&Shown { result, outcome, sentence })?;
        return Ok(code);
    }
    let print = |text: &str| output::line(output::visible(text));
    match (&result.output, &result.error) {
        (Some(Output::Text { text, tool_calls, .. }), _) => {
            // What was streamed stands there already.
            print(if ear.streamed { "" } else { text.expose() });
            for call in tool_calls {
                print(&call.expose().to_string());
            }
        }
        (Some(Output::Json { value }), _) => print(&value.expose().to_string()),
        (Some(Output::Class { class }), _) => print(class.expose()),
        (Some(Output::Embeddings { vectors }), _) => {
            for vector in vectors {
                output::line(serde_json::to_string(vector)?);
            }
        }
        (None, Some(error)) => {
            output::note(format!("{} ({}): {}", result.state.as_str(), error.code, error.message))
        }
        (None, None) => output::note(result.state.as_str()),
    }
    if result.destination.is_none() && result.state == State::Rejected {
        output::note(format!("it went nowhere; why: tidegate audit task {}", result.task));
        return Ok(code);
    }
    let place = result.destination.as_ref().map(|d| d.name.to_string()).unwrap_or_else(|| "nowhere".into());
    let prompt =
        result.prompt.as_ref().map(|used| format!(" by {}", output::prompt(used))).unwrap_or_default();
    let cost = result.cost_usd_micros.map_or("unknown".into(), |c| format!("{:.6} USD", c as f64 / 1e6));
    if let Some(counts) = &result.redaction {
        output::note(restored(counts));
    }
    output::note(format!(
        "{} in {} ms at {place}{prompt}, {} + {} tokens, cost {cost}; why: tidegate audit task {}",
        result.state.as_str(),
        result.timings.total_ms,
        result.usage.input_tokens,
        result.usage.output_tokens,
        result.task
    ));
    Ok(code)
}
