//! From a scene to what the judge takes: a message through the door that producers' messages take, facts, a directory.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tidegate_policies::{Bundle, DestinationSpec};
use tidegate_schemas::decision::{Approval, Facts, Redaction, Switch};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::header::Headers;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::labels::Labels;
use tidegate_schemas::scan::ModelScan;
use tidegate_schemas::subject;
use tidegate_schemas::task::{Kind as TaskKind, Message, Task};

use crate::scene::{Kind, Lane, Looked, Off, Place, Planted, Scene, Terms, World};
use crate::words::{Set, Words};

/// When every task is submitted.
const SUBMITTED_MS: i64 = 1_795_000_000_000;

static HEADERS: LazyLock<Headers> = LazyLock::new(Headers::new);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(SUBMITTED_MS + ms).unwrap()
}

/// A bundle's places. What they are is data; what may go there is not.
pub(crate) fn terms(bundle: &Bundle, looked: Looked) -> Terms {
    // Where nothing looks no model is asked either.
    let model = bundle.taxonomy().model_scan.as_ref().and_then(|model| model.sha256);
    let model = model.filter(|_| looked != Looked::Nothing).map(|model| model.to_string());
    let places = bundle.destinations().iter().map(place).collect();
    Terms { places, looked, model: model.unwrap_or_default() }
}

fn place(spec: &DestinationSpec) -> Place {
    Place {
        name: spec.name.to_string(),
        lane: if spec.lane == subject::Lane::Local { Lane::Local } else { Lane::Cloud },
        target: spec.target.to_string(),
        model: spec.model.clone(),
        region: spec.region.to_string(),
        kinds: spec.kinds.iter().map(|kind: &TaskKind| kind.as_str()).collect(),
        tools: spec.tools,
        schema: spec.schema,
        streams: spec.streams,
        context_tokens: spec.context_tokens,
        price_in: spec.price_in,
        price_out: spec.price_out,
        latency_ms: spec.latency_ms,
        rank: spec.rank,
        certified: spec.certifications.iter().map(ToString::to_string).collect(),
        keeps_nothing: spec.zero_retention,
        trains: spec.trains_on_data,
    }
}

pub(crate) fn directory(world: &World) -> Directory {
    let mut tenants = Map::new();
    for (name, tenant) in world {
        let mut agents = Map::new();
        for (agent, roles) in &tenant.agents {
            agents.insert((*agent).to_owned(), json!({ "roles": roles }));
        }
        let quota = json!({ "in_flight_max": tenant.in_flight_max, "stream_bytes_max": 1_000_000 });
        let told = json!({
            "owner": "owner@example.com", "residency": tenant.residency, "providers": tenant.providers,
            "agents": agents, "quota": quota,
        });
        tenants.insert((*name).to_owned(), told);
    }
    serde_json::from_value(json!({ "schema_version": 1, "tenants": tenants })).unwrap()
}

/// The task, if the door lets it in.
pub(crate) fn task(scene: &Scene) -> Option<Task> {
    let mut body = json!({
        "input": input(scene).0,
        "labels": labels(&scene.declared),
        "limits": {
            "deadline_ms": scene.deadline_ms,
            "cost_usd_micros_max": scene.cost_max,
            "latency_ms_max": scene.latency_max,
        },
        "class": if scene.batch { "batch" } else { "interactive" },
    });
    if let Some(tenant) = scene.body_tenant {
        body["tenant"] = tenant.into();
    }
    let payload = body.to_string();
    let (tenant, agent) = (name(scene.tenant), name(scene.agent));
    let position = Position::new(subject::tasks_stream(&tenant), 1);
    let message = Message {
        tenant: &tenant,
        agent: &agent,
        kind: scene.kind.as_str(),
        headers: &HEADERS,
        payload: payload.as_bytes(),
        position: &position,
        submitted: at(0),
    };
    Task::read(&message).ok()
}

pub(crate) fn facts(terms: &Terms, scene: &Scene, directory: Digest) -> Facts {
    let known = &scene.known;
    let approval = Approval {
        reviewer: name("reviewer"),
        verdict: "EVENTS:1".to_owned(),
        content: Digest::plain(b"what was agreed to"),
        edited: false,
        others: Vec::new(),
        queue: None,
        terms: None,
    };
    let inherited = scene.inherited.as_ref();
    Facts {
        decision_id: uuid::Uuid::nil(),
        now: at(known.now_ms),
        directory,
        hop: known.hop,
        lane_max: known.lane_max.map(lane),
        tried: known.tried.iter().map(|place| name(place)).collect::<BTreeSet<Name>>(),
        off: known.off.iter().map(switch).collect(),
        flags: known.flags.iter().map(|flag| name(flag)).collect(),
        flags_revision: 0,
        release_revision: 0,
        inherited: inherited.map(|words| serde_json::from_value::<Labels>(labels(words)).unwrap()),
        approval: known.approved.then_some(approval),
        model_scan: known.scanned.as_ref().map_or(ModelScan::Closed, |found| ModelScan::Done {
            model: terms.model.parse().unwrap(),
            findings: found.iter().map(|entity| (name(entity), 1)).collect(),
        }),
        wait_ms: known.waits.iter().map(|(target, ms)| (name(target), *ms)).collect(),
        tenant_in_flight: known.in_flight,
        egress_ready: !known.unwell,
        session: known.session.as_ref().map(|words| serde_json::from_value::<Labels>(labels(words)).unwrap()),
        spent: Vec::new(),
        broken: Vec::new(),
        redaction: known.redacted.as_ref().map(redaction),
    }
}

fn redaction(found: &Set) -> Redaction {
    let found: BTreeSet<Name> = found.iter().map(|category| name(category)).collect();
    Redaction {
        tokens: 1,
        model: None,
        findings: found.iter().map(|_| (name("email"), 1)).collect(),
        categories: found,
    }
}

fn lane(lane: Lane) -> subject::Lane {
    match lane {
        Lane::Local => subject::Lane::Local,
        Lane::Cloud => subject::Lane::Cloud,
    }
}

fn switch(off: &Off) -> Switch {
    Switch {
        lane: off.lane.map(lane),
        tenant: off.tenant.map(name),
        target: off.target.as_deref().map(name),
        model: off.model.clone(),
    }
}

fn labels(words: &Words) -> Value {
    let mut labels = json!({
        "sensitivity": words.sensitivity,
        "categories": words.categories,
        "regulations": words.regulations,
        "residency": words.residency,
        "consent": words.consent,
        "purpose": words.purpose,
    });
    if let Some(stakes) = words.stakes {
        labels["stakes"] = stakes.into();
    }
    labels
}

/// The input as its producer writes it, and how many bytes its texts have together.
pub(crate) fn input(scene: &Scene) -> (Value, usize) {
    let work = &scene.work;
    let planted = phrases(&work.planted);
    let (told, hidden) = if work.hidden { (String::new(), Some(planted)) } else { (planted, None) };
    let filler = "word ".repeat(work.filler / 5 + 1);
    let text = format!("Please look at this and say what you think. {told}{}", &filler[..work.filler]);
    match scene.kind {
        Kind::Chat => chat(scene, &text, hidden),
        Kind::Extract => {
            let mut schema = json!({ "type": "object" });
            if let Some(hidden) = hidden {
                schema["description"] = hidden.into();
            }
            let bytes = text.len() + written(&schema);
            (json!({ "text": text, "schema": schema, "max_tokens": work.tokens_max }), bytes)
        }
        Kind::Classify => {
            let classes =
                json!(["good", hidden.filter(|text| !text.is_empty()).unwrap_or_else(|| "bad".to_owned())]);
            let bytes = text.len() + written(&classes);
            (json!({ "text": text, "classes": classes }), bytes)
        }
        Kind::Embed => {
            let texts: Vec<String> = std::iter::once(text).chain(hidden).collect();
            let bytes = texts.iter().map(String::len).sum();
            (json!({ "texts": texts }), bytes)
        }
    }
}

fn chat(scene: &Scene, text: &str, hidden: Option<String>) -> (Value, usize) {
    let work = &scene.work;
    let mut messages = vec![json!({ "role": "user", "content": text })];
    let mut tools = Vec::new();
    let mut bytes = text.len();
    match (work.tools, hidden) {
        (true, Some(hidden)) => {
            let function = json!({ "name": "f", "arguments": hidden });
            let call = json!({ "id": "1", "type": "function", "function": function });
            bytes += written(&call);
            messages.push(json!({ "role": "assistant", "content": "", "tool_calls": [call] }));
        }
        (true, None) => {
            let function = json!({ "name": "f", "parameters": { "type": "object" } });
            let tool = json!({ "type": "function", "function": function });
            bytes += written(&tool);
            tools.push(tool);
        }
        (false, Some(hidden)) => {
            bytes += hidden.len();
            messages.push(json!({ "role": "system", "content": hidden }));
        }
        (false, None) => {}
    }
    let sampling = json!({ "max_tokens": work.tokens_max });
    (json!({ "messages": messages, "tools": tools, "stream": work.stream, "sampling": sampling }), bytes)
}

/// Phrases in a row, with words between them.
fn phrases(planted: &[Planted]) -> String {
    let texts: Vec<&str> = planted.iter().map(|planted| planted.text).collect();
    let texts = texts.join(" and also, as somebody wrote, ");
    if texts.is_empty() { texts } else { format!("{texts} thank you, that is all. ") }
}

/// Bytes of all keys and strings.
fn written(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(written).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + written(value)).sum(),
        _ => 0,
    }
}
