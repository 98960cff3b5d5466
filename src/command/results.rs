//! `tidegate results`: a tenant's results as a support tool reads them, through a durable of its own. What was shown is
//! acknowledged and does not come again; what a filter leaves out is passed over the same way.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use tidegate_bus::{CancellationToken, Delivery, Identity, Inbound, topology};
use tidegate_schemas::header;
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::replay;
use tidegate_schemas::result::{Output, TaskResult};
use tidegate_schemas::subject::{REPLAY, RESULTS, Subject};

use super::roles;
use crate::cell::Cell;
use crate::cli::{Global, ResultsArgs};
use crate::output;

/// Results held at once, count.
const AHEAD: usize = 64;
/// How long a result that should be there is waited for without --follow.
const WAIT: Duration = Duration::from_secs(2);
/// States that a filter may name.
const STATES: [&str; 4] = ["completed", "failed", "canceled", "rejected"];

/// What is told of one result.
#[derive(Serialize)]
struct Told<'a> {
    at: Timestamp,
    sequence: u64,
    tenant: Name,
    agent: Name,
    task: TaskId,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensitivity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a str>,
    /// The version of the prompt: `<name> <hash>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    /// The whole result, where the tool may read content.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<TaskResult>,
}

pub(super) async fn run(global: &Global, args: &ResultsArgs) -> Result<ExitCode> {
    if let Some(state) = &args.state
        && !STATES.contains(&state.as_str())
    {
        bail!("--state must be one of {}", STATES.join(", "));
    }
    let cell = Cell::open(&global.cell)?;
    let identity = Identity::Tool { tenant: args.tenant.clone(), tool: args.tool.clone() };
    let bus = cell.connect(identity).await?;
    let durable = topology::tool_durable(&args.tenant, &args.tool);
    let stream = if args.replayed { REPLAY } else { RESULTS };
    let there =
        bus.consumer_info(stream, &durable).await.context("asking for the tool's place in the results")?;
    if there.pending == 0 && there.ack_pending == 0 && !args.follow {
        nothing(global, there.ack_floor);
        return Ok(ExitCode::SUCCESS);
    }
    let shutdown = CancellationToken::new();
    roles::stop_on_signal(shutdown.clone())?;
    // Whether payloads come is the durable's own setting, which only the provisioner changes.
    let spec = match args.replayed {
        true => topology::replay_consumer(&args.tenant, &args.tool, false),
        false => topology::tool_consumer(&args.tenant, &args.tool, false),
    };
    let mut reader = bus.reader(&spec, args.limit.clamp(1, AHEAD)).await?;
    let (mut shown, mut passed) = (0, 0);
    'all: loop {
        let group = tokio::select! {
            () = shutdown.cancelled() => break,
            group = reader.take(AHEAD) => group?,
            () = tokio::time::sleep(WAIT), if !args.follow => break,
        };
        let mut group = group.into_iter();
        while let Some(delivery) = group.next() {
            let pending = delivery.message.pending;
            match told(&delivery)?.filter(|told| wanted(told, args)) {
                Some(told) => {
                    show(global, told)?;
                    shown += 1;
                }
                None => passed += 1,
            }
            reader.done([delivery]).await;
            let last = pending == 0 && !args.follow && group.len() == 0;
            if shown >= args.limit || last {
                for rest in group {
                    reader.again(rest, Duration::ZERO).await;
                }
                break 'all;
            }
        }
    }
    reader.close().await;
    if passed > 0 && !global.json {
        output::note(format!(
            "{passed} passed over that the filter leaves out; they do not come again, `tidegate audit query --kind result` has them"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing(global: &Global, read: u64) {
    if !global.json {
        let before = if read == 0 { "no result yet" } else { "no result since the last reading" };
        output::note(format!("{before}; wait for new ones with --follow"));
    }
}

fn wanted(told: &Told<'_>, args: &ResultsArgs) -> bool {
    args.state.as_ref().is_none_or(|state| state == told.state)
        && args.agent.as_ref().is_none_or(|agent| *agent == told.agent)
}

/// What a delivery tells; `None` for one that is no result.
fn told(delivery: &Delivery) -> Result<Option<Told<'_>>> {
    let message: &Inbound = &delivery.message;
    let subject = replay::original_subject(&message.subject).unwrap_or(&message.subject);
    let Ok(Subject::Result { tenant, agent, task }) = Subject::parse(subject) else {
        return Ok(None);
    };
    let number = |name: &str| message.header(name).and_then(|text| text.parse().ok());
    let result = match message.payload.is_empty() {
        true => None,
        false => Some(serde_json::from_slice(&message.payload).context("reading a result")?),
    };
    Ok(Some(Told {
        at: message.header(header::REPLAY_TIME).and_then(|t| t.parse().ok()).unwrap_or(message.published),
        sequence: message.sequence,
        tenant,
        agent,
        task,
        state: message.header(header::STATE).unwrap_or("unknown"),
        code: message.header(header::CODE),
        sensitivity: message.header(header::SENSITIVITY),
        destination: message.header(header::DESTINATION),
        decision: message.header(header::DECISION_ID),
        prompt: message.header(header::PROMPT),
        cost_usd_micros: number(header::COST),
        latency_ms: number(header::LATENCY),
        result,
    }))
}

fn show(global: &Global, told: Told<'_>) -> Result<()> {
    if global.json {
        return output::json(&told);
    }
    let code = told.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let place = told.destination.map(|name| format!("  at {name}")).unwrap_or_default();
    let cost = told.cost_usd_micros.map(|cost| format!("  {:.6} USD", cost as f64 / 1e6)).unwrap_or_default();
    let took = told.latency_ms.map(|ms| format!("  {ms} ms")).unwrap_or_default();
    let state = format!("{}{code}", told.state);
    let prompt = told.prompt.map(|used| format!("  by prompt {used}")).unwrap_or_default();
    output::line(format!(
        "{:.0}  {}  {:<9}  {state}{place}{took}{cost}{prompt}",
        told.at, told.task, told.agent
    ));
    if let Some(result) = told.result {
        match (result.output, result.error) {
            (Some(content), _) => indented(&text_of(&content)),
            (None, Some(error)) => indented(&error.message),
            (None, None) => {}
        }
    }
    Ok(())
}

/// An output as text for people.
pub(super) fn text_of(content: &Output) -> String {
    match content {
        Output::Text { text, tool_calls, .. } => {
            let calls = tool_calls.iter().map(|call| format!("\n{}", call.expose()));
            std::iter::once(text.expose().clone()).chain(calls).collect()
        }
        Output::Json { value } => value.expose().to_string(),
        Output::Class { class } => class.expose().clone(),
        Output::Embeddings { vectors } => {
            let plural = if vectors.len() == 1 { "" } else { "s" };
            format!("{} vector{plural} of {} numbers", vectors.len(), vectors.first().map_or(0, Vec::len))
        }
    }
}

fn indented(text: &str) {
    for line in output::visible(text).lines() {
        output::line(format!("    {line}"));
    }
}
