//! Judges of one bundle, one for each thread that judges at the same time: what Cedar shares inside one set of policies it
//! counts atomically, and threads that share a set hold each other up.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_policies::{Bundle, BundleError, Judge};

/// A bundle's judges. As many are made as were ever busy at once; threads bound that.
pub(crate) struct Judges {
    /// Judges where none of their own can be had; making one from a bundle that made one before does not fail.
    shared: Judge,
    idle: Mutex<Vec<Judge>>,
}

/// A judge for one step; it goes back when dropped.
pub(crate) struct Lent<'a> {
    judges: &'a Judges,
    own: Option<Judge>,
}

// === impl Judges ===

impl Judges {
    pub(crate) fn new(bundle: Bundle) -> Result<Self, BundleError> {
        let shared = Judge::new(Arc::new(bundle))?;
        // One is ready, so that the first task does not wait for it.
        let idle = Mutex::new(vec![shared.for_thread()?]);
        Ok(Self { shared, idle })
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        self.shared.bundle()
    }

    /// A judge that nobody else uses meanwhile. Hold it for a step, not while waiting for something.
    pub(crate) fn lend(&self) -> Lent<'_> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { judges: self, own: idle.or_else(|| self.shared.for_thread().ok()) }
    }
}

// === impl Lent ===

impl Deref for Lent<'_> {
    type Target = Judge;

    fn deref(&self) -> &Judge {
        self.own.as_ref().unwrap_or(&self.judges.shared)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.judges.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.own.take());
    }
}
