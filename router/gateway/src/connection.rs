//! Connections, limited in number, in silence and in life: axum's own server bounds none of the three.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::serve::DoorLimits;

/// Pause after a failed accept (usually: no file descriptors left), milliseconds.
const ACCEPT_PAUSE_MS: u64 = 200;

/// A listener that hands out a limited number of connections.
pub(crate) struct Limited {
    inner: TcpListener,
    permits: Arc<Semaphore>,
    limits: DoorLimits,
    cut: CancellationToken,
}

/// A connection that ends when it was idle for too long or when it is cut.
pub(crate) struct Connection {
    inner: TcpStream,
    idle_max: Duration,
    idle: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: Option<OwnedSemaphorePermit>,
}

// === impl Limited ===

impl Limited {
    pub(crate) fn new(inner: TcpListener, limits: DoorLimits, cut: CancellationToken) -> Self {
        Self { inner, permits: Arc::new(Semaphore::new(limits.connections_max)), limits, cut }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed, so there is always a permit.
        let permit = self.permits.clone().acquire_owned().await.ok();
        loop {
            match self.inner.accept().await {
                Ok((inner, addr)) => {
                    // Small answers, each in one write: waiting for more only delays them.
                    let _ = inner.set_nodelay(true);
                    let connection = Connection {
                        inner,
                        idle_max: self.limits.idle_max,
                        idle: Box::pin(tokio::time::sleep(self.limits.idle_max)),
                        cut: Box::pin(self.cut.clone().cancelled_owned()),
                        _permit: permit,
                    };
                    return (connection, addr);
                }
                Err(error) => {
                    tracing::warn!(error = %error, "A connection could not be accepted.");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

// === impl Connection ===

impl Connection {
    /// An error once the connection must end; otherwise the caller is woken when that comes.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Option<io::Error> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Some(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        self.idle.as_mut().poll(context).is_ready().then(|| io::Error::from(io::ErrorKind::TimedOut))
    }

    fn touch(&mut self) {
        let until = Instant::now() + self.idle_max;
        self.idle.as_mut().reset(until);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, buffer) {
            self.touch();
            return Poll::Ready(read);
        }
        self.poll_over(context).map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.inner).poll_write(context, bytes) {
            self.touch();
            return Poll::Ready(written);
        }
        self.poll_over(context).map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
