//! Configuration of a provider: what it may be called by, where it is, and how long it may take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tidegate_schemas::ids::Name;
use tidegate_schemas::render::Protocol;
use url::{Host, Url};

use crate::address;
use crate::error::ConfigError;

#[cfg(test)]
mod tests;

/// The port of https.
const HTTPS: u16 = 443;
/// Largest key file, bytes.
const KEY_BYTES_MAX: u64 = 8 * 1024;
/// Largest file of root certificates, bytes.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// One provider, as an operator writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its name: the token of its work's subject, and what a ticket names.
    pub name: Name,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where it is, by the id that a ticket names.
    pub endpoints: BTreeMap<Name, Endpoint>,
    /// Its key; none for a server that asks for none.
    #[serde(default)]
    pub api_key: Option<KeySource>,
    /// Which addresses it may be at.
    #[serde(default)]
    pub reach: Reach,
    /// Ports beside 443 that a public provider may be at.
    #[serde(default)]
    pub other_ports: BTreeSet<u16>,
    /// PEM file of the only root certificates to trust; the platform's where absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Id in the price list; where absent, the endpoint's URL says it, and an unknown URL has no price.
    #[serde(default)]
    pub price_as: Option<String>,
    /// Time to resolve, connect and agree on TLS, milliseconds.
    #[serde(default = "default_connect_ms")]
    pub connect_ms: u64,
    /// Time from the request to the headers of a stream, milliseconds. An answer that does not stream has the whole time.
    #[serde(default = "default_header_ms")]
    pub header_ms: u64,
    /// Longest silence inside an answer, milliseconds.
    #[serde(default = "default_idle_ms")]
    pub idle_ms: u64,
    /// Time of a whole attempt, milliseconds.
    #[serde(default = "default_total_ms")]
    pub total_ms: u64,
    /// Largest answer, bytes.
    #[serde(default = "default_answer_bytes_max")]
    pub answer_bytes_max: usize,
}

fn default_connect_ms() -> u64 {
    5_000
}
fn default_header_ms() -> u64 {
    60_000
}
fn default_idle_ms() -> u64 {
    30_000
}
fn default_total_ms() -> u64 {
    300_000
}
fn default_answer_bytes_max() -> usize {
    // A result must fit into one message beside its other fields.
    2 * 1024 * 1024
}

/// One place of a provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Base URL up to and with the API's version, as `https://api.openai.com/v1`.
    pub url: String,
    /// The region that it runs in.
    pub region: Name,
    /// The models that may be asked for there.
    pub models: BTreeSet<String>,
}

/// Which addresses a provider may be at. Link-local, metadata, multicast and reserved addresses never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Public addresses, by https.
    #[default]
    Public,
    /// This host, by http or https.
    Loopback,
    /// This host and private networks, by http or https.
    Private,
}

/// Where a key is read from; never from the configuration itself, the environment or an argument.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A file of this name in the service's credentials directory (systemd's `$CREDENTIALS_DIRECTORY`).
    Credential(String),
}

/// An endpoint whose URL was checked.
#[derive(Debug)]
pub(crate) struct Place {
    /// URL of the one call that is made there.
    pub(crate) url: Url,
    pub(crate) host: String,
    pub(crate) region: Name,
    pub(crate) models: BTreeSet<String>,
}

// === impl ProviderConfig ===

impl ProviderConfig {
    /// A provider with default times and sizes, without a key, at public addresses.
    #[must_use]
    pub fn new(name: Name, protocol: Protocol, endpoints: BTreeMap<Name, Endpoint>) -> Self {
        Self {
            name,
            protocol,
            endpoints,
            api_key: None,
            reach: Reach::default(),
            other_ports: BTreeSet::new(),
            ca_file: None,
            price_as: None,
            connect_ms: default_connect_ms(),
            header_ms: default_header_ms(),
            idle_ms: default_idle_ms(),
            total_ms: default_total_ms(),
            answer_bytes_max: default_answer_bytes_max(),
        }
    }

    /// Checks the endpoints' URLs.
    pub(crate) fn places(&self) -> Result<BTreeMap<Name, Place>, ConfigError> {
        if self.endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint { provider: self.name.clone() });
        }
        self.endpoints.iter().map(|(id, endpoint)| Ok((id.clone(), self.place(id, endpoint)?))).collect()
    }

    fn place(&self, id: &Name, endpoint: &Endpoint) -> Result<Place, ConfigError> {
        let bad = |rule| ConfigError::Url { provider: self.name.clone(), endpoint: id.clone(), rule };
        if endpoint.models.is_empty() {
            return Err(bad("list at least one model"));
        }
        let mut url = Url::parse(&endpoint.url).map_err(|_| bad("must be an absolute URL"))?;
        match (url.scheme(), self.reach) {
            ("https", _) | ("http", Reach::Loopback | Reach::Private) => {}
            ("http", Reach::Public) => return Err(bad("must be https")),
            _ => return Err(bad("must be https, or http where `reach` is loopback or private")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("must hold no user or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("must hold no query and no fragment"));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if self.reach == Reach::Public && port != HTTPS && !self.other_ports.contains(&port) {
            return Err(bad("must be at port 443, or `other_ports` must list its port"));
        }
        // A name is resolved and checked at each connection; a literal address is not resolved, so it is checked here.
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(ip.into()),
            Some(Host::Ipv6(ip)) => Some(ip.into()),
            Some(Host::Domain(_)) => None,
            None => return Err(bad("must name a host")),
        };
        if literal.is_some_and(|ip| !address::permitted(self.reach, ip)) {
            return Err(bad("is at an address that `reach` does not permit"));
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let path = format!("{}/{}", url.path().trim_end_matches('/'), crate::protocol::path(self.protocol));
        url.set_path(&path);
        Ok(Place { url, host, region: endpoint.region.clone(), models: endpoint.models.clone() })
    }

    /// Reads the key.
    pub(crate) fn key(&self) -> Result<Option<SecretString>, ConfigError> {
        let Some(source) = &self.api_key else { return Ok(None) };
        let unread = |rule| ConfigError::Key { provider: self.name.clone(), rule };
        let path = match source {
            KeySource::File(path) => path.clone(),
            KeySource::Credential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or(unread("needs a credentials directory, which the service manager sets"))?;
                // One plain file name: no way out of the directory.
                if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
                    return Err(unread("must be a file name without a path"));
                }
                Path::new(&directory).join(name)
            }
        };
        let bytes = read(&path, KEY_BYTES_MAX).map_err(|_| unread("could not be read; check the path"))?;
        let text = String::from_utf8(bytes).map_err(|_| unread("is not UTF-8"))?;
        let key = text.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unread("must be one line of printable characters"));
        }
        Ok(Some(SecretString::from(key.to_owned())))
    }

    /// Reads the root certificates.
    pub(crate) fn roots(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        read(path, CA_BYTES_MAX).map(Some).map_err(|_| ConfigError::Roots { provider: self.name.clone() })
    }
}

/// Reads a file of at most `bytes_max` bytes.
fn read(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
