//! The first connection: its checks, and one clear sentence for each way it can fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::broadcast;
use tracing::{info, warn};

use crate::config::BusConfig;
use crate::event::BusEvent;

/// Oldest server that keeps what we rely on: durable atomic batches came with it.
pub(crate) const SERVER_VERSION_MIN: (i64, i64, i64) = (2, 15, 0);
/// A seed file is one line; what is longer is not one, bytes.
const SEED_FILE_BYTES_MAX: u64 = 4_096;
/// Longest pause between two attempts to come back, milliseconds.
const RECONNECT_PAUSE_MS_MAX: u64 = 2_000;
/// How often the server is asked whether it is there, seconds. After the third question without an answer the connection is given
/// up: one that the other end has forgotten is open for ever, and what is written to it is lost.
const PING_S: u64 = 5;

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("no nats-server at `{url}` ({reason}); start it with `tidegate dev`, or check the URL")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server does not know the identity, or its key is not the one in the accounts file.
    #[error(
        "nats-server at `{url}` refused `{identity}`; is its nkey in the accounts file, and was the server reloaded?"
    )]
    Refused {
        /// Where.
        url: String,
        /// Who.
        identity: String,
    },
    /// The seed file cannot be used.
    #[error("cannot use the nkey seed in `{}`: {reason}", path.display())]
    Seed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The TLS connection failed.
    #[error("TLS with `{url}` failed: {reason}; check the certificate authority file")]
    Tls {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server is too old.
    #[error(
        "nats-server at `{url}` is {found}, but 2.15 or newer is needed (older ones drop consumer filters or lose durable \
         batches); set TIDEGATE_NATS_SERVER to a newer binary"
    )]
    TooOld {
        /// Where.
        url: String,
        /// Version found.
        found: String,
    },
}

/// Connects and checks the server's version.
pub(crate) async fn open(
    config: &BusConfig,
    events: broadcast::Sender<BusEvent>,
) -> Result<Client, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(format!("tidegate {}", config.identity))
        .custom_inbox_prefix(config.identity.inbox_prefix())
        .connection_timeout(config.limits.connect_timeout())
        .request_timeout(Some(config.limits.request_timeout()))
        .subscription_capacity(config.limits.subscription_capacity)
        .client_capacity(config.limits.publish_queue_max)
        .ping_interval(Duration::from_secs(PING_S))
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_pause)
        .event_callback(move |event| {
            report(&event, &events);
            std::future::ready(())
        });
    if let Some(path) = &config.nkey_seed_file {
        options = options.nkey(read_seed(path)?.expose_secret().to_owned());
    }
    if let Some(path) = &config.ca_file {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    let servers: Vec<&str> = config.url.split(',').map(str::trim).collect();
    let client = options.connect(servers).await.map_err(|error| explain(config, &error))?;
    let info = client.server_info();
    if !at_least(&info.version, SERVER_VERSION_MIN) {
        return Err(ConnectError::TooOld { url: config.url.clone(), found: info.version });
    }
    info!(identity = %config.identity, server = %info.server_name, version = %info.version, "Connected to the bus.");
    Ok(client)
}

fn report(event: &async_nats::Event, events: &broadcast::Sender<BusEvent>) {
    let Some(event) = BusEvent::from_client(event) else {
        return;
    };
    match &event {
        BusEvent::Denied(denial) => {
            warn!(subject = %denial.subject, action = ?denial.action, "The server denied a subject.");
            metrics::counter!(tidegate_schemas::metric::BUS_DENIALS).increment(1);
        }
        BusEvent::Disconnected => warn!("The connection to the bus broke; trying to come back."),
        BusEvent::Connected | BusEvent::Closed => {}
    }
    // Nobody listening is fine: the event concerns nobody then.
    let _ = events.send(event);
}

fn reconnect_pause(attempts: usize) -> Duration {
    let doubled = 25_u64.saturating_mul(1 << attempts.min(10));
    Duration::from_millis(doubled.min(RECONNECT_PAUSE_MS_MAX))
}

fn read_seed(path: &Path) -> Result<SecretString, ConnectError> {
    let fail = |reason: String| ConnectError::Seed { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if size > SEED_FILE_BYTES_MAX {
        return Err(fail(format!("it is {size} bytes, a seed file has one line")));
    }
    let text =
        std::fs::read_to_string(path).map(SecretString::from).map_err(|error| fail(error.to_string()))?;
    let seed = text.expose_secret().trim();
    nkeys::KeyPair::from_seed(seed).map_err(|_| fail("it holds no nkey seed".to_owned()))?;
    Ok(SecretString::from(seed.to_owned()))
}

fn explain(config: &BusConfig, error: &async_nats::ConnectError) -> ConnectError {
    let url = config.url.clone();
    let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Refused { url, identity: config.identity.to_string() }
        }
        ConnectErrorKind::Tls => ConnectError::Tls { url, reason },
        _ => ConnectError::Unreachable { url, reason },
    }
}

/// Whether a version like `2.15.1` or `2.16.0-RC.2` is at least `min`.
pub(crate) fn at_least(version: &str, min: (i64, i64, i64)) -> bool {
    let mut parts =
        version.trim_start_matches('v').split(['.', '-', '+']).map(|part| part.parse::<i64>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= min
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let rows = [
            ("2.15.1", true),
            ("v2.15.0", true),
            ("2.16.0-RC.2", true),
            ("3.0.0", true),
            ("2.9.10", false),
            ("2.14.99", false),
            ("", false),
        ];
        for (version, expected) in rows {
            assert_eq!(at_least(version, SERVER_VERSION_MIN), expected, "{version}");
        }
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        assert!(reconnect_pause(1) < Duration::from_millis(100));
        assert_eq!(reconnect_pause(60), Duration::from_millis(RECONNECT_PAUSE_MS_MAX));
    }
}
