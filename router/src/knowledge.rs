//! What a router knows beside its messages: directory, bundles and switches, each swapped whole when its pointer moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tidegate_bus::{Bus, KvError};
use tidegate_policies::{Bundle, BundleError};
use tidegate_schemas::control::{
    ACTIVE_KEY, Active, BUNDLES_BUCKET, DIRECTORY_BUCKET, FLAGS_BUCKET, FLAGS_KEY, Flags, RELEASE_BUCKET,
};
use tidegate_schemas::decision::Switch;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::directory::Directory;
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::{APPROVALS_KEY, Approvals, Approved, CANDIDATES_KEY, Candidates};
use tidegate_schemas::subject::Lane;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::egress::{Egress, Why};
use crate::gates::Gates;
use crate::release::Release;

/// Why the router cannot know what it must.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// The bucket cannot be read.
    #[error("reading bucket `{bucket}`: {source}")]
    Bucket {
        /// The bucket.
        bucket: &'static str,
        /// Why.
        source: KvError,
    },
    /// Nothing is there yet.
    #[error("bucket `{bucket}` has no active version: provision the cell and activate one")]
    Missing {
        /// The bucket.
        bucket: &'static str,
    },
    /// What is there is not what it must be.
    #[error("the active version in bucket `{bucket}` cannot be used: it is malformed or its hash is another")]
    Malformed {
        /// The bucket.
        bucket: &'static str,
    },
    /// The bundle is there and is none.
    #[error("the active bundle cannot be used: {0}")]
    Bundle(#[from] BundleError),
}

/// One state of what is known.
#[derive(Clone)]
pub(crate) struct Knowledge {
    pub(crate) directory: Arc<Directory>,
    pub(crate) directory_hash: Digest,
    pub(crate) release: Arc<Release>,
    pub(crate) flags: Arc<Flags>,
    pub(crate) wait_ms: Arc<BTreeMap<Name, u64>>,
    pub(crate) in_flight: Arc<BTreeMap<Name, u64>>,
    /// What keeps work from providers for a while.
    pub(crate) gates: Arc<Gates>,
    /// Whether work may leave, by the time since `started`.
    pub(crate) egress: Egress,
    pub(crate) started: Instant,
    /// The stream whose fullness closes admission.
    pub(crate) closed: Option<&'static str>,
}

impl Knowledge {
    /// Reads everything for the first time. Whether work may leave is not known yet, so it may not.
    pub(crate) async fn load(bus: &Bus) -> Result<Self, KnowledgeError> {
        let (directory, directory_hash) = directory(bus).await?;
        Ok(Self {
            directory: Arc::new(directory),
            directory_hash,
            release: Arc::new(Release::load(bus, None).await?),
            flags: Arc::new(switches(bus, &Flags::default()).await?),
            wait_ms: Arc::default(),
            in_flight: Arc::default(),
            gates: Arc::default(),
            egress: Egress::Closed(Why::Silent),
            started: Instant::now(),
            closed: None,
        })
    }
}

/// Reads again what has moved, if it has. A version that cannot be used never replaces one that can.
pub(crate) async fn refresh(bus: &Bus, known: &watch::Sender<Knowledge>, bucket: &'static str) {
    let now = known.borrow().clone();
    match has_moved(bus, &now, bucket).await {
        Ok(false) => return,
        Ok(true) => {}
        Err(error) => {
            tracing::warn!(bucket, %error, "Cannot see whether another version is active.");
            return;
        }
    }
    let outcome = match bucket {
        DIRECTORY_BUCKET => directory(bus).await.map(|(directory, hash)| {
            known.send_modify(|k| (k.directory, k.directory_hash) = (Arc::new(directory), hash));
        }),
        RELEASE_BUCKET => Release::load(bus, Some(&now.release)).await.map(|release| {
            known.send_modify(|k| k.release = Arc::new(release));
        }),
        FLAGS_BUCKET => switches(bus, &now.flags).await.map(|flags| {
            known.send_modify(|k| k.flags = Arc::new(flags));
        }),
        _ => Ok(()),
    };
    match outcome {
        Ok(()) => tracing::info!(bucket, "Took over the active version."),
        Err(error) => {
            tracing::error!(bucket, %error, "Kept the version before: the active one cannot be used.");
        }
    }
}

async fn has_moved(bus: &Bus, known: &Knowledge, bucket: &'static str) -> Result<bool, KnowledgeError> {
    match bucket {
        DIRECTORY_BUCKET => {
            let active: Option<Active> = value(bus, bucket, ACTIVE_KEY).await?;
            Ok(active.is_none_or(|active| active.hash != known.directory_hash))
        }
        RELEASE_BUCKET => Ok(in_force(bus).await?.is_none_or(|now| !known.release.is_all_of(&now))),
        _ => Ok(switches(bus, &known.flags).await? != *known.flags),
    }
}

async fn value<T: DeserializeOwned>(
    bus: &Bus,
    bucket: &'static str,
    key: &str,
) -> Result<Option<T>, KnowledgeError> {
    let entry = bus.kv_get(bucket, key).await.map_err(|source| KnowledgeError::Bucket { bucket, source })?;
    entry
        .map(|entry| serde_json::from_slice(&entry.value).map_err(|_| KnowledgeError::Malformed { bucket }))
        .transpose()
}

pub(crate) async fn directory(bus: &Bus) -> Result<(Directory, Digest), KnowledgeError> {
    let bucket = DIRECTORY_BUCKET;
    let active: Active = value(bus, bucket, ACTIVE_KEY).await?.ok_or(KnowledgeError::Missing { bucket })?;
    let directory: Directory =
        value(bus, bucket, &active.hash.to_string()).await?.ok_or(KnowledgeError::Missing { bucket })?;
    if directory.hash() != active.hash {
        return Err(KnowledgeError::Malformed { bucket });
    }
    Ok((directory, active.hash))
}

/// The pointer to the active bundle.
pub(crate) async fn active(bus: &Bus) -> Result<Option<Active>, KnowledgeError> {
    value(bus, RELEASE_BUCKET, ACTIVE_KEY).await
}

/// What the last act left beside it; none before the first one.
pub(crate) async fn candidates(bus: &Bus) -> Result<Option<Candidates>, KnowledgeError> {
    value(bus, RELEASE_BUCKET, CANDIDATES_KEY).await
}

/// Who agreed that more may leave.
pub(crate) async fn approvals(bus: &Bus) -> Result<Vec<Approved>, KnowledgeError> {
    let approvals: Option<Approvals> = value(bus, RELEASE_BUCKET, APPROVALS_KEY).await?;
    Ok(approvals.unwrap_or_default().all)
}

/// The bundles that are released.
pub(crate) async fn in_force(bus: &Bus) -> Result<Option<Candidates>, KnowledgeError> {
    Ok(Candidates::in_force(active(bus).await?, candidates(bus).await?))
}

/// A bundle that the cell keeps.
pub(crate) async fn bundle(bus: &Bus, hash: Digest) -> Result<Bundle, KnowledgeError> {
    let bucket = BUNDLES_BUCKET;
    let entry = bus
        .kv_get(bucket, &hash.to_string())
        .await
        .map_err(|source| KnowledgeError::Bucket { bucket, source })?
        .ok_or(KnowledgeError::Missing { bucket })?;
    let archive = std::str::from_utf8(&entry.value).map_err(|_| KnowledgeError::Malformed { bucket })?;
    let bundle = Bundle::from_kept(archive)?;
    if bundle.hash() != hash {
        return Err(KnowledgeError::Malformed { bucket });
    }
    Ok(bundle)
}

/// Switches and flags as they stand; where they cannot be known, as [`unknown`] leaves what was known last.
async fn switches(bus: &Bus, last: &Flags) -> Result<Flags, KnowledgeError> {
    match value(bus, FLAGS_BUCKET, FLAGS_KEY).await {
        Ok(Some(flags)) => Ok(flags),
        Ok(None) | Err(KnowledgeError::Malformed { .. }) => Ok(unknown(last)),
        Err(error) => Err(error),
    }
}

/// Switches and flags that are not there, or cannot be read, are no permission: what may leave is not known, so nothing does. Local
/// work goes on with those known last.
fn unknown(last: &Flags) -> Flags {
    let cloud = Switch { lane: Some(Lane::Cloud), ..Switch::default() };
    let mut known = last.clone();
    if !known.switches.contains(&cloud) {
        tracing::error!(
            "Switches and flags are gone or malformed; nothing leaves until they are written anew."
        );
        known.switches.push(cloud);
    }
    known
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]
    use tidegate_schemas::decision::Destination;
    use tidegate_schemas::flag::{FlagSetting, Portion};

    use super::*;

    #[test]
    fn switches_that_are_missing_close_the_cloud() {
        let destination = |lane| Destination {
            name: Name::new("here").expect("a name"),
            lane,
            target: Name::new("there").expect("a name"),
            model: "m".to_owned(),
            model_sha256: None,
            adapter_sha256: None,
            region: Name::new("eu").expect("a name"),
            owner: String::new(),
            model_owner: String::new(),
        };
        let tenant = Name::new("acme").expect("a name");
        let closed = |flags: &Flags, lane| {
            flags.switches.iter().any(|switch| switch.covers(&tenant, &destination(lane)))
        };
        let none = Flags::default();
        assert!(closed(&unknown(&none), Lane::Cloud));
        assert!(!closed(&unknown(&none), Lane::Local), "local work goes on");
        assert!(!closed(&none, Lane::Cloud), "negative control: known, and nothing is off");
        let flag = FlagSetting { others: Portion::ALL, tenants: BTreeMap::new() };
        let last = Flags { event: 7, flags: [(tenant.clone(), flag)].into(), ..none };
        let known = unknown(&last);
        assert_eq!((&known.flags, known.event), (&last.flags, 7), "what was known last goes on");
        assert_eq!(unknown(&known), known, "and stays as it is");
    }
}
