//! Cloud work as the router makes it: a request, its decision and its ticket. Each part can be changed, to be wrong.

use ed25519_dalek::SigningKey;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tidegate_schemas::decision::Decision;
use tidegate_schemas::digest::{Digest, Salt};
use tidegate_schemas::header::{self, Headers};
use tidegate_schemas::ids::{Name, Position, TaskId};
use tidegate_schemas::ticket::{Claims, Signer, Verifier};
use tidegate_schemas::work::Hop;
use uuid::Uuid;

/// The key that routers sign with.
pub(crate) const ROUTER_KEY: u8 = 3;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn verifier() -> Verifier {
    let key = SigningKey::from_bytes(&[ROUTER_KEY; 32]).verifying_key();
    Verifier::new("cell-a", vec![("k1".into(), key)])
}

/// One piece of cloud work of task `number` and its parts.
#[derive(Debug, Clone)]
pub(crate) struct CloudWork {
    pub(crate) bytes: Vec<u8>,
    pub(crate) salt: Salt,
    pub(crate) hop: Hop,
    pub(crate) claims: Claims,
    pub(crate) decision: Decision,
    pub(crate) form: &'static str,
    /// The budgets that it counts in, as the router's header names them.
    pub(crate) budgets: serde_json::Value,
    pub(crate) signed_by: u8,
    pub(crate) subject: String,
}

impl CloudWork {
    pub(crate) fn new(number: u128, stream: bool) -> Self {
        let body = json!({
            "model": "m-1", "max_tokens": 16, "stream": stream,
            "messages": [{ "role": "user", "content": "CANARY" }]
        });
        let bytes = body.to_string().into_bytes();
        let salt = Salt::new([5; 32]);
        let now = Timestamp::now();
        let deadline = now + SignedDuration::from_secs(60);
        let (task, decision_id) = (TaskId(Uuid::from_u128(number)), Uuid::from_u128(number + 1_000));
        let content = salt.digest(&bytes);
        let hop = Hop {
            id: task,
            agent: name("helpdesk"),
            task: Position::new("TASKS_acme", 1),
            deadline,
            submitted: now,
            hop: 0,
            data_subjects: Vec::new(),
            workflow: None,
            reply: Some("token-1".parse().unwrap()),
            trace: None,
        };
        let claims = Claims {
            version: 1,
            id: Uuid::from_u128(number + 2_000),
            audience: "cell-a".into(),
            tenant: name("acme"),
            agent: name("helpdesk"),
            task,
            decision: decision_id,
            bundle: Digest::plain(b"bundle"),
            directory: Digest::plain(b"directory"),
            content,
            content_bytes: bytes.len() as u64,
            provider: name("double"),
            model: "m-1".into(),
            region: name("eu"),
            base_url: name("main"),
            attempts_max: 3,
            output_tokens_max: 16,
            cost_usd_micros_max: None,
            not_before: now,
            expires: now + SignedDuration::from_secs(60),
            deadline,
        };
        let decision = serde_json::from_value(json!({
            "schema_version": 1, "id": decision_id, "outcome": "cloud",
            "destination": { "name": "double-eu", "lane": "cloud", "target": "double", "model": "m-1", "region": "eu" },
            "considered": [], "determining": [], "labels": { "sensitivity": "public" }, "scan": "recognisers",
            "facts": { "decision_id": decision_id, "now": now, "directory": Digest::plain(b"directory"), "egress_ready": true },
            "sentence": "Permitted.", "bundle": Digest::plain(b"bundle"), "owner": "ops@example.com", "content": content
        }))
        .unwrap();
        Self {
            bytes,
            salt,
            hop,
            claims,
            decision,
            form: "text",
            budgets: serde_json::Value::Null,
            signed_by: ROUTER_KEY,
            subject: "work.cloud.double.interactive.acme".into(),
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same with a ticket that ran out longer ago than clocks may differ.
    pub(crate) fn expired(self) -> Self {
        self.with(|work| {
            work.claims.not_before = Timestamp::now() - SignedDuration::from_secs(100);
            work.claims.expires = Timestamp::now() - SignedDuration::from_secs(10);
        })
    }

    pub(crate) fn headers(&self) -> Headers {
        let signer = Signer::new("k1", SigningKey::from_bytes(&[self.signed_by; 32]));
        let headers = self.hop.headers(&self.hop.task);
        let headers = match &self.budgets {
            serde_json::Value::Null => headers,
            some => headers.with(header::BUDGETS, some.to_string()),
        };
        headers
            .with(header::DECISION, serde_json::to_string(&self.decision).unwrap())
            .with(header::TICKET, signer.sign(&self.claims))
            .with(header::OUTPUT, self.form)
            .with(header::SALT, String::from(self.salt))
    }
}
