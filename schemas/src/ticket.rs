//! The ticket: a signed statement that lets one exact payload go to one exact destination for a short time.
//!
//! On the wire: `tg1.<claims>.<signature>`, both base64url without padding (RFC 4648 §5). The claims are the exact JSON
//! bytes that were signed, so nothing has to be canonical; Ed25519 (RFC 8032) signs `tidegate ticket v1` ‖ 0x00 ‖ claims.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::{Digest, Salt};
use crate::ids::{Name, TaskId};
use crate::limits::{CLOCK_SKEW_MS_MAX, TICKET_LIFE_MS_MAX};

#[cfg(test)]
mod tests;

const PREFIX: &str = "tg1.";
const CONTEXT: &[u8] = b"tidegate ticket v1\0";
const TICKET_BYTES_MAX: usize = 6 * 1024;

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Version; 1.
    pub version: u32,
    /// Which key signed.
    pub key_id: String,
    /// The ticket's id.
    pub id: Uuid,
    /// The cell whose cloud workers may use it.
    pub audience: String,
    /// Whose task.
    pub tenant: Name,
    /// Who asked.
    pub agent: Name,
    /// The task.
    pub task: TaskId,
    /// The decision that allows it.
    pub decision: Uuid,
    /// The bundle that judged.
    pub bundle: Digest,
    /// The directory that was asked.
    pub directory: Digest,
    /// Salted digest of the exact request bytes.
    pub content: Digest,
    /// The request's length, bytes.
    pub content_bytes: u64,
    /// The provider that may receive it.
    pub provider: Name,
    /// The model that may answer.
    pub model: String,
    /// The region it runs in.
    pub region: Name,
    /// Id of the base URL in the worker's configuration.
    pub base_url: Name,
    /// Most times it may be sent.
    pub attempts_max: u32,
    /// Most tokens the answer may have.
    pub output_tokens_max: u32,
    /// Most it may cost, millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd_micros_max: Option<u64>,
    /// Not before.
    pub not_before: Timestamp,
    /// Not after; at most 120 s later.
    pub expires: Timestamp,
    /// When the task must have ended.
    pub deadline: Timestamp,
}

impl Claims {
    /// What a ticket says of itself, unproven: for the record, which notes it; permits nothing.
    #[must_use]
    pub fn told(ticket: &str) -> Option<Self> {
        let (body, _) = ticket.strip_prefix(PREFIX)?.split_once('.')?;
        let body = (body.len() <= TICKET_BYTES_MAX).then(|| URL_SAFE_NO_PAD.decode(body).ok())??;
        serde_json::from_slice(&body).ok()
    }
}

/// Why a ticket does not permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not of the form `tg1.<claims>.<signature>`, or too long.
    #[error("the ticket is malformed")]
    Malformed,
    /// No trusted key made the signature.
    #[error("the ticket's signature is not from a trusted key")]
    Signature,
    /// For another cell.
    #[error("the ticket is for another cell")]
    Audience,
    /// Used too early, or its times make no sense.
    #[error("the ticket is not valid yet")]
    TooEarly,
    /// Used too late. The work goes back to the router, which decides anew.
    #[error("the ticket has expired")]
    Expired,
    /// The bytes are not those it was signed for.
    #[error("the ticket is for another payload")]
    Content,
}

/// A ticket that verified for one payload. Only [`Verifier::verify`] makes one.
#[derive(Debug, Clone)]
pub struct Verified {
    claims: Claims,
}

impl Verified {
    /// What it says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// A payload that may leave: its ticket verified for exactly these bytes. The one thing a provider's client takes.
#[derive(Clone)]
pub struct Cleared {
    ticket: Verified,
    bytes: bytes::Bytes,
}

impl Cleared {
    /// What permits it.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.ticket.claims
    }

    /// The bytes that may leave.
    #[must_use]
    pub fn bytes(&self) -> &bytes::Bytes {
        &self.bytes
    }
}

impl std::fmt::Debug for Cleared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleared").field("ticket", &self.ticket.claims.id).finish_non_exhaustive()
    }
}

/// Signs tickets; the router's.
pub struct Signer {
    key_id: String,
    key: SigningKey,
}

impl Signer {
    /// A signer with a key and the id under which verifiers know it.
    #[must_use]
    pub fn new(key_id: impl Into<String>, key: SigningKey) -> Self {
        Self { key_id: key_id.into(), key }
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs the claims, as they stand.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        // Claims hold only strings, numbers and ids; writing them as JSON cannot fail. An empty text verifies nowhere.
        let body = serde_json::to_vec(claims).unwrap_or_default();
        let signature = self.key.sign(&message(&body));
        format!("{PREFIX}{}.{}", URL_SAFE_NO_PAD.encode(&body), URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

fn message(body: &[u8]) -> Vec<u8> {
    [CONTEXT, body].concat()
}

/// Checks tickets; the cloud worker's. Holds public keys only.
#[derive(Debug, Clone)]
pub struct Verifier {
    audience: String,
    keys: Vec<(String, VerifyingKey)>,
}

impl Verifier {
    /// A verifier for one cell, with the keys it trusts by id (two while a key is rotated).
    #[must_use]
    pub fn new(audience: impl Into<String>, keys: Vec<(String, VerifyingKey)>) -> Self {
        Self { audience: audience.into(), keys }
    }

    /// Checks signature, audience, times and digest, in this order.
    ///
    /// # Errors
    /// [`TicketError`] with the first check that fails.
    pub fn verify(
        &self,
        ticket: &str,
        salt: &Salt,
        bytes: bytes::Bytes,
        now: Timestamp,
    ) -> Result<Cleared, TicketError> {
        let claims = self.read(ticket)?;
        if claims.audience != self.audience {
            return Err(TicketError::Audience);
        }
        times(&claims, now)?;
        let fits = claims.content_bytes == bytes.len() as u64 && salt.digest(&bytes) == claims.content;
        if !fits {
            return Err(TicketError::Content);
        }
        Ok(Cleared { ticket: Verified { claims }, bytes })
    }

    fn read(&self, ticket: &str) -> Result<Claims, TicketError> {
        if ticket.len() > TICKET_BYTES_MAX {
            return Err(TicketError::Malformed);
        }
        let (body, signature) = ticket
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('.'))
            .ok_or(TicketError::Malformed)?;
        let body = URL_SAFE_NO_PAD.decode(body).map_err(|_| TicketError::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TicketError::Malformed)?;
        let signature = Signature::from_slice(&signature).map_err(|_| TicketError::Malformed)?;
        let message = message(&body);
        let signed_by = self.keys.iter().find(|(_, key)| key.verify_strict(&message, &signature).is_ok());
        let (key_id, _) = signed_by.ok_or(TicketError::Signature)?;
        let claims: Claims = serde_json::from_slice(&body).map_err(|_| TicketError::Malformed)?;
        if claims.version != 1 || claims.key_id != *key_id {
            return Err(TicketError::Signature);
        }
        Ok(claims)
    }
}

fn times(claims: &Claims, now: Timestamp) -> Result<(), TicketError> {
    let skew = SignedDuration::from_millis(CLOCK_SKEW_MS_MAX);
    let life = claims.expires.duration_since(claims.not_before);
    if life > SignedDuration::from_millis(TICKET_LIFE_MS_MAX) || life.is_negative() {
        return Err(TicketError::Expired);
    }
    if claims.not_before.duration_since(now) > skew {
        return Err(TicketError::TooEarly);
    }
    if now.duration_since(claims.expires) > skew || now > claims.deadline {
        return Err(TicketError::Expired);
    }
    Ok(())
}
