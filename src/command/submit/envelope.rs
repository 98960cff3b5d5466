//! What is sent: the envelope from the arguments or a file, its id, and how long its result may take.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use tidegate_schemas::digest::Salt;
use tidegate_schemas::ids::{Name, TaskId};
use tidegate_schemas::limits::{DEADLINE_MS_DEFAULT, MESSAGE_BYTES_MAX};

use crate::cli::{Kind, Sensitivity, Stakes, SubmitArgs};
use crate::output;

/// A task to submit.
pub(super) struct Envelope {
    /// The id that it will have.
    pub(super) id: TaskId,
    /// What the producer calls it.
    pub(super) named: String,
    pub(super) payload: Vec<u8>,
    pub(super) deadline: Duration,
}

impl Envelope {
    /// Where to answer is no part of it: sent again by somebody else it is the same task.
    pub(super) fn of(args: &SubmitArgs) -> Result<Self> {
        let mut body = match &args.body {
            Some(path) => from_file(path)?,
            None => json!({ "input": input(args)?, "labels": labels(args),
                            "limits": { "deadline_ms": args.deadline_s.saturating_mul(1_000) },
                            "class": if args.batch { "batch" } else { "interactive" } }),
        };
        let deadline = body.pointer("/limits/deadline_ms").and_then(Value::as_u64);
        let deadline = Duration::from_millis(deadline.unwrap_or(DEADLINE_MS_DEFAULT));
        let fields = body.as_object_mut().context("the task must be a JSON object")?;
        if let Some(workflow) = &args.workflow {
            fields.insert("workflow".into(), json!(workflow));
        }
        fields.remove("reply");
        let named = args.id.clone().or_else(|| fields.get("id").and_then(Value::as_str).map(str::to_owned));
        let named = named.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let (id, _) = TaskId::named(&args.who.tenant, &args.who.agent, &named).context("--id")?;
        fields.insert("id".into(), json!(named));
        Ok(Self { id, named, payload: serde_json::to_vec(&body)?, deadline })
    }

    /// The idempotency key. It names the content too: the stream swallows what is sent again, and another content under the
    /// same id must come before the router, which says so.
    pub(super) fn msg_id(&self) -> String {
        let mut salt = [0; 32];
        salt.iter_mut().zip(self.id.0.as_bytes().iter().cycle()).for_each(|(byte, of)| *byte = *of);
        format!("{}/{}", self.id, Salt::new(salt).digest(&self.payload))
    }
}

pub(super) fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Chat => "chat",
        Kind::Extract => "extract",
        Kind::Classify => "classify",
        Kind::Embed => "embed",
    }
}

fn from_file(path: &Path) -> Result<Value> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        let limit = MESSAGE_BYTES_MAX as u64 + 1;
        std::io::stdin().take(limit).read_to_string(&mut text).context("reading standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    }
    serde_json::from_str(&text).with_context(|| format!("`{}` is not JSON", path.display()))
}

/// The input of a task by a prompt of the bundle.
fn prompted(args: &SubmitArgs, name: &Name) -> Result<Value> {
    let variables = args.variables.iter().map(|said| variable(said)).collect::<Result<Map<_, _>>>()?;
    let mut input = json!({ "prompt": { "name": name, "variables": variables } });
    let fields = input.as_object_mut().context("an input is an object")?;
    if args.stream {
        fields.insert("stream".into(), json!(true));
    }
    fields.extend(args.max_tokens.map(|tokens| ("max_tokens".to_owned(), json!(tokens))));
    Ok(input)
}

/// `name=text`, or `name=@file`.
fn variable(said: &str) -> Result<(String, Value)> {
    let (name, text) = said.split_once('=').context("write a variable as NAME=TEXT or NAME=@FILE")?;
    let text = match text.strip_prefix('@') {
        Some(file) => text_of(Path::new(file))?,
        None => text.to_owned(),
    };
    Ok((name.to_owned(), Value::String(text)))
}

/// A file's text, as far as a message can hold it.
fn text_of(file: &Path) -> Result<String> {
    let context = || format!("reading `{}`", file.display());
    let limit = MESSAGE_BYTES_MAX as u64 + 1;
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(limit).read_to_string(&mut text))
        .with_context(context)?;
    Ok(text)
}

fn input(args: &SubmitArgs) -> Result<Value> {
    if let Some(name) = &args.prompt {
        return prompted(args, name);
    }
    if args.text.is_empty() {
        return Err(output::usage("give the text, a --prompt, or a whole envelope with --body"));
    }
    if matches!(args.kind, Kind::Classify) && args.classes.is_empty() {
        return Err(output::usage("a classification needs --class, once a class"));
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
            let path = args.schema.as_ref();
            let path = path.ok_or_else(|| output::usage("an extraction needs --schema FILE"))?;
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
    let stakes = match args.stakes {
        Stakes::Low => "low",
        Stakes::Medium => "medium",
        Stakes::High => "high",
    };
    let set = |names: &[Name]| names.iter().cloned().collect::<BTreeSet<_>>();
    let mut labels = json!({
        "sensitivity": sensitivity,
        "categories": set(&args.category),
        "regulations": set(&args.regulation),
        "residency": set(&args.residency),
        "consent": set(&args.consent),
        "stakes": stakes,
    });
    if let (Some(purpose), Some(fields)) = (&args.purpose, labels.as_object_mut()) {
        fields.insert("purpose".into(), json!(purpose));
    }
    labels
}
