//! The client: permits, attempts, retries. It sends only what is [`Cleared`], and only where the claims and the
//! configuration agree.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tidegate_schemas::ids::Name;
use tidegate_schemas::limits::CLOCK_SKEW_MS_MAX;
use tidegate_schemas::result::Finish;
use tidegate_schemas::ticket::{Claims, Cleared};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Counted, Parsed};
use crate::call::{self, Outgoing, Trail};
use crate::config::{Place, ProviderConfig};
use crate::egress;
use crate::error::{ConfigError, Failure, ProviderError, Wait};
use crate::price::{self, Seller};
use crate::probe::{Probe, input_tokens_max, probe};
use crate::retry::{Failed, Pauses};

/// Calls the configured providers.
pub struct Client {
    providers: BTreeMap<Name, Provider>,
}

/// How far one call may go.
#[derive(Debug, Clone)]
pub struct Control {
    /// Most attempts of this call; the ticket's own limit holds beside it.
    pub attempts_max: u32,
    /// When there must be an answer.
    pub deadline: Timestamp,
    /// Withdraws the call.
    pub cancel: CancellationToken,
    /// Whether fragments of text are handed on while they come. After the first nothing is tried again.
    pub publish: bool,
}

/// An attempt that is about to begin.
#[derive(Debug, Clone, Copy)]
pub struct Attempting<'a> {
    /// Which of this call, from 1.
    pub number: u32,
    /// The host that the bytes go to.
    pub host: &'a str,
}

/// The witness did not let an attempt begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halt;

/// Who is told of a call while it goes on, and may stop it. One of the two seams that tests need.
pub trait Witness: Send {
    /// An attempt is about to begin; no byte of it leaves unless this is `Ok`.
    fn begins(&mut self, attempt: Attempting<'_>) -> impl Future<Output = Result<(), Halt>> + Send;

    /// More text of the answer.
    fn fragment(&mut self, text: &str) -> impl Future<Output = ()> + Send;

    /// An attempt failed, and another follows after the pause.
    fn retries(&mut self, failure: Failure, pause: Duration) -> impl Future<Output = ()> + Send;
}

/// A provider as it is called.
pub(crate) struct Provider {
    pub(crate) config: ProviderConfig,
    pub(crate) key: Option<SecretString>,
    pub(crate) http: reqwest::Client,
    places: BTreeMap<Name, Place>,
}

// === impl Client ===

impl Client {
    /// Reads keys and certificates, checks URLs and makes the HTTP clients. Needs rustls' process-wide crypto provider.
    ///
    /// # Errors
    /// [`ConfigError`] with what to correct.
    pub fn new(configs: Vec<ProviderConfig>) -> Result<Self, ConfigError> {
        let mut providers = BTreeMap::new();
        for config in configs {
            let name = config.name.clone();
            let provider = Provider {
                places: config.places()?,
                key: config.key()?,
                http: egress::client(&config)?,
                config,
            };
            if providers.insert(name.clone(), provider).is_some() {
                return Err(ConfigError::Twice { provider: name });
            }
        }
        Ok(Self { providers })
    }

    /// The providers' names.
    pub fn providers(&self) -> impl Iterator<Item = &Name> {
        self.providers.keys()
    }

    /// Sends a cleared payload to the provider that its ticket names, again where that is right, until there is a whole
    /// answer.
    ///
    /// # Errors
    /// [`ProviderError`] with what went wrong last, after the last attempt that is permitted.
    pub async fn send<W: Witness>(
        &self,
        cleared: &Cleared,
        control: &Control,
        witness: &mut W,
    ) -> Result<Answer, ProviderError> {
        let mut call = Call { pauses: Pauses::default(), attempts: 0, trail: Trail::default() };
        let failure = match self.permit(cleared, control.publish) {
            Err(failure) => failure,
            Ok(outgoing) => match call.run(outgoing, cleared.claims(), control, witness).await {
                Err(failure) => failure,
                Ok((parsed, run_ms)) => return call.conclude(outgoing, cleared.claims(), parsed, run_ms),
            },
        };
        Err(call.error(failure))
    }

    /// The most that one attempt can cost, millionths of a US dollar; none where the price is not known.
    #[must_use]
    pub fn cost_usd_micros_max(&self, cleared: &Cleared) -> Option<u64> {
        let claims = cleared.claims();
        let provider = self.providers.get(&claims.provider)?;
        let place = provider.places.get(&claims.base_url)?;
        let output = u64::from(claims.output_tokens_max);
        let most = Counted { input: input_tokens_max(cleared), output, ..Counted::default() };
        cost((provider, place), &claims.model, &claims.model, most)
    }

    /// Compares claims, bytes and configuration.
    fn permit<'a>(&'a self, cleared: &'a Cleared, publish: bool) -> Result<Outgoing<'a>, Failure> {
        let claims = cleared.claims();
        let refuse = |what| Failure::NotPermitted(what);
        let provider = self.providers.get(&claims.provider).ok_or(refuse("no such provider"))?;
        let place = provider.places.get(&claims.base_url).ok_or(refuse("no such endpoint"))?;
        if place.region != claims.region {
            return Err(refuse("the endpoint is in another region"));
        }
        if !place.models.contains(&claims.model) {
            return Err(refuse("the endpoint does not list the model"));
        }
        let probe: Probe = probe(cleared)?;
        Ok(Outgoing { provider, place, bytes: cleared.bytes(), probe, publish: publish && probe.stream })
    }
}

/// One call and what it leaves.
struct Call {
    pauses: Pauses,
    attempts: u32,
    trail: Trail,
}

impl Call {
    async fn run<W: Witness>(
        &mut self,
        outgoing: Outgoing<'_>,
        claims: &Claims,
        control: &Control,
        witness: &mut W,
    ) -> Result<(Parsed, u64), Failure> {
        let attempts_max = control.attempts_max.min(claims.attempts_max);
        loop {
            in_time(claims, control)?;
            if self.attempts >= attempts_max {
                return Err(Failure::Halted);
            }
            let attempt = Attempting { number: self.attempts + 1, host: &outgoing.place.host };
            witness.begins(attempt).await.map_err(|Halt| Failure::Halted)?;
            // Recording the attempt took its time too; the ticket must still hold when the first byte leaves.
            in_time(claims, control)?;
            self.attempts += 1;
            let begun = Instant::now();
            let failure = match self.attempt(outgoing, control, witness).await {
                Ok(parsed) => return Ok((parsed, call::millis(begun))),
                Err(failure) => failure,
            };
            let pause = self.pauses.next(Failed {
                transient: failure.is_transient(),
                published: self.trail.published,
                attempts: self.attempts,
                attempts_max,
                retry_after: self.trail.retry_after,
                left: until(control.deadline),
            });
            let Some(pause) = pause else { return Err(failure) };
            witness.retries(failure, pause).await;
            tokio::select! {
                () = control.cancel.cancelled() => return Err(Failure::Canceled),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn attempt<W: Witness>(
        &mut self,
        outgoing: Outgoing<'_>,
        control: &Control,
        witness: &mut W,
    ) -> Result<Parsed, Failure> {
        self.trail = Trail::default();
        let begun = Instant::now();
        let total = Duration::from_millis(outgoing.provider.config.total_ms);
        let left = until(control.deadline);
        let exchange = timeout(total.min(left), call::exchange(outgoing, &mut self.trail, witness));
        tokio::select! {
            biased;
            () = control.cancel.cancelled() => Err(Failure::Canceled),
            done = exchange => match done {
                Ok(outcome) => outcome,
                Err(_) if left <= total => Err(self.overdue(outgoing, begun)),
                Err(_) => Err(Failure::Timeout(Wait::Total)),
            },
        }
    }

    /// The deadline passed. Only who was waited for as long as a provider may take to begin is silent, so that a producer in a hurry
    /// says nothing of the provider.
    fn overdue(&self, outgoing: Outgoing<'_>, begun: Instant) -> Failure {
        let may_take = Duration::from_millis(outgoing.provider.config.header_ms);
        if !self.trail.answered && begun.elapsed() >= may_take { Failure::Silent } else { Failure::Deadline }
    }

    fn conclude(
        self,
        outgoing: Outgoing<'_>,
        claims: &Claims,
        parsed: Parsed,
        run_ms: u64,
    ) -> Result<Answer, ProviderError> {
        let model = parsed.model.unwrap_or_else(|| claims.model.clone());
        let cost = parsed
            .counted
            .and_then(|counted| cost((outgoing.provider, outgoing.place), &model, &claims.model, counted));
        let usage = parsed.counted.map(Into::into);
        match parsed.finish {
            Some(Finish::ContentFilter) | None => {
                let failure = if parsed.finish.is_some() { Failure::Refused } else { Failure::Truncated };
                Err(ProviderError { usage, cost_usd_micros: cost, ..self.error(failure) })
            }
            Some(finish) => Ok(Answer {
                text: parsed.text.into(),
                tool_calls: parsed.tool_calls.into_iter().map(Into::into).collect(),
                finish,
                usage,
                cost_usd_micros: cost,
                model,
                request_id: self.trail.request_id,
                first_text_ms: self.trail.first_text_ms,
                run_ms,
                attempts: self.attempts,
            }),
        }
    }

    fn error(self, failure: Failure) -> ProviderError {
        ProviderError {
            failure,
            attempts: self.attempts,
            published: self.trail.published,
            request_id: self.trail.request_id,
            usage: None,
            cost_usd_micros: None,
        }
    }
}

/// The price of the model that answered, else of the one that was asked for (an answer may name a dated variant).
fn cost(
    (provider, place): (&Provider, &Place),
    answered: &str,
    asked: &str,
    counted: Counted,
) -> Option<u64> {
    let seller = match &provider.config.price_as {
        Some(id) => Seller::Id(id),
        None => Seller::Url(place.url.as_str()),
    };
    let now = Timestamp::now();
    [answered, asked].into_iter().find_map(|model| price::usd_micros(seller, model, counted, now))
}

fn in_time(claims: &Claims, control: &Control) -> Result<(), Failure> {
    let now = Timestamp::now();
    if control.cancel.is_cancelled() {
        Err(Failure::Canceled)
    } else if now >= control.deadline {
        Err(Failure::Deadline)
    } else if now.duration_since(claims.expires) > SignedDuration::from_millis(CLOCK_SKEW_MS_MAX) {
        Err(Failure::Expired)
    } else {
        Ok(())
    }
}

fn until(deadline: Timestamp) -> Duration {
    Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or_default()
}
