//! A TCP proxy between a cell's roles and its server: it cuts connections, slows them down, or forgets them half-way. What it
//! does is all that it knows; it reads nothing of what passes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Bytes passed on at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// They pass.
    Well,
    /// Each piece waits before it passes.
    Slow(Duration),
    /// There are none, and no new one is made.
    Cut,
}

/// What is so now.
#[derive(Debug, Clone, Copy)]
struct State {
    line: Line,
    /// Connections made before this one's number are forgotten: open, and nothing comes through in either direction.
    forgotten_before: u64,
    /// Connections made so far, count.
    made: u64,
}

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    _runs: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on loopback, and leads to this address.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let address = listener.local_addr().context("an address")?;
        let (state, _) = watch::channel(State { line: Line::Well, forgotten_before: 0, made: 0 });
        let runs = tokio::spawn(serve(listener, to, state.clone()));
        Ok(Self { address, state, _runs: AbortOnDropHandle::new(runs) })
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections made so far, count.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.state.borrow().made
    }

    /// Lets everything pass that still can.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.line = Line::Well);
    }

    /// Closes every connection, and makes no new one.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.line = Line::Cut);
    }

    /// Lets each piece wait for so long.
    pub fn slow(&self, wait: Duration) {
        self.state.send_modify(|state| state.line = Line::Slow(wait));
    }

    /// Forgets the connections that there are: they stay open, and whatever is written to them is lost. New ones pass.
    pub fn forget(&self) {
        self.state.send_modify(|state| state.forgotten_before = state.made + 1);
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, state: watch::Sender<State>) {
    let mut pumps = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while pumps.try_join_next().is_some() {}
        if state.borrow().line == Line::Cut {
            continue;
        }
        let Ok(server) = TcpStream::connect(to).await else { continue };
        let mut number = 0;
        state.send_modify(|state| {
            state.made += 1;
            number = state.made;
        });
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let (there, back) = (state.subscribe(), state.subscribe());
        pumps.spawn(async move {
            // One end that is closed closes the other.
            tokio::select! {
                () = pump(from_client, to_server, number, there) => {}
                () = pump(from_server, to_client, number, back) => {}
            }
        });
    }
}

/// Passes on what comes, until an end or a cut.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = tokio::select! {
            () = until_cut(&mut state) => return,
            read = from.read(&mut chunk) => read,
        };
        let count = match read {
            Ok(count) if count > 0 => count,
            _ => return,
        };
        let now = *state.borrow();
        if number < now.forgotten_before {
            continue;
        }
        if let Line::Slow(wait) = now.line {
            tokio::time::sleep(wait).await;
        }
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

/// Returns when connections are cut, or nobody is there any more who could.
async fn until_cut(state: &mut watch::Receiver<State>) {
    let _ = state.wait_for(|state| state.line == Line::Cut).await;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Instant;

    use super::*;

    /// Longer than anything on loopback takes that comes at all.
    const NEVER: Duration = Duration::from_millis(500);

    /// A server that says back what it is told.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    /// Whether a byte comes back, and how soon.
    async fn answers(stream: &mut TcpStream) -> Option<Duration> {
        let begun = Instant::now();
        stream.write_all(b"x").await.ok()?;
        let read = tokio::time::timeout(NEVER, stream.read_exact(&mut [0])).await;
        read.ok()?.ok().map(|_| begun.elapsed())
    }

    #[tokio::test]
    async fn a_line_is_well_slow_forgotten_and_cut() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut first = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut first).await.is_some());
        proxy.slow(Duration::from_millis(60));
        assert!(answers(&mut first).await.is_some_and(|took| took >= Duration::from_millis(120)));
        proxy.mend();
        proxy.forget();
        assert!(answers(&mut first).await.is_none(), "open, and nothing comes");
        let mut second = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut second).await.is_some(), "a new one passes");
        proxy.cut();
        assert!(answers(&mut second).await.is_none());
        let mut third = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut third).await.is_none(), "no new one is made");
        proxy.mend();
        let mut fourth = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut fourth).await.is_some());
        assert_eq!(proxy.made(), 3);
    }
}
