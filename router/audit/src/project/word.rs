//! What may stand in a leaf of a text that came in a message: names in a closed alphabet, or their digest.

use std::collections::BTreeSet;

use tidegate_schemas::digest::Digest;
use tidegate_schemas::ids::Name;
use tidegate_schemas::labels::KnownLabels;
use tidegate_schemas::ticket::Claims;
use uuid::Uuid;

/// Longest name taken over from a message, bytes.
const WORD_BYTES_MAX: usize = 128;
/// Most names of one list, count.
pub(crate) const WORDS_MAX: usize = 64;

/// A name that a bundle or a role gave (policy, model). One with other characters is given as its digest: no sentence
/// passes, whoever wrote it.
pub(crate) fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
    if (1..=WORD_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("sha256:{}", Digest::plain(text.as_bytes()))
    }
}

/// Names that the bundle which judged gave to labels. What a task declared stands beside them in the decision, and is left
/// there: it may be any word.
pub(crate) fn labels(known: KnownLabels) -> KnownLabels {
    let few = |names: BTreeSet<Name>| names.into_iter().take(WORDS_MAX).collect::<BTreeSet<Name>>();
    KnownLabels {
        categories: few(known.categories),
        regulations: few(known.regulations),
        residency: few(known.residency),
        consent: few(known.consent),
        purpose: known.purpose,
    }
}

/// The id of a ticket. Its signature is the worker's to check; here only its name is noted.
pub(crate) fn ticket_id(ticket: &str) -> Option<Uuid> {
    Claims::told(ticket).map(|claims| claims.id)
}
