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
        .dns_resolver(Checked(config.reach));
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
struct Checked(Reach);

/// The name led to an address that `reach` does not permit.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to an address that is not permitted")]
pub(crate) struct AddressRefused;

impl Resolve for Checked {
    fn resolve(&self, name: Host) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One bad address among good ones is no accident either.
            if !found.iter().all(|address| address::permitted(reach, address.ip())) {
                return Err(AddressRefused.into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}
