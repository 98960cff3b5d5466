//! Signs tickets, those of many tasks at once: what comes while others come shares one signature.
//!
//! A signature costs as much as all else that the router does with a task. So a ticket that is wanted waits until the tasks
//! that are under way have had their turn, which is at once where there are none, and is signed with theirs.

use std::sync::{Mutex, PoisonError, RwLock};

use tidegate_schemas::ticket::{Claims, Signer};
use tokio::sync::oneshot;

/// Tickets that one signature covers, at most: a longer path costs more than another signature spares.
const TOGETHER_MAX: usize = 16;

/// Signs for all tasks of a router.
pub(crate) struct Signing {
    signer: RwLock<Signer>,
    wanted: Mutex<Wanted>,
}

/// Claims that wait, and who waits for the ticket of each.
#[derive(Default)]
struct Wanted {
    claims: Vec<Claims>,
    waiting: Vec<oneshot::Sender<String>>,
}

/// Whoever comes first signs for those who came by then, also where it is dropped meanwhile.
struct Turn<'a>(&'a Signing);

// === impl Signing ===

impl Signing {
    pub(crate) fn new(signer: Signer) -> Self {
        Self { signer: RwLock::new(signer), wanted: Mutex::default() }
    }

    /// Signs with another key from now on.
    pub(crate) fn go_over(&self, signer: Signer) {
        *self.signer.write().unwrap_or_else(PoisonError::into_inner) = signer;
    }

    /// The ticket of these claims; none only where the router ends.
    pub(crate) async fn sign(&self, claims: Claims) -> Option<String> {
        let (sender, ticket) = oneshot::channel();
        let count = {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.claims.push(claims);
            wanted.waiting.push(sender);
            wanted.claims.len()
        };
        match count {
            1 => {
                let turn = Turn(self);
                tokio::task::yield_now().await;
                drop(turn);
            }
            // Nothing more would share the signature.
            TOGETHER_MAX => self.sign_wanted(),
            _ => {}
        }
        ticket.await.ok()
    }

    fn sign_wanted(&self) {
        let Wanted { claims, waiting } =
            std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        let signer = self.signer.read().unwrap_or_else(PoisonError::into_inner);
        let tickets = claims.chunks(TOGETHER_MAX).flat_map(|claims| signer.sign_all(claims));
        for (ticket, waiting) in tickets.zip(waiting) {
            // Whoever waited may have gone.
            let _ = waiting.send(ticket);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.sign_wanted();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use ed25519_dalek::SigningKey;
    use futures::future::join_all;
    use jiff::{SignedDuration, Timestamp};
    use tidegate_schemas::digest::{Digest, Salt};
    use tidegate_schemas::ids::{Name, TaskId};
    use tidegate_schemas::ticket::Verifier;
    use uuid::Uuid;

    use super::*;

    const SALT: [u8; 32] = [5; 32];

    fn claims(n: u128, now: Timestamp) -> Claims {
        let name = |text: &str| Name::new(text).unwrap();
        Claims {
            version: 1,
            id: Uuid::from_u128(n),
            audience: "cell".into(),
            tenant: name("acme"),
            agent: name("bot"),
            task: TaskId(Uuid::from_u128(n)),
            decision: Uuid::from_u128(n),
            bundle: Digest::plain(b"bundle"),
            directory: Digest::plain(b"directory"),
            content: Salt::new(SALT).digest(&n.to_be_bytes()),
            content_bytes: 16,
            provider: name("p"),
            model: "m".into(),
            region: name("eu"),
            base_url: name("p"),
            attempts_max: 3,
            output_tokens_max: 8,
            cost_usd_micros_max: None,
            not_before: now,
            expires: now + SignedDuration::from_secs(60),
            deadline: now + SignedDuration::from_secs(60),
        }
    }

    fn signing() -> (Signing, Verifier) {
        let key = SigningKey::from_bytes(&[3; 32]);
        let verifier = Verifier::new("cell", vec![("k".into(), key.verifying_key())]);
        (Signing::new(Signer::new("k", key)), verifier)
    }

    #[tokio::test]
    async fn each_gets_the_ticket_of_its_own_claims() {
        let ((signing, verifier), now) = (signing(), Timestamp::now());
        for count in [1_u128, 2, 16, 17, 100] {
            let tickets = join_all((0..count).map(|n| signing.sign(claims(n, now)))).await;
            for (n, ticket) in (0..count).zip(tickets) {
                let payload = n.to_be_bytes().to_vec();
                let cleared = verifier.verify(&ticket.unwrap(), &Salt::new(SALT), payload.into(), now);
                assert_eq!(cleared.unwrap().claims(), &claims(n, now), "{n} of {count}");
            }
        }
        assert!(signing.wanted.lock().unwrap().claims.is_empty());
    }

    #[tokio::test]
    async fn ticket_wanted_after_the_key_changed_is_signed_by_the_new_one() {
        let ((signing, verifier), now) = (signing(), Timestamp::now());
        let next = Signer::new("next", SigningKey::from_bytes(&[4; 32]));
        let of = |ticket: Option<String>, n: u128| {
            let payload = n.to_be_bytes().to_vec();
            verifier.verify(&ticket.unwrap(), &Salt::new(SALT), payload.into(), now).map(drop)
        };
        assert_eq!(of(signing.sign(claims(1, now)).await, 1), Ok(()));
        let trusted = next.trusted();
        signing.go_over(next);
        let ticket = signing.sign(claims(2, now)).await;
        assert_eq!(of(ticket.clone(), 2), Err(tidegate_schemas::ticket::TicketError::Signature));
        verifier.trust(vec![trusted]);
        assert_eq!(of(ticket, 2), Ok(()));
    }

    /// A handler may be dropped at any point; those who wait for its turn must not wait for ever.
    #[test]
    fn who_came_first_and_is_dropped_still_signs_for_the_others() {
        let ((signing, _), now) = (signing(), Timestamp::now());
        let mut context = Context::from_waker(Waker::noop());
        let mut second = pin!(signing.sign(claims(2, now)));
        {
            let mut first = pin!(signing.sign(claims(1, now)));
            assert!(first.as_mut().poll(&mut context).is_pending());
            assert!(
                second.as_mut().poll(&mut context).is_pending(),
                "negative control: nobody has signed yet"
            );
        }
        assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Some(_))));
    }
}
