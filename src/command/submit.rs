//! `tidegate submit`: a task in, its decision, its tokens and its result out, as an agent sees them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tidegate_bus::{Bus, CoreMessage, CoreStream, Identity, Outbound};
use tidegate_schemas::decision::Outcome;
use tidegate_schemas::ids::{Identifier, Name, TaskId};
use tidegate_schemas::limits::TASK_BYTES_MAX;
use tidegate_schemas::live::{Delta, Transition};
use tidegate_schemas::result::{Output, State, TaskResult};
use uuid::Uuid;

use crate::cell::Cell;
use crate::cli::{Global, Kind, Sensitivity, SubmitArgs, Who};
use crate::output;

/// How long after the deadline a result is waited for.
const GRACE: Duration = Duration::from_secs(15);

pub(crate) async fn run(global: &Global, args: SubmitArgs) -> Result<ExitCode> {
    let cell = Cell::open(&global.cell)?;
    let token = Uuid::new_v4().simple().to_string();
    let (id, body) = body(&args, &token)?;
    let bus = connect(&cell, &args.who).await?;
    let agent = &args.who.agent;
    let mut replies = bus.subscribe_core(&format!("reply.{agent}.{token}")).await?;
    let mut states = bus.subscribe_core(&format!("state.{agent}.{id}")).await?;
    let mut deltas = bus.subscribe_core(&format!("delta.{agent}.{id}")).await?;
    let kind = kind_word(args.kind);
    let message = Outbound::new(format!("task.{agent}.{kind}"), serde_json::to_vec(&body)?)
        .with_id(id.to_string())
        .with_headers(tidegate_schemas::header::Headers::new().with("content-type", "application/json"));
    let accepted = bus.publish(message).await.context("submitting the task")?;
    if args.no_wait {
        return accepted_only(global, id, accepted.duplicate);
    }
    if !global.json {
        let again = if accepted.duplicate { " (known already)" } else { "" };
        output::note(format!("task {id} accepted{again}"));
    }
    let wait = Duration::from_secs(args.deadline_s) + GRACE;
    let ended =
        tokio::time::timeout(wait, follow(global, &args, &mut replies, &mut states, &mut deltas)).await;
    match ended {
        Ok(result) => show(global, &args, &result?),
        Err(_) => {
            bail!("no result within {} s; ask `tidegate task get {id}` later", wait.as_secs())
        }
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

async fn follow(
    global: &Global,
    args: &SubmitArgs,
    replies: &mut CoreStream,
    states: &mut CoreStream,
    deltas: &mut CoreStream,
) -> Result<TaskResult> {
    loop {
        tokio::select! {
            biased;
            Some(message) = deltas.next(), if args.stream && !global.json => piece(&message),
            Some(message) = states.next() => if !global.json { transition(&message) },
            reply = replies.next() => {
                let message = reply.context("the connection closed before the result came")?;
                return serde_json::from_slice(&message.payload).context("reading the result");
            }
        }
    }
}

fn piece(message: &CoreMessage) {
    if let Ok(delta) = serde_json::from_slice::<Delta<'_>>(&message.payload) {
        output::piece(&delta.text);
    }
}

fn transition(message: &CoreMessage) {
    let Ok(now) = serde_json::from_slice::<Transition<'_>>(&message.payload) else { return };
    if now.state.is_terminal() {
        return;
    }
    let place = now.destination.map(|d| format!(" → {d}")).unwrap_or_default();
    let outcome = now.outcome.map_or("", Outcome::as_str);
    output::note(format!("{}: {outcome}{place}: {}", now.state.as_str(), now.sentence.unwrap_or_default()));
}

fn show(global: &Global, args: &SubmitArgs, result: &TaskResult) -> Result<ExitCode> {
    let code = if result.state == State::Completed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if global.json {
        output::json(result)?;
        return Ok(code);
    }
    match (&result.output, &result.error) {
        (Some(Output::Text { text, tool_calls, .. }), _) => {
            // What was streamed stands there already.
            output::line(if args.stream { "" } else { text.expose() });
            for call in tool_calls {
                output::line(call.expose().to_string());
            }
        }
        (Some(Output::Json { value }), _) => output::line(value.expose().to_string()),
        (Some(Output::Class { class }), _) => output::line(class.expose()),
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
    let place = result.destination.as_ref().map(|d| d.name.to_string()).unwrap_or_else(|| "nowhere".into());
    let cost = result.cost_usd_micros.map_or("unknown".into(), |c| format!("{:.6} USD", c as f64 / 1e6));
    output::note(format!(
        "{} in {} ms at {place}, {} + {} tokens, cost {cost}; why: tidegate audit task {}",
        result.state.as_str(),
        result.timings.total_ms,
        result.usage.input_tokens,
        result.usage.output_tokens,
        result.task
    ));
    Ok(code)
}

pub(crate) fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Chat => "chat",
        Kind::Extract => "extract",
        Kind::Classify => "classify",
        Kind::Embed => "embed",
    }
}

/// The envelope, and the id that it will have.
fn body(args: &SubmitArgs, token: &str) -> Result<(TaskId, Value)> {
    let mut body = match &args.body {
        Some(path) => from_file(path)?,
        None => json!({ "input": input(args)?, "labels": labels(args),
                        "limits": { "deadline_ms": args.deadline_s * 1_000 },
                        "class": if args.batch { "batch" } else { "interactive" } }),
    };
    let fields = body.as_object_mut().context("the task must be a JSON object")?;
    if let Some(workflow) = &args.workflow {
        fields.insert("workflow".into(), json!(workflow));
    }
    fields.insert("reply".into(), json!(token));
    let named = args.id.clone().or_else(|| fields.get("id").and_then(Value::as_str).map(str::to_owned));
    let named = named.unwrap_or_else(|| Uuid::now_v7().to_string());
    let id = task_id(&args.who.tenant, &args.who.agent, &named)?;
    fields.insert("id".into(), json!(named));
    Ok((id, body))
}

/// The task id for what a producer calls it.
pub(crate) fn task_id(tenant: &Name, agent: &Name, named: &str) -> Result<TaskId> {
    if let Ok(id) = named.parse() {
        return Ok(id);
    }
    Ok(TaskId::from_external(tenant, agent, &Identifier::new(named).context("--id")?))
}

fn from_file(path: &std::path::Path) -> Result<Value> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        let limit = TASK_BYTES_MAX as u64 + 1;
        std::io::stdin().take(limit).read_to_string(&mut text).context("reading standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    }
    serde_json::from_str(&text).context("the task is not JSON")
}

fn input(args: &SubmitArgs) -> Result<Value> {
    if args.text.is_empty() {
        bail!("give the text, or a whole envelope with --body");
    }
    let text = args.text.join(" ");
    Ok(match args.kind {
        Kind::Chat => {
            let mut sampling = serde_json::Map::new();
            let settings = [
                ("max_tokens", args.max_tokens.map(|v| json!(v))),
                ("temperature", args.temperature.map(|v| json!(v))),
                ("seed", args.seed.map(|v| json!(v))),
            ];
            sampling.extend(settings.into_iter().filter_map(|(k, v)| v.map(|v| (k.to_owned(), v))));
            json!({ "messages": [{ "role": "user", "content": text }], "sampling": sampling, "stream": args.stream })
        }
        Kind::Extract => {
            let path = args.schema.as_ref().context("an extraction needs --schema FILE")?;
            let mut input = json!({ "text": text, "schema": from_file(path)? });
            if let (Some(tokens), Some(fields)) = (args.max_tokens, input.as_object_mut()) {
                fields.insert("max_tokens".into(), json!(tokens));
            }
            input
        }
        Kind::Classify => json!({ "text": text, "classes": args.classes }),
        Kind::Embed => json!({ "texts": args.text }),
    })
}

fn labels(args: &SubmitArgs) -> Value {
    let sensitivity = match args.sensitivity {
        Sensitivity::Public => "public",
        Sensitivity::Internal => "internal",
        Sensitivity::Confidential => "confidential",
        Sensitivity::Restricted => "restricted",
    };
    let set = |names: &[Name]| names.iter().cloned().collect::<BTreeSet<_>>();
    let mut labels = json!({
        "sensitivity": sensitivity,
        "categories": set(&args.category),
        "regulations": set(&args.regulation),
        "residency": set(&args.residency),
        "consent": set(&args.consent),
        "stakes": args.stakes,
    });
    if let (Some(purpose), Some(fields)) = (&args.purpose, labels.as_object_mut()) {
        fields.insert("purpose".into(), json!(purpose));
    }
    labels
}
