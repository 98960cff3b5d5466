//! What a cell is given: bundle, directory, keys. The same for each run, and made once a thread.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use tidegate_local::life::Models;
use tidegate_policies::{Bundle, Judge};
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::{Agent, Directory, Reviewer, Tenant};
use tidegate_schemas::ids::Name;
use tidegate_schemas::subject::Lane;
use tidegate_schemas::task::Kind;
use tidegate_schemas::ticket::{Signer, Verifier};

/// The cell's name: audience of its tickets.
pub(crate) const CELL: &str = "cell";
/// The tenant.
pub(crate) const TENANT: &str = "acme";
/// Its agents.
pub(crate) const AGENTS: [&str; 2] = ["helpdesk", "bot"];
/// Who decides what is held.
pub(crate) const REVIEWERS: [&str; 2] = ["alice", "bob"];

/// What does not change while a cell runs.
pub struct Cell {
    pub(crate) judge: Judge,
    pub(crate) directory: Directory,
    pub(crate) directory_hash: Digest,
    pub(crate) signer: Signer,
    pub(crate) verifier: Verifier,
    pub(crate) models: Models,
    /// Providers and pools by lane, each with its queue.
    pub(crate) targets: Vec<(Lane, Name)>,
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell").field("bundle", &self.judge.bundle().hash()).finish_non_exhaustive()
    }
}

impl Cell {
    /// A cell that judges by the bundle in this directory.
    ///
    /// # Errors
    /// When the bundle cannot be used.
    pub fn new(bundle: &Path) -> Result<Self> {
        let bundle = Bundle::from_dir(bundle).context("reading the bundle")?;
        let judge = Judge::new(Arc::new(bundle)).context("preparing the judge")?;
        let name = |text: &str| Name::new(text).context("a name");
        let mut directory = Directory::empty();
        let mut tenant = Tenant::default();
        for agent in AGENTS {
            let roles = [name("agent")?].into();
            tenant.agents.insert(name(agent)?, Agent { roles, ..Agent::default() });
        }
        tenant.quota.in_flight_max = 1_000_000;
        directory.tenants.insert(name(TENANT)?, tenant);
        for reviewer in REVIEWERS {
            let queues = [name("default")?, name("privacy")?].into();
            directory.reviewers.insert(name(reviewer)?, Reviewer { queues, nkey: String::new() });
        }
        let key = SigningKey::from_bytes(&[7; 32]);
        let verifier = Verifier::new(CELL, vec![("k".into(), key.verifying_key())]);
        let mut models = Models { chat: true, embed: true, ..Models::default() };
        let mut targets = Vec::new();
        for place in judge.bundle().destinations() {
            let target = (place.lane, place.target.clone());
            if !targets.contains(&target) {
                targets.push(target);
            }
            match place.kinds.contains(&Kind::Embed) {
                _ if place.lane == Lane::Cloud => {}
                true => models.embed_sha256 = place.model_sha256,
                false => models.chat_sha256 = place.model_sha256,
            }
        }
        if let Some(spec) = &judge.bundle().taxonomy().model_scan {
            targets.push((Lane::Local, tidegate_schemas::scan::pool()));
            (models.scan, models.scan_sha256) = (true, spec.sha256);
        }
        let directory_hash = directory.hash();
        let signer = Signer::new("k", key);
        Ok(Self { judge, directory, directory_hash, signer, verifier, models, targets })
    }
}
