//! The part of an append that needs no table, on as many threads as pay for themselves: reading messages before their rows
//! are made, sealing and hashing after.

use std::num::NonZero;
use std::sync::LazyLock;
use std::thread;

use tidegate_schemas::digest::Digest;

use crate::body;
use crate::entry::Item;
use crate::error::AppendError;
use crate::keys::Key;
use crate::keys::seal::seal_with;
use crate::leaf::{Commitment, Leaf, Seal, leaf_hash};
use crate::project::{Projection, project};

/// Fewest messages that are worth a thread.
const SHARE_MIN: usize = 24;
/// Most threads of one append: with more, the tables are what it waits for.
const THREADS_MAX: usize = 4;

/// Threads that an append has. Asked once: the answer is read from the system's files for a process's share of the machine,
/// which takes as long as a small batch's rows.
static THREADS: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX));

/// One message, read.
pub(super) struct Told {
    pub(super) projection: Projection,
    /// The bytes that are sealed.
    pub(super) plain: Vec<u8>,
}

/// A record whose body is not sealed yet.
pub(super) struct Draft {
    pub(super) leaf: Leaf,
    pub(super) unsealed: Option<Unsealed>,
}

/// A body, and what it will be sealed with and to.
pub(super) struct Unsealed {
    pub(super) id: u64,
    pub(super) key: Key,
    pub(super) nonce: [u8; 24],
    pub(super) place: Vec<u8>,
    pub(super) plain: Vec<u8>,
}

/// A record as it is stored.
pub(super) struct Made {
    pub(super) hash: [u8; 32],
    /// Hash and leaf.
    pub(super) row: Vec<u8>,
    pub(super) sealed: Option<Vec<u8>>,
}

/// Reads messages; a gap says all by itself.
pub(super) fn read(items: &[Item]) -> Vec<Option<Told>> {
    each(items.iter().collect(), |item| match item {
        Item::Message(entry) => Some(Told { projection: project(entry), plain: body::encode(entry) }),
        Item::Gap(_) => None,
    })
}

/// Seals and writes records out, in their order.
pub(super) fn make(drafts: Vec<Draft>) -> Result<Vec<Made>, AppendError> {
    each(drafts, Draft::make).into_iter().collect()
}

// === impl Draft ===

impl Draft {
    fn make(self) -> Result<Made, AppendError> {
        let Self { mut leaf, unsealed } = self;
        let sealed = unsealed.map(|body| {
            let sealed = seal_with(&body.key, &body.nonce, &body.place, &body.plain);
            leaf.body = Some(Commitment {
                alg: Seal::XChaCha20Poly1305,
                key: body.id,
                length: body.plain.len() as u64,
                sha256: Digest::plain(&sealed),
            });
            sealed
        });
        let mut row = vec![0; 32];
        serde_json::to_writer(&mut row, &leaf)
            .map_err(|error| AppendError::Broken { what: error.to_string() })?;
        let hash = leaf_hash(row.get(32..).unwrap_or_default());
        if let Some(head) = row.first_chunk_mut::<32>() {
            *head = hash;
        }
        Ok(Made { hash, row, sealed })
    }
}

/// Applies `work` to each, and keeps their order.
fn each<T: Send, R: Send>(mut all: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = (*THREADS).min(all.len() / SHARE_MIN).max(1);
    let share = all.len().div_ceil(threads).max(1);
    let mut shares = Vec::new();
    while all.len() > share {
        shares.push(all.split_off(all.len() - share));
    }
    let work = &work;
    thread::scope(|scope| {
        let spawn = |share: Vec<T>| scope.spawn(move || share.into_iter().map(work).collect::<Vec<R>>());
        let others: Vec<_> = shares.into_iter().rev().map(spawn).collect();
        let mut done: Vec<R> = all.into_iter().map(work).collect();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    })
}
