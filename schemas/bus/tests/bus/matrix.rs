//! Every identity of the accounts that ship against every family of subjects and every call of the JetStream API: what is not in
//! the table below is denied. The table is written from the design of the zones, not from the code that makes the accounts.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use tidegate_bus::{Identity, Outbound, Role};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::cell::{Cell, PATIENCE, agent, tool};

/// Reading what streams and consumers are: no content.
const LOOK: [&str; 5] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.NAMES",
    "$JS.API.CONSUMER.INFO.*.*",
    "$JS.API.CONSUMER.NAMES.*",
];
const VERSIONED: [&str; 6] = ["directory", "bundles", "prompts", "models", "flags", "release"];
const SHARED: [&str; 4] = ["sessions", "budgets", "breakers", "reviews"];

/// What one identity may publish and subscribe.
#[derive(Default)]
struct May {
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl May {
    fn publish(mut self, subjects: &[&str]) -> Self {
        self.publish.extend(subjects.iter().map(ToString::to_string));
        self
    }

    fn subscribe(mut self, subjects: &[&str]) -> Self {
        self.subscribe.extend(subjects.iter().map(ToString::to_string));
        self
    }

    /// Pulling from a durable, acknowledging in both forms, and seeing how it is made.
    fn pull(self, stream: &str, durable: &str) -> Self {
        let info = format!("$JS.API.CONSUMER.INFO.{stream}.{durable}");
        self.take(stream, durable).publish(&[&info])
    }

    fn take(self, stream: &str, durable: &str) -> Self {
        self.publish(&[
            &format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"),
            &format!("$JS.ACK.{stream}.{durable}.>"),
            &format!("$JS.ACK.*.*.{stream}.{durable}.>"),
        ])
    }

    fn read_buckets(mut self, names: &[&str]) -> Self {
        for name in names {
            let (all, one) =
                (format!("$JS.API.DIRECT.GET.KV_{name}"), format!("$JS.API.DIRECT.GET.KV_{name}.>"));
            self = self.publish(&[&all, &one]);
        }
        self
    }
}

/// The table: who may do what.
fn may(identity: &Identity) -> May {
    let inbox = format!("{}.>", identity.inbox_prefix());
    let may = May::default().subscribe(&[&inbox]);
    match identity {
        Identity::Role(role) => role_may(may, *role),
        // The server adds the tenant on the way in, and takes it off on the way out.
        Identity::Agent { agent, .. } => may
            .publish(&[
                &format!("task.{agent}.*"),
                &format!("cancel.{agent}.*"),
                &format!("$JS.API.DIRECT.GET.RESULTS.result.{agent}.*"),
            ])
            .subscribe(
                &["delta", "state", "reply"]
                    .map(|word| format!("{word}.{agent}.>"))
                    .each_ref()
                    .map(String::as_str),
            ),
        Identity::Tool { tenant, tool } => may
            .publish(&["$JS.API.INFO"])
            .pull("RESULTS", &format!("tool={tenant}={tool}"))
            .pull("REPLAY", &format!("tool={tenant}={tool}")),
        Identity::Operator(name) => may
            .publish(&LOOK)
            .publish(&[
                "$JS.API.DIRECT.GET.EVENTS.dead.>",
                "query.audit.>",
                "$SRV.>",
                "health.*",
                "_R_.>",
                &format!("control.*.{name}"),
                &format!("query.replay.{name}"),
                &format!("query.erase.{name}"),
                &format!("query.look.{name}"),
            ])
            .read_buckets(&VERSIONED)
            .read_buckets(&SHARED)
            .subscribe(&["notice.>", "state.>"]),
        Identity::Reviewer(name) => may
            .publish(&[
                "$JS.API.INFO",
                "query.audit.>",
                &format!("query.review.{name}"),
                &format!("verdict.stakes.*.{name}"),
            ])
            .subscribe(&["notice.>"]),
    }
}

fn role_may(may: May, role: Role) -> May {
    let hears = ["notice.>", "$SRV.>", "health.*"];
    let worker = |may: May, lane: &str| {
        may.publish(&[
            "$JS.API.INFO",
            "$JS.API.STREAM.INFO.RESULTS",
            "result.*.*.*",
            "state.>",
            "reply.>",
            "delta.>",
            "_R_.>",
            &format!("step.{lane}.*"),
            &format!("attempt.{lane}.*"),
            &format!("dead.{lane}.*"),
        ])
    };
    match role {
        Role::Provisioner => may.publish(&["$JS.API.>", "$KV.>", "notice.>", "_R_.>"]).subscribe(&hears),
        Role::Router => {
            let kv: Vec<String> =
                VERSIONED.iter().chain(&SHARED).map(|bucket| format!("$KV.{bucket}.>")).collect();
            may.publish(&LOOK)
                .publish(&["$JS.API.DIRECT.GET.>", "_R_.>", "work.>", "result.>", "review.>", "attempt.>"])
                .publish(&[
                    "dead.router.*",
                    "control.refused.router",
                    "state.>",
                    "reply.>",
                    "notice.>",
                    "query.>",
                ])
                .publish(&kv.iter().map(String::as_str).collect::<Vec<_>>())
                .take("*", "router")
                .take("*", "router-control")
                .subscribe(&hears)
        }
        Role::Recorder => may
            .publish(&LOOK)
            .publish(&[
                "$JS.API.DIRECT.GET.>",
                "_R_.>",
                "result.>",
                "checkpoint",
                "dead.recorder.*",
                "state.>",
            ])
            .publish(&["reply.>", "notice.>", "replay.>", "control.replay.recorder"])
            .publish(&["control.record.recorder", "control.bundle.recorder", "control.erase.recorder"])
            .publish(&[
                "task.*.*.*",
                "$JS.API.STREAM.PURGE.*",
                "$JS.API.STREAM.MSG.DELETE.*",
                "_INBOX.router.>",
            ])
            .take("*", "recorder")
            .subscribe(&hears)
            .subscribe(&["query.>", "$JS.EVENT.ADVISORY.>"]),
        Role::Local => worker(may, "local")
            .read_buckets(&["bundles", "prompts", "models", "flags", "release"])
            .pull("WORK_LOCAL", "default")
            .pull("WORK_LOCAL", "embed")
            .pull("WORK_LOCAL", "redact")
            .pull("WORK_LOCAL", "restore")
            .publish(&["vault.issue", "vault.resolve"])
            .subscribe(&hears)
            .subscribe(&["draft.>"]),
        // It answers local workers, and hears what is erased.
        Role::Vault => may
            .publish(&["$JS.API.INFO", "dead.vault.*", "_R_.>", "_INBOX.local.>"])
            .pull("EVENTS", "vault")
            .subscribe(&hears)
            .subscribe(&["vault.issue", "vault.resolve"]),
        Role::Cloud => worker(may, "cloud")
            .publish(&["draft.>", "$KV.budgets.>", "$KV.breakers.>"])
            .read_buckets(&["models", "flags", "release", "budgets", "breakers"])
            .pull("WORK_CLOUD", "openai")
            .subscribe(&hears),
        Role::Gateway => may
            .publish(&["task.*.*.*", "cancel.*.*.*", "$JS.API.DIRECT.GET.RESULTS.result.*.*.*"])
            .publish(&["$JS.API.INFO", "_R_.>"])
            .read_buckets(&["directory", "flags", "models"])
            .subscribe(&hears)
            .subscribe(&["delta.>", "state.>", "reply.>"]),
    }
}

/// Whether a subject, or a pattern as a whole, lies within a pattern.
fn is_within(subject: &str, pattern: &str) -> bool {
    let (mut subject, mut pattern) = (subject.split('.'), pattern.split('.'));
    loop {
        match (subject.next(), pattern.next()) {
            (Some(_), Some(">")) => return true,
            (Some(">"), _) => return false,
            (Some(_), Some("*")) => {}
            (Some(one), Some(other)) if one == other => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

const STREAMS: [&str; 20] = [
    "TASKS_acme",
    "TASKS_beta",
    "STEPS",
    "WORK_LOCAL",
    "WORK_CLOUD",
    "RESULTS",
    "EVENTS",
    "REPLAY",
    "GHOST",
    "KV_directory",
    "KV_bundles",
    "KV_prompts",
    "KV_models",
    "KV_flags",
    "KV_release",
    "KV_sessions",
    "KV_budgets",
    "KV_breakers",
    "KV_reviews",
    "OBJ_files",
];
const DURABLES: [&str; 12] = [
    "router",
    "router-control",
    "recorder",
    "default",
    "embed",
    "openai",
    "redact",
    "restore",
    "vault",
    "tool=acme=desk",
    "tool=beta=desk",
    "evil",
];

/// The subjects of messages, with and without a tenant.
fn families() -> Vec<String> {
    let mut all: Vec<String> = [
        "checkpoint",
        "replay.x.task",
        "notice.kv.flags",
        "notice.cancel.acme.x",
        "query.audit.records",
        "query.review.ann",
        "query.review.bob",
        "query.replay.olga",
        "query.replay.oscar",
        "query.erase.olga",
        "query.erase.oscar",
        "query.other",
        "vault.issue",
        "vault.resolve",
        "vault.other",
        "query.look.olga",
        "query.look.oscar",
        "$SRV.PING",
        "$SRV.INFO.tidegate-router",
        "_R_.x",
        "anything",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.ACCOUNT.APP.CONNZ",
        "$SYS.ACCOUNT.APP.CONNECT",
        "$JSC.R.x",
    ]
    .map(str::to_owned)
    .to_vec();
    let words = |words: &[&str], rest: &str| -> Vec<String> {
        words.iter().map(|word| format!("{word}.{rest}")).collect()
    };
    for who in ["helpdesk", "billing", "acme.helpdesk", "acme.billing", "beta.helpdesk"] {
        all.extend(words(
            &["task", "cancel", "result", "delta", "draft", "state", "reply"],
            &format!("{who}.x"),
        ));
    }
    for tenant in ["acme", "beta"] {
        all.extend(words(&["step.local", "step.cloud", "attempt.local", "attempt.cloud"], tenant));
        all.extend(words(
            &["dead.router", "dead.recorder", "dead.local", "dead.cloud", "dead.gateway", "dead.vault"],
            tenant,
        ));
        all.extend(words(&["work.local.default.batch", "work.local.vault.batch"], tenant));
        all.extend(words(&["work.cloud.openai.batch", "review.stakes", "review.money"], tenant));
        for reviewer in ["ann", "bob"] {
            all.extend(words(&["verdict.stakes", "verdict.money"], &format!("{tenant}.{reviewer}")));
        }
    }
    for who in ["olga", "oscar", "ann", "recorder", "router"] {
        all.extend(words(&["control"], &format!("lane.{who}")));
        all.extend(
            ["bundle", "record", "erase", "replay", "refused", "ticket"]
                .map(|topic| format!("control.{topic}.{who}")),
        );
    }
    all.extend(
        ["router", "recorder", "local", "cloud", "gateway", "vault"].map(|role| format!("health.{role}")),
    );
    all
}

/// Every call of the JetStream API, acknowledgements in both forms, and the subjects of buckets.
fn api() -> Vec<String> {
    let mut all =
        ["INFO", "STREAM.NAMES", "STREAM.LIST", "ACCOUNT.PURGE.APP", "META.LEADER.STEPDOWN", "SERVER.REMOVE"]
            .map(|call| format!("$JS.API.{call}"))
            .to_vec();
    let of_stream = [
        "STREAM.CREATE",
        "STREAM.UPDATE",
        "STREAM.DELETE",
        "STREAM.INFO",
        "STREAM.PURGE",
        "STREAM.SNAPSHOT",
        "STREAM.RESTORE",
        "STREAM.MSG.GET",
        "STREAM.MSG.DELETE",
        "STREAM.PEER.REMOVE",
        "STREAM.LEADER.STEPDOWN",
        "CONSUMER.CREATE",
        "CONSUMER.LIST",
        "CONSUMER.NAMES",
        "DIRECT.GET",
    ];
    let of_consumer = [
        "CONSUMER.CREATE",
        "CONSUMER.DURABLE.CREATE",
        "CONSUMER.DELETE",
        "CONSUMER.INFO",
        "CONSUMER.PAUSE",
        "CONSUMER.RESET",
        "CONSUMER.UNPIN",
        "CONSUMER.LEADER.STEPDOWN",
        "CONSUMER.MSG.NEXT",
    ];
    for stream in STREAMS {
        all.extend(of_stream.map(|call| format!("$JS.API.{call}.{stream}")));
        for durable in DURABLES {
            all.extend(of_consumer.map(|call| format!("$JS.API.{call}.{stream}.{durable}")));
            all.push(format!("$JS.API.CONSUMER.CREATE.{stream}.{durable}.work.local.default"));
            all.push(format!("$JS.ACK.{stream}.{durable}.1.1.1.1.1"));
            all.push(format!("$JS.ACK._.hash.{stream}.{durable}.1.1.1.1.1.token"));
            all.push(format!("$JS.FC.{stream}.{durable}.x"));
        }
        let bucket = stream.trim_start_matches("KV_");
        all.push(format!("$KV.{bucket}.active"));
        all.push(format!("$JS.API.DIRECT.GET.{stream}.$KV.{bucket}.active"));
        all.push(format!("$JS.EVENT.ADVISORY.STREAM.DELETED.{stream}"));
    }
    for subject in
        ["result.helpdesk.x", "result.billing.x", "result.acme.helpdesk.x", "result.beta.helpdesk.x"]
    {
        all.push(format!("$JS.API.DIRECT.GET.RESULTS.{subject}"));
    }
    for subject in [
        "dead.local.acme",
        "attempt.cloud.acme",
        "review.stakes.acme",
        "verdict.stakes.acme.ann",
        "control.lane.olga",
    ] {
        all.push(format!("$JS.API.DIRECT.GET.EVENTS.{subject}"));
    }
    all.push("$O.files.C.x".to_owned());
    all
}

/// What somebody may want to hear.
fn ears(inboxes: &[String]) -> Vec<String> {
    let mut all: Vec<String> = [
        ">",
        "*",
        "*.>",
        "task.>",
        "cancel.>",
        "work.>",
        "work.local.>",
        "work.cloud.>",
        "step.>",
        "result.>",
        "attempt.>",
        "review.>",
        "verdict.>",
        "dead.>",
        "control.>",
        "checkpoint",
        "state.>",
        "delta.>",
        "draft.>",
        "reply.>",
        "notice.>",
        "query.>",
        "query.audit.>",
        "query.review.ann",
        "health.*",
        "health.local",
        "vault.>",
        "vault.issue",
        "$SRV.>",
        "$SRV.PING",
        "$JS.>",
        "$JS.API.>",
        "$JS.API.DIRECT.GET.>",
        "$JS.EVENT.ADVISORY.>",
        "$JS.ACK.>",
        "$KV.>",
        "$KV.flags.>",
        "$SYS.>",
        "_INBOX.>",
        "_INBOX.*.>",
        "_R_.>",
        "replay.>",
        "$O.>",
    ]
    .map(str::to_owned)
    .to_vec();
    for word in ["delta", "state", "reply", "result"] {
        all.extend(
            ["helpdesk", "billing", "acme.helpdesk", "beta.helpdesk"].map(|who| format!("{word}.{who}.>")),
        );
    }
    all.extend(inboxes.iter().flat_map(|prefix| [format!("{prefix}.>"), format!("{prefix}.*")]));
    all
}

/// The protocol itself: what the server denies is told by it in the order of what was asked.
struct Wire {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Wire {
    async fn connect(cell: &Cell, identity: &Identity) -> Self {
        let address = cell.server.url().trim_start_matches("nats://").to_owned();
        let (read, write) = TcpStream::connect(address).await.unwrap().into_split();
        let mut wire = Self { read: BufReader::new(read), write };
        let info = wire.line().await;
        let info: serde_json::Value = serde_json::from_str(info.trim_start_matches("INFO ")).unwrap();
        let seed = std::fs::read_to_string(cell.identities.seed_file(identity)).unwrap();
        let pair = nkeys::KeyPair::from_seed(seed.trim()).unwrap();
        let sig = URL_SAFE_NO_PAD.encode(pair.sign(info["nonce"].as_str().unwrap().as_bytes()).unwrap());
        let connect = serde_json::json!({
            "verbose": false, "pedantic": false, "nkey": pair.public_key(), "sig": sig, "lang": "test",
            "version": "0", "protocol": 1, "headers": true, "no_responders": true
        });
        assert_eq!(wire.denied(&[format!("CONNECT {connect}")]).await, BTreeSet::new(), "{identity}");
        wire
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.read.read_line(&mut line)).await.unwrap().unwrap();
        assert!(!line.is_empty(), "the server closed the connection");
        line.trim_end().to_owned()
    }

    /// Says these lines, and what of it was denied: what stands in quotes in the server's errors.
    async fn denied(&mut self, lines: &[String]) -> BTreeSet<String> {
        let mut denied = BTreeSet::new();
        // Small groups: neither side waits for the other with full buffers.
        for group in lines.chunks(50) {
            let text: String = group.iter().map(|line| format!("{line}\r\n")).collect();
            self.write.write_all(format!("{text}PING\r\n").as_bytes()).await.unwrap();
            loop {
                let line = self.line().await;
                if line == "PONG" {
                    break;
                }
                if line.starts_with("-ERR") {
                    let violation = line.contains("Permissions Violation");
                    assert!(violation, "{line}");
                    denied.extend(line.split('"').nth(1).map(str::to_owned));
                }
            }
        }
        denied
    }

    async fn denied_to_publish(&mut self, subjects: &[String]) -> BTreeSet<String> {
        let lines: Vec<String> = subjects.iter().map(|subject| format!("PUB {subject} 0\r\n")).collect();
        self.denied(&lines).await
    }

    async fn denied_to_hear(&mut self, subjects: &[String]) -> BTreeSet<String> {
        let numbered = subjects.iter().enumerate();
        let lines: Vec<String> = numbered.map(|(at, subject)| format!("SUB {subject} {at}")).collect();
        self.denied(&lines).await
    }
}

/// What was allowed and should not be, and the other way round.
fn differences(asked: &[String], denied: &BTreeSet<String>, may: &[String]) -> Vec<String> {
    let expected = |subject: &String| may.iter().any(|pattern| is_within(subject, pattern));
    let wrong = asked.iter().filter(|subject| expected(subject) == denied.contains(*subject));
    wrong
        .map(|subject| format!("{} {subject}", if denied.contains(subject) { "denied" } else { "allowed" }))
        .collect()
}

#[tokio::test]
async fn permission_of_every_identity_is_what_the_table_says_and_nothing_else() {
    let cell = Cell::start().await;
    let mut everybody = cell.everybody();
    // Last: it may delete what the others are denied.
    everybody.sort_by_key(|identity| *identity == Identity::Role(Role::Provisioner));
    let inboxes: Vec<String> = everybody.iter().map(Identity::inbox_prefix).collect();
    let mut publish = [families(), api()].concat();
    publish.extend(inboxes.iter().map(|prefix| format!("{prefix}.x")));
    let ears = ears(&inboxes);
    let mut asked = 0;
    let mut wrong = BTreeMap::new();
    for identity in &everybody {
        let may = may(identity);
        let mut wire = Wire::connect(&cell, identity).await;
        let denied = wire.denied_to_publish(&publish).await;
        let mut found = differences(&publish, &denied, &may.publish);
        let denied = wire.denied_to_hear(&ears).await;
        found.extend(
            differences(&ears, &denied, &may.subscribe).into_iter().map(|line| format!("{line} (to hear)")),
        );
        asked += publish.len() + ears.len();
        if !found.is_empty() {
            wrong.insert(identity.to_string(), found);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(everybody.len() >= 12 && asked > 30_000, "{} identities, {asked} questions", everybody.len());
    // Negative control: a table that permits one thing less, or more, is told.
    let denied: BTreeSet<String> = ["task.x".to_owned()].into();
    let asked = ["task.x".to_owned(), "task.y".to_owned()];
    assert_eq!(differences(&asked, &denied, &["task.y".to_owned()]), Vec::<String>::new());
    assert_eq!(differences(&asked, &denied, &[]), ["allowed task.y"]);
    assert_eq!(differences(&asked, &denied, &["task.*".to_owned()]), ["denied task.x"]);
}

#[tokio::test]
async fn permission_to_a_private_inbox_is_its_owner_s_alone() {
    let cell = Cell::start().await;
    let everybody = cell.everybody();
    for identity in &everybody {
        let mut wire = Wire::connect(&cell, identity).await;
        let own = format!("{}.>", identity.inbox_prefix());
        let others: BTreeSet<String> = everybody
            .iter()
            .map(|one| format!("{}.>", one.inbox_prefix()))
            .filter(|one| *one != own)
            .collect();
        let asked: Vec<String> = others.iter().cloned().chain([own]).collect();
        assert_eq!(wire.denied_to_hear(&asked).await, others, "{identity}");
    }
}

#[tokio::test]
async fn monitoring_and_clients_are_on_loopback_only_and_no_other_door_is_open() {
    let cell = Cell::start().await;
    // By itself, nats-server would also offer these; each must be said to be opened.
    for word in
        ["mqtt", "websocket", "leafnodes", "gateway", "cluster", "https:", "http_port", "monitor_port"]
    {
        let said = tidegate_bus::server::CONFIG.lines().any(|line| line.trim_start().starts_with(word));
        assert!(!said, "{word}");
    }
    let pid = cell.server.pid().unwrap();
    let doors = listening(pid);
    assert_eq!(doors.len(), 2, "clients and monitoring: {doors:?}");
    assert!(doors.iter().all(|address| address.starts_with("0100007F:")), "127.0.0.1: {doors:?}");
    // Negative control: a listener on all addresses is seen as one.
    let open = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let own = listening(std::process::id());
    assert!(own.iter().any(|address| address.starts_with("00000000:")), "{own:?}");
    drop(open);
}

/// Local addresses that a process listens on, as /proc/net/tcp and tcp6 have them.
fn listening(pid: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok);
    let sockets: BTreeSet<String> = links
        .filter_map(|link| std::fs::read_link(link.path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"]
        .map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    let fields = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    // State 0A is LISTEN.
    let mine = fields
        .filter(|row| row.get(3) == Some(&"0A") && row.get(9).is_some_and(|inode| sockets.contains(*inode)));
    mine.filter_map(|row| row.get(1).map(ToString::to_string)).collect()
}

/// What a client hears within this subscription, up to a marker that is the last.
async fn heard_before(messages: &mut async_nats::Subscriber, marker: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let message = tokio::time::timeout(PATIENCE, messages.next()).await.unwrap().unwrap();
        if message.payload == marker {
            return heard;
        }
        heard.push(format!("{} {}", message.subject, String::from_utf8_lossy(&message.payload)));
    }
}

#[tokio::test]
async fn permission_of_a_tenant_ends_at_its_own_results_tokens_and_answers() {
    let cell = Cell::start().await;
    let (local, none) = (cell.role(Role::Local).await, tidegate_schemas::header::Headers::new());
    let agents = [agent("acme", "helpdesk"), agent("beta", "helpdesk")];
    let mut ears = Vec::new();
    for who in &agents {
        let raw = cell.raw(who.clone()).await;
        let mut own = Vec::new();
        for word in ["delta", "state", "reply"] {
            own.push(raw.subscribe(format!("{word}.helpdesk.>")).await.unwrap());
        }
        // The subscriptions are there once the server has answered what came after them.
        let bus = cell.bus(who.clone()).await;
        assert!(bus.own_result("helpdesk", "none").await.unwrap().is_none());
        raw.flush().await.unwrap();
        ears.push((raw, own));
    }
    // The same connections ask too: one connection's requests are taken in order.
    for (raw, _) in &ears {
        let inbox = raw.new_inbox();
        let mut answers = raw.subscribe(inbox.clone()).await.unwrap();
        let ask = "$JS.API.DIRECT.GET.RESULTS.result.helpdesk.none";
        raw.publish_with_reply(ask, inbox, "".into()).await.unwrap();
        tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
    }
    let task = "018f4c1e-0000-7000-8000-000000000001";
    local.publish(Outbound::new(format!("result.acme.helpdesk.{task}"), "acme's")).await.unwrap();
    for word in ["delta", "state", "reply"] {
        for (tenant, text) in [("acme", "acme's"), ("beta", "end"), ("acme", "end")] {
            local
                .publish_core(&format!("{word}.{tenant}.helpdesk.{task}"), &none, text.into())
                .await
                .unwrap();
        }
    }
    for (who, (_, own)) in agents.iter().zip(&mut ears) {
        let is_acme = *who == agents[0];
        for messages in own {
            let heard = heard_before(messages, "end").await;
            // Negative control: whose it is hears it.
            assert_eq!(heard.len(), usize::from(is_acme), "{who}: {heard:?}");
        }
        let result = cell.bus(who.clone()).await.own_result("helpdesk", task).await.unwrap();
        assert_eq!(result.is_some(), is_acme, "{who}");
    }
    // Reviews and dead letters are heard by no agent and no tool at all, and a tool pulls from its own durable alone.
    for who in [agent("acme", "helpdesk"), agent("beta", "helpdesk"), tool("acme", "desk")] {
        let mut wire = Wire::connect(&cell, &who).await;
        let asked: Vec<String> = [
            "$JS.API.DIRECT.GET.EVENTS",
            "$JS.API.DIRECT.GET.EVENTS.dead.local.acme",
            "$JS.API.CONSUMER.MSG.NEXT.RESULTS.tool=beta=desk",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(wire.denied_to_publish(&asked).await.len(), asked.len(), "{who}");
    }
}
