//! A message of WORK_CLOUD, read: only bytes whose ticket verifies, for this subject, task and decision, become work.

use std::str::FromStr;

use jiff::Timestamp;
use tidegate_providers::input_tokens_max;
use tidegate_schemas::breaker::Place;
use tidegate_schemas::budget::{Amounts, Budget};
use tidegate_schemas::code::{Code, Refused};
use tidegate_schemas::decision::{Decision, Destination};
use tidegate_schemas::digest::Salt;
use tidegate_schemas::header;
use tidegate_schemas::ids::{Name, Position};
use tidegate_schemas::subject::{self, Lane, Subject};
use tidegate_schemas::ticket::{Claims, Cleared, TicketError};
use tidegate_schemas::work::Hop;

use super::{Arrived, Asked, Call, Context};

/// The form in which an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it comes.
    Text,
    /// One JSON value.
    Json,
    /// The label in `{"class": …}`.
    Class,
}

/// What the headers say; true only as far as the ticket confirms it.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) position: Position,
    pub(super) tenant: Name,
    pub(super) hop: Hop,
    pub(super) decision: Decision,
    pub(super) destination: Destination,
    pub(super) salt: Salt,
    pub(super) form: Form,
    /// The budgets that it counts in.
    budgets: Vec<Budget>,
    /// This delivery.
    by: u64,
}

/// Work whose ticket verified and confirms its envelope.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) envelope: Envelope,
    cleared: Cleared,
}

/// Why a message is no work.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its time is over, or that of the key that signed it: the router decides anew; with a word for counting.
    Expired(Box<Envelope>, &'static str),
    /// Its ticket permits nothing here; with a word for counting.
    Ticket(Refused, &'static str),
    /// It cannot be read.
    Unread(Refused),
}

impl FromStr for Form {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "class" => Ok(Self::Class),
            _ => Err(()),
        }
    }
}

impl Envelope {
    fn read(message: &Arrived) -> Result<Self, Refused> {
        let (provider, tenant) = match Subject::parse(&message.subject) {
            Ok(Subject::WorkCloud { provider, tenant, .. }) => (provider, tenant),
            _ => return Err(Refused::new(Code::Unattributable, "the subject is none of cloud work")),
        };
        let hop = Hop::read(&message.headers)?.child(message.span);
        let text = |name: &str| message.headers.get(name).ok_or_else(|| missing(name));
        let salt = Salt::try_from(text(header::SALT)?.to_owned()).map_err(|_| missing(header::SALT))?;
        let form = text(header::OUTPUT)?.parse().map_err(|()| missing(header::OUTPUT))?;
        let decision: Decision =
            serde_json::from_str(text(header::DECISION)?).map_err(|_| missing(header::DECISION))?;
        let destination =
            decision.destination.clone().filter(|d| d.lane == Lane::Cloud && d.target == provider);
        let destination = destination.ok_or_else(|| {
            Refused::new(Code::Unattributable, "the decision names another destination than this provider")
        })?;
        // Limits that cannot be read are none that could be held.
        let budgets = match message.headers.get(header::BUDGETS) {
            Some(text) => serde_json::from_str(text).map_err(|_| missing(header::BUDGETS))?,
            None => Vec::new(),
        };
        let (position, by) = (message.position.clone(), message.span);
        Ok(Self { position, tenant, hop, decision, destination, salt, form, budgets, by })
    }

    /// Whether the ticket was signed for what the envelope says.
    fn is_confirmed_by(&self, claims: &Claims) -> bool {
        claims.tenant == self.tenant
            && claims.agent == self.hop.agent
            && claims.task == self.hop.id
            && claims.decision == self.decision.id
            && claims.bundle == self.decision.bundle
            && Some(claims.content) == self.decision.content
            && claims.provider == self.destination.target
            && claims.model == self.destination.model
            && claims.region == self.destination.region
    }
}

impl Work {
    pub(super) fn read(message: &Arrived, context: &Context<'_>) -> Result<Self, Fault> {
        let envelope = Envelope::read(message).map_err(Fault::Unread)?;
        let ticket = message.headers.get(header::TICKET).unwrap_or_default();
        let payload = message.payload.clone();
        let refused = |sentence: &str, word| Fault::Ticket(Refused::new(Code::TicketInvalid, sentence), word);
        match context.verifier.verify(ticket, &envelope.salt, payload, context.now) {
            Ok(cleared) if envelope.is_confirmed_by(cleared.claims()) => Ok(Self { envelope, cleared }),
            Ok(_) => Err(refused("the ticket is for another task or destination", "elsewhere")),
            // The signature is checked before the times: only a ticket of ours can have expired.
            Err(error @ (TicketError::Expired | TicketError::Retired)) => {
                Err(Fault::Expired(Box::new(envelope), word(error)))
            }
            Err(error) => Err(refused(&error.to_string(), word(error))),
        }
    }

    /// The exact bytes that may leave.
    pub(super) fn bytes(&self) -> &[u8] {
        self.cleared.bytes()
    }

    pub(super) fn claims(&self) -> &Claims {
        self.cleared.claims()
    }

    /// Whether its lane, provider or model is switched off.
    pub(super) fn is_off(&self, context: &Context<'_>) -> bool {
        context.off.iter().any(|switch| switch.covers(&self.envelope.tenant, &self.envelope.destination))
    }

    /// Whether what leaves holds tokens, so that the answer goes back to have values put in their place.
    pub(super) fn is_redacted(&self) -> bool {
        self.envelope.decision.facts.redaction.is_some()
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.envelope.hop.deadline.min(self.claims().deadline)
    }

    pub(super) fn result_subject(&self) -> String {
        let Envelope { tenant, hop, .. } = &self.envelope;
        Subject::Result { tenant: tenant.clone(), agent: hop.agent.clone(), task: hop.id }.to_string()
    }

    /// What is asked of breaker and budgets before an attempt.
    pub(super) fn asked(&self, number: u32) -> Asked {
        let claims = self.claims();
        Asked {
            reservation: format!("{}/{number}", claims.id),
            by: self.envelope.by,
            task: claims.task,
            budgets: self.envelope.budgets.clone(),
            place: Place {
                provider: claims.provider.clone(),
                endpoint: claims.base_url.clone(),
                model: claims.model.clone(),
            },
            most: Amounts {
                requests: 1,
                tokens: input_tokens_max(&self.cleared).saturating_add(u64::from(claims.output_tokens_max)),
                usd_micros: claims.cost_usd_micros_max.unwrap_or(u64::MAX),
            },
        }
    }

    pub(super) fn call(&self) -> Call {
        let Envelope { tenant, hop, .. } = &self.envelope;
        Call {
            cleared: self.cleared.clone(),
            deadline: self.deadline(),
            // Tokens are for the local zone: it puts values back, and tells the producer.
            deltas: match self.is_redacted() {
                true => subject::draft(tenant, &hop.agent, hop.id),
                false => subject::delta(tenant, &hop.agent, hop.id),
            },
        }
    }
}

fn word(error: TicketError) -> &'static str {
    match error {
        TicketError::Malformed => "malformed",
        TicketError::Signature => "signature",
        TicketError::Retired => "retired",
        TicketError::Audience => "audience",
        TicketError::TooEarly => "too_early",
        TicketError::Expired => "expired",
        TicketError::Content => "content",
    }
}

fn missing(name: &str) -> Refused {
    Refused::new(Code::InvalidHeaders, format!("header `{name}` is missing or malformed"))
}
