//! The bundles that are released, ready to judge: the active one, the canary, the shadow. A bundle that was ready before is taken
//! over as it is, so that a promotion or a rollback costs no more than a pointer.

use std::sync::Arc;

use tidegate_bus::Bus;
use tidegate_schemas::control::RELEASE_BUCKET;
use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::release::{Canary, Candidates};

use crate::allowance::Allowance;
use crate::judges::{Judges, Lent};
use crate::knowledge::{self, KnowledgeError};
use crate::life::Bench;

/// What is released.
pub(crate) struct Release {
    /// By these pointers.
    pointers: Candidates,
    active: Arc<Judges>,
    canary: Option<(Canary, Arc<Judges>)>,
    shadow: Option<Arc<Judges>>,
    /// The shadow's.
    allowance: Allowance,
    /// Not judged by: a rollback may come.
    before: Option<Arc<Judges>>,
}

/// Judges for one step; they go back when dropped.
pub(crate) struct LentBench<'a> {
    active: Lent<'a>,
    canary: Option<(Canary, Lent<'a>)>,
    shadow: Option<Lent<'a>>,
    allowance: &'a Allowance,
}

// === impl Release ===

impl Release {
    /// Reads what is released; what `known` holds is taken over. A canary or shadow that cannot be used keeps nobody from the
    /// active bundle, which decides then.
    pub(crate) async fn load(bus: &Bus, known: Option<&Self>) -> Result<Self, KnowledgeError> {
        let pointers =
            knowledge::in_force(bus).await?.ok_or(KnowledgeError::Missing { bucket: RELEASE_BUCKET })?;
        let active = ready(bus, known, pointers.active).await?;
        let canary = match pointers.canary {
            Some(canary) => beside(bus, known, canary.hash).await.map(|judges| (canary, judges)),
            None => None,
        };
        let shadow = match pointers.shadow {
            Some(hash) => beside(bus, known, hash).await,
            None => None,
        };
        let before = pointers.before.and_then(|hash| known?.find(hash));
        Ok(Self { pointers, active, canary, shadow, allowance: Allowance::default(), before })
    }

    /// Whether it is what these pointers say, and all of it could be used.
    pub(crate) fn is_all_of(&self, pointers: &Candidates) -> bool {
        self.pointers == *pointers
            && self.canary.is_some() == pointers.canary.is_some()
            && self.shadow.is_some() == pointers.shadow.is_some()
    }

    /// Sequence in EVENTS of the act that left what is released.
    pub(crate) fn revision(&self) -> u64 {
        self.pointers.event
    }

    /// Whether one of the bundles that are ready declares a feature flag.
    pub(crate) fn declares(&self, flag: &Name) -> bool {
        let declares = |judges: &Arc<Judges>| judges.bundle().taxonomy().flags.contains_key(flag);
        let canary = self.canary.iter().map(|(_, judges)| judges);
        std::iter::once(&self.active).chain(canary).chain(&self.shadow).any(declares)
    }

    /// The active bundle's judges.
    pub(crate) fn active(&self) -> &Judges {
        &self.active
    }

    /// All that decide, each bundle once.
    pub(crate) fn deciding(&self) -> impl Iterator<Item = &Judges> {
        std::iter::once(&*self.active).chain(self.canary.iter().map(|(_, judges)| &**judges))
    }

    /// Judges that nobody else uses meanwhile. Hold them for a step, not while waiting for something.
    pub(crate) fn lend(&self) -> LentBench<'_> {
        LentBench {
            active: self.active.lend(),
            canary: self.canary.as_ref().map(|(canary, judges)| (*canary, judges.lend())),
            shadow: self.shadow.as_ref().map(|judges| judges.lend()),
            allowance: &self.allowance,
        }
    }

    fn find(&self, hash: Digest) -> Option<Arc<Judges>> {
        let canary = self.canary.as_ref().map(|(_, judges)| judges);
        let mut all =
            [Some(&self.active), canary, self.shadow.as_ref(), self.before.as_ref()].into_iter().flatten();
        all.find(|judges| judges.bundle().hash() == hash).cloned()
    }
}

async fn ready(bus: &Bus, known: Option<&Release>, hash: Digest) -> Result<Arc<Judges>, KnowledgeError> {
    if let Some(there) = known.and_then(|known| known.find(hash)) {
        return Ok(there);
    }
    Ok(Arc::new(Judges::new(knowledge::bundle(bus, hash).await?)?))
}

async fn beside(bus: &Bus, known: Option<&Release>, hash: Digest) -> Option<Arc<Judges>> {
    let ready = ready(bus, known, hash).await;
    ready.inspect_err(|error| tracing::error!(%hash, %error, "A released bundle cannot be used: the active one decides.")).ok()
}

// === impl LentBench ===

impl LentBench<'_> {
    pub(crate) fn bench(&self) -> Bench<'_> {
        Bench {
            active: &self.active,
            canary: self.canary.as_ref().map(|(canary, judge)| (*canary, &**judge)),
            shadow: self.shadow.as_deref(),
            allowance: Some(self.allowance),
        }
    }
}
