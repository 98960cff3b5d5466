//! Binding, and serving until told to stop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::connection::Limited;

/// Time that answers under way have after the stop, milliseconds.
const DRAIN_MS_MAX: u64 = 5_000;

/// Who may reach a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Programs of this machine only.
    #[default]
    Loopback,
    /// Whoever reaches the address; for containers, whose network is the fence.
    Anyone,
}

/// Why a door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is open to other machines, and that was not asked for.
    #[error("`{addr}` is no loopback address; use 127.0.0.1, or allow other machines explicitly")]
    NotLoopback {
        /// The address.
        addr: SocketAddr,
    },
    /// Somebody else listens there.
    #[error("`{addr}` is taken by another program; stop it or name another port")]
    Taken {
        /// The address.
        addr: SocketAddr,
    },
    /// The system refuses the address.
    #[error("cannot listen on `{addr}`: {source}")]
    Refused {
        /// The address.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP server stopped: {source}")]
pub struct ServeError {
    source: io::Error,
}

/// How much one door takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DoorLimits {
    /// Open connections at once; further ones wait in the system's queue.
    pub(crate) connections_max: usize,
    /// Time that a connection may be without any byte in either direction.
    pub(crate) idle_max: Duration,
}

/// Listens on an address. Port 0 lets the system choose.
///
/// # Errors
/// [`BindError`], with what to do.
pub async fn bind(addr: SocketAddr, reach: Reach) -> Result<TcpListener, BindError> {
    if reach == Reach::Loopback && !addr.ip().is_loopback() {
        return Err(BindError::NotLoopback { addr });
    }
    TcpListener::bind(addr).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { addr },
        _ => BindError::Refused { addr, source },
    })
}

/// Serves until `shutdown`; then no connection is taken, and answers under way get [`DRAIN_MS_MAX`] before they are cut.
pub(crate) async fn until(
    listener: TcpListener,
    router: Router,
    limits: DoorLimits,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let cut = CancellationToken::new();
    // However this ends, no connection outlives it.
    let _guard = cut.clone().drop_guard();
    let listener = Limited::new(listener, limits, cut);
    let stop = shutdown.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(Duration::from_millis(DRAIN_MS_MAX)).await;
    };
    tokio::select! {
        served = serving => served.map_err(|source| ServeError { source }),
        () = late => Ok(()),
    }
}
