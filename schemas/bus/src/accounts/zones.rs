//! The zones: what each may publish, pull and hear, subject by subject.

use tidegate_schemas::control::REFUSED;
use tidegate_schemas::directory::{Directory, Tenant};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::{EVENTS, REPLAY, RESULTS, WORK_CLOUD, WORK_LOCAL};
use tidegate_schemas::vault;

use super::mesh::{Kind, Mesh};
use super::{APP, CLOUD, GATEWAY, KeyError, LOCAL, OPS, tenant_account};
use crate::identity::{Identity, Role};
use crate::topology::{
    CellShape, RECORDER, ROUTER, ROUTER_CONTROL, STATE_BUCKETS, VAULT, VERSIONED_BUCKETS, own_pools,
    tool_durable,
};

/// Finds an identity's public key.
type Key<'a> = &'a dyn Fn(&Identity) -> Result<String, KeyError>;

/// Answers of a role to requests that came in by an import.
const ANSWERS: &str = "_R_.>";
const SERVICES: &str = "$SRV.>";
const QUERIES: &str = "query.>";
/// Questions that are answered without content.
const AUDIT_QUERIES: &str = "query.audit.>";
const NOTICES: &str = "notice.>";
const API_INFO: &str = "$JS.API.INFO";
const STREAM_INFO_RESULTS: &str = "$JS.API.STREAM.INFO.RESULTS";

/// Buckets that workers and doors read.
const LOCAL_BUCKETS: [&str; 5] = ["bundles", "prompts", "models", "flags", "release"];
const CLOUD_BUCKETS: [&str; 3] = ["models", "flags", "release"];
/// Buckets in which cloud workers count what leaves and what fails.
const COUNTED_BUCKETS: [&str; 2] = ["budgets", "breakers"];
const GATEWAY_BUCKETS: [&str; 3] = ["directory", "flags", "models"];

/// Router, recorder and provisioner: here users' allow-lists are all that divides them.
pub(super) fn app(mesh: &mut Mesh, key: Key<'_>) -> Result<(), KeyError> {
    mesh.jetstream(APP);
    let read = [
        "$JS.API.STREAM.INFO.*",
        "$JS.API.STREAM.NAMES",
        "$JS.API.CONSUMER.INFO.*.*",
        "$JS.API.CONSUMER.NAMES.*",
    ];
    let reader = |durable: &str| {
        let mut list = strings(read);
        list.extend(strings([API_INFO, "$JS.API.DIRECT.GET.>", ANSWERS]));
        list.extend([
            format!("$JS.API.CONSUMER.MSG.NEXT.*.{durable}"),
            format!("$JS.ACK.*.{durable}.>"),
            format!("$JS.ACK.*.*.*.{durable}.>"),
        ]);
        list
    };
    let mut router = reader(ROUTER);
    router.extend(strings([
        "work.>",
        "result.>",
        "review.>",
        "attempt.>",
        "dead.router.*",
        REFUSED,
        "state.>",
        "reply.>",
        NOTICES,
        QUERIES,
    ]));
    router.extend([
        format!("$JS.API.CONSUMER.MSG.NEXT.*.{ROUTER_CONTROL}"),
        format!("$JS.ACK.*.{ROUTER_CONTROL}.>"),
        format!("$JS.ACK.*.*.*.{ROUTER_CONTROL}.>"),
    ]);
    // Operators act by events; the router applies them to the buckets.
    router.extend(STATE_BUCKETS.iter().chain(&VERSIONED_BUCKETS).map(|bucket| format!("$KV.{bucket}.>")));
    let mut recorder = reader(RECORDER);
    recorder.extend(strings([
        "result.>",
        "checkpoint",
        "dead.recorder.*",
        "state.>",
        "reply.>",
        NOTICES,
        // Replays: into their own stream, how they ended, and tasks submitted again.
        "replay.>",
        "control.replay.recorder",
        // What it prunes by retention.
        "control.record.recorder",
        // Canaries that a guard takes back.
        "control.bundle.recorder",
        // Erasures: what it deletes, and how they ended.
        "control.erase.recorder",
        "task.*.*.*",
        "$JS.API.STREAM.PURGE.*",
        "$JS.API.STREAM.MSG.DELETE.*",
        "_INBOX.router.>",
    ]));
    let provisioner = strings(["$JS.API.>", "$KV.>", NOTICES, ANSWERS]);
    let hears = |more: &[&str]| {
        let mut list = strings([NOTICES, SERVICES, "health.*"]);
        list.extend(more.iter().map(ToString::to_string));
        list
    };
    add(mesh, APP, &Role::Provisioner.into(), key, provisioner, hears(&[]))?;
    add(mesh, APP, &Role::Router.into(), key, router, hears(&[]))?;
    add(mesh, APP, &Role::Recorder.into(), key, recorder, hears(&[QUERIES, "$JS.EVENT.ADVISORY.>"]))
}

/// Local workers.
pub(super) fn local(mesh: &mut Mesh, shape: &CellShape, key: Key<'_>) -> Result<(), KeyError> {
    let mut publish = worker(mesh, LOCAL, "local", &LOCAL_BUCKETS);
    for pool in shape.pools.iter().chain(&own_pools()) {
        publish.extend(durable(mesh, LOCAL, WORK_LOCAL, pool.as_str()));
    }
    publish.extend(strings(["delta.>", vault::ISSUE, vault::RESOLVE]));
    mesh.link(Kind::Stream, CLOUD, LOCAL, "draft.>");
    add(mesh, LOCAL, &Role::Local.into(), key, publish, strings([NOTICES, SERVICES, "health.*", "draft.>"]))?;
    vault(mesh, key)
}

/// The vault: local workers ask it, and it hears what is erased. It publishes nothing into a stream but its dead letters.
fn vault(mesh: &mut Mesh, key: Key<'_>) -> Result<(), KeyError> {
    let dead = "dead.vault.*";
    mesh.link(Kind::Service, APP, LOCAL, dead);
    mesh.link(Kind::Service, LOCAL, OPS, format!("health.{}", Role::Vault));
    let mut publish = durable(mesh, LOCAL, EVENTS, VAULT);
    publish.extend(strings([API_INFO, dead, ANSWERS]));
    publish.push(format!("{}.>", Identity::from(Role::Local).inbox_prefix()));
    let subscribe = strings([vault::ISSUE, vault::RESOLVE, NOTICES, SERVICES, "health.*"]);
    add(mesh, LOCAL, &Role::Vault.into(), key, publish, subscribe)
}

/// Cloud workers: they cannot read local work, and see no result, only whether there is one. What leaves they count themselves.
pub(super) fn cloud(mesh: &mut Mesh, shape: &CellShape, key: Key<'_>) -> Result<(), KeyError> {
    let mut publish = worker(mesh, CLOUD, "cloud", &CLOUD_BUCKETS);
    for provider in &shape.providers {
        publish.extend(durable(mesh, CLOUD, WORK_CLOUD, provider.as_str()));
    }
    publish.extend(strings(["delta.>", "draft.>"]));
    publish.extend(buckets(mesh, CLOUD, &COUNTED_BUCKETS));
    for bucket in COUNTED_BUCKETS {
        let keys = format!("$KV.{bucket}.>");
        mesh.link(Kind::Service, APP, CLOUD, keys.clone());
        publish.push(keys);
    }
    add(mesh, CLOUD, &Role::Cloud.into(), key, publish, strings([NOTICES, SERVICES, "health.*"]))
}

/// HTTP doors: trusted to name the tenant, since they map keys to agents.
pub(super) fn gateway(mesh: &mut Mesh, key: Key<'_>) -> Result<(), KeyError> {
    let mut publish = strings(["task.*.*.*", "cancel.*.*.*", "$JS.API.DIRECT.GET.RESULTS.result.*.*.*"]);
    publish.iter().for_each(|subject| mesh.link(Kind::Service, APP, GATEWAY, subject.clone()));
    publish.extend(buckets(mesh, GATEWAY, &GATEWAY_BUCKETS));
    publish.extend(strings([API_INFO, ANSWERS]));
    mesh.link(Kind::Service, APP, GATEWAY, API_INFO);
    hear(mesh, GATEWAY);
    let subscribe = strings(["delta.>", "state.>", "reply.>", NOTICES, SERVICES, "health.*"]);
    for (owner, subject) in TOLD {
        mesh.link(Kind::Stream, owner, GATEWAY, format!("{subject}.>"));
    }
    offer_health(mesh, GATEWAY, Role::Gateway);
    add(mesh, GATEWAY, &Role::Gateway.into(), key, publish, subscribe)
}

/// Operators and reviewers.
pub(super) fn operations(mesh: &mut Mesh, directory: &Directory, key: Key<'_>) -> Result<(), KeyError> {
    let mut shared = strings([API_INFO, "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.NAMES"]);
    shared.extend(strings([
        "$JS.API.CONSUMER.INFO.*.*",
        "$JS.API.CONSUMER.NAMES.*",
        "$JS.API.DIRECT.GET.EVENTS.dead.>",
    ]));
    shared.iter().for_each(|subject| mesh.link(Kind::Service, APP, OPS, subject.clone()));
    mesh.link(Kind::Answers, APP, OPS, QUERIES);
    mesh.link(Kind::Answers, APP, OPS, SERVICES);
    ["router", "recorder"]
        .iter()
        .for_each(|role| mesh.link(Kind::Service, APP, OPS, format!("health.{role}")));
    shared.extend(strings([AUDIT_QUERIES, SERVICES, "health.*", ANSWERS]));
    shared.extend(buckets(mesh, OPS, &VERSIONED_BUCKETS));
    shared.extend(buckets(mesh, OPS, &STATE_BUCKETS));
    hear(mesh, OPS);
    for owner in [APP, LOCAL, CLOUD] {
        mesh.link(Kind::Stream, owner, OPS, "state.>");
    }
    for operator in directory.acting() {
        mesh.link(Kind::Service, APP, OPS, format!("control.*.{operator}"));
        let mut publish = shared.clone();
        publish.extend(
            ["control.*", "query.replay", "query.erase", "query.look"]
                .map(|word| format!("{word}.{operator}")),
        );
        let subscribe = strings([NOTICES, "state.>"]);
        add(mesh, OPS, &Identity::Operator(operator.clone()), key, publish, subscribe)?;
    }
    for (reviewer, settings) in &directory.reviewers {
        // Reviewers see the content of what they decide, each by the subject that names them.
        let mut publish = strings([AUDIT_QUERIES, API_INFO]);
        publish.push(format!("query.review.{reviewer}"));
        for queue in &settings.queues {
            let verdicts = format!("verdict.{queue}.*.{reviewer}");
            mesh.link(Kind::Service, APP, OPS, verdicts.clone());
            publish.push(verdicts);
        }
        add(mesh, OPS, &Identity::Reviewer(reviewer.clone()), key, publish, strings([NOTICES]))?;
    }
    Ok(())
}

/// A tenant's agents and tools. The server adds the tenant's token on the way in and takes it off on the way out.
pub(super) fn tenant(mesh: &mut Mesh, name: &Name, settings: &Tenant, key: Key<'_>) -> Result<(), KeyError> {
    let account = tenant_account(name);
    for word in ["task", "cancel", "$JS.API.DIRECT.GET.RESULTS.result"] {
        mesh.link_to(Kind::Service, APP, &account, format!("{word}.{name}.*.*"), &format!("{word}.*.*"));
    }
    mesh.link(Kind::Service, APP, &account, API_INFO);
    for (owner, word) in TOLD {
        mesh.link_to(Kind::Stream, owner, &account, format!("{word}.{name}.*.*"), &format!("{word}.$1.$2"));
    }
    for agent in settings.agents.keys() {
        let publish = [
            format!("task.{agent}.*"),
            format!("cancel.{agent}.*"),
            format!("$JS.API.DIRECT.GET.RESULTS.result.{agent}.*"),
        ];
        let subscribe = ["delta", "state", "reply"].map(|word| format!("{word}.{agent}.>"));
        let identity = Identity::Agent { tenant: name.clone(), agent: agent.clone() };
        add(mesh, &account, &identity, key, publish.to_vec(), subscribe.to_vec())?;
    }
    for tool in settings.tools.keys() {
        let mut publish = durable(mesh, &account, RESULTS, &tool_durable(name, tool));
        publish.extend(durable(mesh, &account, REPLAY, &tool_durable(name, tool)));
        publish.push(API_INFO.to_owned());
        let identity = Identity::Tool { tenant: name.clone(), tool: tool.clone() };
        add(mesh, &account, &identity, key, publish, Vec::new())?;
    }
    Ok(())
}

/// What tenants and doors are told on core NATS, and by which zone. A message that came into `APP` by a service import does not
/// go out by a stream export, so each zone exports its own.
const TOLD: [(&str, &str); 8] = [
    (APP, "state"),
    (APP, "reply"),
    (LOCAL, "delta"),
    (LOCAL, "state"),
    (LOCAL, "reply"),
    (CLOUD, "delta"),
    (CLOUD, "state"),
    (CLOUD, "reply"),
];

/// What both kinds of workers may do.
fn worker(mesh: &mut Mesh, zone: &str, lane: &str, read: &[&str]) -> Vec<String> {
    let mut publish = strings(["result.*.*.*", API_INFO, STREAM_INFO_RESULTS]);
    publish.extend([format!("step.{lane}.*"), format!("attempt.{lane}.*"), format!("dead.{lane}.*")]);
    publish.iter().for_each(|subject| mesh.link(Kind::Service, APP, zone, subject.clone()));
    publish.extend(buckets(mesh, zone, read));
    publish.extend(strings(["state.>", "reply.>", ANSWERS]));
    hear(mesh, zone);
    offer_health(mesh, zone, if zone == LOCAL { Role::Local } else { Role::Cloud });
    publish
}

/// Pulling from exactly one durable, acknowledging its deliveries, and seeing that it is as asked.
fn durable(mesh: &mut Mesh, zone: &str, stream: &str, name: &str) -> Vec<String> {
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
    mesh.link(Kind::Answers, APP, zone, next.clone());
    let mut subjects = vec![
        format!("$JS.ACK.{stream}.{name}.>"),
        format!("$JS.ACK.*.*.{stream}.{name}.>"),
        format!("$JS.API.CONSUMER.INFO.{stream}.{name}"),
    ];
    subjects.iter().for_each(|subject| mesh.link(Kind::Service, APP, zone, subject.clone()));
    subjects.push(next);
    subjects
}

/// Reading buckets: the last value of a key, or of all keys.
fn buckets(mesh: &mut Mesh, zone: &str, names: &[&str]) -> Vec<String> {
    let mut subjects = Vec::new();
    for name in names {
        let (one, all) = (format!("$JS.API.DIRECT.GET.KV_{name}.>"), format!("$JS.API.DIRECT.GET.KV_{name}"));
        mesh.link(Kind::Service, APP, zone, one.clone());
        mesh.link(Kind::Answers, APP, zone, all.clone());
        subjects.extend([one, all]);
    }
    subjects
}

fn hear(mesh: &mut Mesh, zone: &str) {
    mesh.link(Kind::Stream, APP, zone, NOTICES);
}

/// Lets operations see a zone's processes.
fn offer_health(mesh: &mut Mesh, zone: &str, role: Role) {
    mesh.link(Kind::Answers, zone, OPS, SERVICES);
    mesh.link(Kind::Service, zone, OPS, format!("health.{role}"));
}

fn add(
    mesh: &mut Mesh,
    account: &str,
    identity: &Identity,
    key: Key<'_>,
    publish: Vec<String>,
    mut subscribe: Vec<String>,
) -> Result<(), KeyError> {
    let nkey = key(identity)?;
    subscribe.insert(0, format!("{}.>", identity.inbox_prefix()));
    mesh.user(account, identity.to_string(), nkey, publish, subscribe);
    Ok(())
}

fn strings<const N: usize>(list: [&str; N]) -> Vec<String> {
    list.map(str::to_owned).to_vec()
}
