//! Work as the router sends it; a test bends it before it is sent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate_schemas::decision::{Decision, Destination, Facts, Outcome, Scan};
use tidegate_schemas::digest::{Digest, Salt};
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::labels::{KnownLabels, Labels, Sensitivity};
use tidegate_schemas::subject::{Class, Lane, Subject};
use tidegate_schemas::task::Input;
use tidegate_schemas::work::{Hop, LocalWork};
use uuid::Uuid;

/// Who answers for the bundle behind each decision.
pub(crate) const OWNER: &str = "governance@example.com";
/// All whom a letter about work names.
pub(crate) const OWNERS: &str = "platform@example.com (destination), models@example.com (model), privacy@example.com (policies), governance@example.com (bundle)";

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// One work message.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) pool: &'static str,
    pub(crate) input: Value,
    pub(crate) model: &'static str,
    pub(crate) hop: Hop,
    pub(crate) salt: Salt,
    /// The weights that the bundle pins.
    pub(crate) pinned: Option<Digest>,
}

/// A conversation.
pub(crate) fn chat(prompt: &str, max_tokens: u32, stream: bool) -> Given {
    let input = json!({
        "messages": [{ "role": "user", "content": prompt }],
        "sampling": { "max_tokens": max_tokens }, "stream": stream,
    });
    given("default", input, "SmolLM2-135M-Instruct")
}

pub(crate) fn extract(text: &str, schema: &Value) -> Given {
    let input = json!({ "text": text, "schema": schema, "max_tokens": 48 });
    given("default", input, "SmolLM2-135M-Instruct")
}

pub(crate) fn classify(text: &str, classes: &[&str]) -> Given {
    given("default", json!({ "text": text, "classes": classes }), "SmolLM2-135M-Instruct")
}

pub(crate) fn embed(texts: &[&str]) -> Given {
    given("embed", json!({ "texts": texts }), "all-MiniLM-L6-v2")
}

pub(crate) fn given(pool: &'static str, input: Value, model: &'static str) -> Given {
    let now = Timestamp::now();
    let hop = Hop {
        id: TaskId(Uuid::now_v7()),
        agent: name("helpdesk"),
        task: Position::new("TASKS_acme", 1),
        deadline: now + SignedDuration::from_secs(300),
        submitted: now,
        hop: 0,
        data_subjects: Vec::new(),
        workflow: None,
        reply: None,
        trace: None,
    };
    Given { pool, input, model, hop, salt: Salt::new([7; 32]), pinned: None }
}

impl Given {
    pub(crate) fn id(&self) -> TaskId {
        self.hop.id
    }

    pub(crate) fn due_in_ms(mut self, milliseconds: i64) -> Self {
        self.hop.deadline = Timestamp::now() + SignedDuration::from_millis(milliseconds);
        self
    }

    pub(crate) fn replying_to(mut self, token: &str) -> Self {
        self.hop.reply = Some(token.parse().unwrap());
        self
    }

    pub(crate) fn subject(&self) -> String {
        let (pool, tenant) = (name(self.pool), name("acme"));
        Subject::WorkLocal { pool, class: Class::Interactive, tenant }.to_string()
    }

    pub(crate) fn payload(&self) -> Bytes {
        let input: Input = serde_json::from_value(self.input.clone()).unwrap();
        let work = LocalWork { schema_version: 1, kind: input.kind(), model: self.model.to_owned(), input };
        serde_json::to_vec(&work).unwrap().into()
    }

    pub(crate) fn headers(&self) -> Headers {
        let decision = self.decision(self.salt.digest(&self.payload()));
        self.hop
            .headers(&self.hop.task)
            .with(header::SALT, String::from(self.salt))
            .with(header::DECISION, serde_json::to_string(&decision).unwrap())
    }

    pub(crate) fn decision(&self, content: Digest) -> Decision {
        let destination = Destination {
            name: name(match self.pool {
                "embed" => "local-embed",
                "scan" => "scan",
                _ => "local-chat",
            }),
            lane: Lane::Local,
            target: name(self.pool),
            model: self.model.to_owned(),
            model_sha256: self.pinned,
            adapter_sha256: None,
            region: name("eu"),
            owner: "platform@example.com".to_owned(),
            model_owner: "models@example.com".to_owned(),
        };
        Decision {
            schema_version: 1,
            id: Uuid::now_v7(),
            outcome: Outcome::Local,
            destination: Some(destination),
            considered: Vec::new(),
            determining: Vec::new(),
            labels: Labels::of(Sensitivity::Internal),
            known: KnownLabels::default(),
            findings: BTreeMap::new(),
            scan: Scan::Recognisers,
            facts: facts(self.hop.submitted),
            obligations: Vec::new(),
            code: None,
            sentence: "runs here".to_owned(),
            bundle: Digest::plain(b"bundle"),
            owner: OWNER.to_owned(),
            policy_owners: vec!["privacy@example.com".to_owned()],
            prompt: None,
            prompt_owner: None,
            content: Some(content),
            shadow: None,
        }
    }
}

fn facts(now: Timestamp) -> Facts {
    Facts {
        decision_id: Uuid::now_v7(),
        now,
        directory: Digest::plain(b"directory"),
        hop: 0,
        lane_max: None,
        tried: BTreeSet::new(),
        off: Vec::new(),
        flags: BTreeSet::new(),
        flags_revision: 0,
        release_revision: 0,
        inherited: None,
        approval: None,
        model_scan: Default::default(),
        wait_ms: BTreeMap::new(),
        tenant_in_flight: 0,
        egress_ready: false,
        session: None,
        spent: Vec::new(),
        broken: Vec::new(),
        redaction: None,
    }
}
