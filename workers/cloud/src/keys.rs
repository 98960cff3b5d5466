//! The public keys that tickets are checked with, read again where their file changes.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_schemas::ticket::{BadKeys, KEY_FILE_BYTES_MAX, TrustedKey, Verifier};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How often it is looked whether the keys changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Trusts what stands in the file, until `stop`. What cannot be read is no reason to trust another: the keys before go on to
/// count, each to its own end.
pub(crate) async fn watch(file: PathBuf, verifier: Verifier, stop: CancellationToken) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        let Some(text) = text(&file).filter(|text| refused.as_ref() != Some(text)) else { continue };
        match look_at(&text, &verifier) {
            Ok(false) => {}
            Ok(true) => info!(keys = verifier.trusted().len(), "The trusted ticket keys changed."),
            Err(error) => {
                error!(%error, "The file of trusted ticket keys is malformed; the keys before go on to count.");
                refused = Some(text);
            }
        }
    }
}

/// Takes the keys over where they are others. Says whether they are.
fn look_at(text: &str, verifier: &Verifier) -> Result<bool, BadKeys> {
    let keys = TrustedKey::read_all(text)?;
    let changed = verifier.trusted().as_ref() != keys.as_slice();
    if changed {
        verifier.trust(keys);
    }
    Ok(changed)
}

fn text(file: &Path) -> Option<String> {
    let mut text = String::new();
    // One byte more than may be: what is too long is seen to be.
    let most = u64::try_from(KEY_FILE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(file).ok()?.take(most).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tidegate_schemas::ticket::Signer;

    use super::*;

    #[test]
    fn ticket_keys_that_cannot_be_read_change_nothing() {
        let signer =
            |id: u8| Signer::read(&format!("ticket-{id} {}", format!("{id:02x}").repeat(32))).unwrap();
        let (first, second) = (signer(1).trusted(), signer(2).trusted());
        let verifier = Verifier::trusting("cell", vec![first.clone()]);
        let both = TrustedKey::write_all(&[first.clone(), second.clone()]);
        for malformed in ["", "nobody", &both[..both.len() - 3], &format!("{both}{both}")] {
            assert_eq!(look_at(malformed, &verifier), Err(BadKeys), "{malformed:?}");
            assert_eq!(verifier.trusted().as_ref(), std::slice::from_ref(&first));
        }
        assert_eq!(look_at(&both, &verifier), Ok(true), "negative control");
        assert_eq!(verifier.trusted().as_ref(), [first, second]);
        assert_eq!(look_at(&both, &verifier), Ok(false));
    }
}
