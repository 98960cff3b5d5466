//! The way out: one HTTP client a provider that follows no redirect, reads no proxy variable, keeps no cookie, tries nothing
//! again by itself, and connects only to addresses that were checked in the moment they were resolved.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name as Host, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use rustls::crypto::CryptoProvider;

use crate::address;
use crate::config::{ProviderConfig, Reach};
use crate::error::ConfigError;

/// Most headers of an answer, count (HTTP/1.1).
const ANSWER_HEADERS_MAX: usize = 64;
/// All headers of an answer together, bytes (HTTP/2).
const ANSWER_HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Connections kept open while idle, count.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// How long an idle connection is kept, milliseconds.
const IDLE_CONNECTION_MS_MAX: u64 = 60_000;

/// Makes the client of one provider.
pub(crate) fn client(config: &ProviderConfig) -> Result<Client, ConfigError> {
    // Without it the TLS library would look for a provider of its own choice, and panic.
    if CryptoProvider::get_default().is_none() {
        return Err(ConfigError::NoCrypto);
    }
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .no_proxy()
        .https_only(config.reach == Reach::Public)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_millis(config.connect_ms))
        .pool_idle_timeout(Duration::from_millis(IDLE_CONNECTION_MS_MAX))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_max_headers(ANSWER_HEADERS_MAX)
        .http2_max_header_list_size(ANSWER_HEADER_BYTES_MAX)
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .dns_resolver(Checked { reach: config.reach, lookup: System });
    if let Some(pem) = config.roots()? {
        let roots = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if roots.is_empty() {
            return Err(ConfigError::Roots { provider: config.name.clone() });
        }
        builder = builder.tls_certs_only(roots);
    }
    builder.build().map_err(|_| ConfigError::Client { provider: config.name.clone() })
}

/// A resolver whose answers may be connected to; what it returns is what is connected to, so there is no gap between check
/// and use for a name that changes its mind.
struct Checked<L> {
    reach: Reach,
    lookup: L,
}

/// What a name leads to now.
trait Lookup: Clone + Send + Sync + 'static {
    fn addresses(&self, name: &str) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send;
}

/// The system's resolver.
#[derive(Clone)]
struct System;

impl Lookup for System {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

/// The name led to an address that `reach` does not permit.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to an address that is not permitted")]
pub(crate) struct AddressRefused;

impl<L: Lookup> Resolve for Checked<L> {
    fn resolve(&self, name: Host) -> Resolving {
        let (reach, lookup) = (self.reach, self.lookup.clone());
        Box::pin(async move {
            let found = lookup.addresses(name.as_str()).await?;
            // One bad address among good ones is no accident either.
            if !found.iter().all(|address| address::permitted(reach, address.ip())) {
                return Err(AddressRefused.into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A name server whose answers change from one question to the next.
    #[derive(Clone)]
    struct Stub(Arc<(Vec<Vec<&'static str>>, AtomicUsize)>);

    impl Lookup for Stub {
        async fn addresses(&self, _: &str) -> std::io::Result<Vec<SocketAddr>> {
            let (answers, asked) = &*self.0;
            let at = asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            Ok(answers[at].iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect())
        }
    }

    /// Whether each of a name's answers in turn would be connected to. Nothing is.
    async fn decisions(reach: Reach, answers: Vec<Vec<&'static str>>) -> Vec<bool> {
        let count = answers.len();
        let checked = Checked { reach, lookup: Stub(Arc::new((answers, AtomicUsize::new(0)))) };
        let mut decided = Vec::new();
        for _ in 0..count {
            let answer = checked.resolve("provider.example".parse().unwrap()).await;
            if let Err(error) = &answer {
                assert!(error.is::<AddressRefused>(), "{error}");
            }
            decided.push(answer.is_ok_and(|mut addresses| addresses.next().is_some()));
        }
        decided
    }

    #[tokio::test]
    async fn ssrf_a_name_that_changes_its_mind_is_refused_at_the_connection() {
        let public = || vec!["93.184.216.34"];
        for inside in [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.8",
            "100.100.100.200",
            "0.0.0.0",
            "::1",
            "::ffff:127.0.0.1",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
        ] {
            let decided = decisions(Reach::Public, vec![public(), vec![inside], public()]).await;
            assert_eq!(decided, [true, false, true], "{inside}");
            // One bad address among good ones.
            let decided = decisions(Reach::Public, vec![vec!["93.184.216.34", inside]]).await;
            assert_eq!(decided, [false], "{inside}");
        }
        // A private name that leads to the internet is refused as well; where it should lead is not.
        let decided = decisions(Reach::Private, vec![vec!["10.0.0.8"], public()]).await;
        assert_eq!(decided, [true, false]);
    }
}
